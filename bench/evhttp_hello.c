/* The hello server of bench/http_hello.py on libevent's own evhttp, in C.
 *
 * Usage: evhttp_hello [port].  Binds 127.0.0.1 on the port (0 or none: any free one), prints the
 * port it got on one line, and serves until it is killed.
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static const char body[] = "Thanks for the request!";

static void hello(struct evhttp_request *request, void *arg)
{
	(void)arg;
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "text/plain");
	/* Straight into the reply's own buffer: spares C the evbuffer that others make per request. */
	evbuffer_add(evhttp_request_get_output_buffer(request), body, sizeof(body) - 1);
	evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

static int fail(const char *step)
{
	fprintf(stderr, "evhttp_hello: %s failed\n", step);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	int port = argc > 1 ? atoi(argv[1]) : 0;

	struct event_base *base = event_base_new();
	if (base == NULL)
		return fail("event_base_new");
	struct evhttp *http = evhttp_new(base);
	if (http == NULL)
		return fail("evhttp_new");
	evhttp_set_gencb(http, hello, NULL);

	struct evhttp_bound_socket *bound =
	    evhttp_bind_socket_with_handle(http, "127.0.0.1", (ev_uint16_t)port);
	if (bound == NULL)
		return fail("evhttp_bind_socket_with_handle");
	if (getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &length) != 0)
		return fail("getsockname");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);

	event_base_dispatch(base);
	evhttp_free(http);
	event_base_free(base);
	return EXIT_SUCCESS;
}

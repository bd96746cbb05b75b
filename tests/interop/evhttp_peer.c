/* libevent's own HTTP server, for test_client_servers.py.
 *
 * Usage: evhttp_peer MAX_BODY.  Binds 127.0.0.1 on any free port, prints it on one line, and serves
 * until it is killed: /echo sends back what came, /pieces a chunked reply, everything else "hello".
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static void hello(struct evhttp_request *request, void *arg)
{
	(void)arg;
	evbuffer_add(evhttp_request_get_output_buffer(request), "hello", 5);
	evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

static void echo(struct evhttp_request *request, void *arg)
{
	(void)arg;
	evhttp_send_reply(request, HTTP_OK, "OK", evhttp_request_get_input_buffer(request));
}

static void pieces(struct evhttp_request *request, void *arg)
{
	struct evbuffer *piece = evbuffer_new();

	(void)arg;
	evhttp_send_reply_start(request, HTTP_OK, "OK");
	for (int i = 0; i < 3; i++) {
		evbuffer_add_printf(piece, "piece %d\n", i);
		evhttp_send_reply_chunk(request, piece);
	}
	evhttp_send_reply_end(request);
	evbuffer_free(piece);
}

int main(int argc, char **argv)
{
	struct event_base *base = event_base_new();
	struct evhttp *http = evhttp_new(base);
	struct sockaddr_in name;
	ev_socklen_t size = sizeof(name);

	if (argc != 2)
		return 2;
	evhttp_set_max_body_size(http, atol(argv[1]));
	evhttp_set_gencb(http, hello, NULL);
	evhttp_set_cb(http, "/echo", echo, NULL);
	evhttp_set_cb(http, "/pieces", pieces, NULL);
	struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
	if (bound == NULL)
		return 1;
	if (getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&name, &size) != 0)
		return 1;
	printf("%d\n", ntohs(name.sin_port));
	fflush(stdout);
	event_base_dispatch(base);
	return 0;
}

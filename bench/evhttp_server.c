/* The servers of bench/http_server.py on libevent's own evhttp, in C: one for each row.
 *
 * Usage: evhttp_server [hello|look|echo|routes|file FILE|tls CERTIFICATE].  Binds 127.0.0.1 on any
 * free port, prints it on one line, and serves until it is killed.  `tls` is there when it was
 * compiled with -DWITH_TLS, and wants a PEM file with the certificate and its key.
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <event2/bufferevent_ssl.h>
#include <openssl/ssl.h>
#endif

#define ROUTES 1000

static const char body[] = "Thanks for the request!";

static void hello(struct evhttp_request *request, void *arg)
{
	(void)arg;
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "text/plain");
	/* Straight into the reply's own buffer: spares C the evbuffer that others make per request. */
	evbuffer_add(evhttp_request_get_output_buffer(request), body, sizeof(body) - 1);
	evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

/* Answers as hello does, to who has sent the two fields that it looks at. */
static void look(struct evhttp_request *request, void *arg)
{
	struct evkeyvalq *headers = evhttp_request_get_input_headers(request);

	if (evhttp_find_header(headers, "User-Agent") == NULL ||
	    evhttp_find_header(headers, "Accept-Language") == NULL)
		evhttp_send_error(request, HTTP_BADREQUEST, NULL);
	else
		hello(request, arg);
}

static void echo(struct evhttp_request *request, void *arg)
{
	(void)arg;
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "text/plain");
	evhttp_send_reply(request, HTTP_OK, "OK", evhttp_request_get_input_buffer(request));
}

static void send_file(struct evhttp_request *request, void *path)
{
	struct stat about;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &about) != 0) {
		evhttp_send_error(request, HTTP_NOTFOUND, NULL);
		return;
	}
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "text/plain");
	evbuffer_add_file(evhttp_request_get_output_buffer(request), fd, 0, about.st_size);
	evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

static int fail(const char *step)
{
	fprintf(stderr, "evhttp_server: %s failed\n", step);
	return EXIT_FAILURE;
}

#ifdef WITH_TLS
static struct bufferevent *make_tls(struct event_base *base, void *context)
{
	return bufferevent_openssl_socket_new(base, -1, SSL_new(context), BUFFEREVENT_SSL_ACCEPTING,
	    BEV_OPT_CLOSE_ON_FREE);
}

static int use_tls(struct evhttp *http, const char *certificate)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());

	if (context == NULL || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM) != 1)
		return -1;
	evhttp_set_bevcb(http, make_tls, context);
	return 0;
}
#else
static int use_tls(struct evhttp *http, const char *certificate)
{
	(void)http;
	(void)certificate;
	return -1;
}
#endif

static int add_routes(struct evhttp *http)
{
	char path[32];

	for (int number = 0; number < ROUTES; number++) {
		snprintf(path, sizeof(path), "/route/%d", number);
		if (evhttp_set_cb(http, path, hello, NULL) != 0)
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	const char *kind = argc > 1 ? argv[1] : "hello";
	char *file = argc > 2 ? argv[2] : "";

	signal(SIGPIPE, SIG_IGN);
	struct event_base *base = event_base_new();
	if (base == NULL)
		return fail("event_base_new");
	struct evhttp *http = evhttp_new(base);
	if (http == NULL)
		return fail("evhttp_new");

	if (strcmp(kind, "look") == 0)
		evhttp_set_gencb(http, look, NULL);
	else if (strcmp(kind, "echo") == 0)
		evhttp_set_gencb(http, echo, NULL);
	else if (strcmp(kind, "file") == 0)
		evhttp_set_gencb(http, send_file, file);
	else if (strcmp(kind, "routes") != 0)
		evhttp_set_gencb(http, hello, NULL);
	else if (add_routes(http) != 0)
		return fail("evhttp_set_cb");
	if (strcmp(kind, "tls") == 0 && use_tls(http, file) != 0)
		return fail("the TLS context");

	struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
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

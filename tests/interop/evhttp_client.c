/* Requests by libevent's own HTTP client, one after the other over one connection.
 *
 * evhttp_client PORT [METHOD URI BODY]...   BODY is the number of bytes to send, 0 for none.
 *
 * Prints a line a request: status, number of chunks that were told, bytes of the body, their sum,
 * and the value of the field X-Seen; "failed" and the error where there is no response.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct event_base *base;
static struct evhttp_connection *connection;
static char **next;
static unsigned chunks, sum;
static size_t bytes;
static int failure;

static void ask(void);

static void
on_chunk(struct evhttp_request *req, void *arg)
{
	struct evbuffer *buffer = evhttp_request_get_input_buffer(req);
	size_t length = evbuffer_get_length(buffer);
	unsigned char *data = evbuffer_pullup(buffer, -1);
	for (size_t i = 0; i < length; i++)
		sum += data[i];
	bytes += length;
	chunks++;
	evbuffer_drain(buffer, length);
}

static void
on_error(enum evhttp_request_error error, void *arg)
{
	failure = error;
}

static void
on_done(struct evhttp_request *req, void *arg)
{
	const char *seen;
	if (req == NULL || evhttp_request_get_response_code(req) == 0) {
		printf("failed %d\n", failure);
	} else {
		seen = evhttp_find_header(evhttp_request_get_input_headers(req), "X-Seen");
		printf("%d %u %zu %u %s\n", evhttp_request_get_response_code(req), chunks, bytes,
		    sum, seen ? seen : "-");
	}
	ask();
}

static void
ask(void)
{
	static const struct { const char *name; enum evhttp_cmd_type type; } methods[] = {
		{"GET", EVHTTP_REQ_GET}, {"POST", EVHTTP_REQ_POST}, {"HEAD", EVHTTP_REQ_HEAD},
		{"PUT", EVHTTP_REQ_PUT}, {"DELETE", EVHTTP_REQ_DELETE},
		{"OPTIONS", EVHTTP_REQ_OPTIONS}, {"PATCH", EVHTTP_REQ_PATCH},
	};
	struct evhttp_request *req;
	size_t body, i;

	if (next[0] == NULL) {
		event_base_loopbreak(base);
		return;
	}
	chunks = sum = 0;
	bytes = 0;
	failure = -1;
	req = evhttp_request_new(on_done, NULL);
	evhttp_request_set_chunked_cb(req, on_chunk);
	evhttp_request_set_error_cb(req, on_error);
	evhttp_add_header(evhttp_request_get_output_headers(req), "Host", "libevent.example");
	body = strtoul(next[2], NULL, 10);
	for (i = 0; i < body; i++)
		evbuffer_add(evhttp_request_get_output_buffer(req), "x", 1);
	for (i = 0; i < sizeof methods / sizeof *methods; i++) {
		if (strcmp(methods[i].name, next[0]) == 0) {
			evhttp_make_request(connection, req, methods[i].type, next[1]);
			next += 3;
			return;
		}
	}
	exit(2);
}

int
main(int argc, char **argv)
{
	if (argc < 2 || argc % 3 != 2)
		return 2;
	base = event_base_new();
	connection = evhttp_connection_base_new(base, NULL, "127.0.0.1", atoi(argv[1]));
	evhttp_connection_set_timeout(connection, 20);
	/* A refusal that comes while a body is sent is read, and not taken for a failure. */
	evhttp_connection_set_flags(connection, EVHTTP_CON_READ_ON_WRITE_ERROR);
	next = argv + 2;
	ask();
	event_base_dispatch(base);
	evhttp_connection_free(connection);
	event_base_free(base);
	return 0;
}

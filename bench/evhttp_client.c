/* libevent's own HTTP client, for bench/http_client_bench.py.
 *
 * Usage: evhttp_client PORT CONNECTIONS SECONDS.  Keeps so many connections to 127.0.0.1 busy with
 * one GET each, for so long; prints how many were answered with 200, and the seconds of CPU time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <event2/event.h>
#include <event2/http.h>

static long answered;
static int over;

static void ask(struct evhttp_connection *connection);

static void done(struct evhttp_request *request, void *arg)
{
	if (request == NULL || evhttp_request_get_response_code(request) != 200) {
		fprintf(stderr, "a request failed\n");
		exit(1);
	}
	answered++;
	if (!over)
		ask(arg);
}

static void ask(struct evhttp_connection *connection)
{
	struct evhttp_request *request = evhttp_request_new(done, connection);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Host", "127.0.0.1");
	evhttp_make_request(connection, request, EVHTTP_REQ_GET, "/");
}

static void stop(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	over = 1;
	event_base_loopbreak(arg);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	struct event_base *base = event_base_new();
	int count = atoi(argv[2]);
	struct timeval seconds = {atoi(argv[3]), 0};
	for (int i = 0; i < count; i++)
		ask(evhttp_connection_base_new(base, NULL, "127.0.0.1", (unsigned short)atoi(argv[1])));
	event_base_once(base, -1, EV_TIMEOUT, stop, base, &seconds);
	event_base_dispatch(base);
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	printf("%ld %ld.%06ld %ld.%06ld\n", answered, (long)usage.ru_utime.tv_sec,
	    (long)usage.ru_utime.tv_usec, (long)usage.ru_stime.tv_sec, (long)usage.ru_stime.tv_usec);
	return 0;
}

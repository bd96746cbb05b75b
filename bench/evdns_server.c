/* The DNS server of bench/dns_server.py on libevent's own evdns, in C.
 *
 * Usage: evdns_server.  Binds UDP 127.0.0.1 on a free port, prints the port on one line, and
 * answers every A query with one address until it is killed.
 */
#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void answer(struct evdns_server_request *request, void *arg)
{
	(void)arg;
	struct in_addr address = {htonl(0x0a000001)};
	if (request->nquestions == 1 && request->questions[0]->type == EVDNS_TYPE_A)
		evdns_server_request_add_a_reply(request, request->questions[0]->name, 1, &address, 60);
	evdns_server_request_respond(request, 0);
}

static int fail(const char *step)
{
	fprintf(stderr, "evdns_server: %s failed\n", step);
	return EXIT_FAILURE;
}

int main(void)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

	struct event_base *base = event_base_new();
	if (base == NULL)
		return fail("event_base_new");
	evutil_socket_t sock = socket(AF_INET, SOCK_DGRAM, 0);
	if (sock < 0 || bind(sock, (struct sockaddr *)&address, length) != 0)
		return fail("bind");
	if (evutil_make_socket_nonblocking(sock) != 0)
		return fail("evutil_make_socket_nonblocking");
	if (evdns_add_server_port_with_base(base, sock, 0, answer, NULL) == NULL)
		return fail("evdns_add_server_port_with_base");
	if (getsockname(sock, (struct sockaddr *)&address, &length) != 0)
		return fail("getsockname");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	event_base_dispatch(base);
	return EXIT_SUCCESS;
}

/* The resolver of bench/dns_clients.py on libevent's own evdns, in C.
 *
 * Usage: evdns_client PORT LOOKUPS IN_FLIGHT.  Looks up names of one nameserver on 127.0.0.1, so
 * many at once, and prints the microseconds of CPU time that a look-up took.
 */
#include <event2/dns.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct event_base *base;
static struct evdns_base *resolver;
static int begun, ended, failed, lookups;

static void begin(void);

static void found(int result, char type, int count, int ttl, void *addresses, void *arg)
{
	(void)type;
	(void)ttl;
	(void)addresses;
	(void)arg;
	failed += result != DNS_ERR_NONE || count != 1;
	if (++ended == lookups)
		event_base_loopbreak(base);
	else if (begun < lookups)
		begin();
}

static void begin(void)
{
	char name[64];
	snprintf(name, sizeof(name), "host%d.example.com", begun++);
	evdns_base_resolve_ipv4(resolver, name, DNS_QUERY_NO_SEARCH, found, NULL);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return EXIT_FAILURE;
	char address[32];
	snprintf(address, sizeof(address), "127.0.0.1:%s", argv[1]);
	lookups = atoi(argv[2]);
	base = event_base_new();
	resolver = evdns_base_new(base, 0);
	if (resolver == NULL || evdns_base_nameserver_ip_add(resolver, address) != 0)
		return EXIT_FAILURE;
	evdns_base_set_option(resolver, "max-inflight:", argv[3]);
	clock_t start = clock();
	for (int i = 0; i < atoi(argv[3]) && begun < lookups; i++)
		begin();
	event_base_dispatch(base);
	printf("%.3f\n", (double)(clock() - start) / CLOCKS_PER_SEC / lookups * 1e6);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The peer of bench/rpc_peers.py on libevent's own evrpc.
 *
 *   serve                       serves the RPC "Add" on a free port of loopback, which it prints
 *   call PORT IN_FLIGHT SECONDS calls it for so long, and prints calls, seconds, those of the
 *                               processor, and the p99 in us
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/rpc.h>
#include <event2/rpc_struct.h>
#include <event2/tag.h>

enum { VALUES = 10, MOST_SAMPLES = 10000000 };

struct add {
	ev_uint32_t id, values[VALUES];
	char *name;
	int has_id, length;
};

struct sum {
	ev_uint32_t total;
	char *name;
	int has_total;
};

static void *add_new_with_arg(void *arg) { (void)arg; return calloc(1, sizeof(struct add)); }
static void *sum_new_with_arg(void *arg) { (void)arg; return calloc(1, sizeof(struct sum)); }
static void add_free(struct add *add) { free(add->name); free(add); }
static void sum_clear(struct sum *sum) { free(sum->name); memset(sum, 0, sizeof(*sum)); }
static void sum_free(struct sum *sum) { sum_clear(sum); free(sum); }
static int sum_complete(struct sum *sum) { return sum->has_total && sum->name ? 0 : -1; }

static void add_marshal(struct evbuffer *out, const struct add *add)
{
	evtag_marshal_int(out, 1, add->id);
	evtag_marshal_string(out, 2, add->name);
	for (int i = 0; i < add->length; i++)
		evtag_marshal_int(out, 3, add->values[i]);
}

static int add_unmarshal(struct add *add, struct evbuffer *in)
{
	ev_uint32_t tag;
	while (evbuffer_get_length(in) > 0) {
		int failed = 1;
		if (evtag_peek(in, &tag) == -1)
			return -1;
		if (tag == 1)
			failed = evtag_unmarshal_int(in, tag, &add->id) == -1, add->has_id = 1;
		else if (tag == 2 && !add->name)
			failed = evtag_unmarshal_string(in, tag, &add->name) == -1;
		else if (tag == 3 && add->length < VALUES)
			failed = evtag_unmarshal_int(in, tag, &add->values[add->length++]) == -1;
		if (failed)
			return -1;
	}
	return add->has_id && add->name ? 0 : -1;
}

static void sum_marshal(struct evbuffer *out, const struct sum *sum)
{
	evtag_marshal_int(out, 1, sum->total);
	evtag_marshal_string(out, 2, sum->name);
}

static int sum_unmarshal(struct sum *sum, struct evbuffer *in)
{
	if (evtag_unmarshal_int(in, 1, &sum->total) == -1)
		return -1;
	sum->has_total = 1;
	return evtag_unmarshal_string(in, 2, &sum->name);
}

EVRPC_HEADER(Add, add, sum)
EVRPC_GENERATE(Add, add, sum)

static void answer(EVRPC_STRUCT(Add) *rpc, void *arg)
{
	(void)arg;
	for (int i = 0; i < rpc->request->length; i++)
		rpc->reply->total += rpc->request->values[i];
	rpc->reply->has_total = 1;
	rpc->reply->name = strdup(rpc->request->name);
	EVRPC_REQUEST_DONE(rpc);
}

static double now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

struct load {
	struct event_base *base;
	struct evrpc_pool *pool;
	float *samples;
	long calls;
	double end;
};

struct one {
	struct load *load;
	struct add *add;
	struct sum *sum;
	double begun;
};

static void start(struct one *one);

static void replied(struct evrpc_status *status, struct add *add, struct sum *sum, void *arg)
{
	struct one *one = arg;
	struct load *load = one->load;
	double at = now();
	(void)add;
	if (status->error != EVRPC_STATUS_ERR_NONE || sum->total != 45) {
		fprintf(stderr, "a call failed: %d\n", status->error);
		exit(1);
	}
	if (load->calls < MOST_SAMPLES)
		load->samples[load->calls++] = (at - one->begun) * 1e6;
	sum_clear(sum);
	if (at < load->end)
		start(one);
	else
		event_base_loopbreak(load->base);
}

static void start(struct one *one)
{
	one->begun = now();
	EVRPC_MAKE_REQUEST(Add, one->load->pool, one->add, one->sum, replied, one);
}

static int add_host(void *ctx, struct evhttp_request *request, struct evbuffer *body, void *arg)
{
	(void)ctx, (void)body, (void)arg;
	evhttp_add_header(evhttp_request_get_output_headers(request), "Host", "127.0.0.1");
	return EVRPC_CONTINUE;
}

static int by_size(const void *left, const void *right)
{
	float a = *(const float *)left, b = *(const float *)right;
	return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
	struct event_base *base = event_base_new();
	if (argc > 1 && strcmp(argv[1], "serve") == 0) {
		struct evhttp *http = evhttp_new(base);
		struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
		struct sockaddr_in address;
		socklen_t length = sizeof(address);
		getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &length);
		EVRPC_REGISTER(evrpc_init(http), Add, add, sum, answer, NULL);
		printf("%d\n", ntohs(address.sin_port));
		fflush(stdout);
		event_base_dispatch(base);
		return 0;
	}
	if (argc < 5)
		return 2;
	int in_flight = atoi(argv[3]);
	struct load load = { base, evrpc_pool_new(NULL), NULL, 0, 0 };
	load.samples = malloc(sizeof(float) * MOST_SAMPLES);
	evrpc_add_hook(load.pool, EVRPC_OUTPUT, add_host, NULL);
	clock_t clock_begun = clock();
	double begun = now();
	load.end = begun + atof(argv[4]);
	for (int i = 0; i < in_flight; i++)
		evrpc_pool_add_connection(
		    load.pool, evhttp_connection_base_new(base, NULL, "127.0.0.1", atoi(argv[2])));
	for (int i = 0; i < in_flight; i++) {
		struct one *one = calloc(1, sizeof(*one));
		one->load = &load;
		one->add = add_new_with_arg(NULL);
		one->sum = sum_new_with_arg(NULL);
		one->add->name = strdup("a name of some length");
		for (int j = 0; j < VALUES; j++)
			one->add->values[one->add->length++] = j;
		start(one);
	}
	event_base_dispatch(base);
	double seconds = now() - begun;
	double used = (double)(clock() - clock_begun) / CLOCKS_PER_SEC;
	qsort(load.samples, load.calls, sizeof(float), by_size);
	printf("%ld %.6f %.6f %.1f\n", load.calls, seconds, used, load.samples[(long)(load.calls * 0.99)]);
	return 0;
}

/* A server and a client of libevent's own evrpc, for the messages of sample.rpc, written by hand.
 *
 *   vectors     prints marshalled messages, one a line: name, then hex
 *   serve       serves the RPC "Message" on a free port of loopback, which it prints
 *   call PORT   calls "Message" there, and prints the reply
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/rpc.h>
#include <event2/rpc_struct.h>
#include <event2/tag.h>

enum { MOST = 2000, FIXED = 24 };

struct kill {
	char *weapon, *action;
	ev_uint32_t how_often[MOST];
	int often_length;
};

struct run {
	char *how;
	char *some_bytes;
	ev_uint32_t some_length;
	unsigned char fixed_bytes[FIXED];
	int has_fixed;
	char *notes[8];
	int notes_length;
	ev_uint64_t large_number;
	int has_large;
	ev_uint32_t other_numbers[8];
	int others_length;
};

struct msg {
	char *from_name, *to_name;
	struct kill *attack;
	struct run *run[MOST];
	int run_length;
};

static void *kill_new_with_arg(void *arg) { (void)arg; return calloc(1, sizeof(struct kill)); }
static void *msg_new_with_arg(void *arg) { (void)arg; return calloc(1, sizeof(struct msg)); }

static void kill_clear(struct kill *kill)
{
	free(kill->weapon);
	free(kill->action);
	memset(kill, 0, sizeof(*kill));
}

static void kill_free(struct kill *kill)
{
	kill_clear(kill);
	free(kill);
}

static void run_free(struct run *run)
{
	free(run->how);
	free(run->some_bytes);
	for (int i = 0; i < run->notes_length; i++)
		free(run->notes[i]);
	free(run);
}

static void msg_free(struct msg *msg)
{
	free(msg->from_name);
	free(msg->to_name);
	if (msg->attack)
		kill_free(msg->attack);
	for (int i = 0; i < msg->run_length; i++)
		run_free(msg->run[i]);
	free(msg);
}

static int kill_complete(struct kill *kill) { return kill->weapon && kill->action ? 0 : -1; }

static void kill_marshal(struct evbuffer *out, const struct kill *kill)
{
	evtag_marshal_string(out, 0x10121, kill->weapon);
	evtag_marshal_string(out, 2, kill->action);
	for (int i = 0; i < kill->often_length; i++)
		evtag_marshal_int(out, 3, kill->how_often[i]);
}

static int kill_unmarshal(struct kill *kill, struct evbuffer *in)
{
	ev_uint32_t tag;
	while (evbuffer_get_length(in) > 0) {
		if (evtag_peek(in, &tag) == -1)
			return -1;
		if (tag == 0x10121 && !kill->weapon) {
			if (evtag_unmarshal_string(in, tag, &kill->weapon) == -1)
				return -1;
		} else if (tag == 2 && !kill->action) {
			if (evtag_unmarshal_string(in, tag, &kill->action) == -1)
				return -1;
		} else if (tag == 3 && kill->often_length < MOST) {
			if (evtag_unmarshal_int(in, tag, &kill->how_often[kill->often_length++]) == -1)
				return -1;
		} else {
			return -1;
		}
	}
	return kill_complete(kill);
}

static void run_marshal(struct evbuffer *out, const struct run *run)
{
	evtag_marshal_string(out, 1, run->how);
	if (run->some_bytes)
		evtag_marshal(out, 2, run->some_bytes, run->some_length);
	evtag_marshal(out, 3, run->fixed_bytes, FIXED);
	for (int i = 0; i < run->notes_length; i++)
		evtag_marshal_string(out, 4, run->notes[i]);
	if (run->has_large)
		evtag_marshal_int64(out, 5, run->large_number);
	for (int i = 0; i < run->others_length; i++)
		evtag_marshal_int(out, 6, run->other_numbers[i]);
}

static int run_unmarshal(struct run *run, struct evbuffer *in)
{
	ev_uint32_t tag;
	while (evbuffer_get_length(in) > 0) {
		int failed;
		if (evtag_peek(in, &tag) == -1)
			return -1;
		switch (tag) {
		case 1:
			failed = evtag_unmarshal_string(in, tag, &run->how);
			break;
		case 2:
			failed = evtag_payload_length(in, &run->some_length);
			if (failed == 0) {
				run->some_bytes = malloc(run->some_length + 1);
				failed = evtag_unmarshal_fixed(in, tag, run->some_bytes, run->some_length);
			}
			break;
		case 3:
			failed = evtag_unmarshal_fixed(in, tag, run->fixed_bytes, FIXED);
			run->has_fixed = 1;
			break;
		case 4:
			failed = run->notes_length == 8 ||
			    evtag_unmarshal_string(in, tag, &run->notes[run->notes_length++]) == -1;
			break;
		case 5:
			failed = evtag_unmarshal_int64(in, tag, &run->large_number) == -1;
			run->has_large = 1;
			break;
		case 6:
			failed = run->others_length == 8 ||
			    evtag_unmarshal_int(in, tag, &run->other_numbers[run->others_length++]) == -1;
			break;
		default:
			failed = 1;
		}
		if (failed)
			return -1;
	}
	return run->how && run->has_fixed ? 0 : -1;
}

static void msg_marshal(struct evbuffer *out, const struct msg *msg)
{
	struct evbuffer *inner = evbuffer_new();
	evtag_marshal_string(out, 1, msg->from_name);
	evtag_marshal_string(out, 2, msg->to_name);
	if (msg->attack) {
		kill_marshal(inner, msg->attack);
		evtag_marshal_buffer(out, 3, inner);
	}
	for (int i = 0; i < msg->run_length; i++) {
		run_marshal(inner, msg->run[i]);
		evtag_marshal_buffer(out, 4, inner);
	}
	evbuffer_free(inner);
}

static int msg_unmarshal(struct msg *msg, struct evbuffer *in)
{
	ev_uint32_t tag;
	struct evbuffer *inner = evbuffer_new();
	int failed = 0;
	while (!failed && evbuffer_get_length(in) > 0) {
		if (evtag_peek(in, &tag) == -1) {
			failed = 1;
		} else if (tag == 1) {
			failed = evtag_unmarshal_string(in, tag, &msg->from_name);
		} else if (tag == 2) {
			failed = evtag_unmarshal_string(in, tag, &msg->to_name);
		} else if (evtag_unmarshal(in, &tag, inner) == -1) {
			failed = 1;
		} else if (tag == 3) {
			msg->attack = kill_new_with_arg(NULL);
			failed = kill_unmarshal(msg->attack, inner);
		} else if (tag == 4 && msg->run_length < MOST) {
			struct run *run = msg->run[msg->run_length++] = calloc(1, sizeof(*run));
			failed = run_unmarshal(run, inner);
		} else {
			failed = 1;
		}
	}
	evbuffer_free(inner);
	return !failed && msg->from_name && msg->to_name ? 0 : -1;
}

EVRPC_HEADER(Message, msg, kill)
EVRPC_GENERATE(Message, msg, kill)

static struct msg *sample(int runs)
{
	struct msg *msg = msg_new_with_arg(NULL);
	msg->from_name = strdup("niels");
	msg->to_name = strdup("phoenix");
	msg->attack = kill_new_with_arg(NULL);
	msg->attack->weapon = strdup("feather");
	msg->attack->action = strdup("tickle");
	for (int i = 0; i < 3; i++)
		msg->attack->how_often[msg->attack->often_length++] = i * 1000;
	for (int i = 0; i < runs; i++) {
		struct run *run = msg->run[msg->run_length++] = calloc(1, sizeof(*run));
		run->how = strdup("very fast");
		memset(run->fixed_bytes, 'a' + i % 26, FIXED);
		run->has_fixed = 1;
		if (i % 2) {
			run->some_bytes = strdup("some\1bytes");
			run->some_length = 10;
			run->large_number = 0xdead0a0bcafebeefULL;
			run->has_large = 1;
			run->notes[run->notes_length++] = strdup("a note");
			run->notes[run->notes_length++] = strdup("");
		}
		run->other_numbers[run->others_length++] = i;
		run->other_numbers[run->others_length++] = 0xffffffff;
	}
	return msg;
}

static void print_vector(const char *name, const struct msg *msg)
{
	struct evbuffer *out = evbuffer_new();
	msg_marshal(out, msg);
	size_t length = evbuffer_get_length(out);
	const unsigned char *data = evbuffer_pullup(out, -1);
	printf("%s ", name);
	for (size_t i = 0; i < length; i++)
		printf("%02x", data[i]);
	printf("\n");
	evbuffer_free(out);
}

static void print_kill(const struct kill *kill)
{
	printf("%s %s", kill->weapon, kill->action);
	for (int i = 0; i < kill->often_length; i++)
		printf(" %u", kill->how_often[i]);
	printf("\n");
}

/* The reply: who asked, what the attack was, and the numbers of all runs. */
static void answer(EVRPC_STRUCT(Message) *rpc, void *arg)
{
	struct msg *msg = rpc->request;
	struct kill *kill = rpc->reply;
	(void)arg;
	kill->weapon = strdup(msg->from_name);
	kill->action = strdup(msg->attack ? msg->attack->action : "none");
	for (int i = 0; i < msg->run_length; i++)
		for (int j = 0; j < msg->run[i]->others_length && kill->often_length < MOST; j++)
			kill->how_often[kill->often_length++] = msg->run[i]->other_numbers[j];
	EVRPC_REQUEST_DONE(rpc);
}

static void replied(struct evrpc_status *status, struct msg *msg, struct kill *kill, void *base)
{
	(void)msg;
	printf("%d ", status->error);
	if (status->error == EVRPC_STATUS_ERR_NONE)
		print_kill(kill);
	else
		printf("\n");
	event_base_loopexit(base, NULL);
}

/* evrpc's client sends HTTP/1.1 without Host, which RFC 9112 has every server refuse. */
static int add_host(void *ctx, struct evhttp_request *request, struct evbuffer *body, void *arg)
{
	(void)ctx, (void)body, (void)arg;
	evhttp_add_header(evhttp_request_get_output_headers(request), "Host", "127.0.0.1");
	return EVRPC_CONTINUE;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	struct event_base *base = event_base_new();
	alarm(60);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (strcmp(mode, "vectors") == 0) {
		struct msg *msg = sample(3);
		print_vector("three", msg);
		msg_free(msg);
		msg = sample(0);
		kill_free(msg->attack);
		msg->attack = NULL;
		print_vector("bare", msg);
		msg_free(msg);
	} else if (strcmp(mode, "serve") == 0) {
		struct evhttp *http = evhttp_new(base);
		struct evhttp_bound_socket *bound =
		    evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
		struct sockaddr_storage address;
		socklen_t length = sizeof(address);
		getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &length);
		EVRPC_REGISTER(evrpc_init(http), Message, msg, kill, answer, NULL);
		const unsigned char *port = (const unsigned char *)&address + 2;
		printf("%d\n", port[0] * 256 + port[1]);
		event_base_dispatch(base);
	} else if (strcmp(mode, "call") == 0 && argc > 2) {
		/* a pool with a base wants connections without one, which 2.1 no longer makes */
		struct evrpc_pool *pool = evrpc_pool_new(NULL);
		struct msg *msg = sample(1000);
		struct kill *kill = kill_new_with_arg(NULL);
		evrpc_pool_add_connection(
		    pool, evhttp_connection_base_new(base, NULL, "127.0.0.1", atoi(argv[2])));
		evrpc_add_hook(pool, EVRPC_OUTPUT, add_host, NULL);
		EVRPC_MAKE_REQUEST(Message, pool, msg, kill, replied, base);
		event_base_dispatch(base);
		evrpc_pool_free(pool);
		kill_free(kill);
		msg_free(msg);
	} else {
		return 2;
	}
	event_base_free(base);
	return 0;
}

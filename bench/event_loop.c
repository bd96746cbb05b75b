/*
 * The cost of one event in libevent's loop: its own test/bench.c in small.
 *
 * Usage: event_loop PIPES ACTIVE EVENTS
 *
 * PIPES pipes are watched; ACTIVE of them hold a byte.  Each callback reads a byte and writes one to
 * the next pipe, until EVENTS callbacks have run.  Prints microseconds of CPU
 * time, user and kernel, for one add, and for one event.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

static int pipes, active, wanted, fired;
static int (*ends)[2];
static struct event_base *base;

static double now_us(void)
{
	struct timespec at;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
	return at.tv_sec * 1e6 + at.tv_nsec / 1e3;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	long index = (long)arg;
	char byte;
	(void)what;
	if (read(fd, &byte, 1) != 1)
		exit(2);
	fired++;
	if (fired + active <= wanted) {
		if (write(ends[(index + 1) % pipes][1], "e", 1) != 1)
			exit(2);
	} else if (fired >= wanted)
		event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	double start, added, ended;
	int i;

	if (argc != 4)
		return 1;
	pipes = atoi(argv[1]);
	active = atoi(argv[2]);
	wanted = atoi(argv[3]);
	base = event_base_new();
	ends = calloc(pipes, sizeof *ends);
	struct event **events = calloc(pipes, sizeof *events);
	for (i = 0; i < pipes; i++)
		if (pipe(ends[i]) != 0 || evutil_make_socket_nonblocking(ends[i][0]) != 0)
			return 1;
	start = now_us();
	for (i = 0; i < pipes; i++) {
		events[i] = event_new(base, ends[i][0], EV_READ | EV_PERSIST, on_readable,
		    (void *)(long)i);
		event_add(events[i], NULL);
	}
	added = now_us();
	for (i = 0; i < active; i++)
		if (write(ends[(i * (pipes / active)) % pipes][1], "e", 1) != 1)
			return 1;
	double run = now_us();
	event_base_dispatch(base);
	ended = now_us();
	printf("%.4f %.4f\n", (added - start) / pipes, (ended - run) / fired);
	return 0;
}

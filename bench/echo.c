/* The echo server of bench/echo.py on libevent's bufferevents, in C.
 *
 * Usage: echo.  Binds 127.0.0.1 on a free port, prints it on one line, and serves until it is
 * killed.
 */
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)arg;
	bufferevent_write_buffer(bev, bufferevent_get_input(bev));
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)what;
	(void)arg;
	bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
    struct sockaddr *address, int length, void *arg)
{
	(void)address;
	(void)length;
	(void)arg;
	struct bufferevent *bev = bufferevent_socket_new(
	    evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
	bufferevent_enable(bev, EV_READ);
}

static int fail(const char *step)
{
	fprintf(stderr, "echo: %s failed\n", step);
	return EXIT_FAILURE;
}

int main(void)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	struct event_base *base = event_base_new();
	if (base == NULL)
		return fail("event_base_new");
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	struct evconnlistener *listener = evconnlistener_new_bind(base, on_accept, NULL,
	    LEV_OPT_CLOSE_ON_FREE, -1, (struct sockaddr *)&address, sizeof(address));
	if (listener == NULL)
		return fail("evconnlistener_new_bind");
	if (getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length) != 0)
		return fail("getsockname");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);

	event_base_dispatch(base);
	evconnlistener_free(listener);
	event_base_free(base);
	return EXIT_SUCCESS;
}

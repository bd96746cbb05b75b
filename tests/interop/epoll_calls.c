/* Counts the epoll_ctl calls of the program that it is preloaded into, by operation, and writes the
 * counts to standard error as the program ends: system calls as libc makes them, not as we think. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/epoll.h>

static long counts[4];

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	static int (*real)(int, int, int, struct epoll_event *);

	if (!real)
		real = (int (*)(int, int, int, struct epoll_event *))dlsym(RTLD_NEXT, "epoll_ctl");
	if (operation >= 1 && operation <= 3)
		counts[operation]++;
	return real(epoll, operation, fd, event);
}

__attribute__((destructor)) static void report(void)
{
	fprintf(stderr, "epoll_ctl add=%ld delete=%ld modify=%ld\n",
	    counts[EPOLL_CTL_ADD], counts[EPOLL_CTL_DEL], counts[EPOLL_CTL_MOD]);
}

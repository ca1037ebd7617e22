// SPDX-License-Identifier: GPL-2.0-or-later
/* A read() of a thread into the arena, under way for as long as nothing comes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "../lib/check.h"
#include "operations.h"
#include "page.h"
#include "words.h"

static struct {
	pthread_t thread;
	unsigned char *page;
	int ends[2];
	volatile pid_t tid;
	ssize_t done;
	int error;
} transport;

static void *wait_for_data(void *unused)
{
	(void)unused;
	transport.tid = (pid_t)syscall(SYS_gettid);
	transport.done = read(transport.ends[0], transport.page, PAGE);
	transport.error = errno;
	return NULL;
}

/* await PLACE: a thread begins to read() into the page, for which there is nothing yet */
void do_await(int argc, char **args, struct text *reply)
{
	char path[64], state = 0;

	(void)argc;
	transport.page = place_of(args[0]);
	transport.tid = 0;
	if (pipe2(transport.ends, O_CLOEXEC))
		cannot("make a pipe");
	errno = pthread_create(&transport.thread, NULL, wait_for_data, NULL);
	if (errno)
		cannot("start a thread");
	while (!transport.tid)
		sched_yield();
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", transport.tid);
	while (state != 'S') {	/* in the call, asleep */
		FILE *const file = fopen(path, "re");

		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			cannot("read how the thread is");
		fclose(file);
	}
	add_result(reply, "ok");
}

/* arrive NUMBER: there is something for it */
void do_arrive(int argc, char **args, struct text *reply)
{
	(void)argc;
	mark_page(page_buffer, (uint32_t)number_of(args[0]));
	if (write(transport.ends[1], page_buffer, PAGE) != (ssize_t)PAGE)
		cannot("write to a pipe");
	pthread_join(transport.thread, NULL);
	close(transport.ends[0]);
	close(transport.ends[1]);
	if (transport.done < 0)
		add_error(reply, transport.error);
	else
		add_result(reply, transport.done == (ssize_t)PAGE ? "ok" : "short");
}

// SPDX-License-Identifier: GPL-2.0-or-later
/* A child of the VMM, and what it finds in its copy of the arena. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/wait.h>

#include "../lib/check.h"
#include "child.h"
#include "operations.h"
#include "page.h"
#include "vm.h"
#include "words.h"

static struct {
	pid_t pid;
	int orders[2], replies[2];
} child;

/* A child looks at its own copy of the arena, whenever it is told to. */
static void be_child(void)
{
	struct text line = { 0 };
	char order;

	while (read(child.orders[0], &order, 1) == 1) {
		for (unsigned int i = 0; i < ARENA_PAGES; i++)
			add_each(&line, i, load_result(arena + i * PAGE));
		text_add(&line, "\n");
		if (write(child.replies[1], line.data, line.len) != (ssize_t)line.len)
			break;
		line.len = 0;
	}
	_exit(0);
}

void do_fork(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	if (pipe2(child.orders, O_CLOEXEC) || pipe2(child.replies, O_CLOEXEC))
		cannot("make a pipe");
	child.pid = fork();
	if (child.pid < 0)
		cannot("fork");
	if (!child.pid) {
		close(child.orders[1]);
		leave_vm(&first_vm);	/* or the VM would live as long as the child */
		leave_vm(&second_vm);
		be_child();
	}
	close(child.orders[0]);
	close(child.replies[1]);
	add_result(reply, "ok");
}

void do_child(int argc, char **args, struct text *reply)
{
	FILE *const from = fdopen(dup(child.replies[0]), "re");
	char *line = NULL;
	size_t room = 0;

	(void)argc;
	(void)args;
	if (write(child.orders[1], "x", 1) != 1 || !from)
		cannot("ask the child");
	const ssize_t length = getline(&line, &room, from);

	if (length <= 0)
		cannot("hear of the child");
	line[length - 1] = 0;
	text_add(reply, "[%s]", line);
	free(line);
	fclose(from);
}

void do_reap(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	close(child.orders[1]);
	close(child.replies[0]);
	if (waitpid(child.pid, NULL, 0) != child.pid)
		cannot("wait for the child");
	child.pid = 0;
	add_result(reply, "ok");
}

void kill_child(void)
{
	if (!child.pid)
		return;
	kill(child.pid, SIGKILL);
	waitpid(child.pid, NULL, 0);
}

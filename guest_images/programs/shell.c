// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * shell - root's shell on host and guest: runs one of these programs in its own place, and leaves all else to busybox.
 *
 * usage: shell -c COMMAND, as SSH calls it; any other way it is ash
 *
 * The harness asks by commands, SSH starts root's shell for each, and a shell that only starts another program costs an
 * emulated machine as much as that program: 6 % of what a restored host takes to answer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "programs.h"

#ifndef ASH
#define ASH "/bin/busybox"
#endif
/* What means itself without quotes, beside letters and digits: as in Python's shlex.quote(). */
#define PLAIN "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-"

/* Copies a word from *from to to, without its quotes. Returns the end of the copy; NULL: it takes a shell to read it. */
static char *unquote(const char **from, char *to)
{
	const char *at = *from;

	while (*at && *at != ' ') {
		size_t len = strspn(at, PLAIN);
		bool quoted = *at == '\'' || *at == '"';

		if (quoted) {
			char quote = *at++;

			len = strcspn(at, quote == '"' ? "\"$`\\" : "'");
			if (at[len] != quote)
				return NULL;
		} else if (!len) {
			return NULL;
		}
		to = mempcpy(to, at, len);
		at += len + quoted;
	}
	*from = at;
	*to++ = 0;
	return to;
}

/* Splits a command into words, with a NULL behind them. Returns how many; -1: it takes a shell to read it. */
static int split(const char *command, char *copy, char **words)
{
	int count = 0;

	for (;;) {
		command += strspn(command, " ");
		words[count] = NULL;
		if (!*command)
			return count;
		words[count++] = copy;
		copy = unquote(&command, copy);
		if (!copy)
			return -1;
	}
}

/* The program that a path leads to, if it is this one under another name. */
static program *ours(const char *path, const char **name)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self));
	program *result = program_of(path, name);
	size_t folder = (size_t)(*name - path);

	return result && len > (ssize_t)folder && folder && self[folder - 1] == '/' &&
		!memchr(self + folder, '/', (size_t)len - folder) && !memcmp(self, path, folder) ? result : NULL;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "-c")) {
		size_t len = strlen(argv[2]);
		char *copy = malloc(len + 1), **words = malloc((len / 2 + 2) * sizeof(*words));
		int count = copy && words ? split(argv[2], copy, words) : -1;
		const char *name;
		program *run = count > 0 ? ours(words[0], &name) : NULL;

		if (run) {
			prctl(PR_SET_NAME, name);
			return run(count, words);
		}
	}
	if (argc)
		argv[0] = *argv[0] == '-' ? "-ash" : "ash";
	execv(ASH, argv);
	fprintf(stderr, "shell: %s: %s\n", ASH, strerror(errno));
	return 127;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text, JSON and the line protocol that the programs share: one request line in, one reply line out.
 *
 * The server never stops reading while it has replies to hand over, so a peer may send any number of requests
 * before it reads a reply. Memory is the only bound; running out of it ends the program.
 */
#ifndef LINE_SERVER_H
#define LINE_SERVER_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WORDS 40
#define MAX_LINE (32u << 20)	/* a longer request is answered with an error and skipped */
/* Linux: a pipe that polls as writable takes this many bytes without blocking (pipe(7), PIPE_BUF). */
#define WRITE_CHUNK 4096

struct text {
	char *data;
	size_t len, cap;
};

void text_add_bytes(struct text *t, const void *bytes, size_t len);

__attribute__((format(printf, 2, 3))) void text_add(struct text *t, const char *format, ...);

void text_add_hex(struct text *t, const void *bytes, size_t len);

/* A JSON string; bytes that are not printable ASCII become \u00XX. */
void text_add_string(struct text *t, const char *s);

/* The symbolic name of an errno, exact; a number that has none is shown as "errno N". */
void text_add_errno(struct text *t, int err);

void reply_error(struct text *t, const char *what);

void reply_errno(struct text *t, const char *what, int err);

/* Decimal or 0x hexadecimal, with an optional minus; false when it is neither or does not fit. */
bool parse_number(const char *word, uint64_t *value);

/* Decodes in place: the bytes take the place of their digits. False when a digit is bad or odd in number. */
bool parse_hex(char *word, unsigned char **bytes, size_t *len);

struct command {
	const char *name;
	int min_args, max_args;
	const char *usage;
	void (*handle)(int argc, char **args, struct text *reply);
};

enum after { GO_ON, LEAVE };

enum after answer(const struct command *commands, char *line, struct text *reply);

/*
 * Serves until end of input, "quit", a peer that is gone, or *stop. While it waits, the signals of `waiting` apply
 * (NULL: no change), so that a signal that sets *stop can be blocked everywhere else.
 */
void serve_lines(const struct command *commands, const volatile sig_atomic_t *stop, const sigset_t *waiting);

#endif

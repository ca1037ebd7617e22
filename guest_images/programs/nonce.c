// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nonce - holds a value in anonymous memory, so that a restored snapshot can prove that it is one, and a pristine one.
 *
 * usage: nonce serve        becomes a daemon; returns when it listens
 *        nonce set HEX      prints {"set":true}; the count of questions goes back to 0. At most 64 bytes
 *        nonce get          prints {"nonce":"hex","asked":N}; N: how often it was asked before
 *
 * The same on host and guest; the daemon listens on an abstract unix socket and answers root only.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/line_server.h"

#define NAME "sealproof-nonce"
#define MAX_NONCE 64
#define REPLY_BYTES 512
#define PATIENCE_S 10

struct memory {
	unsigned char value[MAX_NONCE];
	size_t len;
	unsigned long asked;
};

static struct memory *memory;

static int fail(const char *what)
{
	fprintf(stderr, "nonce: %s: %s\n", what, strerror(errno));
	return 1;
}

static socklen_t address(struct sockaddr_un *at)
{
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(at->sun_path + 1, NAME, sizeof(NAME) - 1);
	return offsetof(struct sockaddr_un, sun_path) + sizeof(NAME);
}

static void do_set(int argc, char **args, struct text *reply)
{
	unsigned char *bytes;
	size_t len;

	(void)argc;
	if (!parse_hex(args[0], &bytes, &len) || len > MAX_NONCE) {
		reply_error(reply, "usage: nonce set HEX; at most 64 bytes");
		return;
	}
	*memory = (struct memory){ .len = len };
	memcpy(memory->value, bytes, len);
	text_add(reply, "{\"set\":true}");
}

static void do_get(int argc, char **args, struct text *reply)
{
	(void)argc, (void)args;
	text_add(reply, "{\"nonce\":\"");
	text_add_hex(reply, memory->value, memory->len);
	text_add(reply, "\",\"asked\":%lu}", memory->asked++);
}

static const struct command commands[] = {
	{ "set", 1, 1, "usage: nonce set HEX", do_set },
	{ "get", 0, 0, "usage: nonce get", do_get },
	{ 0 },
};

static int serve(void)
{
	struct sockaddr_un at;
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&at, address(&at)) || listen(listener, 16))
		return fail("listen");
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || mlock(memory, 4096))
		return fail("memory");
	if (daemon(0, 0))
		return fail("daemon");
	signal(SIGPIPE, SIG_IGN);
	/* Locks are not inherited by the daemon that was forked. */
	if (mlock(memory, 4096))
		return 1;
	for (;;) {
		int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		struct timeval patience = { .tv_sec = 1 };
		struct ucred who = { .uid = (uid_t)-1 };
		socklen_t size = sizeof(who);
		char line[2 * MAX_NONCE + 16];
		struct text reply = { 0 };

		if (peer < 0)
			continue;
		setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size);
		ssize_t n = recv(peer, line, sizeof(line) - 1, 0);

		if (n > 0 && who.uid == 0) {
			line[n] = 0;
			answer(commands, line, &reply);
			send(peer, reply.data, reply.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		}
		free(reply.data);
		close(peer);
	}
}

static int ask(int argc, char **argv)
{
	struct sockaddr_un at;
	struct timeval patience = { .tv_sec = PATIENCE_S };
	char line[2 * MAX_NONCE + 16], reply[REPLY_BYTES];
	int len = snprintf(line, sizeof(line), "%s %s", argv[1], argc > 2 ? argv[2] : "");
	int peer = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (len >= (int)sizeof(line)) {
		errno = EMSGSIZE;
		return fail("nonce");
	}
	if (peer < 0 || connect(peer, (struct sockaddr *)&at, address(&at)))
		return fail("connect");
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(peer, line, (size_t)len, MSG_NOSIGNAL) != len)
		return fail("send");
	ssize_t n = recv(peer, reply, sizeof(reply) - 1, 0);

	if (n <= 0) {
		errno = n ? errno : EACCES;
		return fail("no answer");
	}
	reply[n] = 0;
	puts(reply);
	return strstr(reply, "\"error\"") != NULL;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "serve"))
		return serve();
	if ((argc == 3 && !strcmp(argv[1], "set")) || (argc == 2 && !strcmp(argv[1], "get")))
		return ask(argc, argv);
	fprintf(stderr, "usage: nonce serve | nonce set HEX | nonce get\n");
	return 2;
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * echo_server - gives back over TCP what it receives; the host's end of check_net.
 *
 * usage: echo_server [PORT [ADDRESS]]      IPv4, 127.0.0.1 by default; PORT 0, the default: any free one
 *
 * Prints {"port":N} when it listens, and at the end of each connection {"bytes":N,"fnv1a64":"0x.."} of what it
 * received. Ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/check.h"

#define CONNECTIONS 16
#define BUFFER (256u << 10)

struct connection {
	int fd;			/* -1: free */
	bool finished;		/* the peer sends no more */
	uint64_t bytes, hash;
	size_t len, sent;	/* of data */
	unsigned char data[BUFFER];
};

static struct connection connections[CONNECTIONS];

static int listen_on(uint64_t port, const char *address)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	socklen_t size = sizeof(at);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (inet_pton(AF_INET, address, &at.sin_addr) != 1) {
		errno = EINVAL;
		cannot("understand the address");
	}
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, CONNECTIONS) ||
	    getsockname(fd, (struct sockaddr *)&at, &size))
		cannot("listen");
	printf("{\"port\":%d}\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

static void take_connection(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (int i = 0; i < CONNECTIONS; i++) {
		struct connection *c = &connections[i];

		if (c->fd >= 0)
			continue;
		c->fd = fd;
		c->finished = false;
		c->bytes = c->len = c->sent = 0;
		c->hash = FNV_START;
		return;
	}
	close(fd);
}

static void end_connection(struct connection *c)
{
	printf("{\"bytes\":%lu,\"fnv1a64\":\"0x%016lx\"}\n", c->bytes, c->hash);
	fflush(stdout);
	close(c->fd);
	c->fd = -1;
}

static void serve(struct connection *c, short events)
{
	if (events & (POLLIN | POLLHUP | POLLERR) && !c->finished && c->len < BUFFER) {
		ssize_t n = recv(c->fd, c->data + c->len, BUFFER - c->len, 0);

		if (n > 0) {
			c->hash = fnv1a64(c->hash, c->data + c->len, (size_t)n);
			c->bytes += (uint64_t)n;
			c->len += (size_t)n;
		} else if (n == 0) {
			c->finished = true;
		} else if (errno != EAGAIN && errno != EINTR) {
			end_connection(c);
			return;
		}
	}
	if (c->sent < c->len) {
		ssize_t n = send(c->fd, c->data + c->sent, c->len - c->sent, MSG_NOSIGNAL);

		if (n > 0) {
			c->sent += (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			end_connection(c);
			return;
		}
	}
	if (c->sent == c->len) {
		c->sent = c->len = 0;
		if (c->finished)
			end_connection(c);
	}
}

int main(int argc, char **argv)
{
	struct pollfd fds[CONNECTIONS + 2];
	uint64_t port = number_argument(argc, argv, 1, 0);
	char ignored[256];

	if (argc > 3 || port > 65535) {
		fprintf(stderr, "usage: echo_server [PORT [ADDRESS]]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < CONNECTIONS; i++)
		connections[i].fd = -1;
	fds[0] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = listen_on(port, argc > 2 ? argv[2] : "127.0.0.1"), .events = POLLIN };
	for (;;) {
		for (int i = 0; i < CONNECTIONS; i++) {
			const struct connection *c = &connections[i];

			fds[i + 2] = (struct pollfd){ .fd = c->fd };
			fds[i + 2].events = (short)((c->len < BUFFER && !c->finished ? POLLIN : 0) |
						    (c->sent < c->len ? POLLOUT : 0));
		}
		if (poll(fds, CONNECTIONS + 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			cannot("poll");
		}
		if (fds[0].revents && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0)
			return 0;
		for (int i = 0; i < CONNECTIONS; i++) {
			if (connections[i].fd >= 0 && fds[i + 2].revents)
				serve(&connections[i], fds[i + 2].revents);
		}
		if (fds[1].revents)
			take_connection(fds[1].fd);
	}
}

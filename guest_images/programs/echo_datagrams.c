// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * echo_datagrams - gives back each UDP datagram that it receives; the host's end of check_datagrams.
 *
 * usage: echo_datagrams [ADDRESS]      IPv4, 127.0.0.1 by default
 *
 * Prints {"port":N} when it listens. Ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/check.h"

int main(int argc, char **argv)
{
	static unsigned char buffer[64u << 10];
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t size = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char ignored[256];

	if (argc > 2 || inet_pton(AF_INET, argc > 1 ? argv[1] : "127.0.0.1", &at.sin_addr) != 1) {
		fprintf(stderr, "usage: echo_datagrams [ADDRESS]\n");
		return 2;
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || getsockname(fd, (struct sockaddr *)&at, &size))
		cannot("listen");
	printf("{\"port\":%d}\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			cannot("poll");
		}
		if (fds[0].revents && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0)
			return 0;
		if (fds[1].revents) {
			struct sockaddr_in from;
			socklen_t length = sizeof(from);
			ssize_t n = recvfrom(fd, buffer, sizeof(buffer), MSG_DONTWAIT, (struct sockaddr *)&from, &length);

			if (n >= 0)
				sendto(fd, buffer, (size_t)n, MSG_DONTWAIT, (struct sockaddr *)&from, length);
		}
	}
}

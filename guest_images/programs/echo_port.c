// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * echo_port - connects to a TCP port of this machine and gives back what comes; the host's end of check_port.
 *
 * usage: echo_port PORT BYTES
 *
 * Prints {"connected":true}, and after so many bytes {"bytes":N,"fnv1a64":"0x.."} of what it received.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/check.h"

static unsigned char buffer[64u << 10];

int main(int argc, char **argv)
{
	uint64_t port = number_argument(argc, argv, 1, 0), total = number_argument(argc, argv, 2, 0);
	uint64_t hash = FNV_START, got = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 3 || !port || port > 65535) {
		fprintf(stderr, "usage: echo_port PORT BYTES\n");
		return 2;
	}
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		cannot("connect");
	signal(SIGPIPE, SIG_IGN);
	puts("{\"connected\":true}");
	fflush(stdout);
	while (got < total) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

		if (n <= 0)
			cannot("receive");
		hash = fnv1a64(hash, buffer, (size_t)n);
		got += (uint64_t)n;
		for (ssize_t sent = 0, more; sent < n; sent += more) {
			more = send(fd, buffer + sent, (size_t)(n - sent), MSG_NOSIGNAL);
			if (more <= 0)
				cannot("send");
		}
	}
	printf("{\"bytes\":%lu,\"fnv1a64\":\"0x%016lx\"}\n", got, hash);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_net - sends a seeded pattern over TCP to an echo server and compares what comes back.
 *
 * usage: check_net HOST PORT BYTES [SEED]      HOST is an IPv4 address
 *
 * Prints the FNV-1a 64-bit hash of what was sent and of what came back; echo_server prints that of what it received.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/exchange.h"

static int connect_to(const char *host, uint64_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!port || port > 65535 || inet_pton(AF_INET, host, &to.sin_addr) != 1) {
		errno = EINVAL;
		cannot("understand the address");
	}
	/* SO_SNDTIMEO bounds connect(), socket(7). */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) || fcntl(fd, F_SETFL, O_NONBLOCK))
		cannot("connect");
	return fd;
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: check_net HOST PORT BYTES [SEED]\n");
		return 2;
	}
	uint64_t total = number_argument(argc, argv, 3, 0);
	uint64_t seed = number_argument(argc, argv, 4, clock_ns(CLOCK_REALTIME));
	int fd = connect_to(argv[1], number_argument(argc, argv, 2, 0));

	signal(SIGPIPE, SIG_IGN);
	exchange("the network gives back what was sent", fd, total, seed);
	return 0;
}

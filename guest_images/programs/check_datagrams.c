// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_datagrams - sends seeded UDP datagrams of many sizes to a host that gives each back, and compares.
 *
 * usage: check_datagrams HOST PORT COUNT [SEED]      HOST is an IPv4 address
 *
 * One is under way at a time. UDP may lose one: after 2 s it is sent again, three times at most; "again" counts that.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/check.h"

#define LARGEST 9000	/* more than a packet of Ethernet: the largest come in fragments */
#define PATIENCE_S 2
#define TRIES 3

static unsigned char sent[LARGEST], got[LARGEST + 1];

/* Whether the datagram comes back as it went; an answer to an earlier one, which came late, is no answer. */
static bool comes_back(int fd, size_t size)
{
	for (;;) {
		ssize_t n = recv(fd, got, sizeof(got), 0);

		if (n < 0)
			return false;
		if ((size_t)n == size && !memcmp(got, sent, size))
			return true;
		if ((size_t)n >= sizeof(uint64_t) && !memcmp(got, sent, sizeof(uint64_t)))
			return false;	/* it is the one, and changed */
	}
}

int main(int argc, char **argv)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_in to = { .sin_family = AF_INET };
	uint64_t whole = 0, again = 0, bytes = 0;
	struct text t = { 0 };

	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: check_datagrams HOST PORT COUNT [SEED]\n");
		return 2;
	}
	uint64_t port = number_argument(argc, argv, 2, 0), count = number_argument(argc, argv, 3, 0);
	uint64_t seed = number_argument(argc, argv, 4, clock_ns(CLOCK_REALTIME));
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	to.sin_port = htons((uint16_t)port);
	if (!port || port > 65535 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
		errno = EINVAL;
		cannot("understand the address");
	}
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)))
		cannot("make a socket");
	for (uint64_t i = 0; i < count; i++) {
		size_t size = sizeof(uint64_t) + (size_t)(next_random(&seed) % (LARGEST - sizeof(uint64_t) + 1));
		bool good = false;

		for (size_t at = 0; at < size; at++)
			sent[at] = (unsigned char)next_random(&seed);
		memcpy(sent, &i, sizeof(i));	/* its number, by which it is known again */
		for (int try = 0; try < TRIES && !good; try++) {
			again += try > 0;
			if (send(fd, sent, size, 0) == (ssize_t)size)
				good = comes_back(fd, size);
		}
		whole += good;
		bytes += size;
	}
	begin_check(&t, "datagrams that come back as they went");
	text_add(&t, ",\"expected\":%lu,\"got\":%lu,\"bytes\":%lu,\"again\":%lu}", count, whole, bytes, again);
	print_line(&t);
	return 0;
}

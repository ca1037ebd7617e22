// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_net - sends a seeded pattern over TCP to an echo server and compares what comes back.
 *
 * usage: check_net HOST PORT BYTES [SEED]      HOST is an IPv4 address
 *
 * Prints the FNV-1a 64-bit hash of what was sent and of what came back; echo_server prints that of what it received.
 * Without progress for 20 s it gives up, and "got" is what came until then.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "check.h"

#define CHUNK (64u << 10)
#define PATIENCE_MS 20000

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
	static unsigned char sending[CHUNK], receiving[CHUNK];
	uint64_t sent_hash = FNV_START, got_hash = FNV_START, generated = 0, sent = 0, got = 0;
	size_t ready = 0, at = 0;
	const char *end = "complete";
	struct text t = { 0 };

	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: check_net HOST PORT BYTES [SEED]\n");
		return 2;
	}
	uint64_t total = number_argument(argc, argv, 3, 0);
	uint64_t seed = number_argument(argc, argv, 4, clock_ns(CLOCK_REALTIME));
	int fd = connect_to(argv[1], number_argument(argc, argv, 2, 0));
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	while (got < total) {
		if (at == ready && generated < total) {
			ready = total - generated < CHUNK ? (size_t)(total - generated) : CHUNK;
			at = 0;
			for (size_t i = 0; i < ready; i++)
				sending[i] = (unsigned char)next_random(&seed);
			generated += ready;
		}
		struct pollfd poller = { .fd = fd, .events = (short)(POLLIN | (at < ready ? POLLOUT : 0)) };

		if (poll(&poller, 1, PATIENCE_MS) <= 0) {
			end = "no progress for 20 s";
			break;
		}
		if (poller.revents & POLLOUT) {
			ssize_t n = send(fd, sending + at, ready - at, MSG_NOSIGNAL);

			if (n > 0) {
				sent_hash = fnv1a64(sent_hash, sending + at, (size_t)n);
				sent += (uint64_t)n;
				at += (size_t)n;
			} else if (errno != EAGAIN && errno != EINTR) {
				end = strerrorname_np(errno);
				break;
			}
		}
		if (poller.revents & (POLLIN | POLLHUP | POLLERR)) {
			ssize_t n = recv(fd, receiving, sizeof(receiving), 0);

			if (n > 0) {
				got_hash = fnv1a64(got_hash, receiving, (size_t)n);
				got += (uint64_t)n;
			} else if (n == 0) {
				end = "closed by the server";
				break;
			} else if (errno != EAGAIN && errno != EINTR) {
				end = strerrorname_np(errno);
				break;
			}
		}
	}
	begin_check(&t, "the network gives back what was sent");
	text_add(&t, ",\"expected\":");
	add_hex_number(&t, sent_hash, 16);
	text_add(&t, ",\"got\":");
	add_hex_number(&t, got_hash, 16);
	text_add(&t, ",\"hash\":\"fnv1a64\",\"bytes\":%lu,\"sent\":%lu,\"received\":%lu,\"elapsed_ns\":%lu,\"end\":",
		 total, sent, got, clock_ns(CLOCK_MONOTONIC) - start);
	text_add_string(&t, end);
	text_add(&t, "}");
	print_line(&t);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "exchange.h"

void exchange(const char *name, int fd, uint64_t total, uint64_t seed)
{
	static unsigned char sending[CHUNK], receiving[CHUNK];
	uint64_t sent_hash = FNV_START, got_hash = FNV_START, generated = 0, sent = 0, got = 0;
	uint64_t start = clock_ns(CLOCK_MONOTONIC);
	size_t ready = 0, at = 0;
	const char *end = "complete";
	struct text t = { 0 };

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
			ssize_t n = write(fd, sending + at, ready - at);

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
			ssize_t n = read(fd, receiving, sizeof(receiving));

			if (n > 0) {
				got_hash = fnv1a64(got_hash, receiving, (size_t)n);
				got += (uint64_t)n;
			} else if (n == 0) {
				end = "closed by the far end";
				break;
			} else if (errno != EAGAIN && errno != EINTR) {
				end = strerrorname_np(errno);
				break;
			}
		}
	}
	begin_check(&t, name);
	text_add(&t, ",\"expected\":");
	add_hex_number(&t, sent_hash, 16);
	text_add(&t, ",\"got\":");
	add_hex_number(&t, got_hash, 16);
	text_add(&t, ",\"hash\":\"fnv1a64\",\"bytes\":%lu,\"sent\":%lu,\"received\":%lu,\"elapsed_ns\":%lu,\"end\":",
		 total, sent, got, clock_ns(CLOCK_MONOTONIC) - start);
	text_add_string(&t, end);
	text_add(&t, "}");
	print_line(&t);
}

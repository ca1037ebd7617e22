// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * split_lock - locked accesses that lie across a boundary, one after the other
 *
 * usage: split_lock SECONDS PAUSE_US     for how long, and the pause between two
 *
 * Prints {"done":N}. Under QEMU's emulation each one has all other processors stopped for it: what they do meanwhile must
 * come through that (guest_images/modules/host_tcg.c).
 */
#define _GNU_SOURCE
#include "lib/check.h"

#define ODD 61	/* four bytes from here on lie in two cache lines */

int main(int argc, char **argv)
{
	static unsigned char memory[128] __attribute__((aligned(64)));
	uint64_t seconds = number_argument(argc, argv, 1, 1), pause_us = number_argument(argc, argv, 2, 1000), done = 0;
	uint64_t end = clock_ns(CLOCK_MONOTONIC) + seconds * 1000000000;
	struct timespec pause = { (time_t)(pause_us / 1000000), (long)(pause_us % 1000000 * 1000) };

	while (clock_ns(CLOCK_MONOTONIC) < end) {
		asm volatile("lock incl (%0)" : : "r"(memory + ODD) : "memory");
		done++;
		nanosleep(&pause, NULL);
	}
	printf("{\"done\":%llu}\n", (unsigned long long)done);
	return 0;
}

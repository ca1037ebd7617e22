// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * tsc_rate - how fast this machine's time-stamp counter runs, by CLOCK_MONOTONIC_RAW
 *
 * usage: tsc_rate [MILLISECONDS]     how long to measure; default 20
 *
 * Prints {"khz":N}. Good for a few parts in a million: both clocks are read together, as closely as in the best of many
 * attempts, at the start and at the end.
 */
#define _GNU_SOURCE
#include <x86intrin.h>

#include "lib/check.h"

#define ATTEMPTS 64

struct moment {
	uint64_t ticks, ns;
};

static struct moment now(void)
{
	struct moment best = { 0 };
	uint64_t closest = UINT64_MAX;

	for (int i = 0; i < ATTEMPTS; i++) {
		uint64_t before = __rdtsc(), ns = clock_ns(CLOCK_MONOTONIC_RAW), after = __rdtsc();

		if (after - before < closest) {
			closest = after - before;
			best = (struct moment){ before + closest / 2, ns };
		}
	}
	return best;
}

int main(int argc, char **argv)
{
	uint64_t ms = number_argument(argc, argv, 1, 20);
	struct timespec time = { (time_t)(ms / 1000), (long)(ms % 1000 * 1000000) };
	struct moment start = now();

	nanosleep(&time, NULL);
	struct moment end = now();

	printf("{\"khz\":%llu}\n", (unsigned long long)((end.ticks - start.ticks) * 1000000.0 / (end.ns - start.ns) + 0.5));
	return 0;
}

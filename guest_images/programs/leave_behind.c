// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * leave_behind - fills memory with 16 bytes, again and again, and ends; what it leaves is free memory
 *
 * usage: leave_behind HEX MIB [SECONDS]
 *
 * HEX are the 16 bytes. SECONDS that it lives on with its memory; else it ends at once.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "lib/check.h"

#define PATTERN 16u

int main(int argc, char **argv)
{
	uint64_t size = number_argument(argc, argv, 2, 1) << 20, seconds = number_argument(argc, argv, 3, 0);
	unsigned char *pattern, *memory;
	size_t len;

	if (argc < 3 || !parse_hex(argv[1], &pattern, &len) || len != PATTERN) {
		fprintf(stderr, "usage: leave_behind HEX MIB [SECONDS]; 16 bytes\n");
		return 2;
	}
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		cannot("get memory");
	for (uint64_t at = 0; at < size; at += PATTERN)
		memcpy(memory + at, pattern, PATTERN);
	printf("{\"filled\":%llu}\n", (unsigned long long)size);
	fflush(stdout);
	sleep((unsigned int)seconds);
	/* What is seen must be what it has left behind, and no more: not the arguments. */
	memset(argv[1], 'x', strlen(argv[1]));
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_disk - writes a seeded pattern to a block device and reads it back, past the page cache.
 *
 * usage: check_disk PATH [MIB] [SEED]      what was on PATH is lost; 4 MiB by default
 *
 * Prints the FNV-1a 64-bit hash of what was written and of what was read.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "lib/check.h"

#define BLOCK (64u << 10)
#define ALIGNMENT 4096

/* The pattern's block number `index`: no two blocks are alike, so one in a wrong place shows. */
static void fill(uint64_t *block, uint64_t seed, uint64_t index)
{
	uint64_t state = seed ^ (index * 0xd1342543de82ef95);

	for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
		block[i] = next_random(&state);
}

int main(int argc, char **argv)
{
	uint64_t written = FNV_START, got = FNV_START;
	struct text t = { 0 };
	void *block;

	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: check_disk PATH [MIB] [SEED]\n");
		return 2;
	}
	uint64_t mib = number_argument(argc, argv, 2, 4);
	uint64_t seed = number_argument(argc, argv, 3, clock_ns(CLOCK_REALTIME));
	uint64_t blocks = mib * ((1u << 20) / BLOCK);
	int fd = open(argv[1], O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		cannot("open the device without the page cache");
	if (posix_memalign(&block, ALIGNMENT, BLOCK)) {
		errno = ENOMEM;
		cannot("get memory");
	}
	for (uint64_t i = 0; i < blocks; i++) {
		fill(block, seed, i);
		written = fnv1a64(written, block, BLOCK);
		if (pwrite(fd, block, BLOCK, (off_t)(i * BLOCK)) != (ssize_t)BLOCK)
			cannot("write a block");
	}
	if (fsync(fd))
		cannot("flush the device");
	for (uint64_t i = 0; i < blocks; i++) {
		memset(block, 0, BLOCK);
		if (pread(fd, block, BLOCK, (off_t)(i * BLOCK)) != (ssize_t)BLOCK)
			cannot("read a block");
		got = fnv1a64(got, block, BLOCK);
	}
	begin_check(&t, "the disk gives back what was written");
	text_add(&t, ",\"expected\":");
	add_hex_number(&t, written, 16);
	text_add(&t, ",\"got\":");
	add_hex_number(&t, got, 16);
	text_add(&t, ",\"hash\":\"fnv1a64\",\"bytes\":%lu}", (unsigned long)(blocks * BLOCK));
	print_line(&t);
	return 0;
}

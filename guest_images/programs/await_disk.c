// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * await_disk - waits for a disk with a buffer that holds 16 bytes, again and again; the disk is to fill it
 *
 * usage: await_disk PATH HEX [KIB]      HEX are the 16 bytes; 128 KiB by default; ends when it is killed
 *
 * Reads from the start of PATH, past the page cache. The buffer is filled anew before each read, so on a slow disk it nearly
 * always is the buffer of a read that is under way.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "lib/check.h"

#define PATTERN 16u
#define ALIGNMENT 4096

int main(int argc, char **argv)
{
	const size_t size = number_argument(argc, argv, 3, 128) << 10;
	unsigned char *pattern, *buffer;
	size_t len;
	int fd;

	if (argc < 3 || !parse_hex(argv[2], &pattern, &len) || len != PATTERN) {
		fprintf(stderr, "usage: await_disk PATH HEX [KIB]; 16 bytes\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		cannot("open the device without the page cache");
	if (posix_memalign((void **)&buffer, ALIGNMENT, size)) {
		errno = ENOMEM;
		cannot("get memory");
	}
	for (uint64_t reads = 1;; reads++) {
		for (size_t at = 0; at < size; at += PATTERN)
			memcpy(buffer + at, pattern, PATTERN);
		printf("{\"reading\":%llu}\n", (unsigned long long)reads);
		fflush(stdout);
		if (pread(fd, buffer, size, 0) != (ssize_t)size)
			cannot("read");
	}
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_random - reads a source of random bytes twice, and tells what can be told of them.
 *
 * usage: check_random PATH [BYTES]      PATH: for instance /dev/hwrng; 16384 bytes by default, each time
 *
 * That they are random no program can find out; that nothing came, or zeros, or the same again, it can.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "lib/check.h"

#define MOST (1u << 20)
#define VALUES 256

static unsigned char first[MOST], second[MOST];

static size_t fetch(const char *path, unsigned char *into, size_t wanted)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;

	if (fd < 0)
		cannot("open the source");
	while (got < wanted) {
		ssize_t n = read(fd, into + got, wanted - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	return got;
}

static void say(const char *name, const char *expected, const char *got)
{
	struct text t = { 0 };

	begin_check(&t, name);
	text_add(&t, ",\"expected\":\"%s\",\"got\":\"%s\"}", expected, got);
	print_line(&t);
}

static void say_number(const char *name, uint64_t expected, uint64_t got)
{
	struct text t = { 0 };

	begin_check(&t, name);
	text_add(&t, ",\"expected\":%lu,\"got\":%lu}", expected, got);
	print_line(&t);
}

int main(int argc, char **argv)
{
	uint64_t bytes = number_argument(argc, argv, 2, 16384), seen = 0, most = 0;
	uint64_t counts[VALUES] = { 0 };

	if (argc < 2 || argc > 3 || bytes < 32 * VALUES || bytes > MOST) {
		fprintf(stderr, "usage: check_random PATH [BYTES]; 8192 to 1048576\n");
		return 2;
	}
	uint64_t one = fetch(argv[1], first, bytes), two = fetch(argv[1], second, bytes);

	say_number("bytes that came first", bytes, one);
	say_number("bytes that came then", bytes, two);
	say("they are other ones", "true", memcmp(first, second, bytes) ? "true" : "false");
	for (uint64_t i = 0; i < bytes; i++)
		counts[first[i]]++;
	for (int i = 0; i < VALUES; i++) {
		seen += counts[i] > 0;
		most = counts[i] > most ? counts[i] : most;
	}
	/* Each value comes 32 times or more in the mean; by chance, one is missing in one of 10^11 runs. */
	say_number("different values of a byte", VALUES, seen);
	say("none comes four times as often as it should", "true", most < 4 * bytes / VALUES ? "true" : "false");
	return 0;
}

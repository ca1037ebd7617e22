// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_memory - fills memory, waits, and looks whether its content is still there
 *
 * usage: check_memory MIB [FROM] [SEED]
 *
 * Prints {"filled":N} pages and waits until its standard input ends or gives a line; then it checks them. FROM: a
 * guest-physical address in bytes; a check says whether there are pages of the memory at it or above.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>

#include "check.h"

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define FRAME ((1ull << 55) - 1)	/* Documentation/admin-guide/mm/pagemap.rst */

static uint64_t first_word(uint64_t seed, uint64_t page)
{
	uint64_t state = seed ^ page;

	return next_random(&state);
}

/* How many of the pages lie at `from` or above it. */
static uint64_t count_above(const void *memory, uint64_t pages, uint64_t from)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t above = 0, entry;

	if (fd < 0)
		cannot("open /proc/self/pagemap");
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t at = ((uintptr_t)memory / PAGE + i) * sizeof(entry);

		if (pread(fd, &entry, sizeof(entry), (off_t)at) != sizeof(entry))
			cannot("read /proc/self/pagemap");
		above += (entry & FRAME) * PAGE >= from;
	}
	return above;
}

int main(int argc, char **argv)
{
	struct text t = { 0 };
	uint64_t whole = 0;
	char ignored[256];

	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: check_memory MIB [FROM] [SEED]\n");
		return 2;
	}
	uint64_t pages = number_argument(argc, argv, 1, 0) * ((1u << 20) / PAGE);
	uint64_t from = number_argument(argc, argv, 2, 0);
	uint64_t seed = number_argument(argc, argv, 3, clock_ns(CLOCK_REALTIME));
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || mlock(memory, pages * PAGE))
		cannot("get memory");
	for (uint64_t i = 0; i < pages; i++) {
		for (size_t j = 0; j < WORDS; j++)
			memory[i * WORDS + j] = first_word(seed, i) + j;
	}
	printf("{\"filled\":%lu}\n", pages);
	fflush(stdout);
	if (read(STDIN_FILENO, ignored, sizeof(ignored)) < 0)
		cannot("wait");
	for (uint64_t i = 0; i < pages; i++) {
		bool good = true;

		for (size_t j = 0; j < WORDS && good; j++)
			good = memory[i * WORDS + j] == first_word(seed, i) + j;
		whole += good;
	}
	if (from) {
		begin_check(&t, "some of its pages lie in the new memory");
		text_add(&t, ",\"expected\":\"true\",\"got\":\"%s\"}",
			 count_above(memory, pages, from) ? "true" : "false");
		print_line(&t);
	}
	begin_check(&t, "pages that still hold what was put there");
	text_add(&t, ",\"expected\":%lu,\"got\":%lu}", pages, whole);
	print_line(&t);
	return 0;
}

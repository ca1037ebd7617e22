// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_fill - fills memory that lies high in the guest, and looks at all of it afterwards
 *
 * usage: check_fill FROM [MIB] [SEED]      16 MiB by default
 *
 * FROM is the guest-physical address above which all of the pages must lie; the kernel gives those of a movable zone
 * first, which is where memory that was plugged in goes (Linux 6.12: mm/page_alloc.c build_zonerefs_node()).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>

#include "lib/check.h"

#define PAGE 4096ul
#define WORDS (PAGE / sizeof(uint64_t))
/* Documentation/admin-guide/mm/pagemap.rst */
#define PRESENT (1ull << 63)
#define FRAME ((1ull << 55) - 1)

static void report(const char *name, uint64_t expected, uint64_t got)
{
	struct text t = { 0 };

	begin_check(&t, name);
	text_add(&t, ",\"expected\":%llu,\"got\":%llu}", (unsigned long long)expected, (unsigned long long)got);
	print_line(&t);
}

int main(int argc, char **argv)
{
	uint64_t from = number_argument(argc, argv, 1, 0);
	uint64_t pages = (number_argument(argc, argv, 2, 16) << 20) / PAGE;
	uint64_t seed = number_argument(argc, argv, 3, clock_ns(CLOCK_REALTIME));
	uint64_t state = seed, high = 0, whole = 0, entry;
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pagemap < 0 || memory == MAP_FAILED)
		cannot("open /proc/self/pagemap or get memory");
	for (size_t i = 0; i < pages * WORDS; i++)
		memory[i] = next_random(&state);
	state = seed;
	for (uint64_t page = 0; page < pages; page++) {
		const uint64_t *words = memory + page * WORDS;
		bool is_intact = true;

		for (size_t i = 0; i < WORDS; i++)
			is_intact &= words[i] == next_random(&state);
		whole += is_intact;
		if (pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)words / PAGE * sizeof(entry))) != sizeof(entry))
			cannot("read /proc/self/pagemap");
		high += (entry & PRESENT) && (entry & FRAME) * PAGE >= from;
	}
	report("pages that keep their content", pages, whole);
	report("pages that lie in the memory asked about", pages, high);
	return 0;
}

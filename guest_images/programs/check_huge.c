// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_huge - transparent huge pages of the guest's own kernel, and what is in them
 *
 * usage: check_huge [SEED]
 *
 * Memory that asks for huge pages, how much of it the kernel gave in such, and words at the borders of its small pages:
 * stored by the processor and loaded by KVM (the forced-emulation prefix, see check_cmpxchg), and the other way round.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "lib/check.h"

#define FORCED ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d\n\t"
#define HUGE_BYTES (2ul << 20)
#define BYTES (2 * HUGE_BYTES)
#define PAGE 4096ul
#define CHOICE "/sys/kernel/mm/transparent_hugepage/enabled"

static uint64_t load_by_kvm(const void *from)
{
	uint64_t value;

	asm volatile(FORCED "mov (%1), %0" : "=r"(value) : "r"(from) : "memory");
	return value;
}

static void store_by_kvm(void *to, uint64_t value)
{
	asm volatile(FORCED "mov %1, (%0)" : : "r"(to), "r"(value) : "memory");
}

/* KiB of the mapping that holds an address that are in huge pages, by /proc/self/smaps. */
static unsigned long huge_kib(const void *address)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long from, to, kib;
	bool inside = false;
	char line[512];

	if (!file)
		cannot("read /proc/self/smaps");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = from <= (uintptr_t)address && (uintptr_t)address < to;
		else if (inside && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
			break;
	}
	fclose(file);
	return inside ? kib : 0;
}

/* A small guest has huge pages off; the words of that file, the chosen one in brackets: always madvise [never]. */
static void choose(const char *choice)
{
	FILE *file = fopen(CHOICE, "we");

	if (!file || fputs(choice, file) < 0 || fclose(file))
		cannot("choose who gets huge pages");
}

static void read_choice(char choice[16])
{
	FILE *file = fopen(CHOICE, "re");
	char line[64] = "";

	if (!file || !fgets(line, sizeof(line), file) || !strchr(line, '[') ||
	    sscanf(strchr(line, '['), "[%15[a-z]", choice) != 1)
		cannot("read who gets huge pages");
	fclose(file);
}

static void report(const char *name, uint64_t expected, uint64_t got)
{
	static struct text line;

	begin_check(&line, name);
	text_add(&line, ",\"expected\":%llu,\"got\":%llu}", (unsigned long long)expected, (unsigned long long)got);
	print_line(&line);
}

int main(int argc, char **argv)
{
	const uint64_t seed = number_argument(argc, argv, 1, clock_ns(CLOCK_REALTIME));
	unsigned char *room = mmap(NULL, BYTES + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *const memory = (unsigned char *)(((uintptr_t)room + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	uint64_t sequence = seed, wrong[2] = { 0 };
	char before[16];

	read_choice(before);
	choose("madvise");
	if (room == MAP_FAILED || madvise(memory, BYTES, MADV_HUGEPAGE))
		cannot("ask for huge pages");
	memset(memory, 0x5a, BYTES);
	choose(before);
	report("KiB in huge pages", BYTES / 1024, huge_kib(memory));
	for (uint64_t at = PAGE; at < BYTES; at += 2 * PAGE) {
		uint64_t value = next_random(&sequence);

		memcpy(memory + at - 4, &value, sizeof(value));
		wrong[0] += load_by_kvm(memory + at - 4) != value;
		store_by_kvm(memory + at + PAGE - 12, ~value);
		memcpy(&value, memory + at + PAGE - 12, sizeof(value));
		wrong[1] += value != ~load_by_kvm(memory + at - 4);
	}
	/* All of it again, after all was written: nothing went elsewhere. */
	sequence = seed;
	for (uint64_t at = PAGE; at < BYTES; at += 2 * PAGE) {
		const uint64_t value = next_random(&sequence);

		wrong[0] += memcmp(memory + at - 4, &value, sizeof(value)) != 0;
		wrong[1] += load_by_kvm(memory + at + PAGE - 12) != ~value;
	}
	report("words stored by the processor that were wrong", 0, wrong[0]);
	report("words stored by KVM that were wrong", 0, wrong[1]);
	report("bytes beside them that were wrong", 0, (memory[0] != 0x5a) + (memory[BYTES - 1] != 0x5a));
	return 0;
}

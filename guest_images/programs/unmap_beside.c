// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * unmap_beside - has one processor unmap pages while another one runs a thread of the same program
 *
 * usage: unmap_beside               prints {"steal_time":N}: where KVM tells of processor 1 (guest-physical, in bytes)
 *        unmap_beside ROUNDS        prints {"interrupts":N}: how often processor 1 was interrupted to flush its TLB
 *
 * Processor 0 maps a page, stores to it and unmaps it, ROUNDS times. Needs /dev/cpu/1/msr.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "lib/check.h"

#define STEAL_TIME 0x4b564d03	/* Documentation/virt/kvm/x86/msr.rst */
#define FLAGS 63ull		/* the address is aligned to as many */
#define PAGE 4096

static volatile bool runs, over;

static void run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		cannot("run on that processor");
}

/* A processor that has gone to another program has no translations of this one to flush, and is not interrupted. */
static void let_nobody_else_run(void)
{
	const struct sched_param lowest = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &lowest))
		cannot("run before all others");
}

static void *run_beside(void *unused)
{
	(void)unused;
	run_on(1);
	let_nobody_else_run();
	runs = true;
	while (!over)
		;
	return NULL;
}

/* The row TLB of /proc/interrupts, for processor 1. */
static unsigned long interrupts(void)
{
	FILE *file = fopen("/proc/interrupts", "re");
	unsigned long first, second = 0;
	bool has_row = false;
	char text[512];

	while (file && !has_row && fgets(text, sizeof(text), file))
		has_row = sscanf(text, " TLB: %lu %lu", &first, &second) == 2;
	if (!has_row)
		cannot("read how often a processor flushed its TLB");
	fclose(file);
	return second;
}

static void tell_where(void)
{
	const int msrs = open("/dev/cpu/1/msr", O_RDONLY | O_CLOEXEC);
	uint64_t value;

	if (msrs < 0 || pread(msrs, &value, sizeof(value), STEAL_TIME) != sizeof(value))
		cannot("read an MSR");
	printf("{\"steal_time\":%llu}\n", (unsigned long long)(value & ~FLAGS));
}

int main(int argc, char **argv)
{
	const uint64_t rounds = number_argument(argc, argv, 1, 0);
	pthread_t thread;

	if (!rounds) {
		tell_where();
		return 0;
	}
	run_on(0);
	errno = pthread_create(&thread, NULL, run_beside, NULL);
	if (errno)
		cannot("start a thread");
	while (!runs)
		sched_yield();
	const unsigned long before = interrupts();

	for (uint64_t left = rounds; left; left--) {
		volatile char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (page == MAP_FAILED)
			cannot("map a page");
		*page = 1;
		munmap((void *)page, PAGE);
	}
	printf("{\"interrupts\":%lu}\n", interrupts() - before);
	over = true;
	pthread_join(thread, NULL);
	return 0;
}

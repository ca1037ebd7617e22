// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_atomic - whether locked instructions by KVM's emulator on one CPU and the processor's own on another lose nothing.
 *
 * usage: check_atomic [ROUNDS [EMULATED]]        200,000 and 2,000 by default; of each kind of operand
 *
 * Both add 1 to the same counter: one CPU ROUNDS times, by lock inc and lock cmpxchg in turns, while the other adds by an
 * emulated lock cmpxchg, at least EMULATED times and until the first is done. The bytes beside the counter belong to the
 * first alone, which also counts there, without lock.
 *
 * "got" is what the counter has, "expected" what both have added. That this would show a loss another counter tells, to
 * which both add without lock: some of that must be lost.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "lib/check.h"

#define PREFIX ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d\n\t"
#define PATIENCE 20	/* times */
#define PAUSE 64	/* spins between two rounds at most, so that the emulator gets its turn */

static void *counter;	/* 8 bytes and 8 more, in a page of their own */

static struct kind {
	const char *name;
	int bytes;
	void (*native)(uint64_t round);
	void (*emulated)(void);
} const *kind;

static uint64_t rounds, least;
static uint64_t emulated_rounds;
static volatile bool started, over;

/* --- one round ----------------------------------------------------------- */

#define ADD_BY_CMPXCHG(prefix, type, suffix)								\
	do {												\
		volatile type *at = (volatile type *)counter;					\
		type seen = *at;									\
		bool done;										\
													\
		do {											\
			type fresh = (type)(seen + 1);							\
													\
			asm volatile(prefix "lock cmpxchg" suffix " %[fresh], %[at]"			\
				     : [at] "+m"(*at), "+a"(seen), "=@ccz"(done)			\
				     : [fresh] "q"(fresh)						\
				     : "memory");							\
		} while (!done);									\
	} while (0)

#define ADD_BY_CMPXCHG8B(prefix)									\
	do {												\
		uint64_t seen = *(volatile uint64_t *)counter;					\
		uint32_t low = (uint32_t)seen, high = (uint32_t)(seen >> 32);				\
		bool done;										\
													\
		do {											\
			uint64_t fresh = ((uint64_t)high << 32 | low) + 1;				\
													\
			asm volatile(prefix "lock cmpxchg8b %[at]"					\
				     : [at] "+m"(*(uint64_t *)counter), "+a"(low), "+d"(high), "=@ccz"(done)	\
				     : "b"((uint32_t)fresh), "c"((uint32_t)(fresh >> 32))		\
				     : "memory");							\
		} while (!done);									\
	} while (0)

#define KIND(bits, suffix)										\
	static void native##bits(uint64_t round)							\
	{												\
		if (round % 2)										\
			ADD_BY_CMPXCHG("", uint##bits##_t, suffix);					\
		else											\
			asm volatile("lock inc" suffix " %0" : "+m"(*(uint##bits##_t *)counter));	\
	}												\
	static void emulated##bits(void)								\
	{												\
		ADD_BY_CMPXCHG(PREFIX, uint##bits##_t, suffix);						\
	}

KIND(8, "b")
KIND(16, "w")
KIND(32, "l")
KIND(64, "q")

static void native8b(uint64_t round)
{
	if (round % 2)
		ADD_BY_CMPXCHG8B("");
	else
		native64(round);
}

static void emulated8b(void)
{
	ADD_BY_CMPXCHG8B(PREFIX);
}

static void native_unlocked(uint64_t round)
{
	(void)round;
	asm volatile("incq %0" : "+m"(*(uint64_t *)counter));
}

static void emulated_unlocked(void)
{
	asm volatile(PREFIX "incq %0" : "+m"(*(uint64_t *)counter));
}

static const struct kind kinds[] = {
	{ "lock cmpxchg, 1 byte", 1, native8, emulated8 },
	{ "lock cmpxchg, 2 bytes", 2, native16, emulated16 },
	{ "lock cmpxchg, 4 bytes", 4, native32, emulated32 },
	{ "lock cmpxchg, 8 bytes", 8, native64, emulated64 },
	{ "lock cmpxchg8b", 8, native8b, emulated8b },
	{ "inc without lock", 8, native_unlocked, emulated_unlocked },
};

/* --- two processors ------------------------------------------------------ */

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		cannot("have two processors");
}

static void *emulate(void *unused)
{
	(void)unused;
	stay_on(1);
	started = true;
	while (!over || emulated_rounds < least) {
		kind->emulated();
		emulated_rounds++;
	}
	return NULL;
}

/* The byte behind the counter, mostly in the same word. */
static volatile uint8_t *beside(void)
{
	return (volatile uint8_t *)counter + kind->bytes;
}

static uint64_t low(uint64_t value, int bytes)
{
	return bytes == 8 ? value : value & ((1ull << (8 * bytes)) - 1);
}

static uint64_t count(const struct kind *chosen, uint64_t *emulated)
{
	volatile unsigned int spin;
	uint64_t seed = 1;
	pthread_t other;

	kind = chosen;
	memset(counter, 0, 16);
	emulated_rounds = 0;
	started = over = false;
	if (pthread_create(&other, NULL, emulate, NULL))
		cannot("start a thread");
	while (!started)
		sched_yield();
	for (uint64_t i = 0; i < rounds; i++) {
		kind->native(i);
		++*beside();
		for (spin = (unsigned int)(next_random(&seed) % PAUSE); spin; spin--)
			;
	}
	over = true;
	pthread_join(other, NULL);
	*emulated = emulated_rounds;
	memcpy(&seed, counter, sizeof(seed));
	return low(seed, kind->bytes);
}

static void check(const struct kind *checked)
{
	uint64_t emulated, got = count(checked, &emulated);
	struct text t = { 0 };
	char name[128];

	snprintf(name, sizeof(name), "%s: %lu rounds, beside %lu emulated ones", checked->name, rounds, emulated);
	begin_check(&t, name);
	text_add(&t, ",\"expected\":\"%lu, and %u beside it\"", low(rounds + emulated, checked->bytes), (uint8_t)rounds);
	text_add(&t, ",\"got\":\"%lu, and %u beside it\",\"emulated\":%lu}", got, *beside(), emulated);
	print_line(&t);
	free(t.data);
}

int main(int argc, char **argv)
{
	const size_t locked = sizeof(kinds) / sizeof(kinds[0]) - 1;
	struct text t = { 0 };
	uint64_t emulated = 0, got;
	long lost = 0;

	rounds = number_argument(argc, argv, 1, 200000);
	least = number_argument(argc, argv, 2, 2000);
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (counter == MAP_FAILED)
		cannot("map a page");
	stay_on(0);
	for (size_t i = 0; i < locked; i++)
		check(&kinds[i]);
	/* On a machine that runs the two by turns a loss may take some patience. */
	for (int i = 0; i < PATIENCE && lost <= 0; i++) {
		got = count(&kinds[locked], &emulated);
		lost = (long)(rounds + emulated - got);
	}
	begin_check(&t, "without lock some are lost");
	text_add(&t, ",\"expected\":\"true\",\"got\":\"%s\",\"lost\":%ld,\"emulated\":%lu}",
		 lost > 0 ? "true" : "false", lost, emulated);
	print_line(&t);
	return 0;
}

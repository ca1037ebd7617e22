// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_cmpxchg - "lock cmpxchg" carried out by KVM's emulator, compared with the processor's own.
 *
 * usage: check_cmpxchg [SEED]
 *
 * With kvm.force_emulation_prefix=1 the bytes 0f 0b 6b 76 6d (ud2 "kvm") before an instruction make KVM emulate it, also
 * in user space. Without, they raise SIGILL, and that is what "got" then says. Each case runs both ways on the same
 * input; compared are memory, rax (and rdx for cmpxchg8b) and the flags.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <sys/mman.h>

#include "check.h"

#define PREFIX ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d\n\t"
#define ROUNDS 8

struct state {
	uint64_t memory, rax, rdx, fresh;	/* fresh: what is stored on success; rbx and rcx for cmpxchg8b */
	bool zf, cf, of, sf, pf;
};

static uint64_t *page;	/* the memory operand: a page of its own */
static sigjmp_buf on_illegal;

static void caught(int signo)
{
	(void)signo;
	siglongjmp(on_illegal, 1);
}

#define FLAGS "=@ccz"(s->zf), "=@ccc"(s->cf), "=@cco"(s->of), "=@ccs"(s->sf), "=@ccp"(s->pf)

#define CMPXCHG(name, prefix, suffix, type, constraint)                                                     \
	static void name(struct state *s)                                                                   \
	{                                                                                                   \
		asm volatile(prefix "lock cmpxchg" suffix " %[fresh], %[memory]"                            \
			     : [memory] "+m"(*(type *)page), "+a"(s->rax), FLAGS                            \
			     : [fresh] constraint((type)s->fresh)                                           \
			     : "memory");                                                                   \
	}

#define CMPXCHG8B(name, prefix)                                                                             \
	static void name(struct state *s)                                                                   \
	{                                                                                                   \
		asm volatile(prefix "lock cmpxchg8b %[memory]"                                              \
			     : [memory] "+m"(*page), "+a"(s->rax), "+d"(s->rdx), "=@ccz"(s->zf)             \
			     : "b"((uint32_t)s->fresh), "c"((uint32_t)(s->fresh >> 32))                     \
			     : "memory");                                                                   \
	}

CMPXCHG(native1, "", "b", uint8_t, "q")
CMPXCHG(native2, "", "w", uint16_t, "r")
CMPXCHG(native4, "", "l", uint32_t, "r")
CMPXCHG(native8, "", "q", uint64_t, "r")
CMPXCHG(emulated1, PREFIX, "b", uint8_t, "q")
CMPXCHG(emulated2, PREFIX, "w", uint16_t, "r")
CMPXCHG(emulated4, PREFIX, "l", uint32_t, "r")
CMPXCHG(emulated8, PREFIX, "q", uint64_t, "r")
CMPXCHG8B(native8b, "")
CMPXCHG8B(emulated8b, PREFIX)

static const struct instruction {
	const char *name;
	int bytes;
	bool pair;	/* compares edx:eax */
	void (*native)(struct state *s);
	void (*emulated)(struct state *s);
} instructions[] = {
	{ "cmpxchg, 1 byte", 1, false, native1, emulated1 },
	{ "cmpxchg, 2 bytes", 2, false, native2, emulated2 },
	{ "cmpxchg, 4 bytes", 4, false, native4, emulated4 },
	{ "cmpxchg, 8 bytes", 8, false, native8, emulated8 },
	{ "cmpxchg8b", 8, true, native8b, emulated8b },
};

static uint64_t low(uint64_t value, int bytes)
{
	return bytes == 8 ? value : value & ((1ull << (8 * bytes)) - 1);
}

/* An input that compares equal or does not, random but for that. */
static struct state make_input(const struct instruction *in, bool equal, uint64_t *seed)
{
	struct state s = { .memory = next_random(seed), .rax = next_random(seed), .fresh = next_random(seed) };

	if (in->pair) {
		s.rax = (uint32_t)s.memory;
		s.rdx = s.memory >> 32;
		if (!equal)
			s.rdx ^= 1u << (next_random(seed) % 32);
		return s;
	}
	s.rax = (s.rax & ~low(~0ull, in->bytes)) | low(s.memory, in->bytes);
	if (!equal)
		s.rax ^= 1ull << (next_random(seed) % (8 * (unsigned int)in->bytes));
	/* Whether a 4-byte comparison that succeeds clears the upper half of rax differs between processors. */
	if (in->bytes == 4)
		s.rax = (uint32_t)s.rax;
	return s;
}

/* Runs one way; false when it raised SIGILL. */
static bool run(void (*way)(struct state *s), struct state *s)
{
	if (sigsetjmp(on_illegal, 1))
		return false;
	*page = s->memory;
	way(s);
	s->memory = *page;
	return true;
}

static void add_state(struct text *t, bool ran, const struct instruction *in, const struct state *s)
{
	if (!ran) {
		text_add(t, "\"SIGILL\"");
		return;
	}
	text_add(t, "\"memory=%016lx rax=%016lx", s->memory, s->rax);
	if (in->pair)
		text_add(t, " rdx=%016lx zf=%d\"", s->rdx, s->zf);
	else
		text_add(t, " zf=%d cf=%d of=%d sf=%d pf=%d\"", s->zf, s->cf, s->of, s->sf, s->pf);
}

static void check(const struct instruction *in, bool equal, uint64_t *seed)
{
	struct text expected = { 0 }, got = { 0 }, t = { 0 };
	char name[64];
	volatile int emulated = 0;

	for (volatile int i = 0; i < ROUNDS; i++) {
		struct state input = make_input(in, equal, seed), native = input, other = input;
		bool native_ran = run(in->native, &native), other_ran = run(in->emulated, &other);

		emulated += other_ran;
		text_add(&expected, i ? "," : "");
		text_add(&got, i ? "," : "");
		add_state(&expected, native_ran, in, &native);
		add_state(&got, other_ran, in, &other);
	}
	snprintf(name, sizeof(name), "lock %s, %s", in->name, equal ? "equal" : "not equal");
	begin_check(&t, name);
	text_add(&t, ",\"expected\":[");
	text_add_bytes(&t, expected.data, expected.len);
	text_add(&t, "],\"got\":[");
	text_add_bytes(&t, got.data, got.len);
	text_add(&t, "],\"emulated\":%d}", emulated);
	print_line(&t);
	free(expected.data);
	free(got.data);
	free(t.data);
}

int main(int argc, char **argv)
{
	uint64_t seed = number_argument(argc, argv, 1, clock_ns(CLOCK_REALTIME));
	struct sigaction action = { .sa_handler = caught };

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (page == MAP_FAILED)
		cannot("map a page");
	sigaction(SIGILL, &action, NULL);
	for (size_t i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
		check(&instructions[i], true, &seed);
		check(&instructions[i], false, &seed);
	}
	return 0;
}

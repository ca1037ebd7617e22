// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_emulation - instructions carried out by KVM's emulator, compared with the processor's own.
 *
 * usage: check_emulation FAMILY BYTES [SEED [private|device]]
 *
 * Runs all instructions of that family and size of operand (emulated_instructions.h), each with its operand in several
 * places: aligned, unaligned, across two pages, where nothing is mapped, where it cannot be written, and with its own
 * bytes across two pages. Both ways start from the same registers, flags and memory, which the seed determines, and run
 * the same bytes at the same address; the emulated one begins at the prefix before them. Compared are all registers and
 * flags, all memory in reach, and the fault, if it ends in one.
 *
 * All that is done twice: on private pages, and on pages, the code's included, that are shared with the host (module
 * guest_canary). In a plain guest both are the same. "private": only the former.
 *
 * "device": those of the instructions for which that makes sense, with one operand in the registers of QEMU's edu device,
 * which keep 3 times 8 bytes like memory does; the other one, if any, in private memory. What comes of it is compared
 * with what the processor does in memory. The emulator gets there by the prefix, and by the access itself.
 *
 * A check is an instruction; "expected" is what the processor did, "got" what KVM did, each as a number of cases, a
 * hash of all of them, and in full those that differ. The last check counts the cases that KVM did emulate: without the
 * prefix's parameter each is SIGILL.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>

#include "../modules/sealproof_uapi.h"
#include "lib/edu.h"
#include "emulated_instructions.h"
#include "lib/one_instruction.h"

#define PAGE 4096u
#define SHOWN 3	/* cases that differ, in full */
#define MAX_REPEAT 24
#define LONG_REPEAT 1500	/* KVM emulates 1,024 rounds at a time, and then lets the processor go on */
#define FOR_STATUS 0x8d5u	/* CF PF AF ZF SF OF */
#define FOR_DIRECTION 0x400u
#define COMPARED (FOR_STATUS | FOR_DIRECTION)
#define PAGE_FAULT 14
#define FOR_WRITING 2	/* in its error code */
#define DATA_SEGMENT 0x2b	/* __USER_DS */
#define CODE_32 0x23	/* __USER32_CS */
#define CODE_64 0x33	/* __USER_CS */
#define WINDOW 64	/* bytes about an operand that get fresh values for each case */

/* Low addresses, so that 32-bit code reaches them too. Between the areas nothing is mapped. */
#define FIRST (INSN_BASE + 1 * PAGE)	/* two pages, the operand's */
#define READ_ONLY (INSN_BASE + 4 * PAGE)	/* two pages, the second of them read-only */
#define SECOND (INSN_BASE + 7 * PAGE)	/* two pages, for an instruction with two operands in memory */
#define CODE (INSN_BASE + 16 * PAGE)	/* two pages */
#define DEVICE (INSN_BASE + 32 * PAGE)	/* of EDU_BYTES */
#define IN_MEMORY_AT (FIRST + 0x200)	/* an operand that is aligned */
#define DEVICE_WORDS 3	/* of 8 bytes, from DMA_SOURCE on */
#define PAGES 17	/* from INSN_BASE on; those of the code are not among the data */

static const unsigned int data_pages[] = { 1, 2, 4, 5, 7, 8 };

enum place { ALIGNED, UNALIGNED, CROSSING, LAST, UNMAPPED, INTO_UNMAPPED, UNWRITABLE, INTO_UNWRITABLE, CODE_CROSSING,
	     PLACES };
static const char *const place_names[] = {
	"aligned", "unaligned", "across pages", "at a page's end", "unmapped", "into unmapped", "read-only",
	"into read-only", "code across pages",
};

static unsigned char wanted_memory[PAGES * PAGE];	/* what a run begins with */
static struct machine template;
static uint64_t seed;
static uint64_t to_be_emulated, emulated;

/* --- memory -------------------------------------------------------------- */

static void *map(uint64_t address, unsigned int pages, int protection)
{
	void *got = mmap((void *)address, pages * PAGE, protection,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);

	if (got != (void *)address)
		cannot("map pages where the instructions want them");
	return got;
}

static void map_all(void)
{
	map(FIRST, 2, PROT_READ | PROT_WRITE);
	map(READ_ONLY, 2, PROT_READ | PROT_WRITE);
	map(SECOND, 2, PROT_READ | PROT_WRITE);
	memset(map(CODE, 2, PROT_READ | PROT_WRITE | PROT_EXEC), BREAKPOINT, 2 * PAGE);
	for (size_t i = 0; i < sizeof(data_pages) / sizeof(data_pages[0]); i++) {
		for (unsigned int at = 0; at < PAGE; at += 8) {
			uint64_t value = next_random(&seed);

			memcpy(wanted_memory + data_pages[i] * PAGE + at, &value, sizeof(value));
		}
	}
	memcpy((void *)(READ_ONLY + PAGE), wanted_memory + 5 * PAGE, PAGE);
}

static void protect(void)
{
	if (mprotect((void *)(READ_ONLY + PAGE), PAGE, PROT_READ))
		cannot("make a page read-only");
}

static void share_all(void)
{
	static const uint64_t shared[] = { FIRST, FIRST + PAGE, READ_ONLY, READ_ONLY + PAGE, SECOND, SECOND + PAGE,
					   CODE, CODE + PAGE };
	int fd = open("/dev/" SEALPROOF_CANARY_NAME, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cannot("open /dev/" SEALPROOF_CANARY_NAME);
	if (mprotect((void *)(READ_ONLY + PAGE), PAGE, PROT_READ | PROT_WRITE))
		cannot("make a page writable");
	for (unsigned int i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		struct sealproof_canary request = { .slot = i, .buffer = shared[i] };

		if (ioctl(fd, SEALPROOF_CANARY_SHARE, &request))
			cannot("share a page");
		if (request.state != SEALPROOF_SHARED && request.state != SEALPROOF_PLAIN) {
			errno = EPROTO;
			cannot("have the page shared");
		}
	}
}

static bool is_writable(unsigned int page)
{
	return page != 5;
}

static void fill_memory(void)
{
	for (size_t i = 0; i < sizeof(data_pages) / sizeof(data_pages[0]); i++) {
		unsigned int page = data_pages[i];

		if (is_writable(page))
			memcpy((void *)(uint64_t)(INSN_BASE + page * PAGE), wanted_memory + page * PAGE, PAGE);
	}
}

/* Puts bytes where a run shall find them; what cannot be mapped or written stays as it is. */
static void want_bytes(uint64_t at, const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++, at++) {
		if (at >= INSN_BASE && at < INSN_BASE + PAGES * PAGE && is_writable((unsigned int)(at - INSN_BASE) / PAGE))
			wanted_memory[at - INSN_BASE] = ((const unsigned char *)bytes)[i];
	}
}

static uint64_t wanted_value(uint64_t at, unsigned int bytes)
{
	uint64_t value = 0;

	if (at >= INSN_BASE && at + bytes <= INSN_BASE + PAGES * PAGE)
		memcpy(&value, wanted_memory + (at - INSN_BASE), bytes);
	return value;
}

static void want_fresh(uint64_t at)
{
	for (uint64_t i = at - WINDOW; i < at + WINDOW; i += 8) {
		uint64_t value = next_random(&seed);

		want_bytes(i, &value, sizeof(value));
	}
}

/* --- a case -------------------------------------------------------------- */

static uint64_t place_of(enum place place, unsigned int bytes)
{
	switch (place) {
	case UNALIGNED:
		return IN_MEMORY_AT + 1 + next_random(&seed) % 14;
	case CROSSING:
		return FIRST + PAGE - (bytes > 1 ? 1 + next_random(&seed) % (bytes - 1) : 1);
	case LAST:
		return FIRST + PAGE - bytes;
	case UNMAPPED:
		return FIRST + 2 * PAGE + 0x100;
	case INTO_UNMAPPED:
		return FIRST + 2 * PAGE - (bytes > 1 ? bytes / 2 : 1);
	case UNWRITABLE:
		return READ_ONLY + PAGE + 0x100;
	case INTO_UNWRITABLE:
		return READ_ONLY + PAGE - (bytes > 1 ? bytes / 2 : 1);
	default:
		return IN_MEMORY_AT;
	}
}

static uint64_t low(uint64_t value, unsigned int bytes)
{
	return bytes >= 8 ? value : value & ((1ull << (8 * bytes)) - 1);
}

/* A dividend with which the quotient fits, or, in every fourth case, one or a divisor with which it does not. */
static void want_division(const struct insn *in, gregset_t regs, uint64_t at)
{
	uint64_t divisor = low(next_random(&seed), in->bytes) | 1, high = 0, smaller;

	if (next_random(&seed) % 4 == 0)
		divisor = 0;
	want_bytes(at, &divisor, in->bytes);
	smaller = low(next_random(&seed), in->bytes);
	if (divisor && !(in->options & SIGNED))
		high = low(next_random(&seed), in->bytes) % divisor;
	else
		smaller >>= 2;
	if (in->bytes == 1) {
		regs[REG_RAX] = (greg_t)(((uint64_t)regs[REG_RAX] & ~0xffffull) | high << 8 | smaller);
		return;
	}
	regs[REG_RAX] = (greg_t)(smaller | ((uint64_t)regs[REG_RAX] & ~low(~0ull, in->bytes)));
	regs[REG_RDX] = (greg_t)(high | ((uint64_t)regs[REG_RDX] & ~low(~0ull, in->bytes)));
}

/* Makes the first of the repeated comparisons find what is equal. */
static void want_alike(const struct insn *in, gregset_t regs, uint64_t at, bool backward)
{
	uint64_t alike = next_random(&seed) % MAX_REPEAT;

	for (uint64_t i = 0; i < alike; i++) {
		uint64_t to = backward ? at - i * in->bytes : at + i * in->bytes;
		uint64_t from = (uint64_t)regs[REG_RSI] + (to - at);
		uint64_t value = in->options & SOURCE ? wanted_value(from, in->bytes) : (uint64_t)regs[REG_RAX];

		want_bytes(to, &value, in->bytes);
	}
}

static void want_comparand(const struct insn *in, gregset_t regs, uint64_t at)
{
	bool equal = next_random(&seed) % 2;

	if (in->options & PAIR) {
		regs[REG_RAX] = (greg_t)wanted_value(at, in->bytes / 2);
		regs[REG_RDX] = (greg_t)wanted_value(at + in->bytes / 2, in->bytes / 2);
		if (!equal)
			regs[REG_RDX] ^= 1 << (next_random(&seed) % 31);
		return;
	}
	regs[REG_RAX] = (greg_t)(((uint64_t)regs[REG_RAX] & ~low(~0ull, in->bytes)) | wanted_value(at, in->bytes));
	if (!equal)
		regs[REG_RAX] ^= 1ll << (next_random(&seed) % (8 * in->bytes));
}

static void want_address(uint64_t at, unsigned int bytes, uint64_t target, const uint16_t *segment)
{
	want_bytes(at, &target, bytes);
	if (segment)
		want_bytes(at + bytes, segment, sizeof(*segment));
}

static void want_flags(gregset_t regs, uint64_t at)
{
	uint64_t value = 0x202 | (next_random(&seed) & COMPARED);

	(void)regs;
	want_bytes(at, &value, sizeof(value));
}

/* All that an instruction starts with but where its code lies. */
static struct machine make_input(const struct insn *in, enum place place)
{
	struct machine machine = template;
	greg_t *regs = machine.regs;
	uint64_t at = place_of(place, in->bytes), target = CODE + 0x800;
	bool backward = (in->options & REPEATED) && next_random(&seed) % 3 == 0;

	for (int i = 0; i < REG_RIP; i++)	/* the general registers come first */
		regs[i] = (greg_t)next_random(&seed);
	for (int i = 0; i < 24; i++) {
		uint64_t values[2] = { next_random(&seed), next_random(&seed) };

		/* Of the eight x87 registers, which are empty, the lower parts, which are those of MMX. */
		memcpy(machine.fx + FX_ST + 16 * i, values, i < 8 ? sizeof(values[0]) : sizeof(values));
	}
	regs[REG_EFL] = (greg_t)(0x202 | (next_random(&seed) & FOR_STATUS) | (backward ? FOR_DIRECTION : 0));
	regs[REG_RDI] = (greg_t)at;
	regs[REG_RSI] = (greg_t)(SECOND + 0x300 + next_random(&seed) % 32);
	if (next_random(&seed) % 3 == 0)
		regs[REG_RSI] = (greg_t)(SECOND + PAGE - in->bytes / 2 - 1);
	regs[REG_RSP] = SECOND + 0x800;
	if (in->options & REPEATED)
		regs[REG_RCX] = (greg_t)(in->options & LONG ? LONG_REPEAT : next_random(&seed) % MAX_REPEAT);
	want_fresh(at);
	want_fresh((uint64_t)regs[REG_RSI]);
	want_fresh((uint64_t)regs[REG_RSP]);
	if (in->options & PUSHES)
		regs[REG_RSP] = (greg_t)(at + in->bytes);
	if (in->options & POPS)
		regs[REG_RSP] = (greg_t)at;
	if (in->options & FRAME)
		regs[REG_RBP] = (greg_t)at;
	if (in->options & TABLE)
		regs[REG_RBX] = (greg_t)(at - ((uint64_t)regs[REG_RAX] & 0xff));
	if (in->options & BIT_STRING)	/* a signed number of bits, which may lead to other words */
		regs[REG_RDX] = (greg_t)(next_random(&seed) % (16 * in->bytes)) - (greg_t)(8 * in->bytes);
	if (in->options & COMPARES)
		want_comparand(in, regs, at);
	if (in->options & ALIKE)
		want_alike(in, regs, at, backward);
	if (in->options & DIVIDES)
		want_division(in, regs, at);
	if (in->options & COUNTED)
		regs[REG_RCX] = (greg_t)(next_random(&seed) % 3);
	if (in->options & TO_REGISTER)
		regs[REG_RAX] = (greg_t)target;
	if (in->options & TO_SECOND)
		want_address((uint64_t)regs[REG_RSI], 8, target, NULL);
	if (in->options & TO_STACK)
		want_address(at, in->bytes, target, NULL);
	if (in->options & FLAGS_STACK)
		want_flags(regs, at);
	if (in->options & SELECTOR)
		want_bytes(at + (in->options & BEHIND ? in->bytes - 2 : 0), &(uint16_t){ DATA_SEGMENT }, 2);
	if (in->options & FAR_32)
		want_address(at, in->bytes - 2, target, &(uint16_t){ CODE_32 });
	if (in->options & FAR_64)
		want_address(at, in->bytes - 2, target, &(uint16_t){ CODE_64 });
	if (in->options & FX_IMAGE)
		want_bytes(at, machine.fx, FX_USED);
	if (in->options & COMPAT) {
		for (int i = 0; i < REG_RIP; i++)
			regs[i] = (greg_t)(uint32_t)regs[i];
		regs[REG_CSGSFS] = (greg_t)(((uint64_t)regs[REG_CSGSFS] & ~0xffffull) | CODE_32);
	}
	return machine;
}

/* Puts the instruction where its code shall lie; returns its address. */
static uint64_t put_code(const struct insn *in, enum place place)
{
	size_t len = (size_t)(in->end - in->begin);
	uint64_t at = CODE + 0x400;

	if (place == CODE_CROSSING)
		at = CODE + PAGE - (len > 1 ? 1 + next_random(&seed) % (len - 1) : 0);
	memset((void *)CODE, BREAKPOINT, 2 * PAGE);
	memcpy((void *)(at - PREFIX_BYTES), emulation_prefix, PREFIX_BYTES);
	memcpy((void *)at, in->begin, len);
	return at;
}

/* --- what became of it --------------------------------------------------- */

static const struct {
	int index;
	const char *name;
} registers[] = {
	{ REG_RAX, "rax" }, { REG_RBX, "rbx" }, { REG_RCX, "rcx" }, { REG_RDX, "rdx" }, { REG_RSI, "rsi" },
	{ REG_RDI, "rdi" }, { REG_RBP, "rbp" }, { REG_RSP, "rsp" }, { REG_R8, "r8" }, { REG_R9, "r9" },
	{ REG_R10, "r10" }, { REG_R11, "r11" }, { REG_R12, "r12" }, { REG_R13, "r13" }, { REG_R14, "r14" },
	{ REG_R15, "r15" },
};

static void add_bytes(struct text *t, const unsigned char *bytes, size_t len)
{
	if (len > 32) {
		text_add(t, "%zu bytes %016lx", len, fnv1a64(FNV_START, bytes, len));
		return;
	}
	for (size_t i = 0; i < len; i++)
		text_add(t, "%02x", bytes[i]);
}

/* Each run of bytes that changed, with up to 7 between that did not. */
static void add_changed_memory(struct text *t)
{
	for (size_t i = 0; i < sizeof(data_pages) / sizeof(data_pages[0]); i++) {
		const unsigned char *was = wanted_memory + data_pages[i] * PAGE;
		const unsigned char *is = (unsigned char *)(uint64_t)(INSN_BASE + data_pages[i] * PAGE);

		if (!memcmp(was, is, PAGE))
			continue;
		for (unsigned int at = 0; at < PAGE; at++) {
			unsigned int end = at;

			if (was[at] == is[at])
				continue;
			for (unsigned int next = at; next < PAGE && next < end + 8; next++)
				end = was[next] == is[next] ? end : next + 1;
			text_add(t, " [%x]=", data_pages[i] * PAGE + at);
			add_bytes(t, is + at, end - at);
			at = end;
		}
	}
}

static void add_changed_fx(struct text *t, const unsigned char *was, const unsigned char *is)
{
	for (int i = 0; i < 16; i++) {
		if (memcmp(was + FX_XMM + 16 * i, is + FX_XMM + 16 * i, 16)) {
			text_add(t, " xmm%d=", i);
			add_bytes(t, is + FX_XMM + 16 * i, 16);
		}
	}
	for (int i = 0; i < 8; i++) {
		if (memcmp(was + FX_ST + 16 * i, is + FX_ST + 16 * i, 10)) {
			text_add(t, " st%d=", i);
			add_bytes(t, is + FX_ST + 16 * i, 10);
		}
	}
	/* Control, status, tags; MXCSR. Not the last x87 instruction and its operand, which many a processor forgets. */
	if (memcmp(was, is, 5) || memcmp(was + 24, is + 24, 4)) {
		text_add(t, " fpu=");
		add_bytes(t, is, 5);
		text_add(t, " mxcsr=");
		add_bytes(t, is + 24, 4);
	}
}

/* What a store leaves in the first of two pages when the second one faults; put back what was there. */
static void mend_torn(const struct insn *in, uint64_t fault)
{
	if (fault % PAGE || fault < INSN_BASE + PAGE || fault > INSN_BASE + PAGES * PAGE)
		return;
	for (uint64_t at = fault - in->bytes; at < fault; at++) {
		unsigned int page = (unsigned int)(at - INSN_BASE) / PAGE;

		for (size_t i = 0; i < sizeof(data_pages) / sizeof(data_pages[0]); i++) {
			if (data_pages[i] == page && is_writable(page))
				*(unsigned char *)at = wanted_memory[at - INSN_BASE];
		}
	}
}

static bool is_page_fault(const struct ending *ending)
{
	return ending->signal == SIGSEGV && ending->machine.regs[REG_TRAPNO] == PAGE_FAULT;
}

static void add_ending(struct text *t, const struct insn *in, const struct machine *input, uint64_t code,
		       const struct ending *ending)
{
	const greg_t *was = input->regs, *is = ending->machine.regs;
	uint64_t flags = COMPARED & ~(in->undefined & FOR_STATUS);

	/*
	 * A processor checks both pages before it stores in one. KVM stores page by page: see "torn". Software emulation
	 * does as the processor for up to 8 bytes.
	 */
	if (is_page_fault(ending) && !(in->options & TORN))
		mend_torn(in, ending->address);
	if (ending->signal != SIGTRAP)
		text_add(t, " SIG%s", sigabbrev_np(ending->signal));
	if (ending->signal != SIGTRAP)
		text_add(t, " code=%d at=%lx trap=%llx error=%llx", ending->code, ending->address,
			 (unsigned long long)is[REG_TRAPNO], (unsigned long long)is[REG_ERR]);
	text_add(t, " rip%+lld", (long long)((uint64_t)is[REG_RIP] - code));
	text_add(t, " flags=%llx", (unsigned long long)is[REG_EFL] & flags);
	for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
		int index = registers[i].index;

		if (was[index] != is[index])
			text_add(t, " %s=%llx", registers[i].name, (unsigned long long)is[index]);
	}
	if ((was[REG_CSGSFS] ^ is[REG_CSGSFS]) & 0xffff)
		text_add(t, " cs=%llx", (unsigned long long)is[REG_CSGSFS] & 0xffff);
	add_changed_fx(t, input->fx, ending->machine.fx);
	add_changed_memory(t);
}

/* What a case must come to that KVM does not emulate: an undefined instruction, and nothing has changed. */
static void add_refusal(struct text *t, const struct machine *input, uint64_t code)
{
	text_add(t, " SIGILL code=%d at=%lx trap=6 error=0 rip+0 flags=%llx", ILL_ILLOPN, code,
		 (unsigned long long)input->regs[REG_EFL] & COMPARED);
}

/* --- an operand in a device ---------------------------------------------- */

/* Whether it has an operand in memory that may as well lie in the device, and no other use for its address. */
static bool can_use_device(const struct insn *in)
{
	unsigned int fine = MODIFIES | REPEATED | COMPARES | PAIR | ALIKE | SOURCE | DIVIDES | SIGNED | COUNTED | BIT_STRING;

	/* A step of 4 bytes leads to the other half of a register, which the device does not have. */
	return !(in->options & ~fine) && in->bytes >= 4 && !(in->options & REPEATED && in->bytes != 8);
}

static volatile uint64_t *device_words(void)
{
	return (volatile uint64_t *)(DEVICE + DMA_SOURCE);
}

/* Makes the operand's place in memory one that the device can copy, and the registers lead to no other. */
static void fit_device(const struct insn *in, struct machine *machine)
{
	greg_t *regs = machine->regs;
	bool backward = regs[REG_EFL] & FOR_DIRECTION, is_source = strstr(in->text, "lods");
	greg_t other = regs[REG_RSI];

	if (strstr(in->text, "movs") || strstr(in->text, "cmps"))
		is_source = next_random(&seed) % 2;
	if (in->options & BIT_STRING)
		regs[REG_RDX] = (greg_t)(next_random(&seed) % (8 * in->bytes));
	if (in->options & REPEATED)
		regs[REG_RCX] = (greg_t)(next_random(&seed) % (DEVICE_WORDS + 1));
	for (uint64_t i = 0; in->bytes == 4 && i < DEVICE_WORDS; i++)
		want_bytes(IN_MEMORY_AT + 8 * i + 4, &(uint32_t){ 0 }, 4);
	if (backward) {
		regs[REG_RDI] += (DEVICE_WORDS - 1) * 8;
		other += (DEVICE_WORDS - 1) * 8;
	}
	if (is_source) {
		regs[REG_RSI] = regs[REG_RDI];
		regs[REG_RDI] = other;
	}
}

/* Moves what leads to the operand in memory to the device, or back. */
static void move_operand(gregset_t regs, int64_t by)
{
	uint64_t from = by > 0 ? IN_MEMORY_AT : DEVICE + DMA_SOURCE;

	for (int i = 0; i < 2; i++) {
		greg_t *reg = &regs[i ? REG_RSI : REG_RDI];

		if ((uint64_t)*reg + 16 >= from && (uint64_t)*reg < from + 64)
			*reg += by;
	}
}

static void run_in_device(struct machine *input, uint64_t start, struct ending *ending)
{
	const int64_t distance = DEVICE + DMA_SOURCE - IN_MEMORY_AT;
	uint64_t *memory = (uint64_t *)IN_MEMORY_AT;
	struct machine moved = *input;
	unsigned int untouched = 0;

	fill_memory();
	for (int i = 0; i < DEVICE_WORDS; i++)
		device_words()[i] = memory[i];
	move_operand(moved.regs, distance);
	moved.regs[REG_RIP] = (greg_t)start;
	run_one(&moved, ending);
	move_operand(ending->machine.regs, -distance);
	for (int i = 0; i < DEVICE_WORDS; i++)
		untouched += memory[i] == wanted_value(IN_MEMORY_AT + 8 * (uint64_t)i, 8);
	for (int i = 0; i < DEVICE_WORDS && untouched == DEVICE_WORDS; i++)
		memory[i] = device_words()[i];
}

struct ways {
	struct text native, emulated;	/* of one case */
	uint64_t native_hash, emulated_hash;
	unsigned int count, differ;
	struct text native_shown, emulated_shown;
};

/* How the emulator comes to it. */
enum way { BY_PREFIX, DEVICE_BY_PREFIX, DEVICE_BY_ACCESS };
static const char *const way_names[] = { NULL, ", on a device by the prefix", ", on a device by the access itself" };

static void run_case(const struct insn *in, enum place place, enum way way, struct ways *ways)
{
	struct machine input = make_input(in, place);
	uint64_t code = put_code(in, place);
	struct ending ending;

	if (way != BY_PREFIX)
		fit_device(in, &input);

	ways->native.len = ways->emulated.len = 0;
	text_add(&ways->native, "%s:", place_names[place]);
	text_add(&ways->emulated, "%s:", place_names[place]);
	if (in->options & NOT_EMULATED) {
		add_refusal(&ways->native, &input, code);
	} else {
		fill_memory();
		input.regs[REG_RIP] = (greg_t)code;
		run_one(&input, &ending);
		/*
		 * What both reads and writes faults as a write: a processor says so, and KVM. Software emulation says
		 * that of locked instructions alone, and of others that they were to read.
		 */
		if (in->options & MODIFIES && is_page_fault(&ending))
			ending.machine.regs[REG_ERR] |= FOR_WRITING;
		/*
		 * A fault leaves the flags as they were before the instruction, and KVM does. After comparisons of a
		 * string processors differ: AMD's leave those of the last one, Intel's manual (SDM vol. 2, REP) has those
		 * before the instruction, as KVM. Software emulation forgets them when the second page of a locked
		 * instruction faults.
		 */
		if (is_page_fault(&ending))
			ending.machine.regs[REG_EFL] = input.regs[REG_EFL];
		/* Nor does it touch the FPU, which software emulation has made an MMX unit by then. */
		if (is_page_fault(&ending))
			memcpy(ending.machine.fx, input.fx, FX_BYTES);
		if (in->options & TORN)	/* what KVM does, and the processor does not */
			memcpy((void *)(uint64_t)input.regs[REG_RDI], &input.regs[REG_RDX], in->bytes / 2);
		add_ending(&ways->native, in, &input, code, &ending);
	}
	if (way == BY_PREFIX) {
		fill_memory();
		input.regs[REG_RIP] = (greg_t)(code - PREFIX_BYTES);
		run_one(&input, &ending);
	} else {
		run_in_device(&input, way == DEVICE_BY_PREFIX ? code - PREFIX_BYTES : code, &ending);
	}
	add_ending(&ways->emulated, in, &input, code, &ending);
	emulated += ending.signal != SIGILL;
	to_be_emulated += !(in->options & NOT_EMULATED);

	ways->count++;
	ways->native_hash = fnv1a64(ways->native_hash, ways->native.data, ways->native.len);
	ways->emulated_hash = fnv1a64(ways->emulated_hash, ways->emulated.data, ways->emulated.len);
	if (strcmp(ways->native.data, ways->emulated.data) && ways->differ++ < SHOWN) {
		text_add(&ways->native_shown, "; %s", ways->native.data);
		text_add(&ways->emulated_shown, "; %s", ways->emulated.data);
	}
}

static void add_way(struct text *t, const char *key, unsigned int count, uint64_t hash, const struct text *shown)
{
	text_add(t, ",\"%s\":\"%u cases %016lx%s\"", key, count, hash, shown->len ? shown->data : "");
}

static void report(const struct insn *in, const char *where, struct ways *ways)
{
	struct text t = { 0 };
	char name[128];

	snprintf(name, sizeof(name), "%s%s", in->text, where);
	begin_check(&t, name);
	add_way(&t, "expected", ways->count, ways->native_hash, &ways->native_shown);
	add_way(&t, "got", ways->count, ways->emulated_hash, &ways->emulated_shown);
	text_add(&t, "}");
	print_line(&t);
	free(t.data);
	free(ways->native.data);
	free(ways->emulated.data);
	free(ways->native_shown.data);
	free(ways->emulated_shown.data);
}

/* Whether the operand can have that place: what it must hold cannot be put where nobody can write. */
static bool can_be_at(const struct insn *in, enum place place)
{
	unsigned int needs = TO_STACK | FLAGS_STACK | SELECTOR | FAR_32 | FAR_64 | FX_IMAGE;
	bool unwritable = place == UNWRITABLE || place == INTO_UNWRITABLE;

	if (in->options & FIXED)
		return place == ALIGNED || place == CODE_CROSSING;
	if (in->options & NOT_EMULATED && in->options & PAIR)	/* elsewhere it faults before KVM gives up */
		return place == ALIGNED || place == LAST || place == UNWRITABLE || place == CODE_CROSSING;
	if (in->options & TORN)
		return place == INTO_UNMAPPED || place == INTO_UNWRITABLE;
	return !(unwritable && in->options & needs);
}

static void check_on_pages(const struct insn *in, const char *pages)
{
	struct ways ways = { .native_hash = FNV_START, .emulated_hash = FNV_START };

	for (enum place place = ALIGNED; place < PLACES; place++) {
		if (!can_be_at(in, place))
			continue;
		run_case(in, place, BY_PREFIX, &ways);
		if (place == ALIGNED || place == CROSSING)
			run_case(in, place, BY_PREFIX, &ways);
	}
	report(in, pages, &ways);
}

static void check_on_device(const struct insn *in)
{
	for (enum way way = DEVICE_BY_PREFIX; way <= DEVICE_BY_ACCESS; way++) {
		struct ways ways = { .native_hash = FNV_START, .emulated_hash = FNV_START };

		run_case(in, ALIGNED, way, &ways);
		run_case(in, ALIGNED, way, &ways);
		run_case(in, CODE_CROSSING, way, &ways);
		report(in, way_names[way], &ways);
	}
}

static void check_all(const char *family, uint64_t bytes, const char *pages)
{
	bool has_any = false;

	for (const struct insn *in = __start_insns; in < __stop_insns; in++) {
		if (strcmp(in->family, family) || in->bytes != bytes)
			continue;
		if (pages)
			check_on_pages(in, pages);
		else if (can_use_device(in))
			check_on_device(in);
		else
			continue;
		has_any = true;
	}
	if (!has_any) {
		fprintf(stderr, "no such instructions of %s with %lu bytes\n", family, bytes);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	uint64_t bytes = number_argument(argc, argv, 2, 0);
	struct text t = { 0 };
	uint64_t first_seed;

	if (argc < 3 || argc > 5 || (argc == 5 && strcmp(argv[4], "private") && strcmp(argv[4], "device"))) {
		fprintf(stderr, "usage: check_emulation FAMILY BYTES [SEED [private|device]]\n");
		return 2;
	}
	first_seed = seed = number_argument(argc, argv, 3, clock_ns(CLOCK_REALTIME));
	map_all();
	protect();
	/* 32-bit code needs them, and finds them as they are now. */
	asm volatile("movl %0, %%ds\n\tmovl %0, %%es" : : "r"(DATA_SEGMENT));
	template = prepare_to_run();
	if (argc == 5 && !strcmp(argv[4], "device")) {
		map_edu((void *)DEVICE);
		check_all(argv[1], bytes, NULL);
	} else {
		check_all(argv[1], bytes, ", on private pages");
	}
	if (argc < 5) {
		share_all();
		protect();
		check_all(argv[1], bytes, ", on shared pages");
	}
	begin_check(&t, "cases that KVM emulated");
	text_add(&t, ",\"expected\":%lu,\"got\":%lu,\"seed\":%lu}", to_be_emulated, emulated, first_seed);
	print_line(&t);
	return 0;
}

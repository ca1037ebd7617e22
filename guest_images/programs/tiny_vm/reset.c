// SPDX-License-Identifier: GPL-2.0-or-later
/* A machine that the VMM resets: what it, or the next guest in it, has of the one before. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "reset.h"
#include "looks.h"
#include "ranges.h"
#include "refusals.h"
#include "second.h"
#include "disclosures.h"
#include "walk.h"

#define NO_MEMORY_AT 0x7abc000		/* where the VM has none: the address of a device, and in the instruction */

bool next_guest;	/* the VMM has started the program anew in the machine that it has reset */

/* The VMM has a page elsewhere when it resets the machine, and puts it back for the next guest. */
static GUEST void moved_page_ends_with_a_reset(void)
{
	volatile uint64_t *const words = (uint64_t *)(uint64_t)RANGE_AT;
	uint64_t old = 0;

	if (!next_guest) {
		fill_pages(RANGE_AT, 1, OLD_WORD);
		service(RESET_WITH_PAGE_MOVED);	/* nobody comes back */
	}
	for (unsigned int i = 0; i < PAGE / 8; i++)
		old += words[i] == OLD_WORD;
	tell("words of the guest before, in the page that was moved, for the next", way == PLAIN ? PAGE / 8 : 0, old);
	tell("words of the guest before, for the VMM after the reset", way == PLAIN ? PAGE / 8 : 0, service(LOOK_AT_MOVED));
	tell("the page is the next guest's: reached", way == PLAIN ? EACH(1) : 0, reached(RANGE_AT, 1));
}

static GUEST void sharing_ends_with_a_reset(void)
{
	fill_pages(RANGE_AT, 1, OLD_WORD);
	if (!next_guest) {
		tell("to share a page", 0, change(HC_SHARE, RANGE_AT, 1));
		tell("the page: reached by load, write(), direct map", EACH(1), reached(RANGE_AT, 1));
		service(RESET_FOR_NEXT);	/* nobody comes back */
	}
	tell("the page of the next guest, which has shared nothing: reached", way == PLAIN ? EACH(1) : 0,
	     reached(RANGE_AT, 1));
}

/* The VMM takes memory away with a reset: it is none of the next guest's, who finds there what any machine has. */
static GUEST void memory_is_forgotten_at_a_reset(void)
{
	volatile uint64_t *const memory = (uint64_t *)(uint64_t)EXTRA_SLOT;

	if (!next_guest) {
		service(ADD_SLOT);
		*memory = OLD_WORD;
		tell("what a guest stored in memory that will be gone", OLD_WORD, *memory);
		service(RESET_WITHOUT_SLOT);	/* nobody comes back */
	}
	*memory = NEW_WORD;
	tell("what a device got that is there for the next guest", NEW_WORD, service(LOOK_AT_DEVICE));
}

asm(".text\n"
    ".code16\n"
    ".globl storing_code, storing_end\n"
    "storing_code:\n"
    "	mov $0x1200, %bx\n"	/* STORED_AT / 16 */
    "	mov %bx, %ds\n"
    "	mov $0xe7c0ffee, %eax\n"	/* what of SECRET fits */
    "1:	mov %eax, 0\n"
    "	jmp 1b\n"
    "storing_end:\n"
    ".code64\n");

/* The host side tells the rest: another processor stores all along while the VMM resets the machine by the first. */
static GUEST void running_processor_ends_with_a_reset(void)
{
	volatile uint32_t *const stored = (uint32_t *)(uint64_t)STORED_AT;

	start_second();
	copy_code(START_VECTOR << 12, storing_code, storing_end);	/* it waits for the VMM, to begin */
	service(LET_SECOND_RUN);
	for (unsigned int round = 0; round < 2; round++) {
		*stored = 0;
		while (*stored != (uint32_t)SECRET)
			asm volatile("pause");
	}
	service(RESET_BESIDE_SECOND);
}

extern const unsigned char load_of_device[], load_end[];

asm(".text\n"
    "load_of_device:\n"
    "	mov 0x7abc000, %ebx\n"	/* NO_MEMORY_AT */
    "	ret\n"
    "load_end:\n");

static GUEST void map_operands(void)
{
	root[1] = (uint64_t)table(0) | TABLE;
	table(0)[IN_POINTERS] = (uint64_t)table(1) | TABLE;
	table(1)[IN_DIRECTORY] = (uint64_t)table(2) | TABLE;
	table(2)[IN_ENTRIES] = (uint64_t)table(3) | TABLE;
	flush_tlb();
}

/* The host side tells the rest: the VMM resets the machine when it is to complete a load, at an address of its own. */
static GUEST void interrupted_load_ends_with_a_reset(void)
{
	copy_code((uint64_t)table(3), load_of_device, load_end);
	map_operands();
	attempt((const void *)WINDOW, 0, 0);
}

extern const unsigned char copy_of_device[], copy_end[];

/* Of two bytes; KVM has the registers of the first when it asks for the second. */
asm(".text\n"
    "copy_of_device:\n"
    "	mov $2, %ecx\n"
    "	rep movsb\n"
    "	ret\n"
    "copy_end:\n");

/* The same in the middle of a copy, to an address of its own. */
static GUEST void interrupted_copy_ends_with_a_reset(void)
{
	copy_code((uint64_t)table(3), copy_of_device, copy_end);
	map_operands();
	attempt((const void *)WINDOW, WINDOW + PAGE / 2, NO_MEMORY_AT);
}

#define HWCR_STATUS_WRITES 0x40000u	/* that the status of machine checks can be written */

/* Registers that INIT leaves as they are, with a value that nobody gives them. */
static const struct kept_register {
	uint32_t number;
	uint64_t value;
	bool amds;
} kept_registers[] = {
	{ 0xc0010015, HWCR_STATUS_WRITES, true },	/* HWCR */
	{ 0x401, 0x5eed, true },			/* MC0_STATUS, which can be written then */
	{ 0x2ff, 0xc06, false },			/* MTRR_DEF_TYPE */
	{ 0x250, 0x0606060606060606, false },		/* MTRR_FIX64K_00000 */
	{ 0x200, 0x40000006, false },			/* MTRR_PHYS_BASE_0 */
	{ 0x1a0, 0x1801, false },			/* MISC_ENABLE */
	{ 0x140, 1, false },				/* MISC_FEATURES_ENABLES: CPUID faults in ring 3 */
	{ 0x3b, 0x100000, false },			/* TSC_ADJUST */
	{ 0x4b564d05, 0, false },			/* KVM's own: whether it polls before the processor sleeps */
	{ 0xc0010114, 0x10, true },			/* VM_CR: no nested guest */
};

#define KEPT_REGISTERS (sizeof(kept_registers) / sizeof(*kept_registers))

static uint64_t before_guest[KEPT_REGISTERS];	/* what they have when the VMM looks first */
static bool has_keys;	/* the processor has protection keys */

/* Those that there are, a bit each. */
static GUEST uint64_t kept_mask(void)
{
	uint64_t mask = 0;

	for (unsigned int i = 0; i < KEPT_REGISTERS; i++)
		mask |= (uint64_t)(!kept_registers[i].amds || has_svm()) << i;
	return mask;
}

static GUEST void note_registers_and_enable(void)
{
	service(NOTE_REGISTERS);
	enable_with_registers();
}

#define PROTECTION_KEYS (1u << 22)	/* of CR4 */
#define KEYS 0x5ca1ab1cu		/* key 0, which is that of all pages here, forbids nothing */

/* The host side tells the rest: what is in registers that INIT leaves as they are, and in that of protection keys. */
static GUEST void register_kept_by_init_ends_with_a_reset(void)
{
	const uint64_t mask = kept_mask();
	uint64_t taken = 0;

	if (way == PLAIN)
		service(NOTE_REGISTERS);
	for (unsigned int i = 0; i < KEPT_REGISTERS; i++) {
		const struct kept_register *const one = &kept_registers[i];

		if (mask >> i & 1) {
			attempt(write_register, one->number, one->value);
			taken |= (uint64_t)(fault.vector == NO_FAULT && read_msr(one->number) == one->value) << i;
		}
	}
	tell("registers that INIT does not change, and that have what was written", mask, taken);
	if (cpuid_word(7, 2) >> 3 & 1) {
		service(NOTE_KEYS);
		asm volatile("mov %%cr4, %%rax\n\tor %[keys], %%rax\n\tmov %%rax, %%cr4\n\t"
			     "mov %[value], %%eax\n\txor %%ecx, %%ecx\n\txor %%edx, %%edx\n\twrpkru"
			     : : [keys] "i"(PROTECTION_KEYS), [value] "i"(KEYS) : "rax", "rcx", "rdx");
	}
	service(RESET_AND_READ);
}

static uint64_t read_by_vmm(const struct vm *vm, uint32_t msr)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry.index = msr };

	if (ioctl(vm->cpu, KVM_GET_MSRS, &msrs) != 1)
		cannot("read a register of the VM");
	return msrs.entry.data;
}

/* Whether the VMM is told what the guest has put into PKRU. */
static uint64_t tells_keys(int cpu)
{
	const uint32_t keys = KEYS;

	have_state();
	memset(state, 0, STATE_BYTES);
	if (ioctl(cpu, KVM_GET_XSAVE, state))
		cannot("read a virtual CPU's extended state");
	return !!memmem(state, STATE_BYTES, &keys, sizeof(keys));
}

/* KVM resets when the processor is to run; it does not come to run. */
void reset_by_first(struct vm *vm)
{
	set_to_reset(vm);
	vm->run->immediate_exit = 1;
	while (ioctl(vm->cpu, KVM_RUN, 0) && errno == EAGAIN)
		;
	if (errno != EINTR)
		cannot("reset the VM");
	vm->run->immediate_exit = 0;
}

/* The program from its beginning, in memory that is as the reset has left it. */
void start_next(struct vm *vm)
{
	if (madvise(vm->ram, BIG, MADV_DONTNEED))
		cannot("clear the program's memory");
	copy_program(vm);
	*(bool *)at(vm, &next_guest) = true;
	vm->again = true;
	set_mode(vm, MODE64, guest_begins);
}

uint64_t count_words(const unsigned char *page)
{
	uint64_t words = 0, word;

	for (unsigned int i = 0; i < PAGE; i += sizeof(word))
		words += load_word(page + i, &word) && word == OLD_WORD;
	return words;
}

void *run_along(void *of)
{
	const struct vm *const vm = of;
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);	/* it is the first processor's */
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	while (ioctl(vm->second, KVM_RUN, 0) && (errno == EAGAIN || errno == EINTR))
		;
	return NULL;
}

static uint64_t serve_reset(struct vm *vm, uint32_t what)
{
	unsigned char *const range = at(vm, (void *)(uintptr_t)RANGE_AT);
	static uint64_t words;	/* that the VMM has found */
	unsigned char *away;
	struct kvm_regs regs;
	pthread_t thread;

	switch (what) {
	case RESET_FOR_NEXT:
		reset_by_first(vm);
		start_next(vm);
		return 0;
	case RESET_WITH_PAGE_MOVED:
		away = map(PAGE);
		if (mremap(range, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away) != away)
			cannot("move a page away");
		reset_by_first(vm);
		if (mremap(away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, range) != range)
			cannot("move a page back");
		words = count_words(range);
		start_next(vm);
		return 0;
	case LOOK_AT_MOVED:
		return words;
	case RESET_WITHOUT_SLOT:
		reset_by_first(vm);
		add_memory(vm, 3, 0, EXTRA_SLOT, 0, vm->extra);
		start_next(vm);
		return 0;
	case LOOK_AT_DEVICE:
		return vm->mmio;
	case LET_SECOND_RUN:
		errno = pthread_create(&thread, NULL, run_along, vm);
		if (errno)
			cannot("start a thread");
		pthread_detach(thread);
		return 0;
	case LOADED:
		reset_by_first(vm);
		vm->over = true;
		if (ioctl(vm->cpu, KVM_GET_REGS, &regs))
			cannot("read the VM's registers");
		vm->after_reset[0] = regs.rip;
		return 0;
	case NOTE_REGISTERS:
		for (unsigned int i = 0; i < KEPT_REGISTERS; i++)
			before_guest[i] = kept_mask() >> i & 1 ? read_by_vmm(vm, kept_registers[i].number) : 0;
		return 0;
	case NOTE_KEYS:
		has_keys = true;
		return 0;
	case RESET_AND_READ:
		reset_by_first(vm);
		vm->over = true;
		for (unsigned int i = 0; i < KEPT_REGISTERS; i++)
			vm->after_reset[0] |= (uint64_t)((kept_mask() >> i & 1) &&
							 read_by_vmm(vm, kept_registers[i].number) != before_guest[i]) << i;
		vm->after_reset[1] = tells_keys(vm->cpu);
		return 0;
	case RESET_BESIDE_SECOND:
		reset_by_first(vm);
		vm->over = true;
		vm->after_reset[0] = *(volatile uint32_t *)(vm->ram + STORED_AT) == (uint32_t)SECRET;
		return 0;
	default:
		return serve_ranges(vm, what);
	}
}

/* The second of two loads is the one that the VMM does not complete. A plain guest's VMM asks as it is. */
static uint64_t serve_copy(struct vm *vm, uint32_t what)
{
	static unsigned int loads;
	struct kvm_regs regs;

	(void)what;
	if (++loads < 2)
		return 0;
	if (way != PLAIN)
		reset_by_first(vm);
	vm->over = true;
	if (ioctl(vm->cpu, KVM_GET_REGS, &regs))
		cannot("read the VM's registers");
	vm->after_reset[0] = regs.rdi;
	return 0;
}

static void report_stored(struct text *line, const struct vm *vm)
{
	report_hex(line, "the VMM has what a processor stores that runs on at a reset", way == PLAIN, vm->after_reset[0]);
}

static void report_place(struct text *line, const struct vm *vm)
{
	report_hex(line, "the VMM is told where the guest was", way == PLAIN, vm->after_reset[0] / PAGE == WINDOW / PAGE);
}

static void report_copied(struct text *line, const struct vm *vm)
{
	report_hex(line, "the VMM is told where the guest was copying to", way == PLAIN,
		   vm->after_reset[0] / PAGE == WINDOW / PAGE);
}

static void report_kept(struct text *line, const struct vm *vm)
{
	report_hex(line, "those of them that are not as they were before, for the VMM", way == PLAIN ? kept_mask() : 0,
		   vm->after_reset[0]);
	if (has_keys)
		report_hex(line, "the VMM is told which protection keys forbid something", way == PLAIN, vm->after_reset[1]);
}

const struct row reset_rows[] = {
	{ "reset-forgotten", memory_is_forgotten_at_a_reset, .operands = NULL, .serve = serve_reset, .device = EXTRA_SLOT },
	{ "reset-moved", moved_page_ends_with_a_reset, .operands = NULL, .serve = serve_reset },
	{ "reset-shared", sharing_ends_with_a_reset, .operands = NULL, .serve = serve_reset },
	{ "reset-running", running_processor_ends_with_a_reset, .operands = NULL, .serve = serve_reset,
	  .first = enable_with_registers, .second = true, .report = report_stored },
	{ "reset-at-load", interrupted_load_ends_with_a_reset, .operands = operands, .pages = 4, .serve = serve_reset,
	  .first = enable_with_registers, .device = NO_MEMORY_AT, .report = report_place },
	{ "reset-at-copy", interrupted_copy_ends_with_a_reset, .operands = operands, .pages = 4, .serve = serve_copy,
	  .first = enable_with_registers, .device = NO_MEMORY_AT, .device_more = 1, .report = report_copied },
	{ "reset-kept", register_kept_by_init_ends_with_a_reset, .operands = NULL, .serve = serve_reset,
	  .first = note_registers_and_enable, .report = report_kept },
	{ .name = NULL },
};

// SPDX-License-Identifier: GPL-2.0-or-later
/* Private registers when a processor shuts down by a triple fault: the VMM decides when it runs again. */

#include "shutdown.h"
#include "looks.h"
#include "ranges.h"
#include "refusals.h"
#include "reset.h"
#include "second.h"

#define SHUTDOWN_TELLS 0x38ull	/* as TELL_SECRET: INIT leaves vector registers as they are */
#define UNTOUCHED_TELLS (SHUTDOWN_TELLS | 1)	/* and the general ones, where there is none */
#define EMPTY_TABLE 0x14000u	/* in reach of real mode */
#define NO_EXIT (1ull << 32)	/* more than the 32 bits that the VMM's code hands over; KVM_RUN failed with that errno */

/* What the host side is asked. */
enum { RUN_TO_SHUTDOWN = 0xb000, RUN_AFTER_SHUTDOWN, RUN_SECOND_AGAIN, RUN_FIRST_AFTER_INIT };

/*
 * What the VMM's code hands over that a processor meets when it has shut down. KVM has the processor begin anew by an
 * INIT of its own on AMD alone, where its state is not to be had any more (arch/x86/kvm/svm/svm.c shutdown_interception());
 * else it is as it was, and shuts down again.
 */
static GUEST uint64_t handed_over(void)
{
	return !has_svm() ? SHUT_DOWN_AGAIN : way == PLAIN ? SECRET_WORD : 0;
}

GUEST void keep_a_secret(void)
{
	*(volatile uint32_t *)(uint64_t)STORED_AT = SECRET_WORD;
}

/* The VMM has reset the machine, and started this one. */
static GUEST void next_guest_finds_nothing(void)
{
	const volatile uint64_t *const words = (uint64_t *)(uint64_t)RANGE_AT;
	uint64_t old = 0;

	for (unsigned int i = 0; i < PAGE / 8; i++)
		old += words[i] == OLD_WORD;
	tell("words of the guest before, for the next", way == PLAIN ? PAGE / 8 : 0, old);
}

/* The host side tells what the VMM has of it; the next guest goes on here. */
static GUEST void processor_shuts_down(void)
{
	static const struct segment_descriptor_table none;

	if (!next_guest) {
		fill_pages(RANGE_AT, 1, OLD_WORD);
		keep_a_secret();
		asm volatile("movq %[secret], %%xmm5\n\tlidt %[none]\n\tint3"
			     : : [secret] "r"(SECRET), [none] "m"(none));	/* nobody comes back */
	}
	next_guest_finds_nothing();
}

extern const unsigned char init_code[], init_end[];

/* In real mode only model-specific registers lead to the APIC. */
asm(".text\n"
    ".code16\n"
    "init_code:\n"
    "	mov $0x1b, %ecx\n"	/* MSR_APIC_BASE */
    "	rdmsr\n"
    "	or $0x400, %eax\n"	/* x2APIC */
    "	wrmsr\n"
    "	mov $0x830, %ecx\n"
    "	mov $0x4500, %eax\n"	/* DELIVER_INIT, to processor 0 */
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "	out %al, $0xe5\n"	/* PORT_SECOND */
    "	hlt\n"
    "init_end:\n"
    ".code64\n");

/* The same after an INIT, which the guest itself has sent to its first processor. */
static GUEST void first_gets_init(void)
{
	if (!next_guest) {
		fill_pages(RANGE_AT, 1, OLD_WORD);
		keep_a_secret();
		start_second_at(init_code, init_end);
		service(RUN_FIRST_AFTER_INIT);	/* nobody comes back */
	}
	next_guest_finds_nothing();
}

extern const unsigned char fatal_code[], fatal_end[];

/* Paging by tables that have nothing leads to no handler either. */
asm(".text\n"
    ".code16\n"
    "fatal_code:\n"
    "	mov $0x14000, %eax\n"	/* EMPTY_TABLE */
    "	mov %eax, %cr3\n"
    "	mov %cr0, %eax\n"
    "	or $0x80000001, %eax\n"	/* PG, PE */
    "	mov %eax, %cr0\n"
    "	hlt\n"
    "fatal_end:\n"
    ".code64\n");

static GUEST void second_shuts_down(void)
{
	keep_a_secret();
	fill_pages(EMPTY_TABLE, 1, 0);
	start_second_at(fatal_code, fatal_end);
	tell("the second processor shuts down", 1, service(RUN_TO_SHUTDOWN));
	tell("what the VMM's code has of the guest's memory when KVM_RUN goes on", handed_over(),
	     service(RUN_AFTER_SHUTDOWN));
	start_second();
	tell("the second processor runs where the guest starts it again", 1, service(RUN_SECOND_AGAIN));
}

void report_rom(struct text *line, const struct vm *vm)
{
	const bool open = way == PLAIN;

	if (row->shuts_down) {
		report_hex(line, "exits because the processor shuts down", 1, vm->shutdown.count);
		report_hex(line, "ioctls that tell a secret of a processor that has shut down, or fail",
			   !open ? 0 : has_svm() ? SHUTDOWN_TELLS : UNTOUCHED_TELLS, vm->shutdown.told);
	}
	report_hex(line, "what the VMM's code has of the guest's memory when KVM_RUN goes on",
		   row->shuts_down ? handed_over() : open ? SECRET_WORD : 0, vm->shutdown.goes_on);
	report_hex(line, "words of the guest before, for the VMM after the reset", open ? PAGE / 8 : 0, vm->shutdown.words);
}

/*
 * Runs a processor that has shut down, or got INIT; the VMM has code where it begins then. Return: what this code hands
 * over of the guest's memory; 0 where it does not come to run, or NO_EXIT or OTHER_EXIT and why.
 */
static uint64_t run_in_rom(struct vm *vm, int cpu, const struct kvm_run *run)
{
	/* mov $STORED_AT / 16, %bx; mov %bx, %ds; mov 0, %eax; out %eax, $PORT_ANEW; hlt */
	static const unsigned char firmware[] = { 0xbb, STORED_AT >> 4 & 0xff, STORED_AT >> 12, 0x8e, 0xdb, 0x66, 0xa1, 0, 0,
						  0x66, 0xe7, PORT_ANEW, 0xf4 };

	vm->extra = map(PAGE);
	memcpy(vm->extra + RESET_VECTOR % PAGE, firmware, sizeof(firmware));
	add_memory(vm, 3, KVM_MEM_READONLY, RESET_VECTOR & ~(PAGE - 1), PAGE, vm->extra);
	if (!run_a_while(cpu))
		return errno == EINTR ? 0 : NO_EXIT + (uint64_t)errno;
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT_ANEW)
		return OTHER_EXIT + run->exit_reason;
	return *(const uint32_t *)((const unsigned char *)run + run->io.data_offset);
}

static void run_first_in_rom(struct vm *vm)
{
	vm->shutdown.goes_on = run_in_rom(vm, vm->cpu, vm->run);
	reset_by_first(vm);
	vm->shutdown.words = count_words(at(vm, (void *)(uintptr_t)RANGE_AT));
	start_next(vm);
}

void take_shutdown(struct vm *vm)
{
	have_state();
	vm->shutdown.count++;
	vm->shutdown.told = ask_state(vm->cpu);
	run_first_in_rom(vm);
}

static uint64_t serve_shutdown(struct vm *vm, uint32_t what)
{
	switch (what) {
	case RUN_TO_SHUTDOWN:
		return run_a_while(vm->second) && vm->second_run->exit_reason == KVM_EXIT_SHUTDOWN;
	case RUN_AFTER_SHUTDOWN:
		return run_in_rom(vm, vm->second, vm->second_run);
	case RUN_FIRST_AFTER_INIT:
		if (!run_second(vm))
			return 0;
		run_first_in_rom(vm);
		return 0;
	default:
		return run_second(vm);
	}
}

const struct row shutdown_rows[] = {
	{ "shutdown", processor_shuts_down, .operands = NULL, .first = enable_with_registers, .shuts_down = true,
	  .goes_to_rom = true },
	{ "init-first", first_gets_init, .operands = NULL, .serve = serve_shutdown, .first = enable_with_registers, .second = true,
	  .goes_to_rom = true },
	{ "shutdown-second", second_shuts_down, .operands = NULL, .serve = serve_shutdown, .first = enable_with_registers,
	  .second = true },
	{ .name = NULL },
};

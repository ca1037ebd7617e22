/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private registers and memory against a VMM that prepares before it is asked: another processor that it has set,
 * started or reset, exits that it has asked for, memory of its own in the place of the guest's.
 */
#ifndef TINY_VM_SECOND_H
#define TINY_VM_SECOND_H

#include "tiny_vm_paravirt.h"
#include "tiny_vm_refusals.h"
#include "tiny_vm_walk.h"

#define PORT_SECOND 0xe5	/* the second processor is at work; nothing follows */
#define PORT_MANAGED 0xe6	/* system management mode was entered */
#define PORT_ANEW 0xe7		/* the first processor is at its reset vector */
#define START_VECTOR 0x10u	/* of STARTUP, and so real-mode code at 0x10000: the guest's */
#define FIRMWARE_VECTOR 0xf0u	/* at 0xf0000: the VMM's, which is shared from the start */
#define MANAGED_AT 0x38000u	/* where a processor enters system management mode after a reset */
#define ICR (APIC + 0x300)
#define ICR_WHOM (APIC + 0x310)
#define TWIN 0x101u		/* a processor that has the second one's number in the low byte, all that an xAPIC has */
#define DELIVER_INIT 0x4500u
#define DELIVER_STARTUP 0x4600u
#define DELIVER_SMI 0x200u
#define ONLY_MYSELF 0x40000u	/* whom it is for */
#define LOGICAL_NUMBER (APIC + 0xd0)
#define EVERY_PROCESSOR 0xffu	/* the destination of a message to all */
#define IS_INVALID 22		/* EINVAL */
#define RESET_VECTOR 0xfffffff0u
#define TIMER_SENDS_INIT 0x20500u	/* a timer's entry in an APIC: periodic, and INIT */
#define TIMER_NS 1000000000u	/* KVM's APICs count nanoseconds; ENABLE takes much less */
#define TIMER_LEFT (APIC + 0x390)
#define HYPER_V_GUEST 0x40000000u	/* a register: which operating system the guest is, any but none */
#define HYPER_V_ASSIST 0x40000073u	/* and where it has a page that Hyper-V reads */
#define IS_ON 1u
#define DIRECT_CALLS_AT 32u		/* in that page */
#define VM_ENLIGHTENED 0x3e0u		/* in a control block */
#define MSR_UNKNOWN 0xc0011fffu
#define MSR_SYSENTER_CS 0x174u
#define MSR_PAT 0x277u
#define PAT_VALUE 0x0007040100070406ull
#define PAT_OF_A_RESET 0x0007040600070406ull
#define OSXSAVE (1u << 18)	/* of CR4 */
#define UPPER 0x0000a11ca11b1a5eull	/* in the upper half of a vector register; the rest has SECRET */
#define NO_SUCH_CALL ((uint64_t)-1000)	/* KVM_ENOSYS */
#define SECOND_TELLS 0x201ull	/* as TELL_SECRET: general and model-specific registers */
#define FIRST_TELLS 0x2beull	/* after a reset by the VMM, which sets general registers itself */

/* What the host side is asked. */
enum { SET_SECOND = 0x4000, START_SECOND, RUN_SECOND, ASK_SECOND, INTERRUPT_FOR_MANAGEMENT, COUNT_MANAGED, RESET_MACHINE,
       INTERRUPT_SECOND, INTERRUPT_ALL_FOR_MANAGEMENT, OFFER_SECOND_THE_SAME, OFFER_SECOND_ANOTHER,
       STEP_SECOND, COUNT_SECOND_STEPS, WIDEN, ADD_TWIN, RUN_TWIN, RUN_TWIN_BESIDE,
       LOOK_AT_TWIN, TRY_TWIN, BE_HYPER_V, RUN_FOR_HYPER_V };
enum { PREPARE_EXITS = 0x5000, COUNT_FROM_NOW, COUNT_STEPS, END_STEPS, COUNT_TOLD, INTERCEPT_HYPERCALLS,
       COUNT_PRIORITIES, DENY_REGISTERS, DENY_NOTHING, TAKE_REGISTER, TAKE_KVMS_REGISTER, BEFORE_6_15 };
enum { SET_TIMER = 0x8000, LET_TIME_PASS };
enum { REPLACE_SLOT = 0x6000, REPLACE_BY_WRITABLE, FAIL_SLOT, LOOK_AT_FAILED, MAKE_LARGE, LOOK_AT_LARGE,
       REPLACE_BY_CODE, REPLACE_BY_TABLE };

/* SECRET in two halves, into the model-specific register that ecx names. */
#define PUT_SECRET \
	"	mov $0xe7c0ffee, %eax\n" \
	"	mov $0x5ec2, %edx\n" \
	"	wrmsr\n"

extern const unsigned char second_code[], second_end[], managed_code[], managed_end[], second_begins[];
asm(".text\n"
    ".code16\n"
    "second_code:\n"
    "	mov $0xc0000082, %ecx\n"	/* MSR_LSTAR */
    PUT_SECRET
    "	mov %eax, %edi\n"
    "	out %al, $0xe5\n"
    "	hlt\n"
    "second_end:\n"
    "managed_code:\n"
    "	out %al, $0xe6\n"
    "	rsm\n"
    "managed_end:\n"
    ".code64\n"
    "second_begins:\n"
    "	nop\n"		/* KVM skips an OUT to which the VMM sets the processor back, as one that is done */
    "	out %al, $0xe5\n"
    "	hlt\n");

static GUEST void copy_code(uint64_t to, const unsigned char *from, const unsigned char *end)
{
	for (volatile unsigned char *next = (unsigned char *)to; from != end; from++)
		*next++ = *from;
}

/* As any operating system starts a processor, with such code. */
static GUEST void start_second_at(const unsigned char *from, const unsigned char *end)
{
	copy_code(START_VECTOR << 12, from, end);
	*(volatile uint32_t *)(uint64_t)ICR_WHOM = 1u << 24;
	*(volatile uint32_t *)(uint64_t)ICR = DELIVER_INIT;
	*(volatile uint32_t *)(uint64_t)ICR_WHOM = 1u << 24;
	*(volatile uint32_t *)(uint64_t)ICR = DELIVER_STARTUP | START_VECTOR;
}

static GUEST void start_second(void)
{
	start_second_at(second_code, second_end);
}

static GUEST void set_second_and_enable(void)
{
	service(SET_SECOND);
	enable_with_registers();
}

static GUEST void second_is_the_guests(void)
{
	tell("what the second processor says of itself, set again", 0, service(OFFER_SECOND_THE_SAME));
	tell("what the second processor says of itself, changed", way == PLAIN ? 0 : IS_INVALID,
	     service(OFFER_SECOND_ANOTHER));
	if (way == PLAIN)
		service(SET_SECOND);
	tell("the second processor runs where the VMM has put it before", way == PLAIN, service(RUN_SECOND));
	service(SET_SECOND);
	tell("the second processor runs where the VMM puts it", way == PLAIN, service(RUN_SECOND));
	start_second();
	tell("the second processor runs where the guest starts it", 1, service(RUN_SECOND));
}

/* It would be started along with the second processor, and run the same code on the same stack, when the VMM likes. */
static GUEST void twin_does_not_run(void)
{
	service(ADD_TWIN);
	*(volatile uint32_t *)(uint64_t)LOGICAL_NUMBER = 1u << 24;	/* KVM looks at the numbers when one changes */
	start_second();
	tell("the second processor runs where the guest starts it", 1, service(RUN_SECOND));
	tell("what KVM_RUN says of another one with its APIC's number, or 0 if it comes to run there", way == PLAIN ? 0 : IS_INVALID,
	     service(RUN_TWIN));
}

static GUEST void add_twin_and_enable(void)
{
	service(ADD_TWIN);
	enable_with_registers();
}

static GUEST void run_twin_and_enable(void)
{
	service(RUN_TWIN_BESIDE);
	enable_with_registers();
}

/* It is in KVM_RUN already, so that nobody asks whether it may run. */
static GUEST void running_twin_does_not_start(void)
{
	if (way == PLAIN)
		service(RUN_TWIN_BESIDE);
	*(volatile uint32_t *)(uint64_t)LOGICAL_NUMBER = 1u << 24;
	start_second();
	tell("the second processor runs where the guest starts it", 1, service(RUN_SECOND));
	tell("another one with its APIC's number, which is in KVM_RUN already, runs there", way == PLAIN, service(LOOK_AT_TWIN));
}

/* With numbers of 32 bits such a processor may run, and KVM finds the one that was created first. */
static GUEST void wide_twin_does_not_start(void)
{
	*(volatile uint32_t *)(uint64_t)LOGICAL_NUMBER = 1u << 24;
	start_second();
	tell("the second processor runs where the guest starts it", way != PLAIN, service(RUN_SECOND));
	tell("another one runs there, by the low byte of its number", way == PLAIN, service(TRY_TWIN));
}

static GUEST void step_second_and_enable(void)
{
	service(STEP_SECOND);
	enable_with_registers();
}

/* Each step would tell the VMM where the second processor is. */
static GUEST void second_stops_for_nobody(void)
{
	if (way == PLAIN)
		service(STEP_SECOND);
	start_second();
	tell("the second processor comes to its end", 1, service(RUN_SECOND));
	tell("the VMM steps through it, as it asked for before", way == PLAIN, service(COUNT_SECOND_STEPS) != 0);
}

static GUEST void start_second_and_enable(void)
{
	service(INTERRUPT_SECOND);
	service(START_SECOND);
	enable_with_registers();
}

static GUEST void second_is_not_started(void)
{
	if (way == PLAIN)
		service(START_SECOND);
	tell("the second processor starts by what the VMM has sent before", way == PLAIN, service(RUN_SECOND));
	service(START_SECOND);
	tell("the second processor starts by what the VMM sends", way == PLAIN, service(RUN_SECOND));
	copy_code(MANAGED_AT, managed_code, managed_end);
	service(INTERRUPT_FOR_MANAGEMENT);
	tell("interrupts for system management by what the VMM sends", way == PLAIN, service(COUNT_MANAGED));
	service(INTERRUPT_ALL_FOR_MANAGEMENT);
	service(RUN_SECOND);	/* it is interrupted, too, and waits as before */
	tell("interrupts for system management after what the VMM sends to all", way == PLAIN ? 3 : 0, service(COUNT_MANAGED));
	start_second();
	tell("the second processor starts by what the guest sends", 1, service(RUN_SECOND));
	if (way == PLAIN) {	/* INIT makes it forget what was asked for before */
		service(INTERRUPT_SECOND);
		service(RUN_SECOND);
	}
	tell("interrupts for system management by then", way == PLAIN ? 4 : 0, service(COUNT_MANAGED));
}

static GUEST void widen_and_enable(void)
{
	service(WIDEN);
	enable_with_registers();
}

extern const unsigned char managed_moves[], managed_moves_end[];
asm(".text\n"
    ".code16\n"
    "managed_moves:\n"
    "	movl $0x50000, %cs:0xff00\n"	/* the base in what the processor has saved (struct kvm_smram_state_64) */
    "	rsm\n"
    "managed_moves_end:\n"
    ".code64\n");

/* The host side tells the rest: the machine is reset, and nobody comes back. */
static GUEST void registers_end_with_a_reset(void)
{
	struct kept kept;

	if (way == PLAIN)
		service(WIDEN);
	write_msr(MSR_PAT, PAT_VALUE);
	write_msr(MSR_SYSENTER_CS, CODE64);
	write_msr(MSR_SAVE_AREA, RANGE_AT);
	copy_code(MANAGED_AT, managed_moves, managed_moves_end);
	*(volatile uint32_t *)(uint64_t)ICR = ONLY_MYSELF | DELIVER_SMI;
	asm volatile("mov %%cr4, %%rax\n\tor %[osxsave], %%rax\n\tmov %%rax, %%cr4\n\t"
		     "vmovq %[upper], %%xmm5\n\tvinsertf128 $1, %%xmm5, %%ymm5, %%ymm5"
		     : : [osxsave] "i"(OSXSAVE), [upper] "r"(UPPER) : "rax");
	start_second();
	tell("the second processor is at work", 1, service(RUN_SECOND));
	tell("ioctls that tell a secret of the second processor, or fail", way == PLAIN ? SECOND_TELLS : 0,
	     service(ASK_SECOND));
	service_with_secrets(RESET_MACHINE, &kept);
}

extern const unsigned char hyper_code[], hyper_end[];
/* In protected mode, as Hyper-V wants it: HVCALL_SIGNAL_EVENT, with its argument in registers. */
asm(".text\n"
    ".code16\n"
    "hyper_code:\n"
    "	mov %cr0, %eax\n"
    "	or $1, %eax\n"
    "	mov %eax, %cr0\n"
    "	mov $0x1005d, %eax\n"
    "	xor %edx, %edx\n"
    "	mov $0x5ec2, %ebx\n"		/* SECRET in two halves */
    "	mov $0xe7c0ffee, %ecx\n"
    "	vmmcall\n"
    "	out %al, $0xe5\n"		/* PORT_SECOND */
    "	hlt\n"
    "hyper_end:\n"
    ".code64\n");

static GUEST void have_hyper_v_and_enable(void)
{
	service(BE_HYPER_V);
	enable_with_registers();
}

/* The VMM says to one processor that it is Hyper-V's, whose hypercalls it wants to have. */
static GUEST void hypercall_is_not_hyper_vs(void)
{
	if (way == PLAIN)
		service(BE_HYPER_V);
	start_second_at(hyper_code, hyper_end);
	tell("exits that tell the secret, by a hypercall of Hyper-V's", way == PLAIN, service(RUN_FOR_HYPER_V));
}

extern const unsigned char nested_shares[];
/* The nested guest's request to share 2 pages, of which rdi has the number; 2 is a hypercall of Hyper-V's as well. */
asm(".text\n"
    "nested_shares:\n"
    "	mov $14, %eax\n"		/* HC_SHARE */
    "	mov %rdi, %rbx\n"
    "	mov $2, %ecx\n"
    "	xor %edx, %edx\n"
    "	vmmcall\n"
    "	mov %rax, %rbx\n"
    "	out %al, $0x99\n");

/*
 * A hypervisor that is Hyper-V's guest may have hypercalls of its own guests carried out by Hyper-V. A request of such a
 * guest to KVM is about the hypervisor's memory, and must not be carried out.
 */
static GUEST void nested_guest_shares_nothing(void)
{
	const uint64_t assist = RANGE_AT + 16 * PAGE;

	fill_pages(RANGE_AT, 2, OLD_WORD);
	fill_pages(assist, 1, 0);
	*(volatile uint32_t *)(assist + DIRECT_CALLS_AT) = 1;
	change(HC_SHARE, assist, 1);
	*(volatile uint32_t *)(assist + DIRECT_CALLS_AT) = 1;
	write_msr(HYPER_V_GUEST, 1);
	write_msr(HYPER_V_ASSIST, assist | IS_ON);
	prepare_nested();
	*in_control(VM_ENLIGHTENED) = 1;
	*in_control(VM_RIP) = (uint64_t)nested_shares;
	const uint64_t result = run_nested((uint64_t)table(CONTROL), RANGE_AT / PAGE);

	tell("exit of the nested guest, by a port behind its hypercall", EXIT_IO, *in_control(VM_EXIT_CODE));
	if (way != PLAIN)
		tell("what the nested guest is told", NO_RIGHT, result);
	tell("pages of the hypervisor: reached", way == PLAIN ? EACH(2) : 0, reached(RANGE_AT, 2));
	tell("pages of the hypervisor, whole", 2, whole_pages(RANGE_AT, 2, OLD_WORD));
}

/* A VMM that names another processor as the one that boots could have that one begin in firmware of its own. */
static GUEST void ask_by_another_than_boots(void)
{
	tell("ENABLE with registers by a processor that does not boot", NO_RIGHT,
	     hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* Local APICs of the VMM's would have a processor that is added later run at once. */
static GUEST void ask_without_apic(void)
{
	tell("ENABLE with registers where the VMM has the local APICs", NO_RIGHT,
	     hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

extern const unsigned char managed_asks[], managed_asks_end[];
/* HC_ENABLE with PRIVATE_REGISTERS. */
asm(".text\n"
    ".code16\n"
    "managed_asks:\n"
    "	mov $13, %eax\n"
    "	mov $1, %ebx\n"
    "	xor %ecx, %ecx\n"
    "	vmmcall\n"
    "	mov %eax, %cs:0x8400\n"
    "	rsm\n"
    "managed_asks_end:\n"
    ".code64\n");

static GUEST void ask_in_management(void)
{
	volatile uint32_t *const answer = (uint32_t *)(uint64_t)(SMM_BASE + SMM_ENTRY + 0x400);

	*answer = 0;
	copy_code(MANAGED_AT, managed_asks, managed_asks_end);
	service(0);
	tell("ENABLE with registers in system management mode", (uint32_t)NO_RIGHT, *answer);
}

static GUEST void nothing_more(void)
{
}

static GUEST void set_timer_and_enable(void)
{
	service(SET_TIMER);
	enable_with_registers();
}

/* The host side tells whether the guest comes to its end, or begins at the reset vector. */
static GUEST void timer_starts_nothing(void)
{
	if (way == PLAIN)
		service(SET_TIMER);
	tell("the timer runs", 1, *(volatile uint32_t *)(uint64_t)TIMER_LEFT != 0);
	service(LET_TIME_PASS);
	cpuid_word(0, 0);	/* KVM looks at its timers when it has carried out an instruction */
	cpuid_word(0, 0);
}

static GUEST void prepare_exits_and_enable(void)
{
	service(PREPARE_EXITS);
	enable_with_registers();
}

extern const unsigned char write_secret[];
/* Into the register of that number. */
asm(".text\n"
    "write_secret:\n"
    "	mov %edi, %ecx\n"
    PUT_SECRET
    "	ret\n");

extern const unsigned char read_register[], write_register[];
/* attempt()'s functions. */
asm(".text\n"
    "read_register:\n"
    "	mov %edi, %ecx\n"
    "	rdmsr\n"
    "	shl $32, %rdx\n"
    "	or %rdx, %rax\n"
    "	ret\n"
    "write_register:\n"
    "	mov %edi, %ecx\n"
    "	mov %esi, %eax\n"
    "	mov %rsi, %rdx\n"
    "	shr $32, %rdx\n"
    "	wrmsr\n"
    "	ret\n");

static GUEST void exits_tell_nothing(void)
{
	volatile uint32_t *const task_priority = (uint32_t *)(uint64_t)TASK_PRIORITY;
	uint64_t result = 1000;	/* no such hypercall of KVM's */

	if (way == PLAIN)
		service(PREPARE_EXITS);
	service(COUNT_FROM_NOW);
	asm volatile("nop\n\tnop\n\tnop");
	tell("the VMM steps through the guest, as it began to before", way == PLAIN, service(COUNT_STEPS) != 0);
	service(END_STEPS);
	attempt(write_secret, MSR_LSTAR, 0);
	tell("fault at a register for which the VMM wants exits", NO_FAULT, fault.vector);
	tell("exits that tell the secret", way == PLAIN, service(COUNT_TOLD));
	if (way != PLAIN)
		tell("what is in that register", SECRET, attempt(read_register, MSR_LSTAR, 0));
	attempt(write_secret, MSR_UNKNOWN, 0);
	tell("fault at a register that KVM does not know", way == PLAIN ? NO_FAULT : 13, fault.vector);
	attempt(write_secret, MSR_APIC_BASE, 0);
	tell("fault at a register that does not take such a value", way == PLAIN ? NO_FAULT : 13, fault.vector);
	tell("exits that tell the secret after these registers", way == PLAIN ? 3 : 0, service(COUNT_TOLD));
	*task_priority = 0;
	(void)*task_priority;
	tell("exits that tell where the guest uses its task priority", way == PLAIN ? 2 : 0, service(COUNT_PRIORITIES));
	service(INTERCEPT_HYPERCALLS);
	asm volatile("vmmcall" : "+a"(result) : "D"(SECRET), "S"(SECRET), "d"(SECRET) : "rcx", "r11", "memory");
	tell("a hypercall that the VMM wants to have as another hypervisor's", way == PLAIN ? 0 : NO_SUCH_CALL, result);
	tell("exits that tell the secret by then", way == PLAIN ? 4 : 0, service(COUNT_TOLD));
}

#define MSR_POLL_CONTROL 0x4b564d05u	/* KVM's own: whether it polls before it lets the processor sleep */

/* Registers that any processor has, and how many of them do not take what is written to them, or lose it. */
static GUEST uint64_t registers_fail(void)
{
	uint64_t failed = 0;

	for (unsigned int i = 0; i < SECRET_MSRS; i++) {
		const uint64_t before = attempt(read_register, secret_msrs[i], 0);

		failed += fault.vector != NO_FAULT;
		attempt(write_register, secret_msrs[i], i < WIDE_MSRS ? SECRET : (uint32_t)SECRET);
		if (fault.vector == NO_FAULT)
			failed += (uint32_t)attempt(read_register, secret_msrs[i], 0) != (uint32_t)SECRET;
		else
			failed++;
		attempt(write_register, secret_msrs[i], before);
	}
	return failed;
}

/* A VMM that lets a register of its choice fail, as none does that any processor has, leads the guest to other code. */
static GUEST void deny_registers_and_enable(void)
{
	service(DENY_REGISTERS);
	enable_with_registers();
}

static GUEST void no_register_fails(void)
{
	if (way == PLAIN)
		service(DENY_REGISTERS);
	tell("registers that the VMM has denied before, and that fail", way == PLAIN ? 2 * SECRET_MSRS : 0, registers_fail());
	service(DENY_NOTHING);
	tell("registers that fail when none is denied", 0, registers_fail());
	service(DENY_REGISTERS);
	tell("registers that the VMM denies now, and that fail", way == PLAIN ? 2 * SECRET_MSRS : 0, registers_fail());
	service(DENY_NOTHING);
	const bool any = service(BEFORE_6_15);

	tell("errno of the VMM that says whose register PAT is", any ? 0 : IS_INVALID, service(TAKE_REGISTER));
	attempt(write_register, MSR_PAT, PAT_VALUE);
	tell("fault at a register that is another hypervisor's, as the VMM says", way == PLAIN && any ? 13 : NO_FAULT,
	     fault.vector);
	tell("whether it has what was written", way != PLAIN || !any, read_msr(MSR_PAT) == PAT_VALUE);
	attempt(write_register, MSR_POLL_CONTROL, 0);
	tell("errno of the VMM that says so of a register of KVM's", 0, service(TAKE_KVMS_REGISTER));
	attempt(write_register, MSR_POLL_CONTROL, 1);
	tell("fault at that one", way == PLAIN ? 13 : NO_FAULT, fault.vector);
	tell("what it has", way != PLAIN, read_msr(MSR_POLL_CONTROL));
}

/* The VMM moves a page of the guest's to the place of another one: the guest must not take one for the other. */
static GUEST void moved_page_is_not_taken_for_another(void)
{
	volatile uint64_t *const other = (uint64_t *)(uint64_t)(RANGE_AT + PAGE);

	fill_pages(RANGE_AT, 1, NEW_WORD);
	fill_pages(RANGE_AT + PAGE, 1, OLD_WORD);
	service(MOVE_THERE);
	tell("loaded where the VMM has put another page", way == PLAIN ? NEW_WORD : OLD_WORD, *other);
}

/* The VMM has memory of its own in the place of a slot's, to be read alone: KVM must not load from it for the guest. */
static GUEST void replaced_memory_is_not_loaded(void)
{
	fill_pages(SLOT_LOGGED, 1, OLD_WORD);
	service(REPLACE_SLOT);
	tell("loaded by KVM from what the VMM has put there", way == PLAIN ? NEW_WORD : OLD_WORD + 1,
	     attempt(emulated_load, SLOT_LOGGED, 0));
}

/* The same for code: what lies behind the prefix is fetched by KVM alone, here a return. */
static GUEST void replaced_code_is_not_run(void)
{
	map_window(TABLE, TABLE);
	write_prefix();
	table(ENTRIES)[IN_ENTRIES + 1] = SLOT_LOGGED | TABLE;
	flush_tlb();
	fill_pages(SLOT_LOGGED, 1, OLD_WORD);
	service(REPLACE_BY_CODE);
	attempt((void *)(WINDOW + PAGE - 5), 0, 0);
	tell("fault at code that the VMM has put there", way == PLAIN ? NO_FAULT : 6, fault.vector);
}

/* The same for a table of pages, by which the VMM would choose what KVM loads for the guest, and where it stores. */
static GUEST void replaced_table_is_not_walked(void)
{
	volatile uint64_t *const entry = (uint64_t *)(uint64_t)SLOT_LOGGED + IN_ENTRIES;

	map_window(TABLE, TABLE);
	table(DIRECTORY)[IN_DIRECTORY] = SLOT_LOGGED | TABLE;
	flush_tlb();
	*entry = (uint64_t)table(FIRST) | TABLE;
	table(FIRST)[0] = OLD_WORD;
	table(SECOND)[0] = NEW_WORD;
	tell("loaded by KVM by the guest's own table", OLD_WORD, attempt(emulated_load, WINDOW, 0));
	service(REPLACE_BY_TABLE);
	flush_tlb();
	const uint64_t loaded = attempt(emulated_load, WINDOW, 0);

	tell("fault of a load by a table that the VMM has put there", way == PLAIN ? NO_FAULT : 14, fault.vector);
	tell("what KVM has loaded", way == PLAIN ? NEW_WORD : 0, fault.vector == NO_FAULT ? loaded : 0);
}

/* As the VMM puts content into a slot of its own: none of it may be the guest's private memory. */
static GUEST void new_slot_brings_nothing(void)
{
	fill_pages(SLOT_LOGGED, 1, OLD_WORD);
	service(REPLACE_BY_WRITABLE);
	tell("loaded from a slot that the VMM has filled", way == PLAIN ? NEW_WORD : 0,
	     *(volatile uint64_t *)(uint64_t)SLOT_LOGGED);
}

/* The guest takes back what it has not shared, as it does with all memory when it starts. */
static GUEST void taking_back_brings_nothing(void)
{
	fill_pages(GROUP_AT, 2, OLD_WORD);
	service(REPLACE);
	tell("to take back the page that the VMM has replaced", 0, change(HC_UNSHARE, GROUP_AT, 2));
	tell("loaded from it", way == PLAIN ? NEW_WORD : 0, *(volatile uint64_t *)(uint64_t)(GROUP_AT + PAGE));
	tell("the page before it, whole", 1, whole_pages(GROUP_AT, 1, OLD_WORD));
}

/* Memory that a slot was to have is private until KVM refuses the slot; what got there meanwhile must not open. */
static GUEST void refused_slot_opens_nothing(void)
{
	tell("what KVM says to a slot beyond all addresses", 22, service(FAIL_SLOT));	/* EINVAL */
	tell("words that are where it was to be", way == PLAIN ? PAGE / 8 : 0, service(LOOK_AT_FAILED));
}

/* A large page of the VMM's behind a page that is shared, and behind 511 that are not. */
static GUEST void large_page_is_not_mapped(void)
{
	fill_pages(BIG + 5 * PAGE, 1, OLD_WORD);
	change(HC_SHARE, BIG + 5 * PAGE, 1);
	tell("the VMM has a large page there", 1, service(MAKE_LARGE));
	tell("loaded from the page that is shared", NEW_WORD, *(volatile uint64_t *)(uint64_t)(BIG + 5 * PAGE));
	*(volatile uint64_t *)(uint64_t)(BIG + 8 * PAGE) = SECRET;	/* the guest may end here */
	tell("the VMM has what the guest stores in another page", way == PLAIN, service(LOOK_AT_LARGE));
}

/* What KVM's tracer and its log would show of registers: an address of the code, arguments, a value for a register. */
#define LOGGED_MSR "0xc0010007"	/* a counter: KVM says in its log that it does not have it */

extern const unsigned char traced_code[], traced_end[], write_logged[];
asm(".text\n"
    "traced_code:\n"
    FORCED
    "	mov (%rsp), %r11\n"
    "	vmmcall\n"
    "	ret\n"
    "write_logged:\n"
    "	mov $" LOGGED_MSR ", %ecx\n"
    PUT_SECRET
    "	ret\n"
    "told_port:\n"		/* PORT_SERVICE; the processor tells KVM where the next instruction is */
    "	xor %eax, %eax\n"
    "	out %eax, $0xe3\n"
    "	ret\n"
    "told_skinit:\n"
    "	mov $0x7e11eaf, %eax\n"
    "	skinit\n"
    "	ret\n"
    "told_device:\n"
    "	mov (%rdi), %eax\n"
    "	ret\n"
    "told_flush:\n"
    "	mov %rdi, %rax\n"
    "	mov $0x7e11eaf, %ecx\n"
    "	invlpga\n"
    "	ret\n"
    "told_question:\n"
    "	push %rbx\n"
    "	mov $1, %eax\n"
    "	mov $0x7e11eaf, %ecx\n"
    "	cpuid\n"
    "	pop %rbx\n"
    "	ret\n"
    "told_nested:\n"
    "	out %al, $0x99\n"
    "	vmmcall\n"
    "traced_end:\n");
extern const unsigned char told_port[], told_skinit[], told_device[], told_flush[], told_question[], told_nested[];

/* Its operands: those of a nested guest, and these. */
enum { TRACED_POINTERS = NESTED_STACK + 1, TRACED_DIRECTORY, TRACED_ENTRIES, TRACED_CODE };
#define IN_TRACED(label) ((void *)(WINDOW + (uint64_t)(label - traced_code)))
#define IO_APIC 0xfec00000u	/* a device of KVM's, behind that code */
#define INTERCEPT_INTR 1u
#define EXIT_INTR 0x60

static GUEST void registers_are_not_traced(void)
{
	uint64_t result = 1000;	/* no such hypercall */

	root[1] = (uint64_t)table(TRACED_POINTERS) | TABLE;
	table(TRACED_POINTERS)[IN_POINTERS] = (uint64_t)table(TRACED_DIRECTORY) | TABLE;
	table(TRACED_DIRECTORY)[IN_DIRECTORY] = (uint64_t)table(TRACED_ENTRIES) | TABLE;
	table(TRACED_ENTRIES)[IN_ENTRIES] = (uint64_t)table(TRACED_CODE) | TABLE;
	table(TRACED_ENTRIES)[IN_ENTRIES + 1] = IO_APIC | TABLE;
	copy_code((uint64_t)table(TRACED_CODE), traced_code, traced_end);
	flush_tlb();
	asm volatile("call *%[where]"
		     : "+a"(result)
		     : "b"(SECRET), "c"(SECRET), "d"(SECRET), "S"(SECRET), [where] "r"(WINDOW) : "r11", "memory");
	tell("a hypercall that there is not", NO_SUCH_CALL, result);
	attempt(IN_TRACED(write_logged), 0, 0);
	attempt(IN_TRACED(told_port), 0, 0);
	attempt(IN_TRACED(told_device), WINDOW + PAGE, 0);
	attempt(IN_TRACED(told_device), WINDOW + PAGE, 0);	/* KVM knows it now */
	prepare_nested();
	attempt(IN_TRACED(told_skinit), 0, 0);
	tell("fault of an instruction that KVM does not have", 6, fault.vector);
	attempt(IN_TRACED(told_flush), SECRET, 0);
	attempt(IN_TRACED(told_question), 0, 0);
	*in_control(VM_RIP) = WINDOW;
	run_nested((uint64_t)table(CONTROL), 0);
	tell("exit of a nested guest by the same code", EXIT_VMMCALL, *in_control(VM_EXIT_CODE));
	*in_control(VM_RIP) = (uint64_t)IN_TRACED(told_nested);
	run_nested((uint64_t)table(CONTROL), 0);
	tell("exit of a nested guest by a port", EXIT_IO, *in_control(VM_EXIT_CODE));
	/* An interrupt that waits ends the nested guest before it does anything. */
	use_x2apic();
	write_msr(X2APIC_SELF, IRQ);
	*in_control(VM_INTERCEPT3) = INTERCEPT_IO | INTERCEPT_MSR | INTERCEPT_INTR;
	*in_control(VM_INTERCEPT4) = INTERCEPT_VMRUN | INTERCEPT_VMMCALL;
	*in_control(VM_RFLAGS) = 0x202;
	*in_control(VM_RIP) = WINDOW;
	run_nested((uint64_t)table(CONTROL), 0);
	tell("exit of a nested guest by an interrupt", EXIT_INTR, *in_control(VM_EXIT_CODE));
}

#endif

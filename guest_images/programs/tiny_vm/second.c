// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Private registers against a VMM that has set, started, stepped through or interrupted another processor before the
 * guest asks for them, or that resets the machine.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/time.h>

#include "second.h"
#include "exits.h"
#include "looks.h"
#include "modes.h"
#include "nested.h"
#include "ranges.h"
#include "refusals.h"
#include "reset.h"

#define ICR (APIC + 0x300)
#define ICR_WHOM (APIC + 0x310)
#define DELIVER_SMI 0x200u
#define ONLY_MYSELF 0x40000u	/* whom it is for */
#define EVERY_PROCESSOR 0xffu	/* the destination of a message to all */
#define MSR_SYSENTER_CS 0x174u
#define PAT_OF_A_RESET 0x0007040600070406ull
#define OSXSAVE (1u << 18)	/* of CR4 */
#define UPPER 0x0000a11ca11b1a5eull	/* in the upper half of a vector register; the rest has SECRET */
#define STOPPING_LINE 10u	/* of the I/O APIC: nobody else uses it */
#define FIRST_TELLS 0x2beull	/* after a reset by the VMM, which sets general registers itself */

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

GUEST void copy_code(uint64_t to, const unsigned char *from, const unsigned char *end)
{
	for (volatile unsigned char *next = (unsigned char *)to; from != end; from++)
		*next++ = *from;
}

/* As any operating system starts a processor, with such code. */
GUEST void start_second_at(const unsigned char *from, const unsigned char *end)
{
	copy_code(START_VECTOR << 12, from, end);
	*(volatile uint32_t *)(uint64_t)ICR_WHOM = 1u << 24;
	*(volatile uint32_t *)(uint64_t)ICR = DELIVER_INIT;
	*(volatile uint32_t *)(uint64_t)ICR_WHOM = 1u << 24;
	*(volatile uint32_t *)(uint64_t)ICR = DELIVER_STARTUP | START_VECTOR;
}

GUEST void start_second(void)
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
	tell("what the second processor says of itself, changed", way == PLAIN ? 0 : EINVAL,
	     service(OFFER_SECOND_ANOTHER));
	if (way == PLAIN)
		service(SET_SECOND);
	tell("the second processor runs where the VMM has put it before", way == PLAIN, service(RUN_SECOND));
	service(SET_SECOND);
	tell("the second processor runs where the VMM puts it", way == PLAIN, service(RUN_SECOND));
	start_second();
	tell("the second processor runs where the guest starts it", 1, service(RUN_SECOND));
}

extern const unsigned char busy_code[], busy_end[];

asm(".text\n"
    ".code16\n"
    "busy_code:\n"
    "1:	out %al, $0xe5\n"	/* PORT_SECOND */
    "	jmp 1b\n"
    "busy_end:\n"
    ".code64\n");

static GUEST void start_busy_second(void)
{
	start_second_at(busy_code, busy_end);
	tell("the second processor is at work", 1, service(RUN_SECOND));
}

/* INIT alone ends what a processor does, and it waits to be started. */
static GUEST void second_is_not_stopped(void)
{
	start_busy_second();
	service(STOP_SECOND);
	tell("the second processor is at work when the VMM has sent it INIT", way != PLAIN, service(RUN_SECOND));
	start_busy_second();
	service(STOP_BY_LINE);
	tell("the second processor is at work when a line of the I/O APIC has sent it INIT", way != PLAIN, service(RUN_SECOND));
}

/* KVM has a processor's registers private from its beginning, too. */
static GUEST void late_processor_is_the_guests(void)
{
	service(ADD_LATE);
	tell("a processor that comes after the request runs where the VMM puts it", way == PLAIN, service(RUN_LATE));
}

/* In the machine that the VMM has reset another guest asks for private registers, and has what the first one had. */
static GUEST void next_guest_has_private_registers(void)
{
	struct kept kept;

	if (!next_guest) {
		start_second();
		tell("the second processor runs where the guest starts it", 1, service(RUN_SECOND));
		service(RESET_FOR_NEXT);	/* nobody comes back */
	}
	tell("ioctls that tell a secret of the next guest, or fail", way == PLAIN ? TELL_SECRET : 0,
	     service_with_secrets(ASK_FIRST, &kept));
	service(SET_SECOND);
	tell("the next guest's second processor runs where the VMM puts it", way == PLAIN, service(RUN_SECOND));
	service(START_SECOND);
	tell("the next guest's second processor starts by what the VMM sends", way == PLAIN, service(RUN_SECOND));
	start_second();
	tell("the next guest's second processor runs where that guest starts it", 1, service(RUN_SECOND));
	tell("ioctls that tell a secret of the next guest's second processor, or fail", way == PLAIN ? SECOND_TELLS : 0,
	     service(ASK_SECOND));
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

/* A message to a processor as from a device (KVM_SIGNAL_MSI). */
void send_message(const struct vm *vm, uint32_t whom, uint32_t data)
{
	struct kvm_msi message = { .address_lo = APIC | whom << 12, .data = data };

	if (ioctl(vm->fd, KVM_SIGNAL_MSI, &message) < 0)
		cannot("send a message to a processor");
}

/* INIT by an entry of the I/O APIC, whose line rises. */
static void stop_by_line(const struct vm *vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	struct kvm_irq_level line = { .irq = STOPPING_LINE, .level = 1 };

	if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip))
		cannot("read the I/O APIC");
	chip.chip.ioapic.redirtbl[STOPPING_LINE].bits = 1ull << 56 | (DELIVER_INIT & 0x700);	/* edge, to processor 1 */
	if (ioctl(vm->fd, KVM_SET_IRQCHIP, &chip) || ioctl(vm->fd, KVM_IRQ_LINE, &line))
		cannot("send INIT by the I/O APIC");
	line.level = 0;
	if (ioctl(vm->fd, KVM_IRQ_LINE, &line))
		cannot("lower a line of the I/O APIC");
}

/* What the processor says of itself, as it is or under another name. Return: why KVM does not take it, or 0. */
static uint64_t offer_again(int cpu, bool renamed)
{
	struct kvm_cpuid2 *const table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!table)
		cannot("have memory");
	table->nent = CPUID_ENTRIES;
	if (ioctl(cpu, KVM_GET_CPUID2, table))
		cannot("ask for a virtual CPU's CPUID");
	for (uint32_t i = 0; i < table->nent; i++)
		table->entries[i].eax ^= renamed && table->entries[i].function == 0x80000002;	/* of the brand string */
	const uint64_t result = ioctl(cpu, KVM_SET_CPUID2, table) ? (uint64_t)errno : 0;

	free(table);
	return result;
}

/* Runs a processor until it exits, or for a while if it waits. Return: whether it exits; else errno says why not. */
bool run_a_while(int cpu)
{
	const struct itimerval soon = { { 0, RUN_US / 4 }, { RUN_US / 1000000, RUN_US % 1000000 } };
	const sig_atomic_t before = alarms;
	int result, error;

	setitimer(ITIMER_REAL, &soon, NULL);
	do {
		result = ioctl(cpu, KVM_RUN, 0);
		error = errno;
	} while (result && (error == EAGAIN || error == EINTR) && alarms == before);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	alarm(DEADLINE_S);
	errno = error;
	return !result;
}

/* Whether it comes to its port; one that waits to be started is left waiting after a while. */
uint64_t run_second(struct vm *vm)
{
	const struct kvm_run *const run = vm->second_run;
	bool exits;

	while ((exits = run_a_while(vm->second))) {
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_MANAGED)
			vm->managed++;
		else if (run->exit_reason == KVM_EXIT_DEBUG)
			vm->steps++;
		else
			break;
	}
	const bool at_work = exits && run->exit_reason == KVM_EXIT_IO && run->io.port == PORT_SECOND;

	if (!at_work && (exits || (errno != EINTR && errno != EAGAIN)))
		snprintf(vm->wrong, sizeof(vm->wrong), "the second processor: %s, exit %u (%u)",
			 exits ? "done" : strerrorname_np(errno), run->exit_reason,
			 run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0);
	return at_work;
}

/* Whether a processor that is new in the VM runs where the VMM has put it. */
static uint64_t run_late(const struct vm *vm)
{
	const struct vm late = { .cpu = vm->third };

	set_mode(&late, MODE64, second_begins);
	let_run(vm->third);
	return run_a_while(vm->third) && vm->third_run->exit_reason == KVM_EXIT_IO && vm->third_run->io.port == PORT_SECOND;
}

void widen(int cpu)
{
	const struct kvm_xcrs wide = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = WIDE } } };

	if (ioctl(cpu, KVM_SET_XCRS, &wide))
		cannot("have vector registers of 256 bits");
}

/* Whether the VMM is told what stands in the upper half of a vector register. */
static bool tells_upper(int cpu)
{
	const uint64_t upper = UPPER;

	memset(state, 0, STATE_BYTES);
	if (ioctl(cpu, KVM_GET_XSAVE, state))
		cannot("read a virtual CPU's vector registers");
	return memmem(state, STATE_BYTES, &upper, sizeof(upper));
}

/* As a VMM resets a machine: the processor that boots is at its reset vector. */
void set_to_reset(struct vm *vm)
{
	struct kvm_regs regs = { .rflags = 2, .rip = 0xfff0 };
	struct kvm_sregs sregs;

	vm->report = *(struct report *)at(vm, &shared.report);
	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		cannot("read the VM's registers");
	sregs.cs = segment(0xffff0000, 0xf000, 0xb, MODE16);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0, 0, 3, MODE16);
	sregs.cr0 = 0x60000010;
	sregs.cr3 = sregs.cr4 = sregs.efer = 0;
	if (ioctl(vm->cpu, KVM_SET_REGS, &regs) || ioctl(vm->cpu, KVM_SET_SREGS, &sregs))
		cannot("reset the VM's registers");
}

/* Registers that hold no secret, and by which the next guest would go on where the one before was; a bit each. */
static uint64_t ask_kept(int cpu)
{
	static const struct {
		uint32_t number;
		uint64_t reset;
	} registers[] = { { MSR_PAT, PAT_OF_A_RESET }, { MSR_SYSENTER_CS, 0 }, { MSR_SAVE_AREA, 0 }, { MSR_SMBASE, SMM_BASE } };
	struct kvm_xcrs xcrs = { 0 };
	unsigned int i = 0;
	uint64_t unreset = 0;

	for (; i < sizeof(registers) / sizeof(*registers); i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} request = { { .nmsrs = 1 }, { .index = registers[i].number } };

		if (ioctl(cpu, KVM_GET_MSRS, &request) != 1)
			cannot("read a virtual CPU's register");
		unreset |= (uint64_t)(request.entry.data != registers[i].reset) << i;
	}
	if (ioctl(cpu, KVM_GET_XCRS, &xcrs))
		cannot("read which vector registers a virtual CPU has");
	return unreset | (uint64_t)(xcrs.xcrs[0].value != 1) << i;
}

/* Then it runs, whatever comes of that. */
static void reset_machine(struct vm *vm)
{
	set_to_reset(vm);
	vm->over = true;
	vm->after_reset[0] = ask_state(vm->cpu);
	vm->upper_after_reset[0] = tells_upper(vm->cpu);
	ioctl(vm->cpu, KVM_RUN, 0);
	vm->after_reset[1] = ask_state(vm->cpu);
	vm->upper_after_reset[1] = tells_upper(vm->cpu);
	vm->kept_by_reset = ask_kept(vm->cpu);
	vm->after_reset[2] = ask_state(vm->second);
}

static void report_reset(struct text *line, const struct vm *vm)
{
	const bool is_plain = way == PLAIN;

	report_hex(line, "ioctls that tell a secret of the first processor, set to be reset", is_plain ? FIRST_TELLS : 0,
		   vm->after_reset[0]);
	report_hex(line, "ioctls that tell a secret of the first processor, reset", is_plain ? FIRST_TELLS : 0,
		   vm->after_reset[1]);
	report_hex(line, "of PAT, SYSENTER_CS, VM_HSAVE_PA, SMBASE and XCR0 of the first processor, those that are not as after "
		   "a reset", !is_plain ? 0 : has_svm() ? 0x1f : 0x1b, vm->kept_by_reset);
	report_hex(line, "KVM_GET_XSAVE tells the upper half of a vector register, set to be reset", is_plain,
		   vm->upper_after_reset[0]);
	report_hex(line, "KVM_GET_XSAVE tells the upper half of a vector register, reset", is_plain, vm->upper_after_reset[1]);
	report_hex(line, "ioctls that tell a secret of the second processor, after the first was reset",
		   is_plain ? SECOND_TELLS : 0, vm->after_reset[2]);
}

uint64_t serve_second(struct vm *vm, uint32_t what)
{
	static const unsigned char firmware[] = { 0xe6, PORT_SECOND, 0xf4 };	/* out %al, $PORT_SECOND; hlt */
	const struct vm second = { .cpu = vm->second };
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct kvm_regs init = { .rflags = 2 };

	have_state();
	switch (what) {
	case SET_SECOND:
		set_mode(&second, MODE64, second_begins);
		let_run(vm->second);
		return 0;
	case START_SECOND:
		memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
		send_message(vm, 1, DELIVER_INIT);
		send_message(vm, 1, DELIVER_STARTUP | FIRMWARE_VECTOR);
		return 0;
	case STOP_SECOND:
		send_message(vm, 1, DELIVER_INIT);
		return 0;
	case STOP_BY_LINE:
		stop_by_line(vm);
		return 0;
	case ADD_LATE:
		add_third(vm, LATE);
		return 0;
	case RUN_LATE:
		return run_late(vm);
	case ASK_FIRST:
		return ask_state(vm->cpu);
	case RESET_FOR_NEXT:
		reset_by_first(vm);
		start_next(vm);
		return 0;
	case WIDEN:
		widen(vm->cpu);
		return 0;
	case RUN_SECOND:
		return run_second(vm);
	case OFFER_SECOND_THE_SAME:
	case OFFER_SECOND_ANOTHER:
		return offer_again(vm->second, what == OFFER_SECOND_ANOTHER);
	case STEP_SECOND:	/* INIT keeps it if it is asked for where INIT puts the processor, as KVM sees it: RIP is 0 yet */
		if (ioctl(vm->second, KVM_SET_REGS, &init) || ioctl(vm->second, KVM_SET_GUEST_DEBUG, &debug))
			cannot("step through the second processor's code");
		return 0;
	case COUNT_SECOND_STEPS:
		return vm->steps;
	case ASK_SECOND:
		return ask_state(vm->second);
	case INTERRUPT_FOR_MANAGEMENT:
		send_message(vm, 0, DELIVER_SMI);
		return 0;
	case INTERRUPT_ALL_FOR_MANAGEMENT:
		send_message(vm, EVERY_PROCESSOR, DELIVER_SMI);
		return 0;
	case INTERRUPT_SECOND:
		if (ioctl(vm->second, KVM_SMI))
			cannot("interrupt the second processor for system management");
		return 0;
	case COUNT_MANAGED:
		return vm->managed;
	default:
		reset_machine(vm);
		return 0;
	}
}

const struct row second_rows[] = {
	{ "second-set", second_is_the_guests, .operands = NULL, .serve = serve_second, .first = set_second_and_enable,
	  .second = true },
	{ "second-started", second_is_not_started, .operands = NULL, .serve = serve_second,
	  .first = start_second_and_enable, .second = true },
	{ "second-stopped", second_is_not_stopped, .operands = NULL, .serve = serve_second,
	  .first = enable_with_registers, .second = true },
	{ "second-late", late_processor_is_the_guests, .operands = NULL, .serve = serve_second,
	  .first = enable_with_registers },
	{ "next-registers", next_guest_has_private_registers, .operands = NULL, .serve = serve_second,
	  .first = enable_with_registers, .second = true },
	{ "reset-registers", registers_end_with_a_reset, .operands = NULL, .serve = serve_second,
	  .first = widen_and_enable, .second = true, .report = report_reset },
	{ "second-exits", second_stops_for_nobody, .operands = NULL, .serve = serve_second,
	  .first = step_second_and_enable, .second = true },
	{ .name = NULL },
};

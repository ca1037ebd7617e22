// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What KVM and the processor tell of a guest's instructions and registers: in exits, traces, failures and a register that
 * stays loaded. Beside that registers that the VMM has fail, and a timer by which it would begin the guest anew.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/klog.h>

#include "disclosures.h"
#include "looks.h"
#include "nested.h"
#include "paravirt.h"
#include "ranges.h"
#include "refusals.h"
#include "second.h"
#include "walk.h"

#define UNTOLD_BYTES 8u

extern const unsigned char untold_instruction[];

/* KVM's emulator does not know it: paddd NO_MEMORY_AT, %xmm0. */
asm(".text\n.globl untold_instruction\nuntold_instruction: .byte 0x66, 0x0f, 0xfe, 0x04, 0x25\n\t.long 0x7abc000\n\tret\n");

/* Makes KVM give up on an instruction, which is the guest's own memory. This ends the row. */
static GUEST void instruction_is_not_told(void)
{
	((void (*)(void))untold_instruction)();
}

/* The same, until another thread of the VMM would have seen what KVM says meanwhile. The guest may get a fault of it. */
static GUEST void instruction_is_not_told_meanwhile(void)
{
	service(LOOK_ON);
	for (;;)
		attempt(untold_instruction, 0, 0);
}

#define TIMER_SENDS_INIT 0x20500u	/* a timer's entry in an APIC: periodic, and INIT */
#define TIMER_NS 1000000000u	/* KVM's APICs count nanoseconds; ENABLE takes much less */
#define TIMER_LEFT (APIC + 0x390)
#define MSR_UNKNOWN 0xc0011fffu
#define NO_SUCH_CALL ((uint64_t)-1000)	/* KVM_ENOSYS */

enum { PREPARE_EXITS = 0x5000, COUNT_FROM_NOW, COUNT_STEPS, END_STEPS, COUNT_TOLD, INTERCEPT_HYPERCALLS,
       COUNT_PRIORITIES, DENY_REGISTERS, DENY_NOTHING, TAKE_REGISTER, TAKE_KVMS_REGISTER, BEFORE_6_15 };

enum { SET_TIMER = 0x8000, LET_TIME_PASS };

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

extern const unsigned char read_register[];

/* attempt()'s functions. */
asm(".text\n"
    "read_register:\n"
    "	mov %edi, %ecx\n"
    "	rdmsr\n"
    "	shl $32, %rdx\n"
    "	or %rdx, %rax\n"
    "	ret\n"
    ".globl write_register\n"
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

	tell("errno of the VMM that says whose register PAT is", any ? 0 : EINVAL, service(TAKE_REGISTER));
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

/* What KVM's tracer and its log would show of registers: an address of the code, arguments, a value for a register. */
#define MSR_TSC_AUX 0xc0000103u	/* KVM loads it into the processor: test_kvm_traces.py looks for that */
#define MSR_SPEC_CTRL 0x48u		/* KVM tries whether the processor takes it; so too */
#define TRIED 2u			/* STIBP */
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
	write_msr(MSR_TSC_AUX, (uint32_t)SECRET);
	attempt(write_register, MSR_SPEC_CTRL, TRIED);	/* some refuse it */
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

/* Whether the VMM gets to see the instruction that KVM gave up on: by KVM's word, and anywhere in what it is given. */
void report_untold(struct text *line, const struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	const bool by_word = vm->run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	const bool there = size > 0 && memmem(vm->run, (size_t)size, untold_instruction, UNTOLD_BYTES);
	/* Where the processor was, and what it says of that, is the guest's if its registers are. */
	const bool hides = row->first && way != PLAIN;
	bool of_exit = vm->run->internal.ndata;

	for (unsigned int i = 0; i < sizeof(vm->run->internal.data) / sizeof(*vm->run->internal.data); i++)
		of_exit |= vm->run->internal.data[i] != 0;
	report_text(line, "KVM gives up on the instruction", "yes",
	       vm->run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? "yes" : "no");
	report_text(line, "KVM tells the VMM bytes of the instruction", way == PLAIN ? "yes" : "no", by_word ? "yes" : "no");
	report_text(line, "they are in what KVM and the VMM share", way == PLAIN ? "yes" : "no", there ? "yes" : "no");
	report_text(line, "KVM tells the VMM what the processor says of the exit", hides ? "no" : "yes", of_exit ? "yes" : "no");
}

struct onlooker {
	pthread_t thread;
	const volatile struct kvm_run *run;
	volatile bool ends;
	volatile uint64_t looks, seen;
};

static struct onlooker onlooker;

/* Looks without a break at what KVM says of the exit: the first word has flags, or is another exit's. */
static void *look_at_exit(void *unused)
{
	(void)unused;
	while (!onlooker.ends) {
		uint64_t any = 0;

		for (unsigned int i = 1; i < sizeof(onlooker.run->internal.data) / sizeof(*onlooker.run->internal.data); i++)
			any |= onlooker.run->internal.data[i];
		onlooker.seen += any != 0;
		onlooker.looks++;
	}
	return NULL;
}

static uint64_t serve_watched(struct vm *vm, uint32_t what)
{
	(void)what;
	memset(vm->run->internal.data, 0, sizeof(vm->run->internal.data));
	onlooker.run = vm->run;
	errno = pthread_create(&onlooker.thread, NULL, look_at_exit, NULL);
	if (errno)
		cannot("start a thread");
	while (!onlooker.looks)
		sched_yield();
	return 0;
}

void report_watched(struct text *line, const struct vm *vm)
{
	onlooker.ends = true;
	pthread_join(onlooker.thread, NULL);
	report_hex(line, "exits because KVM gives up on an instruction", GIVE_UPS, vm->given_up);
	report_text(line, "another thread of the VMM sees what the processor says of them", way == PLAIN ? "yes" : "no",
		    onlooker.seen ? "yes" : "no");
}

/* The timer of the first processor's APIC is to put it at its reset vector (INIT), where the VMM has code of its own. */
static void set_timer(struct vm *vm)
{
	static const unsigned char firmware[] = { 0xe6, PORT_ANEW, 0xf4 };	/* out %al, $PORT_ANEW; hlt */
	static const struct {
		uint32_t at, value;
	} registers[] = { { 0xf0, 0x1ff }, { 0x320, TIMER_SENDS_INIT }, { 0x3e0, 0xb }, { 0x380, TIMER_NS }, { 0x390, TIMER_NS } };
	struct kvm_lapic_state apic;

	vm->extra = map(EXTRA_PAGES * PAGE);
	memcpy(vm->extra + RESET_VECTOR % PAGE, firmware, sizeof(firmware));
	add_memory(vm, 3, 0, RESET_VECTOR & ~(PAGE - 1), PAGE, vm->extra);
	if (ioctl(vm->cpu, KVM_GET_LAPIC, &apic))
		cannot("read the first processor's APIC");
	for (unsigned int i = 0; i < sizeof(registers) / sizeof(*registers); i++)
		*(uint32_t *)(apic.regs + registers[i].at) = registers[i].value;
	if (ioctl(vm->cpu, KVM_SET_LAPIC, &apic))
		cannot("set the first processor's timer");
}

uint64_t serve_timer(struct vm *vm, uint32_t what)
{
	const struct timespec longer = { .tv_sec = 1, .tv_nsec = TIMER_NS / 4 };

	if (what == SET_TIMER)
		set_timer(vm);
	else
		nanosleep(&longer, NULL);
	return 0;
}

/* Exits for registers of the guest's and for its task priority, and for each of its instructions. */
static void prepare_exits(const struct vm *vm)
{
	static unsigned char no_access[8];
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
				      .args = { KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN |
						KVM_MSR_EXIT_REASON_INVAL } };
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = { { .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = MSR_LSTAR,
			      .bitmap = no_access } },
	};
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct kvm_tpr_access_ctl priority = { .enabled = 1 };

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) || ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter))
		cannot("ask for exits by a register");
	if (ioctl(vm->cpu, KVM_SET_GUEST_DEBUG, &debug))
		cannot("step through the guest");
	if (ioctl(vm->cpu, KVM_TPR_ACCESS_REPORTING, &priority))
		cannot("ask for exits by the task priority");
}

/* Those of SECRET_MSRS, in a few ranges; or none. */
static void deny_registers(const struct vm *vm, bool any)
{
	static unsigned char no_access[8];
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	static const struct {
		uint32_t base, count;
	} ranges[] = { { 0xc0000081, 4 }, { 0x175, 2 }, { 0xc0000102, 2 }, { 0x17a, 1 }, { 0x402, 2 }, { 0x1fc, 1 } };

	for (unsigned int i = 0; any && i < sizeof(ranges) / sizeof(*ranges); i++)
		filter.ranges[i] = (struct kvm_msr_filter_range){ .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
								  .nmsrs = ranges[i].count, .base = ranges[i].base,
								  .bitmap = no_access };
	if (ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter))
		cannot("deny registers");
}

static uint64_t serve_exits(struct vm *vm, uint32_t what)
{
	struct kvm_guest_debug none = { 0 };
	/* Without a register for its page KVM does not look for such hypercalls. */
	struct kvm_xen_hvm_config config = { .flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, .msr = 0x40000000 };

	switch (what) {
	case PREPARE_EXITS:
		prepare_exits(vm);
		return 0;
	case COUNT_FROM_NOW:
		vm->steps = 0;
		return 0;
	case COUNT_STEPS:
		return vm->steps;
	case END_STEPS:
		ioctl(vm->cpu, KVM_SET_GUEST_DEBUG, &none);	/* it may be refused */
		return 0;
	case COUNT_TOLD:
		return vm->disclosed;
	case COUNT_PRIORITIES:
		return vm->priorities;
	case DENY_REGISTERS:
	case DENY_NOTHING:
		deny_registers(vm, what == DENY_REGISTERS);
		return 0;
	case TAKE_REGISTER:
	case TAKE_KVMS_REGISTER:
		config.msr = what == TAKE_REGISTER ? MSR_PAT : MSR_POLL_CONTROL;
		return ioctl(vm->fd, KVM_XEN_HVM_CONFIG, &config) ? (uint64_t)errno : 0;
	case BEFORE_6_15:
		return older_than(6, 15);
	default:
		if (ioctl(vm->fd, KVM_XEN_HVM_CONFIG, &config))
			cannot("ask for the hypercalls of another hypervisor");
		return 0;
	}
}

/* --- a register that the processor would keep while KVM runs on it ------------------------------------------------- */

enum { WATCH_PROCESSOR = 1, ASK_WATCHER };
enum { TURNS = 40000000, READS = 50000 };	/* of the guest's loop; of the register at most */

static GUEST void register_is_not_kept_in_processor(void)
{
	write_msr(MSR_TSC_AUX, (uint32_t)SECRET);
	service(WATCH_PROCESSOR);
	for (volatile uint32_t turn = 0; turn < TURNS; turn++)
		;
	tell("root reads the register in the processor", way == PLAIN, service(ASK_WATCHER));
}

static struct {
	pthread_t thread;
	int file;
	bool saw;
} watcher;

/* From another processor: on its own the kernel puts the host's value back before the thread goes on. */
static void *watch_processor(void *cpu)
{
	cpu_set_t others;
	uint64_t value;

	CPU_ZERO(&others);
	CPU_SET(*(int *)cpu ? 0 : 1, &others);
	if (pthread_setaffinity_np(pthread_self(), sizeof(others), &others))
		cannot("go to another processor: the host needs two");
	for (int i = 0; i < READS && !watcher.saw; i++) {
		if (pread(watcher.file, &value, sizeof(value), MSR_TSC_AUX) != sizeof(value))
			cannot("read a register of a processor");
		watcher.saw = value == (uint32_t)SECRET;
	}
	return NULL;
}

static uint64_t serve_watcher(struct vm *vm, uint32_t what)
{
	static int cpu;
	cpu_set_t here;
	char path[32];

	(void)vm;
	if (what == ASK_WATCHER) {
		if (pthread_join(watcher.thread, NULL))
			cannot("wait for a thread");
		return watcher.saw;
	}
	cpu = sched_getcpu();
	CPU_ZERO(&here);
	CPU_SET(cpu, &here);
	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpu);
	watcher.file = open(path, O_RDONLY | O_CLOEXEC);
	if (watcher.file < 0 || sched_setaffinity(0, sizeof(here), &here))
		cannot("watch a processor");
	errno = pthread_create(&watcher.thread, NULL, watch_processor, &cpu);
	if (errno)
		cannot("start a thread");
	return 0;
}

/* --- what a backtrace of the processor that runs a guest shows in the host's log ------------------------------------ */

enum { ASK_BACKTRACES = 1, LOOK_AT_LOG };
enum { IN_CR2 = 1, IN_DR0 = 2, WHILE_IT_RUNS = 4 };	/* what is in the log, a bit each */
#define FIRST_BREAKPOINT 0x401ul	/* DR7: the address in DR0, which nobody comes to */
enum { BACKTRACES = 20, CONSOLE_OFF = 6, CONSOLE_ON };	/* the last two as syslog(2) has them */

static GUEST void log_shows_no_register(void)
{
	/* With a breakpoint that is on KVM loads the debug registers at each entry, and not just once. */
	asm volatile("mov %[secret], %%dr0\n\tmov %[on], %%dr7\n\tmov %[secret], %%cr2" : :
		     [secret] "r"(SECRET), [on] "r"(FIRST_BREAKPOINT));
	service(ASK_BACKTRACES);
	for (volatile uint32_t turn = 0; turn < TURNS; turn++)
		;
	const uint64_t shown = service(LOOK_AT_LOG);

	tell("backtraces of the processor while it runs the guest, with CR2",
	     way == PLAIN ? IN_CR2 | WHILE_IT_RUNS : WHILE_IT_RUNS, shown & (IN_CR2 | WHILE_IT_RUNS));
	if (way != PLAIN)	/* a kernel of the series prints nobody's debug registers but its own */
		tell("backtraces with DR0", 0, shown & IN_DR0);
}

static struct {
	pthread_t thread;
	int log;
	uint64_t found;
} reader;

/* Each message comes alone, and has its length. */
static void read_log(void)
{
	char line[1024];
	ssize_t length;

	while ((length = read(reader.log, line, sizeof(line) - 1)) > 0) {
		line[length] = 0;
		if (strstr(line, "vcpu_run"))
			reader.found |= WHILE_IT_RUNS;
		if (strstr(line, "CR2: 00005ec2e7c0ffee"))
			reader.found |= IN_CR2;
		if (strstr(line, "DR0: 00005ec2e7c0ffee"))
			reader.found |= IN_DR0;
	}
}

/* Not on the console, where a backtrace that nobody has asked for is a complaint. */
static void *ask_backtraces(void *cpu)
{
	const int trigger = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
	cpu_set_t others;

	CPU_ZERO(&others);
	CPU_SET(*(int *)cpu ? 0 : 1, &others);
	if (pthread_setaffinity_np(pthread_self(), sizeof(others), &others))
		cannot("go to another processor: the host needs two");
	if (trigger < 0 || klogctl(CONSOLE_OFF, NULL, 0))
		cannot("have the kernel print to its log alone");
	for (int i = 0; i < BACKTRACES && !(reader.found & WHILE_IT_RUNS); i++) {
		if (write(trigger, "l", 1) != 1)
			cannot("ask for backtraces");
		usleep(20000);
		read_log();
	}
	if (klogctl(CONSOLE_ON, NULL, 0))
		cannot("have the kernel print to its console");
	return NULL;
}

static uint64_t serve_reader(struct vm *vm, uint32_t what)
{
	static int cpu;
	cpu_set_t here;

	(void)vm;
	if (what == LOOK_AT_LOG) {
		if (pthread_join(reader.thread, NULL))
			cannot("wait for a thread");
		return reader.found;
	}
	cpu = sched_getcpu();
	CPU_ZERO(&here);
	CPU_SET(cpu, &here);
	reader.log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (reader.log < 0 || lseek(reader.log, 0, SEEK_END) || sched_setaffinity(0, sizeof(here), &here))
		cannot("look at the kernel's log");
	errno = pthread_create(&reader.thread, NULL, ask_backtraces, &cpu);
	if (errno)
		cannot("start a thread");
	return 0;
}

const struct row disclosures_rows[] = {
	{ "untold", instruction_is_not_told, .operands = operands, .pages = 1, .gives_up = true },
	{ "untold-registers", instruction_is_not_told, .operands = operands, .pages = 1, .gives_up = true,
	  .first = enable_with_registers },
	{ "untold-meanwhile", instruction_is_not_told_meanwhile, .operands = operands, .pages = 1, .serve = serve_watched,
	  .first = enable_with_registers, .gives_up_often = true },
	{ "exits", exits_tell_nothing, .operands = NULL, .serve = serve_exits, .first = prepare_exits_and_enable,
	  .asks_exits = true },
	{ "denied", no_register_fails, .operands = NULL, .serve = serve_exits, .first = deny_registers_and_enable },
	{ "timer", timer_starts_nothing, .operands = NULL, .serve = serve_timer, .first = set_timer_and_enable },
	{ "kept-register", register_is_not_kept_in_processor, .operands = NULL, .serve = serve_watcher,
	  .first = enable_with_registers },
	{ "backtrace", log_shows_no_register, .operands = NULL, .serve = serve_reader, .first = enable_with_registers },
	{ "traced", registers_are_not_traced, .operands = operands, .pages = TRACED_CODE + 1, .first = enable_with_registers,
	  .spec_ctrl = true },
	{ .name = NULL },
};

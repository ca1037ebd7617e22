// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * KVM's paravirtual interfaces, and its interrupt controller. The area that KVM writes to is the operand: on a private
 * page it must stay as it is, nothing must be lost for the guest, and KVM must not say that it did something.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "paravirt.h"
#include "refusals.h"
#include "walk.h"

#define MSR_ASYNC_PF 0x4b564d02
#define MSR_STEAL_TIME 0x4b564d03
#define MSR_ASYNC_PF_INT 0x4b564d06
#define MSR_ASYNC_PF_ACK 0x4b564d07
#define HC_CLOCK_PAIRING 9
#define HC_SEND_IPI 10
#define CLOCK_PAIRING_WALLCLOCK 0
#define FEATURE_LEAF 0x40000001
#define PREEMPTED 1	/* struct kvm_steal_time */
#define FLUSH_TLB 2
#define X2APIC_ID 0x802
#define X2APIC_EOI 0x80b
#define X2APIC_SPURIOUS 0x80f
#define BROADCAST 0xffffffff

#define REACHED (way != PRIVATE)

extern const unsigned char irq_entry[];

asm(".text\n"
    "irq_entry:\n"
    "	push %rax\n	push %rcx\n	push %rdx\n"
    "	incq irq_count\n"
    "	mov operands, %eax\n"
    "	mov %rax, irq_saw\n"
    "	btrl $0, operands\n"
    "	jc 1f\n"
    "	mov $0x80b, %ecx\n"	/* X2APIC_EOI */
    "	xor %eax, %eax\n"
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "1:	pop %rdx\n	pop %rcx\n	pop %rax\n"
    "	iretq\n");

volatile uint64_t irq_count, irq_saw, irq_other;

GUEST void use_x2apic(void)
{
	write_msr(MSR_APIC_BASE, read_msr(MSR_APIC_BASE) | 1 << 10 | 1 << 11);
	write_msr(X2APIC_SPURIOUS, 0x1ff);
}

/* Lets interrupts come, and waits for none. */
GUEST void take_interrupts(void)
{
	asm volatile("sti\n\tnop\n\tnop\n\tcli" : : : "memory");
}

static GUEST uint64_t area_sum(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < 512; i++)
		sum |= table(AREA)[i];
	return sum;
}

/*
 * KVM takes its word back when the guest exits before it has seen it: so not every interrupt must find it. On a private
 * page none may.
 */
static GUEST void pv_eoi(void)
{
	uint64_t saw = 0;

	use_x2apic();
	set_gate(IRQ, irq_entry, 0);
	write_msr(MSR_PV_EOI, (uint64_t)table(AREA) | 1);
	for (int i = 0; i < INTERRUPTS; i++) {
		write_msr(X2APIC_SELF, IRQ);
		take_interrupts();
		saw += irq_saw;
	}
	tell("interrupts taken", INTERRUPTS, irq_count);
	tell("some were told that their end need not be told", REACHED, saw > 0);
	tell("the area afterwards", 0, area_sum());
	write_msr(MSR_PV_EOI, 0);
	write_msr(X2APIC_SELF, IRQ);
	take_interrupts();
	tell("interrupts taken after it was turned off", INTERRUPTS + 1, irq_count);
	tell("the area's word then", 0, irq_saw);
}

static GUEST void pv_ipi(void)
{
	use_x2apic();
	set_gate(IRQ, irq_entry, 0);
	tell("the feature is offered", 1, cpuid_word(FEATURE_LEAF, 0) >> 11 & 1);
	/* The processors are bits of two registers, from the APIC id in the next on; the vector is in the last. */
	for (int i = 1; i <= 3; i++) {
		uint64_t result = HC_SEND_IPI;

		asm volatile("vmmcall" : "+a"(result)
			     : "b"(1ull), "c"(0ull), "d"(read_msr(X2APIC_ID)), "S"((uint64_t)IRQ) : "memory");
		tell("processors that KVM says it interrupted", 1, result);
		take_interrupts();
		tell("interrupts taken", i, irq_count);
	}
}

/*
 * Another processor's request to flush the TLB of one that does not run: a bit of its steal time. KVM takes it when it
 * runs the processor again; of a private page it cannot know, so it never tells that a processor does not run either.
 */
static GUEST void pv_tlb_flush(void)
{
	volatile unsigned char *const preempted = &operands[AREA][16];

	tell("the feature is offered", 1, cpuid_word(FEATURE_LEAF, 0) >> 9 & 1);
	write_msr(MSR_STEAL_TIME, (uint64_t)table(AREA) | 1);
	service(1);	/* the VMM runs, and then we again */
	tell("the area has a version", REACHED, ((volatile uint32_t *)operands[AREA])[2] != 0);
	/* The VMM's other thread takes this processor from us, and looks at the area. */
	service(2);
	while (!(*(volatile uint64_t *)&shared.report.answer & 0x100))
		;
	if (REACHED)	/* the VMM cannot look at a private one */
		tell("what the area said while the processor did not run", PREEMPTED, shared.report.answer & 0xff);
	tell("what it says now", 0, *preempted);
	*preempted = PREEMPTED | FLUSH_TLB;
	service(1);
	tell("the request after the processor ran again", REACHED ? 0 : PREEMPTED | FLUSH_TLB, *preempted);
	write_msr(MSR_STEAL_TIME, 0);
}

/* The time of both clocks at one moment, where KVM can tell; else it says so, and writes nothing. */
static GUEST void pv_clock_pairing(void)
{
	const uint64_t result = hypercall(HC_CLOCK_PAIRING, (uint64_t)table(AREA), CLOCK_PAIRING_WALLCLOCK);
	const bool can = service(1);

	tell("the hypercall", can ? 0 : (uint64_t)-95, result);	/* KVM_EOPNOTSUPP */
	tell("what it wrote", can, area_sum() != 0);
	if (can)
		tell("seconds from the host's clock", 0, service((uint32_t)table(AREA)[0]));
	tell("with a kind of clock that is none", (uint64_t)-95, hypercall(HC_CLOCK_PAIRING, (uint64_t)table(AREA), 7));
}

static GUEST void pv_wall_clock(void)
{
	/* Across two pages, of which the second is private in a protected guest: each is KVM's to write. */
	volatile uint32_t *const clock = (uint32_t *)&operands[AREA + 1][0] - 1;

	write_msr(MSR_WALL_CLOCK, (uint64_t)clock);
	tell("the version is even, and not 0", 1, clock[0] && !(clock[0] & 1));
	tell("seconds from the host's clock", 0, service(clock[1]));
}

/*
 * A page of ours that the host does not have yet: KVM says so by a page fault with a number for an address, and by an
 * interrupt when it came. Where it cannot write why it faulted, it does not fault, and the guest waits.
 */
extern const unsigned char touch[], apf_fault[];
extern volatile uint64_t apf_token;

volatile uint64_t apf_token;

asm(".text\n"
    "touch:	mov (%rdi), %rax\n"
    "	ret\n"
    /* The fault: the number, the reason; then on where it was, which waits. */
    "apf_fault:\n"
    "	push %rax\n"
    "	mov %cr2, %rax\n"
    "	mov %rax, apf_token\n"
    "	mov operands, %eax\n"
    "	mov %rax, irq_other\n"
    "	movl $0, operands\n"
    "	sti\n"
    "1:	cmpq $0, irq_count\n"
    "	je 1b\n"
    "	cli\n"
    "	pop %rax\n"
    "	add $8, %rsp\n"
    "	iretq\n"
    /* The interrupt: the number of what came. */
    "apf_ready:\n"
    "	push %rax\n	push %rcx\n	push %rdx\n"
    "	mov operands + 4, %eax\n"
    "	mov %rax, irq_saw\n"
    "	movl $0, operands + 4\n"
    "	mov $0x4b564d07, %ecx\n"	/* MSR_ASYNC_PF_ACK */
    "	mov $1, %eax\n"
    "	xor %edx, %edx\n"
    "	wrmsr\n"
    "	mov $0x80b, %ecx\n"
    "	xor %eax, %eax\n"
    "	wrmsr\n"
    "	incq irq_count\n"
    "	pop %rdx\n	pop %rcx\n	pop %rax\n"
    "	iretq\n");

extern const unsigned char apf_ready[];

static GUEST void be_told_of_missing_pages(void)
{
	write_msr(MSR_ASYNC_PF_INT, IRQ);
	write_msr(MSR_ASYNC_PF, (uint64_t)table(AREA) | 1 | 2 | 8);	/* on, also in ring 0, ready by interrupt */
}

static GUEST void pv_async_page_fault(void)
{
	volatile uint64_t *const missing = (uint64_t *)(uint64_t)SLOT_LOGGED;

	use_x2apic();
	tell("the feature is offered", 1, cpuid_word(FEATURE_LEAF, 0) >> 14 & 1);
	set_gate(IRQ, apf_ready, 0);
	set_gate(14, apf_fault, 0);
	be_told_of_missing_pages();
	take_interrupts();
	tell("interrupts that told all waiters to wake up when it was turned on", REACHED, irq_count);
	tell("the number in the area then", REACHED ? BROADCAST : 0, irq_saw);
	irq_count = irq_saw = 0;
	if (way != PLAIN)
		hypercall(HC_SHARE, (uint64_t)missing / PAGE, 1);	/* the host cannot keep back a private one */
	service(1);	/* from now on the VMM's page is missing, and comes some time after it is asked for */
	asm volatile("sti\n\tnop" : : : "memory");	/* nor in the shadow of sti: KVM would wait for the page */
	const uint64_t value = *missing;

	asm volatile("cli" : : : "memory");
	tell("what was read from the page that came late", VALUE, value);
	tell("a fault told that it is missing", REACHED, apf_token != 0);
	tell("the reason in the area", REACHED, irq_other);
	tell("interrupts that told that it came", REACHED, irq_count);
	tell("the number in the area then, less that of the fault", 0, irq_saw - apf_token);
	tell("the area afterwards", 0, area_sum());
	write_msr(MSR_ASYNC_PF, 0);
}

/* The VMM asks for it, in the place of a guest that does not know of it. */
static GUEST void be_told_and_enable(void)
{
	be_told_of_missing_pages();
	enable_with_registers();
}

static GUEST void missing_page_is_no_fault(void)
{
	volatile uint64_t *const missing = (uint64_t *)(uint64_t)SLOT_LOGGED;

	use_x2apic();
	set_gate(IRQ, apf_ready, 0);
	set_gate(14, apf_fault, 0);
	if (way == PLAIN)
		be_told_of_missing_pages();
	take_interrupts();
	if (way != PLAIN)
		hypercall(HC_SHARE, (uint64_t)missing / PAGE, 1);
	service(1);
	asm volatile("sti\n\tnop" : : : "memory");	/* as in pv_async_page_fault() */
	const uint64_t value = *missing;

	asm volatile("cli" : : : "memory");
	tell("what was read from the page that came late", VALUE, value);
	tell("a fault told that it is missing", way == PLAIN, apf_token != 0);
}

/* The hypercall of the other make of processor: KVM replaces it in the guest's code. */
asm(".text\n"
    ".balign 16\n"
    "vmcall_code:\n"
    "	vmcall\n"
    "	mov %rax, %rdx\n"
    "	mov %edi, %eax\n"
    "second_vmcall:\n"
    "	vmcall\n"
    "	ret\n"
    "vmcall_end:\n");

extern const unsigned char vmcall_code[], second_vmcall[], vmcall_end[];

#define VMCALL 0xc1010fu	/* 0f 01 c1 */
#define VMMCALL 0xd9010fu

static GUEST void hypercall_is_patched(void)
{
	const uint32_t own = has_svm() ? VMMCALL : VMCALL, other = has_svm() ? VMCALL : VMMCALL;
	uint64_t first = 1000, second;	/* no such hypercall */

	for (long i = 0; i < vmcall_end - vmcall_code; i++)
		operands[AREA][i] = vmcall_code[i];
	operands[AREA][2] = operands[AREA][second_vmcall - vmcall_code + 2] = other >> 16;
	asm volatile("call *%3"
		     : "+a"(first), "=d"(second) : "D"(1001), "r"(table(AREA)) : "rbx", "rcx", "rsi", "memory");
	tell("result of the first", (uint64_t)-1000, second);	/* KVM_ENOSYS */
	tell("result of the second", (uint64_t)-1000, first);
	tell("the code of the first", own, operands[AREA][0] | operands[AREA][1] << 8 | operands[AREA][2] << 16);
}

static GUEST void copy4(uint64_t to, uint64_t from)
{
	asm volatile("movsl" : "+D"(to), "+S"(from) : : "memory");
}

/* The interrupt controller's registers: KVM's own device, by instructions that it fetches from private code. */
static GUEST void apic_is_reached(void)
{
	volatile uint32_t *const apic = (uint32_t *)(uint64_t)APIC;
	const uint64_t data = (uint64_t)table(AREA);

	tell("the APIC is at its address, and on", APIC | 0x800, read_msr(MSR_APIC_BASE) & 0xffffff800);
	apic[0x80 / 4] = 0x30;		/* task priority */
	tell("task priority, written and read", 0x30, apic[0x80 / 4]);
	apic[0xf0 / 4] = 0x1ff;
	apic[0xe0 / 4] = 0xffffffff;
	/* Between device and memory, each way. */
	table(AREA)[0] = 0x20;
	copy4(APIC + 0x80, data);
	tell("task priority, copied from memory", 0x20, apic[0x80 / 4]);
	copy4(data + 8, APIC + 0x80);
	tell("task priority, copied to memory", 0x20, (uint32_t)table(AREA)[1]);
	apic[0x80 / 4] = 0;
	set_gate(IRQ, irq_entry, 0);
	write_msr(MSR_APIC_BASE, read_msr(MSR_APIC_BASE) | 1 << 10);	/* irq_entry ends it as an x2APIC's */
	write_msr(X2APIC_SELF, IRQ);
	table(AREA)[0] = 0;
	take_interrupts();
	tell("interrupts taken", 1, irq_count);
}

#define LATE_NS 100000000	/* how late a missing page comes */
#define BUSY_NS 3000000000	/* longer than any turn of the scheduler */
#define BUSY_PRIVATE_NS 200000000
#define CLOSE_S 120

/* Runs beside the guest on its processor until the guest was seen not to run, or long enough. */
static void *take_processor(void *of)
{
	const struct vm *const vm = of;
	struct report *const report = at(vm, &shared.report);
	const volatile unsigned char *const preempted = at(vm, &operands[AREA][16]);
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + (way == PRIVATE ? BUSY_PRIVATE_NS : BUSY_NS);
	uint64_t saw = 0;

	while (!saw && clock_ns(CLOCK_MONOTONIC) < end)
		saw = way == PRIVATE ? 0 : *preempted;	/* a private one is not ours to load */
	report->answer = 0x100 | saw;
	return NULL;
}

/* 2: have another thread take the guest's processor. */
static uint64_t compete(struct vm *vm, uint32_t what)
{
	pthread_t thread;
	cpu_set_t cpus;

	if (what != 2)
		return 0;
	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);	/* not just any: guest_images/host/init says why */
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		cannot("stay on one processor");
	errno = pthread_create(&thread, NULL, take_processor, vm);
	if (errno)
		cannot("start a thread");
	pthread_detach(thread);
	return 0;
}

/* 1: whether the host's clock is the TSC, else how far these seconds are from now. */
static uint64_t compare_clocks(struct vm *vm, uint32_t what)
{
	(void)vm;
	if (what == 1) {
		char source[16] = "";
		FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");

		if (!file || !fgets(source, sizeof(source), file))
			cannot("read the host's clock source");
		fclose(file);
		return !strcmp(source, "tsc\n");
	}
	const int64_t off = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000000) - what;

	return off >= -CLOSE_S && off <= CLOSE_S ? 0 : (uint64_t)off;
}

static void *give_page(void *page)
{
	static uint64_t content[PAGE / 8] = { VALUE };
	struct uffd_msg asked;
	struct uffdio_copy copy = { .dst = (uintptr_t)page, .src = (uintptr_t)content, .len = PAGE };
	const struct timespec late = { .tv_nsec = LATE_NS };

	if (read(late_page, &asked, sizeof(asked)) != sizeof(asked))
		cannot("wait for the guest to ask for its page");
	nanosleep(&late, NULL);
	if (ioctl(late_page, UFFDIO_COPY, &copy))
		cannot("give the guest its page");
	return NULL;
}

static uint64_t withhold_page(struct vm *vm, uint32_t what)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { .start = (uintptr_t)vm->logged, .len = PAGE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;

	(void)what;
	late_page = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (late_page < 0 || ioctl(late_page, UFFDIO_API, &api) || madvise(vm->logged, PAGE, MADV_DONTNEED) ||
	    ioctl(late_page, UFFDIO_REGISTER, &range))
		cannot("withhold a page of the guest's");
	errno = pthread_create(&thread, NULL, give_page, vm->logged);
	if (errno)
		cannot("start a thread");
	pthread_detach(thread);
	return 0;
}

const struct row paravirt_rows[] = {
	{ "pv-eoi", pv_eoi, .operands = operands, .pages = 1 },
	{ "pv-ipi", pv_ipi, .operands = operands, .pages = 1 },
	{ "pv-tlb-flush", pv_tlb_flush, .operands = operands, .pages = 1, .serve = compete },
	{ "pv-async-pf", pv_async_page_fault, .operands = operands, .pages = 1, .serve = withhold_page },
	{ "missing-page", missing_page_is_no_fault, .operands = operands, .pages = 1, .serve = withhold_page,
	  .first = be_told_and_enable },
	{ "pv-clock-pairing", pv_clock_pairing, .operands = operands, .pages = 1, .serve = compare_clocks },
	{ "pv-wall-clock", pv_wall_clock, .operands = operands, .pages = 1, .serve = compare_clocks },
	{ "hypercall-patch", hypercall_is_patched, .operands = operands, .pages = 1 },
	{ "apic", apic_is_reached, .operands = operands, .pages = 1 },
	{ .name = NULL },
};

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest as a hypervisor: SVM in SVM. The control block, the processor's save area, the maps of intercepted ports
 * and registers and the nested page tables are the operands, all of which KVM reads or writes.
 */
#include "nested.h"
#include "looks.h"

#define AGAIN 2048u		/* runs of the nested guest, for each of which KVM copies two pages */
#define A_FEW_KIB 4096u		/* that come and go on a host */
#define COUNT_KIB 0xa000	/* what the host side is asked */
#define EXIT_MSR 0x7c
#define EXIT_NESTED_FAULT 0x400
#define MSR_EFER 0xc0000080
#define EFER_SVME (1ull << 12)

/* The nested guest: rdi is NESTED_DATA. */
asm(".text\n"
    ".globl nested_code, nested_loads, run_nested\n"
    "nested_code:\n"
    "	mov (%rdi), %rbx\n"
    "	lock addq $3, 8(%rdi)\n"
    "	vmmcall\n"
    "	out %al, $0x99\n"
    "	mov $0x10, %ecx\n"
    "	rdmsr\n"
    "	mov (%rdi), %rbx\n"		/* run_nested keeps none of its registers */
    FORCED
    "	mov %rbx, 16(%rdi)\n"
    "	push %rbx\n"
    "	pop %rdx\n"
    "	vmmcall\n"
    /* With nested paging: NESTED_OTHER lies behind the page, and the page after it is absent. */
    "	mov 0x1000(%rdi), %rbx\n"
    "	vmmcall\n"
    FORCED
    "	mov 0x1000(%rdi), %rbx\n"
    "	vmmcall\n"
    "	mov 0x2000(%rdi), %rbx\n"
    "	vmmcall\n"
    "nested_loads:\n"
    "	mov (%rdi), %rbx\n"
    "	vmmcall\n"
    "	mov 0x1000(%rdi), %rbx\n"
    "	vmmcall\n"
    /* The control block's address; rdi of the nested guest. Returns its rbx. */
    "run_nested:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	mov %rdi, %rax\n"
    "	mov %rsi, %rdi\n"
    "	clgi\n"
    "	vmload\n"
    "	vmrun\n"
    "	vmsave\n"
    "	stgi\n"
    "	mov %rbx, %rax\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	ret\n");

/* Two words of the block are 32 bits long and have nothing behind them yet when they are written. */
GUEST uint64_t *in_control(unsigned int at)
{
	return (uint64_t *)&operands[CONTROL][at];
}

static GUEST void set_segment(unsigned int at, uint64_t selector, uint64_t kind)
{
	*in_control(at) = selector | kind << 16 | 0xffffffffull << 32;
	*in_control(at + 8) = 0;
}

#define READ_REGISTER(name) \
	({ \
		uint64_t value_; \
		asm volatile("mov %%" name ", %0" : "=r"(value_)); \
		value_; \
	})

GUEST void prepare_nested(void)
{
	struct segment_descriptor_table gdt, idt;

	for (unsigned int page = CONTROL; page <= NESTED_STACK; page++) {
		for (int i = 0; i < 512; i++)
			table(page)[i] = 0;
	}
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SVME);
	write_msr(MSR_SAVE_AREA, (uint64_t)table(SAVE_AREA));
	*in_control(VM_INTERCEPT3) = INTERCEPT_IO | INTERCEPT_MSR;
	*in_control(VM_INTERCEPT4) = INTERCEPT_VMRUN | INTERCEPT_VMMCALL;
	*in_control(VM_IOPM) = (uint64_t)table(IO_MAP);
	*in_control(VM_MSRPM) = (uint64_t)table(MSR_MAP);
	*in_control(VM_ASID) = 1;
	operands[IO_MAP][0x99 / 8] = 1 << (0x99 % 8);
	operands[MSR_MAP][0x10 / 4] = 1 << (2 * (0x10 % 4));	/* reading it; two bits a register */
	asm volatile("sgdt %0\n\tsidt %1" : "=m"(gdt), "=m"(idt));
	set_segment(VM_CS, CODE64, 0xa9b);
	set_segment(VM_SS, DATA, 0xc93);
	set_segment(VM_DS, DATA, 0xc93);
	set_segment(VM_ES, DATA, 0xc93);
	*in_control(VM_GDTR) = (uint64_t)gdt.limit << 32;
	*in_control(VM_GDTR + 8) = gdt.base;
	*in_control(VM_IDTR) = (uint64_t)idt.limit << 32;
	*in_control(VM_IDTR + 8) = idt.base;
	*in_control(VM_EFER) = read_msr(MSR_EFER);
	*in_control(VM_CR0) = READ_REGISTER("cr0");
	*in_control(VM_CR3) = (uint64_t)root;	/* see flush_tlb() */
	*in_control(VM_CR4) = READ_REGISTER("cr4");
	*in_control(VM_DR6) = 0xffff0ff0;
	*in_control(VM_DR7) = 0x400;
	*in_control(VM_RFLAGS) = 2;
	*in_control(VM_RIP) = (uint64_t)nested_code;
	*in_control(VM_RSP) = (uint64_t)table(NESTED_STACK) + PAGE / 2;
	*in_control(VM_PAT) = 0x0007040600070406;
	table(NESTED_DATA)[0] = 0xda7a;
	table(NESTED_DATA)[1] = 4;
}

/* Lets it run on, behind an instruction of so many bytes. Returns its rbx. */
GUEST uint64_t run_on(unsigned int bytes)
{
	*in_control(VM_RIP) += bytes;
	return run_nested((uint64_t)table(CONTROL), (uint64_t)table(NESTED_DATA));
}

/* moved: how far from where the nested guest sees its stack it is. */
static GUEST void nested_runs(uint64_t moved)
{
	tell("the processor has SVM", 1, cpuid_word(0x80000001, 2) >> 2 & 1);
	tell("rbx, loaded by the nested guest", 0xda7a, run_on(0));
	tell("exit of the nested guest by vmmcall", EXIT_VMMCALL, *in_control(VM_EXIT_CODE));
	tell("what it added to", 7, table(NESTED_DATA)[1]);
	run_on(3);
	tell("exit by an intercepted port", EXIT_IO, *in_control(VM_EXIT_CODE));
	tell("which port", 0x99, *in_control(VM_EXIT_INFO1) >> 16 & 0xffff);
	run_on(2);
	tell("exit by an intercepted register", EXIT_MSR, *in_control(VM_EXIT_CODE));
	run_on(2);
	tell("exit after KVM carried out an instruction of the nested guest", EXIT_VMMCALL, *in_control(VM_EXIT_CODE));
	tell("what KVM stored for it", 0xda7a, table(NESTED_DATA)[2]);
	tell("its stack", 0xda7a, *(uint64_t *)(*in_control(VM_RSP) + moved - 8));
}

static GUEST void run_nested_guest(void)
{
	prepare_nested();
	nested_runs(0);
}

static GUEST void run_nested_guest_with_tables(void)
{
	const uint64_t data = (uint64_t)table(NESTED_DATA);
	const uint64_t base = data & ~(uint64_t)(BIG_BYTES - 1);

	prepare_nested();
	tell("the processor has nested paging", 1, cpuid_word(0x8000000a, 3) & 1);
	table(NESTED_ROOT)[0] = (uint64_t)table(NESTED_POINTERS) | TABLE;
	table(NESTED_POINTERS)[0] = (uint64_t)table(NESTED_DIRECTORY) | TABLE;
	for (uint64_t i = 0; i < RAM_BYTES >> 21; i++)
		table(NESTED_DIRECTORY)[i] = i << 21 | TABLE | LEAF;
	table(NESTED_DIRECTORY)[base >> 21] = (uint64_t)table(NESTED_ENTRIES) | TABLE;
	for (uint64_t i = 0; i < 512; i++)
		table(NESTED_ENTRIES)[i] = (base + i * PAGE) | TABLE;
	/* The nested guest finds the stack's page where the other is, and the other where nothing is. */
	table(NESTED_ENTRIES)[(data - base) / PAGE + 1] = (uint64_t)table(NESTED_STACK) | TABLE;
	table(NESTED_ENTRIES)[(data - base) / PAGE + 2] = 0;
	*in_control(VM_RSP) = (uint64_t)table(NESTED_OTHER) + PAGE - 64;
	table(NESTED_STACK)[0] = 0x07e4;
	*in_control(VM_NESTED) = 1;
	*in_control(VM_NESTED_CR3) = (uint64_t)table(NESTED_ROOT);
	nested_runs(PAGE);
	tell("rbx, loaded from another page by the nested tables", 0x07e4, run_on(3));
	tell("the same by KVM", 0x07e4, run_on(3));
	run_on(3);
	tell("exit by a page that is absent from the nested tables", EXIT_NESTED_FAULT, *in_control(VM_EXIT_CODE));
	tell("its address", data + 2 * PAGE, *in_control(VM_EXIT_INFO2));
	tell("accessed and dirty bits of the nested leaf that was stored to", ACCESSED | DIRTY,
	     table(NESTED_ENTRIES)[(data - base) / PAGE] & (ACCESSED | DIRTY));
}

/* Runs the nested guest up to its first exit, again and again. What KVM takes for that, the host has back. */
static GUEST void nested_guest_costs_no_memory(void)
{
	uint64_t run = 0, before, after;

	prepare_nested();
	run_on(0);	/* what KVM keeps for the next time it has then */
	before = service(COUNT_KIB);
	for (unsigned int i = 0; i < AGAIN; i++) {
		*in_control(VM_RIP) = (uint64_t)nested_code;
		run += run_on(0) == 0xda7a;
	}
	after = service(COUNT_KIB);
	tell("runs of the nested guest", AGAIN, run);
	tell("KiB that the host has less, above a few", 0, before > after + A_FEW_KIB ? before - after : 0);
}

/* What the host can give whoever asks for memory. */
static uint64_t available_kib(struct vm *vm, uint32_t what)
{
	(void)vm;
	(void)what;
	return memory_kib("MemAvailable");
}

const struct row nested_rows[] = {
	{ "nested", run_nested_guest, .operands = operands, .pages = NESTED_STACK + 1 },
	{ "nested-tables", run_nested_guest_with_tables, .operands = operands, .pages = NESTED_STACK + 1 },
	{ "nested-again", nested_guest_costs_no_memory, .operands = operands, .pages = NESTED_STACK + 1,
	  .serve = available_kib },
	{ .name = NULL },
};

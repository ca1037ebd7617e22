// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest's own ground: tables, faults that are told and survived, and how it asks for protection. */
#include "guest.h"

#define USER_DATA 0x18
#define USER_CODE 0x20

struct gate {
	uint16_t low, selector, kind, middle;
	uint32_t high, unused;
};

unsigned char operands[32][PAGE] __attribute__((aligned(PAGE)));
union shared_page shared __attribute__((aligned(PAGE)));
uint64_t root[512] __attribute__((aligned(PAGE)));
uint64_t fault_stack;
enum way way;
static uint64_t first_table[512] __attribute__((aligned(PAGE)));	/* the first 512 GiB */
static uint64_t first_gib[512] __attribute__((aligned(PAGE))), last_gib[512] __attribute__((aligned(PAGE)));
static struct gate gates[256] __attribute__((aligned(16)));
unsigned char stack[4 * PAGE] __attribute__((aligned(16)));
unsigned char user_stack[PAGE] __attribute__((aligned(16)));	/* by the assembly alone */

struct task_state task_state __attribute__((aligned(16)));
uint64_t segments[8] = {
	[CODE64 / 8] = 0x00af9b000000ffff,	[DATA / 8] = 0x00cf93000000ffff,
	[USER_DATA / 8] = 0x00cff3000000ffff,	[USER_CODE / 8] = 0x00affb000000ffff,
	[CODE32 / 8] = 0x00cf9b000000ffff,
};

/* One entry each for 256 vectors, 16 bytes apart: they leave vector and error code on the stack. */
asm(".text\n"
    ".balign 16\n"
    "vectors:\n"
    ".set vector, 0\n"
    ".rept 256\n"
    "	.balign 16\n"
    "	.if vector != 8 && vector != 17 && vector != 21 && (vector < 10 || vector > 14)\n"
    "		push $0\n"
    "	.endif\n"
    "	pushq $vector\n"
    "	jmp take_fault\n"
    "	.set vector, vector + 1\n"
    ".endr\n"
    /* Back to where attempt() was called, whatever ring it came from; without one, the end. */
    "take_fault:\n"
    "	push %rax\n"
    "	mov 8(%rsp), %rax\n"
    "	mov %rax, shared\n"
    "	mov 16(%rsp), %rax\n"
    "	mov %rax, shared + 8\n"
    "	mov 24(%rsp), %rax\n"
    "	mov %rax, shared + 16\n"
    "	mov 32(%rsp), %rax\n"
    "	mov %rax, shared + 24\n"
    "	mov %cr2, %rax\n"
    "	mov %rax, shared + 32\n"
    "	mov fault_stack, %rax\n"
    "	test %rax, %rax\n"
    "	jz 1f\n"
    "	movq $0, fault_stack\n"
    "	mov %rax, %rsp\n"
    "	ret\n"
    "1:	out %al, $0xe2\n"	/* PORT_STRAY */
    "	hlt\n"
    "	jmp 1b\n"
    ".globl attempt, attempt_user\n"
    "attempt:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	lea 1f(%rip), %rax\n"
    "	push %rax\n"
    "	mov %rsp, fault_stack\n"
    "	movq $-1, shared\n"	/* NO_FAULT */
    "	mov %rdi, %rax\n	mov %rsi, %rdi\n	mov %rdx, %rsi\n"
    "	call *%rax\n"
    "	movq $0, fault_stack\n"
    "	add $8, %rsp\n"
    "1:	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	ret\n"
    "attempt_user:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	lea 1b(%rip), %rax\n"
    "	push %rax\n"
    "	mov %rsp, fault_stack\n"
    "	movq $-1, shared\n"
    "	movabs $0x10000000000, %rcx\n"	/* ALIAS */
    "	lea user_stack + 2048(%rcx), %r8\n"
    "	lea user_end(%rcx), %rax\n"
    "	mov %rax, user_stack + 2048\n"
    "	lea (%rdi, %rcx), %rax\n"
    "	pushq $0x1b\n"		/* USER_DATA */
    "	push %r8\n"
    "	pushq $2\n"
    "	pushq $0x23\n"		/* USER_CODE */
    "	push %rax\n"
    "	mov %rsi, %rdi\n	mov %rdx, %rsi\n"
    "	iretq\n"
    "user_end: int $0x80\n");

extern const unsigned char vectors[];

GUEST void set_gate(int vector, const void *handler, int ring)
{
	const uint64_t address = (uint64_t)handler;

	gates[vector].low = (uint16_t)address;
	gates[vector].middle = (uint16_t)(address >> 16);
	gates[vector].high = (uint32_t)(address >> 32);
	gates[vector].selector = CODE64;
	gates[vector].kind = (uint16_t)(0x8e00 | ring << 13);
}

/* Everything one to one, as the VMM puts it there before the VM starts: 2 MiB pages of the first GiB and the APIC's. */
void make_tables(unsigned char *memory)
{
	const uint64_t task = (uint64_t)&task_state, limit = sizeof(task_state) - 1;
	uint64_t *const top = (uint64_t *)(memory + (uintptr_t)root);
	uint64_t *const next = (uint64_t *)(memory + (uintptr_t)first_table);
	uint64_t *const first = (uint64_t *)(memory + (uintptr_t)first_gib);
	uint64_t *const last = (uint64_t *)(memory + (uintptr_t)last_gib);
	uint64_t *const segment = (uint64_t *)(memory + (uintptr_t)segments);

	/* Ring 0's addresses must not be the user's, for SMEP and SMAP. The alias is: another way to the same. */
	top[0] = (uint64_t)first_table | (TABLE & ~USER);
	top[ALIAS >> 39] = (uint64_t)first_table | TABLE;
	next[0] = (uint64_t)first_gib | TABLE;
	next[3] = (uint64_t)last_gib | TABLE;
	for (uint64_t i = 0; i < 512; i++) {
		first[i] = i << 21 | TABLE | LEAF;
		last[i] = 3ull << 30 | i << 21 | TABLE | LEAF;
	}
	segment[TASK / 8] = limit | (task & 0xffffff) << 16 | 0x89ull << 40 | (task >> 24 & 0xff) << 56;
	segment[TASK / 8 + 1] = task >> 32;
}

/* The pages of an address, to be shared. */
GUEST void share(const void *from, uint64_t pages)
{
	const uint64_t result = pages ? hypercall(HC_SHARE, (uint64_t)from / PAGE, pages) : 0;

	if (result && !shared.report.enabled)
		shared.report.enabled = result;
}

GUEST void ask_for_protection(const void *operand, uint64_t pages, const void *more, uint64_t more_pages)
{
	if (way == PLAIN)
		return;
	const uint64_t result = hypercall(HC_ENABLE, 0, 0);	/* 0 too where it is protected already */

	if (!result)
		share(&shared, sizeof(shared) / PAGE);
	shared.report.enabled = result;
	if (way == SHARED) {
		share(operand, pages);
		share(more, more_pages);
	}
}

GUEST void prepare_faults(void)
{
	const struct segment_descriptor_table table_of_gates = { sizeof(gates) - 1, (uint64_t)gates };

	for (int vector = 0; vector < 256; vector++)
		set_gate(vector, vectors + 16 * vector, vector == 0x80 ? 3 : 0);
	task_state.rsp0 = (uint64_t)(stack + sizeof(stack) / 2);
	asm volatile("lidt %0" : : "m"(table_of_gates));
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rows of tiny_vm share: the guest's side, which is C and assembly of this very program.
 *
 * The program is copied into the VM's memory at the addresses that it is linked to, and mapped there one to one, so a
 * function marked GUEST runs in the VM as it stands, on the VM's own copy of all variables, which begin as they are
 * written here. It must not call the libc.
 */
#ifndef TINY_VM_GUEST_H
#define TINY_VM_GUEST_H

#include <linux/kvm.h>
#include <stddef.h>

#include "../lib/check.h"

#define PAGE 4096u
#define RAM_BYTES (64u << 20)		/* the VM's memory, from 0 */
#define BIG 0x2000000u			/* 2 MiB of it behind the program, which nothing else uses */
#define BIG_BYTES (2u << 20)
#define SLOT_LOGGED 0x5000000u		/* two memory slots beyond it: with a dirty log, and read-only */
#define SLOT_READONLY 0x6000000u
#define SLOT_PAGES 16u
#define APIC 0xfee00000u
#define TASK_PRIORITY (APIC + 0x80)

/* The guest's words to the VMM. */
#define PORT_READY 0xe0		/* what was to be shared is shared: look at my memory */
#define PORT_DONE 0xe1
#define PORT_STRAY 0xe2		/* a fault that no row expects; it is in the report */
#define PORT_SERVICE 0xe3	/* 32 bits: have the row's host side do something */
#define PORT_STRING 0xe4	/* bytes, by string instructions */

/* Series protected-memory: include/uapi/linux/kvm_para.h */
#define HC_ENABLE 13
#define HC_SHARE 14

/* arch/x86/include/asm/pgtable_types.h */
#define PRESENT 1ull
#define WRITABLE 2ull
#define USER 4ull
#define ACCESSED 0x20ull
#define DIRTY 0x40ull
#define LEAF 0x80ull
#define NO_EXECUTE (1ull << 63)
#define TABLE (PRESENT | WRITABLE | USER)

/* No libc, no stack protector, no SSE, and no loop made into a call of memset(). */
#define GUEST \
	__attribute__((no_stack_protector, target("general-regs-only"), \
		       optimize("no-tree-loop-distribute-patterns")))

enum way { PLAIN, PRIVATE, SHARED };

struct found {
	const char *name;
	uint64_t expected, got;
};

struct fault {
	uint64_t vector, error, rip, cs, cr2;
};

/* What guest and VMM both read and write; a protected guest shares it. */
struct report {
	struct fault last;	/* the assembly knows where it is, and the words */
	uint64_t enabled;	/* what the hypercalls said: 0, or which one failed, and how */
	uint64_t answer;	/* of the row's host side */
	uint32_t word[64];	/* what the rows in 16 and 32 bits found, one after the other */
	uint32_t found_count;
	uint32_t unused;
	struct found found[300];
};

_Static_assert(offsetof(struct report, word) == 56, "modes.c writes there");

struct segment_descriptor_table {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

extern unsigned char operands[32][PAGE];	/* the pages that a row is about: private, or shared */
extern union shared_page {
	struct report report;
	unsigned char bytes[4 * PAGE];
} shared;
extern uint64_t root[512];	/* the guest's page tables: entry 0 of the root is everything, one to one */
extern enum way way;

#define fault (shared.report.last)
#define NO_FAULT ~0ull
#define ALIAS (2ull << 39)	/* everything once more, for ring 3 */
/* Where rows map what they test: entry 1 of the root, 2 of the next table, 3, 4. */
#define WINDOW (1ull << 39 | 2ull << 30 | 3ull << 21 | 4ull << 12)

/* Calls f(a, b), and comes back from a fault in it; fault.vector tells. Returns what f did. */
uint64_t attempt(const void *f, uint64_t a, uint64_t b);

/* The same in ring 3; there it ends by `int $0x80` when nothing faults. */
void attempt_user(const void *f, uint64_t a, uint64_t b);

#define FORCED ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d\n\t"	/* ud2; "kvm": KVM's emulator carries out what follows */
/* Two functions that do the same, by the processor and by KVM; NAME_at is where the instruction begins. */
#define BOTH(name, instruction) \
	asm(".text\n" \
	    ".globl native_" #name ", native_" #name "_at, emulated_" #name ", emulated_" #name "_at\n" \
	    "native_" #name ": native_" #name "_at: " instruction "\n\tret\n" \
	    "emulated_" #name ": " FORCED "emulated_" #name "_at: " instruction "\n\tret\n"); \
	DECLARE_BOTH(name)
#define DECLARE_BOTH(name) \
	extern const unsigned char native_##name[], native_##name##_at[], emulated_##name[], emulated_##name##_at[]

static inline GUEST void tell(const char *name, uint64_t expected, uint64_t got)
{
	struct found *next = &shared.report.found[shared.report.found_count++];

	next->name = name;
	next->expected = expected;
	next->got = got;
}

static inline GUEST uint64_t hypercall(uint64_t number, uint64_t a0, uint64_t a1)
{
	uint64_t result;

	asm volatile("vmmcall" : "=a"(result) : "a"(number), "b"(a0), "c"(a1) : "memory");
	return result;
}

/* Has the row's host side do something; returns its answer. */
static inline GUEST uint64_t service(uint32_t what)
{
	asm volatile("outl %%eax, %1" : : "a"(what), "N"(PORT_SERVICE) : "memory");
	return *(volatile uint64_t *)&shared.report.answer;
}

static inline GUEST void write_msr(uint32_t number, uint64_t value)
{
	asm volatile("wrmsr" : : "c"(number), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}

static inline GUEST uint64_t read_msr(uint32_t number)
{
	uint32_t low, high;

	asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number) : "memory");
	return (uint64_t)high << 32 | low;
}

/* One register of CPUID: 0 to 3 for eax to edx. */
static inline GUEST uint32_t cpuid_word(uint32_t leaf, int which)
{
	uint32_t eax = leaf, ebx, ecx = 0, edx;

	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	return which == 0 ? eax : which == 1 ? ebx : which == 2 ? ecx : edx;
}

/* Whether the processor is AMD's, as the guest and the VMM see it: SVM is its own, and so is what KVM does by it. */
static inline GUEST bool has_svm(void)
{
	return cpuid_word(0x80000001, 2) >> 2 & 1;
}

#define VMCALL_END 0xc1	/* vmcall is 0f 01 c1, vmmcall 0f 01 d9 */

/*
 * Has a hypercall in copied code be that of the processor. KVM takes vmmcall for vmcall, but not in real mode
 * (arch/x86/kvm/emulate.c group7_rm3, Prot), and puts vmcall at RIP, without the segment's base
 * (arch/x86/kvm/x86.c emulator_fix_hypercall()).
 */
static inline GUEST void fit_hypercall(uint64_t vmmcall_at)
{
	if (!has_svm())
		((volatile unsigned char *)vmmcall_at)[2] = VMCALL_END;
}

/* Not by reading CR3: QEMU 10 does not intercept that in a nested guest, which gets the root of KVM's shadow then. */
static inline GUEST void flush_tlb(void)
{
	asm volatile("mov %0, %%cr3" : : "r"(root) : "memory");
}

static inline GUEST void flush_page(uint64_t address)
{
	asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static inline GUEST uint64_t *table(unsigned int number)
{
	return (uint64_t *)operands[number];
}

/* Has an interrupt or exception call a function that ends by iretq. */
GUEST void set_gate(int vector, const void *handler, int ring);

#define CODE64 0x08
#define DATA 0x10
#define TASK 0x28	/* of 64 bits: two entries */
#define CODE32 0x38

extern unsigned char stack[4 * PAGE];

struct task_state {
	uint32_t unused;
	uint64_t rsp0;
	unsigned char rest[92];
} __attribute__((packed));

extern struct task_state task_state;
extern uint64_t segments[8];
void make_tables(unsigned char *memory);
GUEST void share(const void *from, uint64_t pages);
GUEST void ask_for_protection(const void *operand, uint64_t pages, const void *more, uint64_t more_pages);
GUEST void prepare_faults(void);

#endif

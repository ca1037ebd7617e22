// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Rows outside of 64-bit mode: real mode, paging with PAE, the task switch, system management mode. They begin where
 * the VMM sets the processor to, and put what they find into report.word, one after the other.
 */
#include <fcntl.h>
#include <sys/ioctl.h>

#include "modes.h"

#define LOW_BYTES 0x40000u	/* memory from 0 on: interrupt vectors, then these */
#define SMM_SAVED 0xfe00u
#define HIGH_WINDOW 0xc0000000u

#define FORCED_WORDS ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d\n"
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#define PUT16(register) "	mov " register ", %fs:(%bp)\n	add $4, %bp\n"	/* fs is report.word */
#define PUT32(register) "	mov " register ", (%ebp)\n	add $4, %ebp\n"

/*
 * Real mode. cs 0x800, ds 0x2000, es 0x2100, ss 0x3000; ds begins with words 0x1000, 0x1001, .. The interrupt vectors
 * 0x60 and 0x61 are set to real_interrupt by who copies this.
 */
asm(".text\n"
    ".balign 16\n"
    "real_begin:\n"
    ".code16\n"
    "	xor %bp, %bp\n"
    "	xor %eax, %eax\n"
    "	mov 6, %ax\n"
    PUT16("%eax")				/* 0: load, by the processor */
    FORCED_WORDS
    "	mov 8, %ax\n"
    PUT16("%eax")				/* 1: load, by KVM */
    "	mov $0xabcd, %ax\n"
    FORCED_WORDS
    "	mov %ax, 0x200\n"
    "	xor %eax, %eax\n"
    "	mov 0x200, %ax\n"
    PUT16("%eax")				/* 2: what KVM stored */
    "	xor %si, %si\n"
    "	xor %di, %di\n"
    "	mov $64, %cx\n"
    FORCED_WORDS
    "	rep movsw\n"
    "	xor %eax, %eax\n"
    "	mov %es:126, %ax\n"
    PUT16("%eax")				/* 3: the last of 64 words that KVM copied */
    "	movzwl %cx, %eax\n"
    PUT16("%eax")				/* 4: what remained to be copied */
    "	xor %eax, %eax\n"
    "	int $0x60\n"
    PUT16("%eax")				/* 5: interrupt through a vector, by the processor */
    "	xor %eax, %eax\n"
    FORCED_WORDS
    "	int $0x61\n"
    PUT16("%eax")				/* 6: by KVM */
    "	mov $0x1234, %ax\n"
    FORCED_WORDS
    "	push %ax\n"
    "	xor %ebx, %ebx\n"
    "	pop %bx\n"
    PUT16("%ebx")				/* 7: pushed by KVM */
    "	push %ax\n"
    FORCED_WORDS
    "	pop %bx\n"
    PUT16("%ebx")				/* 8: popped by KVM */
    "	xor %eax, %eax\n"
    FORCED_WORDS
    "	call real_near\n"
    PUT16("%eax")				/* 9: called by KVM */
    "	xor %eax, %eax\n"
    FORCED_WORDS
    "	lcall $" TEXT(REAL_CODE) " / 16, $real_far - real_begin\n"
    PUT16("%eax")				/* 10: called in another segment by KVM */
    "	mov %sp, %ax\n"
    "	movzwl %ax, %eax\n"
    PUT16("%eax")				/* 11: the stack is where it was */
    "	xor %si, %si\n"
    "	mov $128, %cx\n"
    "	mov $0xe4, %dx\n"			/* PORT_STRING */
    "	rep outsb\n"
    "	mov $0x400, %di\n"
    "	mov $64, %cx\n"
    "	rep insb\n"
    "	xor %eax, %eax\n"
    "	mov %es:0x43e, %ax\n"
    PUT16("%eax")				/* 12: the last two bytes that came from a port */
    "	out %al, $0xe1\n"			/* PORT_DONE */
    "real_near:\n"
    "	mov $0x5a, %ax\n"
    "	ret\n"
    "real_far:\n"
    "	mov $0x5b, %ax\n"
    "	lret\n"
    "real_interrupt:\n"
    "	mov $0x77, %ax\n"
    "	iret\n"
    "real_end:\n"
    ".code64\n");

extern const unsigned char real_begin[], real_end[], real_interrupt[];

#define NOP 0x90

/* What KVM carries out anyway needs no prefix, which is none of the instructions that it knows then. */
static GUEST void leave_out_prefixes(volatile unsigned char *code, long bytes)
{
	static const unsigned char prefix[] = { 0x0f, 0x0b, 0x6b, 0x76, 0x6d };	/* FORCED */
	const long size = sizeof(prefix);
	long same = 0;

	for (long i = 0; i < bytes; i++) {
		same = code[i] == prefix[same] ? same + 1 : code[i] == prefix[0];
		if (same < size)
			continue;
		while (same)
			code[i + 1 - same--] = NOP;
	}
}

static GUEST void prepare_real(void)
{
	volatile unsigned char *const code = (unsigned char *)REAL_CODE;
	volatile uint16_t *const data = (uint16_t *)REAL_DATA;
	/* The compiler must not see that it is below the first page: there is no null pointer here. */
	volatile uint32_t *vectors_of_real_mode;

	for (long i = 0; i < real_end - real_begin; i++)
		code[i] = real_begin[i];
	if (service(0))
		leave_out_prefixes(code, real_end - real_begin);
	for (uint16_t i = 0; i < 256; i++)
		data[i] = (uint16_t)(0x1000 + i);
	asm("" : "=r"(vectors_of_real_mode) : "0"(0));
	for (int vector = 0x60; vector < 0x62; vector++)
		vectors_of_real_mode[vector] = (REAL_CODE / 16) << 16 | (uint32_t)(real_interrupt - real_begin);
}

/* The operands' pages of paging with PAE. */
enum { PAE_POINTERS, PAE_IDENTITY, PAE_DIRECTORY, PAE_ENTRIES, PAE_DATA, PAE_DIRECTORY2, PAE_ENTRIES2, PAE_DATA2 };

/*
 * QEMU's emulation of a processor marks pointers as accessed when it walks them, which no processor does, and KVM
 * refuses them as the bit is reserved. So it is cleared before KVM is to read them.
 */
#define NOT_ACCESSED "	andl $~0x20, operands\n	andl $~0x20, operands + 24\n"

/* 32-bit mode without paging; 32-bit code of flat segments. */
asm(".text\n"
    "pae_begin:\n"
    ".code32\n"
    "	mov $shared + 56, %ebp\n"		/* report.word */
    "	mov %cr4, %eax\n"
    "	or $0x20, %eax\n"			/* PAE */
    "	mov %eax, %cr4\n"
    "	mov $operands, %eax\n"
    "	mov %eax, %cr3\n"
    "	mov %cr0, %eax\n"
    "	or $0x80000000, %eax\n"			/* PG: KVM loads the four pointers */
    "	mov %eax, %cr0\n"
    "	jmp 1f\n"
    "1:	mov 0xc0000000, %eax\n"
    PUT32("%eax")				/* 0: load, by the processor */
    NOT_ACCESSED
    FORCED_WORDS
    "	mov 0xc0000000, %eax\n"
    PUT32("%eax")				/* 1: load, by KVM */
    "	andl $0xffffff9f, operands + 0x3000\n"	/* PAE_ENTRIES: neither accessed nor dirty */
    "	mov %cr3, %eax\n"
    "	mov %eax, %cr3\n"
    "	mov $0x600d, %eax\n"
    NOT_ACCESSED
    FORCED_WORDS
    "	mov %eax, 0xc0000004\n"
    "	mov operands + 0x3000, %eax\n"
    "	and $0x60, %eax\n"
    PUT32("%eax")				/* 2: accessed and dirty, by KVM */
    "	mov 0xc0000004, %eax\n"
    PUT32("%eax")				/* 3: what KVM stored */
    "	mov $operands + 0x5001, %eax\n"		/* PAE_DIRECTORY2, present */
    "	mov %eax, operands + 24\n"		/* the last pointer */
    "	mov %cr3, %eax\n"
    "	mov %eax, %cr3\n"
    "	mov 0xc0000000, %eax\n"
    PUT32("%eax")				/* 4: load by another pointer, by the processor */
    NOT_ACCESSED
    FORCED_WORDS
    "	mov 0xc0000000, %eax\n"
    PUT32("%eax")				/* 5: by KVM */
    "	mov %cr0, %eax\n"
    "	and $0x7fffffff, %eax\n"
    "	mov %eax, %cr0\n"
    NOT_ACCESSED
    "	orl $2, operands + 24\n"		/* a reserved bit */
    "	xor %ecx, %ecx\n"
    "	or $0x80000000, %eax\n"
    "pae_wrong:\n"
    "	mov %eax, %cr0\n"
    "pae_after:\n"
    "	mov %ecx, %eax\n"
    PUT32("%eax")				/* 6: the fault of a pointer with a reserved bit */
    "	mov %cr0, %eax\n"
    "	shr $31, %eax\n"
    PUT32("%eax")				/* 7: whether paging is on */
    "	andl $~2, operands + 24\n"
    "	mov %cr0, %eax\n"
    "	or $0x80000000, %eax\n"
    "	mov %eax, %cr0\n"
    "	mov 0xc0000000, %eax\n"
    PUT32("%eax")				/* 8: load after all was right again */
    "	out %al, $0xe1\n"
    "pae_fault:\n"				/* general protection: on behind the instruction, if it is that */
    "	cmpl $pae_wrong, 4(%esp)\n"
    "	jne vectors32 + 16 * 13\n"
    "	mov $13, %ecx\n"
    "	add $4, %esp\n"
    "	movl $pae_after, (%esp)\n"
    "	iret\n"
    ".code64\n");

extern const unsigned char pae_begin[], pae_fault[];

/* A fault that no row expects in 32-bit mode: its vector, and what else lies on the stack, with or without an error. */
asm(".text\n"
    ".code32\n"
    ".balign 16\n"
    "vectors32:\n"
    ".set vector, 0\n"
    ".rept 32\n"
    "	.balign 16\n"
    "	pushl $vector\n"
    "	jmp stray32\n"
    "	.set vector, vector + 1\n"
    ".endr\n"
    "stray32:\n"
    "	popl shared\n"				/* report.last */
    "	popl shared + 8\n"
    "	popl shared + 16\n"
    "	mov %cr2, %eax\n"
    "	mov %eax, shared + 32\n"
    "	out %al, $0xe2\n"			/* PORT_STRAY */
    ".code64\n");

extern const unsigned char vectors32[];

struct gate32 gates32[64] __attribute__((aligned(16)));

static GUEST void set_gate32(int vector, uint64_t address, uint16_t selector, uint16_t kind)
{
	gates32[vector].low = (uint16_t)address;
	gates32[vector].high = (uint16_t)(address >> 16);
	gates32[vector].selector = selector;
	gates32[vector].kind = kind;
}

static GUEST void prepare_faults32(void)
{
	for (int vector = 0; vector < 32; vector++)
		set_gate32(vector, (uint64_t)vectors32 + 16 * vector, CODE32, 0x8e00);
}

static GUEST void prepare_pae(void)
{
	static const int directories[] = { PAE_DIRECTORY, PAE_DIRECTORY2 };

	prepare_faults32();
	for (uint64_t i = 0; i < 512; i++)
		table(PAE_IDENTITY)[i] = i << 21 | PRESENT | WRITABLE | LEAF;
	table(PAE_POINTERS)[0] = (uint64_t)table(PAE_IDENTITY) | PRESENT;
	table(PAE_POINTERS)[3] = (uint64_t)table(PAE_DIRECTORY) | PRESENT;
	for (int i = 0; i < 2; i++) {
		const int at = directories[i];	/* directory, entries, data: one after the other */

		table(at)[0] = (uint64_t)table(at + 1) | PRESENT | WRITABLE;
		table(at + 1)[0] = (uint64_t)table(at + 2) | PRESENT | WRITABLE;
	}
	*(uint32_t *)table(PAE_DATA) = 0xaaaa0001;
	*(uint32_t *)table(PAE_DATA2) = 0xbbbb0002;
	set_gate32(13, (uint64_t)pae_fault, CODE32, 0x8e00);
}

/* Task state of 32 bits, by index of its words. Intel SDM 3A, 8.2.1. */
enum { TASK_LINK = 0, TASK_CR3 = 7, TASK_EIP = 8, TASK_FLAGS = 9, TASK_EAX = 10, TASK_EBX = 13, TASK_ESP = 14,
       TASK_ES = 18, TASK_CS = 19, TASK_SS = 20, TASK_DS = 21, TASK_FS = 22, TASK_GS = 23, TASK_MAP = 25 };

asm(".text\n"
    ".globl task_begin\n"
    "task_begin:\n"
    ".code32\n"
    "	mov $shared + 56, %ebp\n"
    "	mov $0x1111, %eax\n"
    "	mov $0x2222, %ebx\n"
    "	ljmp $0x48, $0\n"			/* SELECT_TWO */
    "task_back:\n"
    PUT32("%eax")				/* 6: task one's register, as it was */
    "	lcall $0x48, $0\n"
    PUT32("%eax")				/* 10: the same after a call and its return */
    "	mov operands + 0x4c, %ecx\n"
    "	shr $9, %ecx\n"
    "	and $1, %ecx\n"
    PUT32("%ecx")				/* 11: task two is not busy any more */
    "	int $0x30\n"				/* through a task gate */
    PUT32("%eax")				/* 14 */
    /* There and back, again and again; the VMM counts the exits meanwhile. */
    "	mov $50, %ecx\n"			/* TASK_SWITCHES / 2 */
    "	mov $1, %eax\n"
    "	outl %eax, $0xe3\n"			/* PORT_SERVICE */
    "1:	ljmp $0x48, $0\n"
    "	dec %ecx\n"
    "	jnz 1b\n"
    "	mov $2, %eax\n"
    "	outl %eax, $0xe3\n"
    "	out %al, $0xe1\n"
    "task_two:\n"
    PUT32("%eax")				/* 0: what its state holds */
    "	mov operands + 0x1000 + 40, %ecx\n"
    PUT32("%ecx")				/* 1: eax of task one, saved */
    "	mov operands + 0x1000 + 52, %ecx\n"
    PUT32("%ecx")				/* 2: its ebx */
    "	mov operands + 0x1000 + 32, %ecx\n"
    "	sub $task_back, %ecx\n"
    PUT32("%ecx")				/* 3: where it goes on */
    "	mov operands + 0x44, %ecx\n"
    "	shr $9, %ecx\n"
    "	and $1, %ecx\n"
    PUT32("%ecx")				/* 4: task one is not busy */
    "	mov operands + 0x4c, %ecx\n"
    "	shr $9, %ecx\n"
    "	and $1, %ecx\n"
    PUT32("%ecx")				/* 5: task two is */
    "	mov %ebp, operands + 0x1000 + 60\n"	/* task one goes on with the next word: its ebp */
    "	ljmp $0x40, $0\n"			/* SELECT_ONE */
    "task_called:\n"
    "	mov operands + 0x1000 + 60, %ebp\n"
    PUT32("%eax")				/* 7: as task two left it */
    "	movzwl operands + 0x2000, %ecx\n"
    PUT32("%ecx")				/* 8: the link to who called */
    "	pushf\n"
    "	pop %ecx\n"
    "	shr $14, %ecx\n"
    "	and $1, %ecx\n"
    PUT32("%ecx")				/* 9: nested task */
    "	mov %ebp, operands + 0x1000 + 60\n"
    "	iret\n"
    /* The gate's call goes on here. */
    "	mov operands + 0x1000 + 60, %ebp\n"
    "	mov $0x4444, %eax\n"
    PUT32("%eax")				/* 12 */
    "	movzwl operands + 0x2000, %ecx\n"
    PUT32("%ecx")				/* 13: the link */
    "	mov %ebp, operands + 0x1000 + 60\n"
    "	iret\n"
    "2:	ljmp $0x40, $0\n"
    "	jmp 2b\n"
    ".code64\n");

static GUEST uint64_t descriptor_of_task(unsigned int page, bool busy)
{
	const uint64_t base = (uint64_t)table(page);

	return 103 | (base & 0xffffff) << 16 | (busy ? 0x8bull : 0x89ull) << 40 | (base >> 24 & 0xff) << 56;
}

static GUEST void prepare_task(void)
{
	uint32_t *const two = (uint32_t *)table(TASK_TWO);

	prepare_faults32();
	for (int i = 0; i < 8; i++)
		table(TASK_DESCRIPTORS)[i] = segments[i];
	table(TASK_DESCRIPTORS)[SELECT_ONE / 8] = descriptor_of_task(TASK_ONE, true);
	table(TASK_DESCRIPTORS)[SELECT_TWO / 8] = descriptor_of_task(TASK_TWO, false);
	two[TASK_EIP] = (uint32_t)(uint64_t)task_two;
	two[TASK_FLAGS] = 2;
	two[TASK_EAX] = 0x3333;
	two[15] = (uint32_t)(uint64_t)shared.report.word;	/* ebp */
	two[TASK_ESP] = (uint32_t)(uint64_t)table(TASK_STACKS) + PAGE / 2;
	two[TASK_CS] = CODE32;
	two[TASK_ES] = two[TASK_SS] = two[TASK_DS] = two[TASK_FS] = two[TASK_GS] = DATA;
	two[TASK_MAP] = 104 << 16;
	set_gate32(0x30, 0, SELECT_TWO, 0x8500);
}

/* System management mode: 16-bit code at its base; it counts, and changes what the processor will go on with. */
asm(".text\n"
    "smm_begin:\n"
    ".code16\n"
    "	incl %cs:0x8400\n"
    "	mov %cs:0xfff8, %eax\n"			/* saved rax: struct kvm_smram_state_64 */
    "	mov %eax, %cs:0x8404\n"
    "	mov %cs:0xff00, %eax\n"			/* smbase */
    "	mov %eax, %cs:0x8408\n"
    "	movl $0x5317, %cs:0xffe0\n"		/* rbx */
    "	mov $0xa000, %ax\n"			/* memory here, though in the place of a graphics card */
    "	mov %ax, %ds\n"
    "	movl $0xca4d, 0\n"
    "	mov 0, %eax\n"
    "	mov %eax, %cs:0x840c\n"
    "	rsm\n"
    "smm_end:\n"
    ".code64\n");

extern const unsigned char smm_begin[], smm_end[];

/* Has the VMM raise the interrupt, as QEMU does when a guest writes to its chipset. */
static GUEST uint64_t into_smm(uint64_t rax, uint64_t *rbx)
{
	uint64_t after = rax;

	asm volatile("outl %%eax, %2\n\tnop" : "+a"(after), "+b"(*rbx) : "N"(PORT_SERVICE) : "memory");
	return after;
}

static GUEST void run_smm(void)
{
	volatile unsigned char *const code = (unsigned char *)(uint64_t)(SMM_BASE + SMM_ENTRY);
	volatile uint32_t *const left = (uint32_t *)(uint64_t)(SMM_BASE + SMM_ENTRY + 0x400);
	uint64_t rbx = 0x1b;

	for (long i = 0; i < smm_end - smm_begin; i++)
		code[i] = smm_begin[i];
	for (int i = 0; i < 4; i++)
		left[i] = 0;
	tell("rax after system management mode", 0xaced, into_smm(0xaced, &rbx));
	tell("rbx, which the handler changed in the saved state", 0x5317, rbx);
	tell("times that the handler ran", 1, left[0]);
	tell("rax in the saved state", 0xaced, left[1]);
	tell("the base in the saved state", SMM_BASE, left[2]);
	tell("loaded where a graphics card would be, and stored by the handler before", 0xca4d, left[3]);
	rbx = 0;
	into_smm(1, &rbx);
	tell("times that the handler ran, after another", 2, left[0]);
}

static const struct word real_words[] = {
	{ "real mode: loaded by the processor", 0x1003 },
	{ "real mode: loaded by KVM", 0x1004 },
	{ "real mode: stored by KVM", 0xabcd },
	{ "real mode: last of 64 words copied by KVM", 0x103f },
	{ "real mode: words left to copy", 0 },
	{ "real mode: interrupt by the processor", 0x77 },
	{ "real mode: interrupt by KVM", 0x77 },
	{ "real mode: pushed by KVM", 0x1234 },
	{ "real mode: popped by KVM", 0x1234 },
	{ "real mode: called by KVM", 0x5a },
	{ "real mode: called in another segment by KVM", 0x5b },
	{ "real mode: the stack's pointer afterwards", REAL_STACK - 0x28000 },
	{ "real mode: last bytes from a port", 0x7f7e },
	{ NULL, 0 },
};

static const struct word pae_words[] = {
	{ "PAE: loaded by the processor", 0xaaaa0001 },
	{ "PAE: loaded by KVM", 0xaaaa0001 },
	{ "PAE: accessed and dirty bits by KVM", ACCESSED | DIRTY },
	{ "PAE: stored by KVM", 0x600d },
	{ "PAE: by another pointer, loaded by the processor", 0xbbbb0002 },
	{ "PAE: by another pointer, loaded by KVM", 0xbbbb0002 },
	{ "PAE: fault of a pointer with a reserved bit", 13 },
	{ "PAE: paging after that fault", 0 },
	{ "PAE: loaded after the pointer was put right", 0xbbbb0002 },
	{ NULL, 0 },
};

static const struct word task_words[] = {
	{ "task switch: eax of the new task", 0x3333 },
	{ "task switch: eax of the old, saved", 0x1111 },
	{ "task switch: ebx of the old, saved", 0x2222 },
	{ "task switch: where the old goes on, from where it should", 0 },
	{ "task switch: the old is busy", 0 },
	{ "task switch: the new is busy", 1 },
	{ "task switch: eax, back in the old task", 0x1111 },
	{ "task call: eax of the task that was called", 0x3333 },
	{ "task call: its link", SELECT_ONE },
	{ "task call: nested", 1 },
	{ "task call: eax after the return", 0x1111 },
	{ "task call: the one that returned is busy", 0 },
	{ "task gate: reached", 0x4444 },
	{ "task gate: its link", SELECT_ONE },
	{ "task gate: eax after the return", 0x1111 },
	{ NULL, 0 },
};

uint64_t raise_smi(struct vm *vm, uint32_t what)
{
	(void)what;
	if (ioctl(vm->cpu, KVM_SMI))
		cannot("raise an interrupt of system management");
	return 0;
}

/* How often the processor has come back from the guest: KVM's binary statistics (Documentation/virt/kvm/api.rst 4.132). */
static uint64_t count_exits(const struct vm *vm)
{
	const int file = ioctl(vm->cpu, KVM_GET_STATS_FD, 0);
	struct kvm_stats_header header;
	unsigned char room[sizeof(struct kvm_stats_desc) + 256];
	struct kvm_stats_desc *const description = (struct kvm_stats_desc *)room;
	uint64_t value;

	if (file < 0 || pread(file, &header, sizeof(header), 0) != sizeof(header) || header.name_size > 256)
		cannot("read the processor's statistics");
	const size_t size = sizeof(*description) + header.name_size;

	for (uint32_t i = 0; i < header.num_desc; i++) {
		if (pread(file, room, size, header.desc_offset + (off_t)(i * size)) != (ssize_t)size)
			break;
		if (strcmp(description->name, "exits"))
			continue;
		if (pread(file, &value, sizeof(value), header.data_offset + (off_t)description->offset) != sizeof(value))
			break;
		close(file);
		return value;
	}
	errno = ENOENT;
	cannot("find the number of exits among the processor's statistics");
	return 0;
}

uint64_t count_task_switches(struct vm *vm, uint32_t what)
{
	vm->exits = count_exits(vm) - (what == 1 ? 0 : vm->exits);
	return 0;
}

/* Intel's processor runs no real mode, or none whose segments are not real mode's, unless it is told to. */
bool kvm_runs_real_mode(void)
{
	const int file = open("/sys/module/kvm_intel/parameters/unrestricted_guest", O_RDONLY | O_CLOEXEC);
	char setting = 'Y';

	if (file < 0)
		return false;
	if (read(file, &setting, 1) != 1)
		cannot("read what KVM lets the processor run");
	close(file);
	return setting == 'N';
}

static uint64_t tell_who_runs_real_mode(struct vm *vm, uint32_t what)
{
	(void)vm;
	(void)what;
	return kvm_runs_real_mode();
}

const struct row modes_rows[] = {
	{ "pae", prepare_pae, .operands = operands, .pages = PAE_DATA2 + 1, .mode = MODE32, .begin = pae_begin,
	  .words = pae_words },
	{ "real-mode", prepare_real, .operands = NULL, .pages = LOW_BYTES / PAGE, .mode = MODE16, .begin = real_begin,
	  .words = real_words, .serve = tell_who_runs_real_mode },
	{ "task-switch", prepare_task, .operands = operands, .pages = TASK_STACKS + 1, .mode = MODE32,
	  .begin = task_begin, .words = task_words, .serve = count_task_switches },
	{ "smm", run_smm, .operands = (void *)(uintptr_t)SMM_BASE, .pages = 16, .serve = raise_smi },
	{ .name = NULL },
};

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The instructions of check_emulation: what KVM's emulator knows (arch/x86/kvm/emulate.c), by family and size of operand.
 *
 * The operand in memory is (%rdi), for pushes and pops the top of the stack; a second one is (%rsi). All other registers
 * are random but as the options say. A branch leads to a breakpoint, with which the code's pages are filled.
 *
 * Flags that the architecture leaves undefined after an instruction (Intel SDM vol. 2; AMD APM vol. 3) are not compared.
 */
#ifndef EMULATED_INSTRUCTIONS_H
#define EMULATED_INSTRUCTIONS_H

#include <stdint.h>

#define INSN_BASE 0x10000000	/* where the memory lies: four gigabytes are in reach of all code */
#define IN_CODE "0x10010800"	/* in the code, far from the instruction */
#define IN_MEMORY "0x10001200"	/* where the operand is when it is aligned */

/* What an instruction needs. These go through the assembler: numbers and operators alone. */
#define PLAIN 0
#define REPEATED 1	/* a string instruction with a prefix; its direction changes */
#define LONG 2	/* more rounds than KVM emulates at once */
#define PUSHES 4	/* the operand is what is pushed */
#define POPS 8
#define FRAME 16	/* the operand is where rbp leads */
#define TABLE 32	/* the operand is at rbx + al */
#define BIT_STRING 64	/* rdx: a number of bits, counted from the operand */
#define COMPARES 128	/* with rax, which is equal in half of the cases */
#define PAIR 256	/* with edx:eax */
#define ALIKE 512	/* some of the first elements are equal */
#define SOURCE 1024	/* ... with those at rsi, not with rax */
#define DIVIDES 2048
#define SIGNED 4096
#define COUNTED 8192	/* rcx is small */
#define TO_REGISTER 0x4000	/* rax is the address of code */
#define TO_SECOND 0x8000	/* what is at rsi is */
#define TO_STACK 0x10000	/* what is on the stack is */
#define FLAGS_STACK 0x20000	/* flags are on the stack */
#define SELECTOR 0x40000	/* the operand is a segment selector */
#define BEHIND 0x80000	/* ... which comes last */
#define FAR_32 0x100000	/* an address in 32-bit code */
#define FAR_64 0x200000	/* in 64-bit code */
#define FX_IMAGE 0x1000000	/* an image for fxrstor */
#define COMPAT 0x2000000	/* this is 32-bit code */
#define FIXED 0x4000000	/* has no operand that could lie elsewhere */
#define NOT_EMULATED 0x8000000	/* KVM has it undefined */

#define MODIFIES 0x10000000	/* reads the operand and writes it */
#define TORN 0x20000000	/* only where the second page of two faults */

#define CF 0x1
#define PF 0x4
#define AF 0x10
#define ZF 0x40
#define SF 0x80
#define OF 0x800

struct insn {
	const unsigned char *begin, *end;
	const char *text, *family;
	unsigned int bytes, options, undefined, unused;
};

extern const struct insn __start_insns[], __stop_insns[];

#define STRING_OF(x) #x
#define VALUE_OF(x) STRING_OF(x)
#define INSN_IN(mode, family, bytes, options, undefined, text)				\
	asm(".pushsection .rodata\n" mode						\
	    "771: " text "\n"								\
	    "772: .code64\n"								\
	    "773: .asciz \"" text "\"\n"						\
	    "774: .asciz \"" family "\"\n"						\
	    ".popsection\n"								\
	    ".pushsection insns, \"aw\"\n"						\
	    ".quad 771b, 772b, 773b, 774b\n"						\
	    ".long " VALUE_OF(bytes) ", " VALUE_OF((options)) ", " VALUE_OF((undefined)) ", 0\n" \
	    ".popsection\n")
#define INSN(family, bytes, options, undefined, text) INSN_IN("", family, bytes, options, undefined, text)
#define INSN_32(family, bytes, options, undefined, text)					\
	INSN_IN(".code32\n", family, bytes, options | COMPAT, undefined, text)

/* One of each size; the operand between before and after is rdx or a part of it. */
#define WITH_REGISTER(family, options, undefined, op, before, after)				\
	INSN(family, 1, options, undefined, op "b " before "%dl" after);			\
	INSN(family, 2, options, undefined, op "w " before "%dx" after);			\
	INSN(family, 4, options, undefined, op "l " before "%edx" after);			\
	INSN(family, 8, options, undefined, op "q " before "%rdx" after)
#define BY_WORDS(family, options, undefined, op, before, after)					\
	INSN(family, 2, options, undefined, op "w " before "%dx" after);			\
	INSN(family, 4, options, undefined, op "l " before "%edx" after);			\
	INSN(family, 8, options, undefined, op "q " before "%rdx" after)
#define TO_MEMORY(family, options, undefined, op) WITH_REGISTER(family, options, undefined, op, "", ", (%rdi)")
#define FROM_MEMORY(family, options, undefined, op) WITH_REGISTER(family, options, undefined, op, "(%rdi), ", "")
#define ON_MEMORY(family, options, undefined, op, before)					\
	INSN(family, 1, options, undefined, op "b " before "(%rdi)");				\
	INSN(family, 2, options, undefined, op "w " before "(%rdi)");				\
	INSN(family, 4, options, undefined, op "l " before "(%rdi)");				\
	INSN(family, 8, options, undefined, op "q " before "(%rdi)")
#define WORDS_OF_MEMORY(family, options, undefined, op, before)					\
	INSN(family, 2, options, undefined, op "w " before "(%rdi)");				\
	INSN(family, 4, options, undefined, op "l " before "(%rdi)");				\
	INSN(family, 8, options, undefined, op "q " before "(%rdi)")
#define STRINGS(options, op, name)								\
	INSN("string", 1, options, 0, op name "b");						\
	INSN("string", 2, options, 0, op name "w");						\
	INSN("string", 4, options, 0, op name "l");						\
	INSN("string", 8, options, 0, op name "q")

/* --- mov and its kin ---------------------------------------------------- */

TO_MEMORY("mov", PLAIN, 0, "mov");
FROM_MEMORY("mov", PLAIN, 0, "mov");
ON_MEMORY("mov", PLAIN, 0, "mov", "$0x5a, ");
INSN("mov", 4, PLAIN, 0, "movl $0x12345678, (%rdi)");
INSN("mov", 8, PLAIN, 0, "movq $-0x12345678, (%rdi)");
INSN("mov", 1, FIXED, 0, "movabsb %al, " IN_MEMORY);
INSN("mov", 2, FIXED, 0, "movabsw " IN_MEMORY ", %ax");
INSN("mov", 4, FIXED, 0, "movabsl %eax, " IN_MEMORY);
INSN("mov", 8, FIXED, 0, "movabsq " IN_MEMORY ", %rax");
INSN("mov", 8, FIXED, 0, "movq 0x100(%rip), %rdx");
INSN("mov", 1, PLAIN, 0, "movb %ah, (%rdi)");
INSN("mov", 1, PLAIN, 0, "movb (%rdi), %bh");
INSN("mov", 1, PLAIN, 0, "movb %sil, (%rdi)");
INSN("mov", 8, PLAIN, 0, "movq %r9, (%rdi)");
INSN("mov", 8, PLAIN, 0, "movq (%rdi), %r12");
INSN("mov", 4, PLAIN, 0, "movl (%edi), %r8d");
INSN("mov", 1, TABLE, 0, "xlatb");
INSN("mov", 1, PLAIN, 0, "movzbw (%rdi), %dx");
INSN("mov", 1, PLAIN, 0, "movzbl (%rdi), %edx");
INSN("mov", 1, PLAIN, 0, "movzbq (%rdi), %rdx");
INSN("mov", 1, PLAIN, 0, "movsbw (%rdi), %dx");
INSN("mov", 1, PLAIN, 0, "movsbl (%rdi), %edx");
INSN("mov", 1, PLAIN, 0, "movsbq (%rdi), %rdx");
INSN("mov", 2, PLAIN, 0, "movzwl (%rdi), %edx");
INSN("mov", 2, PLAIN, 0, "movzwq (%rdi), %rdx");
INSN("mov", 2, PLAIN, 0, "movswl (%rdi), %edx");
INSN("mov", 2, PLAIN, 0, "movswq (%rdi), %rdx");
INSN("mov", 4, PLAIN, 0, "movslq (%rdi), %rdx");
INSN("mov", 4, PLAIN, 0, "movntil %edx, (%rdi)");
INSN("mov", 8, PLAIN, 0, "movntiq %rdx, (%rdi)");
BY_WORDS("mov", PLAIN, 0, "movbe", "", ", (%rdi)");
BY_WORDS("mov", PLAIN, 0, "movbe", "(%rdi), ", "");
BY_WORDS("mov", PLAIN, 0, "cmovc", "(%rdi), ", "");
BY_WORDS("mov", PLAIN, 0, "cmovle", "(%rdi), ", "");
INSN("mov", 1, PLAIN, 0, "setbe (%rdi)");
INSN("mov", 1, PLAIN, 0, "setns (%rdi)");

/* --- strings ------------------------------------------------------------ */

STRINGS(PLAIN, "", "movs");
STRINGS(REPEATED, "rep ", "movs");
STRINGS(REPEATED | LONG, "rep ", "movs");
STRINGS(PLAIN, "", "stos");
STRINGS(REPEATED, "rep ", "stos");
STRINGS(PLAIN, "", "lods");
STRINGS(REPEATED, "rep ", "lods");
STRINGS(PLAIN, "", "scas");
STRINGS(REPEATED | ALIKE, "repe ", "scas");
STRINGS(REPEATED, "repne ", "scas");
STRINGS(PLAIN, "", "cmps");
STRINGS(REPEATED | ALIKE | SOURCE, "repe ", "cmps");
STRINGS(REPEATED, "repne ", "cmps");

/* --- the stack ---------------------------------------------------------- */

INSN("stack", 8, PUSHES, 0, "pushq %rdx");
INSN("stack", 2, PUSHES, 0, "pushw %dx");
INSN("stack", 8, PUSHES, 0, "pushq %rsp");
INSN("stack", 8, PUSHES, 0, "pushq %r10");
INSN("stack", 8, PUSHES, 0, "pushq $-5");
INSN("stack", 8, PUSHES, 0, "pushq $0x12345678");
INSN("stack", 2, PUSHES, 0, "pushw $0x1234");
INSN("stack", 8, PUSHES, 0, "pushq (%rsi)");
INSN("stack", 2, PUSHES, 0, "pushw (%rsi)");
INSN("stack", 8, PUSHES, 0, "pushq %fs");
INSN("stack", 2, PUSHES, 0, "pushw %gs");
INSN("stack", 8, PUSHES, 0, "pushfq");
INSN("stack", 2, PUSHES, 0, "pushfw");
INSN("stack", 8, POPS, 0, "popq %rdx");
INSN("stack", 2, POPS, 0, "popw %dx");
INSN("stack", 8, POPS, 0, "popq %rsp");
INSN("stack", 8, POPS, 0, "popq %r10");
INSN("stack", 8, POPS, 0, "popq (%rsi)");
INSN("stack", 2, POPS, 0, "popw (%rsi)");
INSN("stack", 8, POPS | FLAGS_STACK, 0, "popfq");
INSN("stack", 2, POPS | FLAGS_STACK, 0, "popfw");
INSN("stack", 8, PUSHES, 0, "enterq $0x20, $0");
INSN("stack", 8, FRAME, 0, "leaveq");
INSN("stack", 2, FRAME, 0, "leavew");

/* --- branches ----------------------------------------------------------- */

INSN("branch", 8, PUSHES, 0, "call . + 0x40");
INSN("branch", 8, PUSHES | TO_REGISTER, 0, "call *%rax");
INSN("branch", 8, PUSHES | TO_SECOND, 0, "call *(%rsi)");
INSN("branch", 8, POPS | TO_STACK, 0, "ret");
INSN("branch", 8, POPS | TO_STACK, 0, "ret $0x20");
INSN("branch", 8, FIXED | TO_REGISTER, 0, "jmp *%rax");
INSN("branch", 8, FIXED | TO_SECOND, 0, "jmp *(%rsi)");
INSN("branch", 8, FIXED, 0, "jmp . + 0x40");
INSN("branch", 8, FIXED, 0, "jmp . + 0x140");
INSN("branch", 8, FIXED, 0, "jc . + 0x20");
INSN("branch", 8, FIXED, 0, "jle . + 0x140");
INSN("branch", 8, FIXED | COUNTED, 0, "jrcxz . + 0x20");
INSN("branch", 8, FIXED | COUNTED, 0, "loop . + 0x20");
INSN("branch", 8, FIXED | COUNTED, 0, "loope . + 0x20");
INSN("branch", 8, FIXED | COUNTED, 0, "loopne . + 0x20");

/* --- exchanges ---------------------------------------------------------- */

TO_MEMORY("cmpxchg", COMPARES | MODIFIES, 0, "cmpxchg");
TO_MEMORY("cmpxchg", COMPARES | MODIFIES, 0, "lock cmpxchg");
INSN("cmpxchg8b", 8, COMPARES | PAIR | MODIFIES, 0, "cmpxchg8b (%rdi)");
INSN("cmpxchg8b", 8, COMPARES | PAIR | MODIFIES, 0, "lock cmpxchg8b (%rdi)");
TO_MEMORY("xchg", MODIFIES, 0, "xchg");
TO_MEMORY("xchg", MODIFIES, 0, "lock xchg");
TO_MEMORY("xchg", MODIFIES, 0, "xadd");
TO_MEMORY("xchg", MODIFIES, 0, "lock xadd");

/* --- locked ------------------------------------------------------------- */

#define LOGIC AF	/* undefined after and, or, xor and test */
TO_MEMORY("lock", MODIFIES, 0, "lock add");
TO_MEMORY("lock", MODIFIES, LOGIC, "lock or");
TO_MEMORY("lock", MODIFIES, 0, "lock adc");
TO_MEMORY("lock", MODIFIES, 0, "lock sbb");
TO_MEMORY("lock", MODIFIES, LOGIC, "lock and");
TO_MEMORY("lock", MODIFIES, 0, "lock sub");
TO_MEMORY("lock", MODIFIES, LOGIC, "lock xor");
ON_MEMORY("lock", MODIFIES, 0, "lock add", "$0x5a, ");
ON_MEMORY("lock", MODIFIES, LOGIC, "lock or", "$-0x5a, ");
ON_MEMORY("lock", MODIFIES, 0, "lock inc", "");
ON_MEMORY("lock", MODIFIES, 0, "lock dec", "");
ON_MEMORY("lock", MODIFIES, 0, "lock neg", "");
ON_MEMORY("lock", MODIFIES, 0, "lock not", "");

#define BITS (OF | SF | AF | PF)	/* undefined after bt and its kin */
BY_WORDS("bits", BIT_STRING, BITS, "bt", "", ", (%rdi)");
BY_WORDS("bits", BIT_STRING | MODIFIES, BITS, "bts", "", ", (%rdi)");
BY_WORDS("bits", BIT_STRING | MODIFIES, BITS, "btr", "", ", (%rdi)");
BY_WORDS("bits", BIT_STRING | MODIFIES, BITS, "btc", "", ", (%rdi)");
BY_WORDS("bits", BIT_STRING | MODIFIES, BITS, "lock bts", "", ", (%rdi)");
BY_WORDS("bits", BIT_STRING | MODIFIES, BITS, "lock btr", "", ", (%rdi)");
BY_WORDS("bits", BIT_STRING | MODIFIES, BITS, "lock btc", "", ", (%rdi)");
WORDS_OF_MEMORY("bits", PLAIN, BITS, "bt", "$11, ");
WORDS_OF_MEMORY("bits", MODIFIES, BITS, "lock bts", "$11, ");
WORDS_OF_MEMORY("bits", MODIFIES, BITS, "lock btr", "$3, ");
WORDS_OF_MEMORY("bits", MODIFIES, BITS, "lock btc", "$43, ");
#define SCAN (CF | OF | SF | AF | PF)	/* undefined after bsf and bsr */
BY_WORDS("bits", PLAIN, SCAN, "bsf", "(%rdi), ", "");
BY_WORDS("bits", PLAIN, SCAN, "bsr", "(%rdi), ", "");

/* --- arithmetic --------------------------------------------------------- */

TO_MEMORY("arithmetic", MODIFIES, 0, "add");
TO_MEMORY("arithmetic", MODIFIES, LOGIC, "or");
TO_MEMORY("arithmetic", MODIFIES, 0, "adc");
TO_MEMORY("arithmetic", MODIFIES, 0, "sbb");
TO_MEMORY("arithmetic", MODIFIES, LOGIC, "and");
TO_MEMORY("arithmetic", MODIFIES, 0, "sub");
TO_MEMORY("arithmetic", MODIFIES, LOGIC, "xor");
TO_MEMORY("arithmetic", PLAIN, 0, "cmp");
TO_MEMORY("arithmetic", PLAIN, LOGIC, "test");
FROM_MEMORY("arithmetic", PLAIN, 0, "add");
FROM_MEMORY("arithmetic", PLAIN, 0, "adc");
FROM_MEMORY("arithmetic", PLAIN, 0, "sbb");
FROM_MEMORY("arithmetic", PLAIN, LOGIC, "xor");
FROM_MEMORY("arithmetic", PLAIN, 0, "cmp");
ON_MEMORY("arithmetic", MODIFIES, 0, "adc", "$0x5a, ");
ON_MEMORY("arithmetic", PLAIN, 0, "cmp", "$-0x5a, ");
ON_MEMORY("arithmetic", PLAIN, LOGIC, "test", "$0x5a, ");
ON_MEMORY("arithmetic", MODIFIES, 0, "inc", "");
ON_MEMORY("arithmetic", MODIFIES, 0, "dec", "");
ON_MEMORY("arithmetic", MODIFIES, 0, "neg", "");
ON_MEMORY("arithmetic", MODIFIES, 0, "not", "");

/* Shifts leave AF undefined, and OF unless they shift by 1. Rotations leave OF undefined unless they do. */
#define SHIFTS(op, undefined)									\
	ON_MEMORY("shift", MODIFIES, (undefined) & ~OF, op, "");					\
	ON_MEMORY("shift", MODIFIES, undefined, op, "$3, ");					\
	ON_MEMORY("shift", MODIFIES, undefined, op, "%cl, ")
SHIFTS("rol", OF);
SHIFTS("ror", OF);
SHIFTS("rcl", OF);
SHIFTS("rcr", OF);
/* By as many bits as there are, or more, CF is undefined too: the count in cl is any. */
SHIFTS("shl", AF | OF | CF);
SHIFTS("shr", AF | OF | CF);
SHIFTS("sar", AF | OF);
BY_WORDS("shift", MODIFIES, AF | OF, "shld", "$5, ", ", (%rdi)");
BY_WORDS("shift", MODIFIES, AF | OF, "shrd", "$5, ", ", (%rdi)");
/* By more bits than 16 a word is undefined altogether: here the count is at most 2. */
BY_WORDS("shift", COUNTED | MODIFIES, AF | OF, "shld", "%cl, ", ", (%rdi)");
BY_WORDS("shift", COUNTED | MODIFIES, AF | OF, "shrd", "%cl, ", ", (%rdi)");

#define PRODUCT (SF | ZF | AF | PF)	/* undefined after mul and imul */
#define QUOTIENT (CF | OF | SF | ZF | AF | PF)	/* after div and idiv */
ON_MEMORY("multiply", PLAIN, PRODUCT, "mul", "");
ON_MEMORY("multiply", PLAIN, PRODUCT, "imul", "");
BY_WORDS("multiply", PLAIN, PRODUCT, "imul", "(%rdi), ", "");
BY_WORDS("multiply", PLAIN, PRODUCT, "imul", "$0x5a, (%rdi), ", "");
INSN("multiply", 2, PLAIN, PRODUCT, "imulw $0x1234, (%rdi), %dx");
INSN("multiply", 8, PLAIN, PRODUCT, "imulq $-0x12345678, (%rdi), %rdx");
ON_MEMORY("divide", DIVIDES, QUOTIENT, "div", "");
ON_MEMORY("divide", DIVIDES | SIGNED, QUOTIENT, "idiv", "");

/* --- MMX, SSE, x87 ------------------------------------------------------ */

INSN("sse", 16, PLAIN, 0, "movaps (%rdi), %xmm3");
INSN("sse", 16, PLAIN, 0, "movaps %xmm4, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movapd (%rdi), %xmm11");
INSN("sse", 16, PLAIN, 0, "movapd %xmm12, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movdqa (%rdi), %xmm5");
INSN("sse", 16, PLAIN, 0, "movdqa %xmm6, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movups (%rdi), %xmm0");
INSN("sse", 16, PLAIN, 0, "movups %xmm1, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movupd (%rdi), %xmm15");
INSN("sse", 16, PLAIN, 0, "movupd %xmm14, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movdqu (%rdi), %xmm2");
INSN("sse", 16, PLAIN, 0, "movdqu %xmm7, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movntps %xmm8, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movntpd %xmm9, (%rdi)");
INSN("sse", 16, PLAIN, 0, "movntdq %xmm10, (%rdi)");
/* Without faults: then KVM has made the FPU an MMX unit before a store, and software emulation before a load. */
INSN("mmx", 8, FIXED, 0, "movq (%rdi), %mm3");
INSN("mmx", 8, FIXED, 0, "movq %mm4, (%rdi)");
INSN("x87", 2, PLAIN, 0, "fnstcw (%rdi)");
INSN("x87", 2, PLAIN, 0, "fnstsw (%rdi)");

/* --- segments, and 32-bit code ------------------------------------------ */

INSN("segment", 2, SELECTOR, 0, "movw (%rdi), %es");
INSN("segment", 2, SELECTOR, 0, "movw (%rdi), %ds");
INSN("segment", 2, PLAIN, 0, "movw %ss, (%rdi)");
INSN("segment", 2, PLAIN, 0, "movw %cs, (%rdi)");
INSN("segment", 2, PLAIN, 0, "sldt (%rdi)");
INSN("segment", 2, PLAIN, 0, "str (%rdi)");

/*
 * No far calls and returns in ring 3: where SMAP is on, software emulation makes their accesses to the stack as those of
 * ring 0, which fault, and the guest's kernel dies of that.
 */
INSN("far", 6, FAR_64, 0, "ljmpl *(%rdi)");
INSN("far", 6, FAR_32, 0, "ljmpl *(%rdi)");
INSN("far", 10, FAR_64, 0, "rex.w ljmpl *(%rdi)");
INSN("far", 10, FAR_32, 0, "rex.w ljmpl *(%rdi)");

INSN_32("32-bit", 4, PUSHES, 0, "pushl %edx");
INSN_32("32-bit", 4, POPS, 0, "popl %edx");
INSN_32("32-bit", 4, PUSHES, 0, "call . + 0x40");
INSN_32("32-bit", 4, POPS | TO_STACK, 0, "ret");
INSN_32("32-bit", 4, PLAIN, 0, "movl %edx, (%edi)");
INSN_32("32-bit", 4, MODIFIES, 0, "lock xaddl %edx, (%edi)");
INSN_32("32-bit", 6, SELECTOR | BEHIND, 0, "lesl (%edi), %edx");
INSN_32("32-bit", 6, SELECTOR | BEHIND, 0, "ldsl (%edi), %edx");
INSN_32("32-bit", 8, FIXED, 0, "ljmp $0x23, $" IN_CODE);
INSN_32("32-bit", 8, FIXED, 0, "ljmp $0x33, $" IN_CODE);
INSN_32("32-bit", 8, COMPARES | PAIR | MODIFIES, 0, "lock cmpxchg8b (%edi)");
INSN_32("32-bit", 16, PLAIN, 0, "movups %xmm1, (%edi)");

/* In 64-bit code KVM does not emulate these. */
INSN_32("fxsave", 512, PLAIN, 0, "fxsave (%edi)");
INSN_32("fxsave", 512, FX_IMAGE, 0, "fxrstor (%edi)");

/* --- ports, which ring 3 may not use: whether it may, a bit in the task's segment tells ----------- */

INSN("port", 1, FIXED, 0, "inb %dx, %al");
INSN("port", 1, FIXED, 0, "outb %al, %dx");
INSN("port", 1, FIXED, 0, "insb");
INSN("port", 1, FIXED | REPEATED, 0, "rep outsb");
INSN("port", 4, FIXED, 0, "inl $0x70, %eax");
INSN("port", 4, FIXED, 0, "outl %eax, %dx");
INSN("port", 4, FIXED | REPEATED, 0, "rep insl");
INSN("port", 4, FIXED, 0, "outsl");

/* --- a store whose second page faults ------------------------------------ */

INSN("torn", 2, TORN, 0, "movw %dx, (%rdi)");
INSN("torn", 4, TORN, 0, "movl %edx, (%rdi)");
INSN("torn", 8, TORN, 0, "movq %rdx, (%rdi)");

/* --- what KVM does not emulate ------------------------------------------ */

INSN("cmpxchg16b", 16, NOT_EMULATED | COMPARES | PAIR, 0, "cmpxchg16b (%rdi)");
INSN("cmpxchg16b", 16, NOT_EMULATED | COMPARES | PAIR, 0, "lock cmpxchg16b (%rdi)");
INSN("fxsave64", 512, NOT_EMULATED, 0, "fxsave (%rdi)");
INSN("fxsave64", 512, NOT_EMULATED, 0, "fxrstor (%rdi)");

#endif

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest as a hypervisor: VMX in VMX. The VMXON region, the VMCS, which KVM calls VMCS12, the maps of intercepted
 * ports and registers, and what a shadow VMCS needs, are the operands, all of which KVM reads or writes.
 */
#include "nested_vmx.h"

#define CR4_VMXE (1ull << 13)
#define MSR_FEATURE_CONTROL 0x3a
#define VMX_ALLOWED 5u			/* and the register is locked */
#define MSR_VMX_BASIC 0x480		/* then the controls: pin, processor, exit, entry; 0x48b the second processor's */
#define MSR_VMX_SECOND 0x48b

/* Intel SDM 3, appendix B; what is not written is 0, as the page was. */
enum { LINK = 0x2800, PIN = 0x4000, PROCESSOR = 0x4002, AT_EXIT = 0x400c, AT_ENTRY = 0x4012,
       SECOND = 0x401e, IO_MAP_A = 0x2000, IO_MAP_B = 0x2002, MSR_BITS = 0x2004, READ_BITS = 0x2026, WRITE_BITS = 0x2028,
       EXIT_REASON = 0x4402, QUALIFICATION = 0x6400,
       G_ES = 0x800, G_CS = 0x802, G_SS = 0x804, G_DS = 0x806, G_TR = 0x80e, G_LIMITS = 0x4800, G_GDT_LIMIT = 0x4810,
       G_IDT_LIMIT = 0x4812, G_RIGHTS = 0x4814, G_TR_BASE = 0x6814, G_GDT = 0x6816, G_IDT = 0x6818, G_CR0 = 0x6800,
       G_CR3 = 0x6802, G_CR4 = 0x6804, G_DR7 = 0x681a, G_RSP = 0x681c, G_RIP = 0x681e, G_RFLAGS = 0x6820,
       H_ES = 0xc00, H_CS = 0xc02, H_SS = 0xc04, H_DS = 0xc06, H_TR = 0xc0c, H_CR0 = 0x6c00,
       H_CR3 = 0x6c02, H_CR4 = 0x6c04, H_TR_BASE = 0x6c0a, H_GDT = 0x6c0c, H_IDT = 0x6c0e, H_RIP = 0x6c16 };

enum { SEGMENTS = 8, TR_NUMBER = 7 };
enum { BY_PORT_MAP = 1u << 25, BY_REGISTER_MAP = 1u << 28, BY_SECOND = 1u << 31, BY_SHADOW = 1u << 14, WIDE = 1u << 9 };
enum { VMCALL_ENDS = 18, PORT_ENDS = 30, REGISTER_ENDS = 31 };
#define SHADOW_BIT 0x80000000u		/* of the revision */
#define UNUSABLE 0x10000u
#define VALUE_IN_SHADOW 0x5ad0ull

/* The operands' pages. */
enum { REGION, ON_REGION, PORTS, REGISTERS = PORTS + 2, READS, WRITES, SHADOWED, DATA_PAGE, STACK_PAGE };

extern const unsigned char vmx_code[], vmx_shadow_code[], vmx_exit[];
uint64_t run_vmx(bool launched, uint64_t rdi);

/* The nested guest: rdi is DATA_PAGE. */
asm(".text\n"
    ".globl vmx_code, vmx_shadow_code, vmx_exit, run_vmx\n"
    "vmx_code:\n"
    "	mov (%rdi), %rbx\n"
    "	lock addq $3, 8(%rdi)\n"
    "	vmcall\n"
    "	out %al, $0x99\n"
    "	mov $0x10, %ecx\n"
    "	rdmsr\n"
    "	mov (%rdi), %rbx\n"		/* run_vmx keeps none of its registers */
    FORCED
    "	mov %rbx, 16(%rdi)\n"
    "	push %rbx\n"
    "	pop %rdx\n"
    "	vmcall\n"
    "	mov 16(%rdi), %rbx\n"
    "	vmcall\n"
    /* What its hypervisor has put into the shadow VMCS, and something else into it. */
    "vmx_shadow_code:\n"
    "	mov $0x681c, %eax\n"		/* G_RSP */
    "	vmread %rax, %rbx\n"
    "	lea 1(%rbx), %rcx\n"
    "	vmwrite %rcx, %rax\n"
    "	vmcall\n"
    /* Whether it was launched; rdi of the nested guest. Returns its rbx, or ~0 where it cannot be run. */
    "run_vmx:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	mov $0x6c14, %eax\n"		/* the host's RSP */
    "	vmwrite %rsp, %rax\n"
    "	test %edi, %edi\n"
    "	mov %rsi, %rdi\n"
    "	jnz 1f\n"
    "	vmlaunch\n"
    "	jmp 2f\n"
    "1:	vmresume\n"
    "2:	mov $-1, %rbx\n"
    "vmx_exit:\n"
    "	mov %rbx, %rax\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	ret\n");

#define READ_REGISTER(name) \
	({ \
		uint64_t value_; \
		asm volatile("mov %%" name ", %0" : "=r"(value_)); \
		value_; \
	})

#define OF_REGION(instruction, page) \
	({ \
		const uint64_t at_ = (uint64_t)table(page); \
		bool failed_; \
		asm volatile(instruction " %1" : "=@ccbe"(failed_) : "m"(at_) : "memory"); \
		(uint64_t)failed_; \
	})

static GUEST void put(uint64_t field, uint64_t value)
{
	asm volatile("vmwrite %1, %0" : : "r"(field), "r"(value) : "cc");
}

static GUEST uint64_t get(uint64_t field)
{
	uint64_t value;

	asm volatile("vmread %1, %0" : "=r"(value) : "r"(field) : "cc");
	return value;
}

/* Controls as the processor wants them, and those that it may have. */
static GUEST void put_controls(uint64_t field, uint32_t msr, uint32_t controls)
{
	const uint64_t may = read_msr(msr);

	put(field, (may | controls) & may >> 32);
}

static GUEST void prepare_state(void)
{
	struct segment_descriptor_table gdt, idt;

	asm volatile("sgdt %0\n\tsidt %1" : "=m"(gdt), "=m"(idt));
	for (uint64_t i = 0; i < SEGMENTS; i++) {
		put(G_LIMITS + 2 * i, i == TR_NUMBER ? sizeof(struct task_state) - 1 : 0xffffffff);
		put(G_RIGHTS + 2 * i, i == TR_NUMBER ? 0x8b : i == 1 ? 0xa09b : i < 4 ? 0xc093 : UNUSABLE);
	}
	put(G_CS, CODE64);
	put(H_CS, CODE64);
	put(G_SS, DATA);
	put(G_DS, DATA);
	put(G_ES, DATA);
	put(H_SS, DATA);
	put(H_DS, DATA);
	put(H_ES, DATA);
	put(G_TR, TASK);
	put(H_TR, TASK);
	put(G_TR_BASE, (uint64_t)&task_state);
	put(H_TR_BASE, (uint64_t)&task_state);
	put(G_GDT, gdt.base);
	put(H_GDT, gdt.base);
	put(G_GDT_LIMIT, gdt.limit);
	put(G_IDT, idt.base);
	put(H_IDT, idt.base);
	put(G_IDT_LIMIT, idt.limit);
	put(G_CR0, READ_REGISTER("cr0"));
	put(H_CR0, READ_REGISTER("cr0"));
	put(G_CR3, (uint64_t)root);	/* see flush_tlb() */
	put(H_CR3, (uint64_t)root);
	put(G_CR4, READ_REGISTER("cr4"));
	put(H_CR4, READ_REGISTER("cr4"));
	put(G_DR7, 0x400);
	put(G_RFLAGS, 2);
	put(G_RSP, (uint64_t)table(STACK_PAGE) + PAGE / 2);
	put(H_RIP, (uint64_t)vmx_exit);
}

/* Return: how many of the instructions fail that turn VMX on, and make the VMCS the current one. */
static GUEST uint64_t prepare_vmx(const unsigned char *code, uint32_t second)
{
	const uint32_t revision = (uint32_t)read_msr(MSR_VMX_BASIC) & ~SHADOW_BIT;
	uint64_t failed;

	for (unsigned int page = REGION; page <= STACK_PAGE; page++) {
		for (int i = 0; i < 512; i++)
			table(page)[i] = 0;
	}
	write_msr(MSR_FEATURE_CONTROL, VMX_ALLOWED);
	asm volatile("mov %0, %%cr4" : : "r"(READ_REGISTER("cr4") | CR4_VMXE));
	*(uint32_t *)table(ON_REGION) = *(uint32_t *)table(REGION) = revision;
	*(uint32_t *)table(SHADOWED) = revision | SHADOW_BIT;
	failed = OF_REGION("vmxon", ON_REGION);
	failed += OF_REGION("vmclear", REGION);
	failed += OF_REGION("vmptrld", REGION);
	put_controls(PIN, MSR_VMX_BASIC + 1, 0);
	put_controls(PROCESSOR, MSR_VMX_BASIC + 2, BY_PORT_MAP | BY_REGISTER_MAP | (second ? BY_SECOND : 0));
	put_controls(AT_EXIT, MSR_VMX_BASIC + 3, WIDE);
	put_controls(AT_ENTRY, MSR_VMX_BASIC + 4, WIDE);
	if (second)
		put_controls(SECOND, MSR_VMX_SECOND, second);
	put(LINK, second ? (uint64_t)table(SHADOWED) : ~0ull);
	put(IO_MAP_A, (uint64_t)table(PORTS));
	put(IO_MAP_B, (uint64_t)table(PORTS + 1));
	put(MSR_BITS, (uint64_t)table(REGISTERS));
	put(READ_BITS, (uint64_t)table(READS));
	put(WRITE_BITS, (uint64_t)table(WRITES));
	operands[PORTS][0x99 / 8] = 1 << (0x99 % 8);
	operands[REGISTERS][0x10 / 8] = 1 << (0x10 % 8);	/* reading it */
	prepare_state();
	put(G_RIP, (uint64_t)code);
	table(DATA_PAGE)[0] = 0xda7a;
	table(DATA_PAGE)[1] = 4;
	return failed;
}

/* Lets it run on, behind an instruction of so many bytes. Returns its rbx. */
static GUEST uint64_t go_on(uint64_t bytes)
{
	put(G_RIP, get(G_RIP) + bytes);
	return run_vmx(true, (uint64_t)table(DATA_PAGE));
}

static GUEST void run_nested_vmx(void)
{
	tell("the processor has VMX", 1, cpuid_word(1, 2) >> 5 & 1);
	tell("VMXON, VMCLEAR and VMPTRLD that fail", 0, prepare_vmx(vmx_code, 0));
	tell("rbx, loaded by the nested guest", 0xda7a, run_vmx(false, (uint64_t)table(DATA_PAGE)));
	tell("exit of the nested guest by vmcall", VMCALL_ENDS, get(EXIT_REASON));
	tell("what it added to", 7, table(DATA_PAGE)[1]);
	go_on(3);
	tell("exit by an intercepted port", PORT_ENDS, get(EXIT_REASON));
	tell("which port", 0x99, get(QUALIFICATION) >> 16 & 0xffff);
	go_on(2);
	tell("exit by an intercepted register", REGISTER_ENDS, get(EXIT_REASON));
	go_on(2);
	tell("exit after KVM carried out an instruction of the nested guest", VMCALL_ENDS, get(EXIT_REASON));
	tell("what KVM stored for it", 0xda7a, table(DATA_PAGE)[2]);
	tell("its stack", 0xda7a, *(uint64_t *)(get(G_RSP) - 8));
	/* The VMCS goes to memory, and comes from there. */
	tell("VMCLEAR that fails", 0, OF_REGION("vmclear", REGION));
	tell("VMPTRLD that fails", 0, OF_REGION("vmptrld", REGION));
	put(G_RIP, get(G_RIP) + 3);
	tell("rbx, loaded by the nested guest when its VMCS was in memory", 0xda7a,
	     run_vmx(false, (uint64_t)table(DATA_PAGE)));
	tell("exit of the nested guest then", VMCALL_ENDS, get(EXIT_REASON));
	tell("VMCLEAR that fails in the end", 0, OF_REGION("vmclear", REGION));
	asm volatile("vmxoff" : : : "cc");
}

/* The nested guest has a VMCS of its own, which the processor, or KVM for it, reads and writes by VMREAD and VMWRITE. */
static GUEST void run_nested_vmx_with_shadow(void)
{
	tell("the processor has shadow VMCSs", 1, read_msr(MSR_VMX_SECOND) >> 32 >> 14 & 1);
	tell("VMXON, VMCLEAR and VMPTRLD that fail", 0, prepare_vmx(vmx_shadow_code, BY_SHADOW));
	tell("VMPTRLD of the shadow that fails", 0, OF_REGION("vmclear", SHADOWED) + OF_REGION("vmptrld", SHADOWED));
	put(G_RSP, VALUE_IN_SHADOW);
	tell("VMPTRLD of the other one that fails", 0, OF_REGION("vmclear", SHADOWED) + OF_REGION("vmptrld", REGION));
	tell("rbx, read by the nested guest from the shadow", VALUE_IN_SHADOW,
	     run_vmx(false, (uint64_t)table(DATA_PAGE)));
	tell("exit of the nested guest by vmcall", VMCALL_ENDS, get(EXIT_REASON));
	tell("VMPTRLD of the shadow that fails afterwards", 0, OF_REGION("vmclear", REGION) + OF_REGION("vmptrld", SHADOWED));
	tell("what the nested guest wrote to the shadow", VALUE_IN_SHADOW + 1, get(G_RSP));
	OF_REGION("vmclear", SHADOWED);
	asm volatile("vmxoff" : : : "cc");
}

const struct row nested_vmx_rows[] = {
	{ "nested-vmx", run_nested_vmx, .operands = operands, .pages = STACK_PAGE + 1 },
	{ "nested-vmx-shadow", run_nested_vmx_with_shadow, .operands = operands, .pages = STACK_PAGE + 1 },
	{ .name = NULL },
};

// SPDX-License-Identifier: GPL-2.0-or-later
/* The VMM: a VM with what its row asks for, and where it has what the guest has. */
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "vmm.h"
#include "modes.h"
#include "nested.h"
#include "ranges.h"
#include "walk.h"

#define ROUTES 24u		/* of the VMM's interrupt controllers */

const struct row *row;

/* Where the VMM has what the guest has at an address. */
void *at(const struct vm *vm, const void *guest)
{
	const uintptr_t address = (uintptr_t)guest;

	if (address >= SLOT_LOGGED && address < SLOT_LOGGED + SLOT_PAGES * PAGE)
		return vm->logged + (address - SLOT_LOGGED);
	if (vm->extra && address >= EXTRA_SLOT && address < EXTRA_SLOT + EXTRA_PAGES * PAGE)
		return vm->extra + (address - EXTRA_SLOT);
	return vm->ram + address;
}

uint64_t nothing(struct vm *vm, uint32_t what)
{
	(void)vm;
	(void)what;
	return 0;
}

int late_page;	/* a userfaultfd */

/* What all rows begin with, in the VM. */
GUEST __attribute__((noreturn)) void guest_begins(void)
{
	prepare_faults();
	if (row->first && way != PLAIN)
		row->first();
	ask_for_protection(row->operands, row->pages, row->more, row->more_pages);
	asm volatile("out %%al, %0" : : "N"(PORT_READY) : "memory");
	if (!shared.report.enabled)
		row->run();
	asm volatile("out %%al, %0" : : "N"(PORT_DONE) : "memory");
	__builtin_unreachable();
}

void add_to_space(const struct vm *vm, uint32_t space, uint32_t slot, uint32_t flags, uint64_t gpa,
		  uint64_t size, void *where)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot | space << 16, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)where,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		cannot("give the VM memory");
}

void add_memory(const struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *where)
{
	/* System management mode may have an address space of its own; here it is the same. */
	const int spaces = row->one_space ? 1 : ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE);

	for (uint32_t space = 0; space == 0 || (int)space < spaces; space++)
		add_to_space(vm, space, slot, flags, gpa, size, where);
}

void *map(size_t size)
{
	void *const where = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (where == MAP_FAILED)
		cannot("map the VM's memory");
	return where;
}

/* This program at the same addresses in the VM, as it was when it started, but for the row and the way. */
void copy_program(const struct vm *vm)
{
	const Elf64_Phdr *segment = (const Elf64_Phdr *)getauxval(AT_PHDR);

	for (unsigned long left = getauxval(AT_PHNUM); left; left--, segment++) {
		if (segment->p_type != PT_LOAD)
			continue;
		if (segment->p_vaddr + segment->p_memsz > BIG) {
			errno = EFBIG;
			cannot("copy this program into the VM");
		}
		/* What lies behind is zero, and much of it other programs', if it is linked with them. */
		memcpy(vm->ram + segment->p_vaddr, (void *)segment->p_vaddr, segment->p_filesz);
	}
	*(const struct row **)at(vm, &row) = row;
	*(enum way *)at(vm, &way) = way;
	make_tables(vm->ram);
}

#define CPUID_FEATURES 7u
#define HAS_SPEC_CTRL (1u << 26)	/* in edx */
#define CPUID_HYPERVISOR 0x40000000u
#define CPUID_NESTED 0x4000000au
#define CPUID_OF_KVM 0x100u		/* how far KVM's own leaves are behind Hyper-V's, where there are both */
#define DIRECT_FLUSH (1u << 17)		/* hypercalls of a nested guest's come to Hyper-V itself */

/* Hyper-V's leaves, and KVM's behind them. */
static void offer_hyper_v(struct kvm_cpuid2 *table)
{
	static const struct kvm_cpuid_entry2 leaves[] = {
		{ .function = CPUID_HYPERVISOR, .eax = CPUID_NESTED },
		{ .function = CPUID_INTERFACE, .eax = IS_HYPER_V },
		{ .function = CPUID_NESTED, .eax = DIRECT_FLUSH },
	};

	for (uint32_t i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *const entry = &table->entries[i];

		if (entry->function == CPUID_HYPERVISOR)
			entry->eax += CPUID_OF_KVM;
		if (entry->function == CPUID_HYPERVISOR || entry->function == CPUID_INTERFACE)
			entry->function += CPUID_OF_KVM;
	}
	for (unsigned int i = 0; i < sizeof(leaves) / sizeof(*leaves) && table->nent < CPUID_ENTRIES; i++)
		table->entries[table->nent++] = leaves[i];
}

/* KVM takes the VMM's word for it. */
static void offer_spec_ctrl(struct kvm_cpuid2 *table)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function == CPUID_FEATURES && !table->entries[i].index)
			table->entries[i].edx |= HAS_SPEC_CTRL;
	}
}

/* arch/x86/include/uapi/asm/kvm_para.h: wakes another processor, and the series' protection; the first is every kernel's */
#define WAKES_AND_PROTECTS (1u << 7 | 1u << 18)

static void withhold(struct kvm_cpuid2 *table)
{
	for (uint32_t i = 0; i < table->nent; i++) {
		if (table->entries[i].function == CPUID_INTERFACE)
			table->entries[i].eax &= ~WAKES_AND_PROTECTS;
	}
}

/* Whether the guest may ask KVM for what it is not offered, as it may unless the VMM has it otherwise. */
void let_ask(const struct vm *vm, bool anything)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = { !anything } };

	if (ioctl(vm->cpu, KVM_ENABLE_CAP, &cap))
		cannot("have KVM go by what the guest is offered");
}

static void offer_all(const struct vm *vm, int cpu)
{
	struct kvm_cpuid2 *const table = calloc(1, sizeof(*table) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

	if (!table)
		cannot("have memory");
	table->nent = CPUID_ENTRIES;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, table))
		cannot("ask for the CPUID that a VM can have");
	if (row->hyper_v)
		offer_hyper_v(table);
	if (row->spec_ctrl)
		offer_spec_ctrl(table);
	if (row->withholds)
		withhold(table);
	if (ioctl(cpu, KVM_SET_CPUID2, table))
		cannot("set the VM's CPUID");
	free(table);
}

struct kvm_segment segment(uint64_t base, uint16_t selector, uint8_t type, enum mode mode)
{
	const bool code = type & 8;

	return (struct kvm_segment){ .base = base, .limit = mode == MODE16 ? 0xffff : 0xffffffff, .selector = selector,
				     .type = type, .present = 1, .s = 1,
				     .db = mode == MODE32 || (mode == MODE64 && !code),
				     .l = mode == MODE64 && code, .g = mode != MODE16 };
}

/* Whether KVM has an address of a VMXON region, without which CR4.VMXE cannot be clear. */
static bool has_vmx_on(void)
{
	return !has_svm() && (row->given.number == NESTED_STATE || row->given.number == MSR_SAVE_AREA);
}

/* Has it begin at an address, in a mode, with flat segments; real mode's are those of modes.c. */
void set_mode(const struct vm *vm, enum mode mode, const void *begin)
{
	static const uint64_t cr0[] = { 0x80010033, 0x33, 0x30 };	/* PG, WP, NE, ET, MP, PE */
	const bool real = mode == MODE16;
	struct kvm_regs regs = { .rflags = 2, .rip = (uintptr_t)begin, .rsp = (uintptr_t)(stack + sizeof(stack) - 8) };
	struct kvm_sregs sregs;

	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		cannot("read the VM's registers");
	sregs.cs = segment(0, mode == MODE64 ? CODE64 : CODE32, 0xb, mode);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0, DATA, 3, mode);
	sregs.tr = (struct kvm_segment){ .base = (uintptr_t)&task_state, .limit = sizeof(task_state) - 1,
					 .selector = TASK, .type = 0xb, .present = 1 };
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = (uintptr_t)segments, .limit = sizeof(segments) - 1 };
	sregs.cr0 = cr0[mode];
	sregs.cr3 = mode == MODE64 ? (uintptr_t)root : 0;
	sregs.cr4 = mode == MODE64 ? 0x620 : 0x600;	/* OSXMMEXCPT, OSFXSR, PAE */
	sregs.cr4 |= has_vmx_on() ? 0x2000 : 0;
	sregs.efer = mode == MODE64 ? 0xd00 : 0;	/* NXE, LMA, LME */
	if (mode == MODE32)
		sregs.idt = (struct kvm_dtable){ .base = (uintptr_t)gates32, .limit = sizeof(gates32) - 1 };
	if (mode == MODE32 && row->begin == task_begin) {
		sregs.gdt = (struct kvm_dtable){ .base = (uintptr_t)operands, .limit = SELECT_TWO + 7 };
		sregs.tr = (struct kvm_segment){ .base = (uintptr_t)operands[TASK_ONE], .limit = 103,
						 .selector = SELECT_ONE, .type = 0xb, .present = 1 };
		regs.rsp = (uintptr_t)operands[TASK_STACKS] + PAGE - 16;
	}
	if (real) {
		regs.rip = 0;
		regs.rsp = REAL_STACK - 0x28000;
		sregs.cs = segment(REAL_CODE, REAL_CODE / 16, 0xb, mode);
		sregs.ds = segment(REAL_DATA, REAL_DATA / 16, 3, mode);
		sregs.es = segment(REAL_DATA + PAGE, (REAL_DATA + PAGE) / 16, 3, mode);
		sregs.ss = segment(REAL_STACK, REAL_STACK / 16, 3, mode);
		sregs.fs = segment((uintptr_t)shared.report.word, 0, 3, mode);
		sregs.idt = (struct kvm_dtable){ .base = 0, .limit = 0x3ff };
	}
	if (ioctl(vm->cpu, KVM_SET_SREGS, &sregs) || ioctl(vm->cpu, KVM_SET_REGS, &regs))
		cannot("set the VM's registers");
}

static struct kvm_run *add_processor(const struct vm *vm, int *cpu, unsigned long number)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_run *run;

	*cpu = ioctl(vm->fd, KVM_CREATE_VCPU, number);
	if (*cpu < 0 || size < 0)
		cannot("create a virtual CPU");
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, *cpu, 0);
	if (run == MAP_FAILED)
		cannot("map the virtual CPU");
	return run;
}

/* One that does not boot waits to be started. */
void let_run(int cpu)
{
	struct kvm_mp_state state = { KVM_MP_STATE_RUNNABLE };

	if (ioctl(cpu, KVM_SET_MP_STATE, &state))
		cannot("let a virtual CPU run");
}

/* KVM finds no processor by its APIC's number that came after the last change of one (QEMU sets all of them, too). */
static void put_in_order(int cpu)
{
	struct kvm_lapic_state apic;

	if (ioctl(cpu, KVM_GET_LAPIC, &apic) || ioctl(cpu, KVM_SET_LAPIC, &apic))
		cannot("set another virtual CPU's APIC");
}

#define VMCS12_REVISION 0x11e57ed0u	/* Linux: arch/x86/kvm/vmx/vmcs12.h */
#define NO_ADDRESS (~0ull)

/*
 * KVM may find that no nested guest can go on there; it has had the address all the same.
 *
 * control_block: its address, or NO_ADDRESS. save_area: the processor's, which is Intel's VMXON region.
 */
static void give_nested_state(const struct vm *vm, uint64_t save_area, uint64_t control_block)
{
	struct kvm_nested_state *const nested = calloc(1, sizeof(*nested) + KVM_STATE_NESTED_SVM_VMCB_SIZE);

	if (!nested)
		cannot("have memory");
	nested->size = sizeof(*nested);
	if (control_block != NO_ADDRESS)
		nested->size += KVM_STATE_NESTED_SVM_VMCB_SIZE;
	if (has_svm()) {
		nested->flags = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET;
		nested->format = KVM_STATE_NESTED_FORMAT_SVM;
		nested->hdr.svm.vmcb_pa = control_block;
	} else {
		nested->format = KVM_STATE_NESTED_FORMAT_VMX;
		nested->hdr.vmx.vmxon_pa = save_area;
		nested->hdr.vmx.vmcs12_pa = control_block;
		*(uint32_t *)nested->data.vmx = VMCS12_REVISION;
	}
	if (ioctl(vm->cpu, KVM_SET_NESTED_STATE, nested) && errno != EINVAL)
		cannot("set the state of a nested guest");
	free(nested);
}

void give_address(const struct vm *vm, uint32_t number, uint64_t address)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { { .nmsrs = 1 }, { .index = number, .data = address } };

	if (ioctl(vm->cpu, KVM_SET_MSRS, &one) != 1)
		cannot("give the virtual CPU an address");
}

static void put_apic(const struct vm *vm, uint64_t base)
{
	struct kvm_sregs sregs;

	if (ioctl(vm->cpu, KVM_GET_SREGS, &sregs))
		cannot("read the VM's registers");
	sregs.apic_base = base;
	if (ioctl(vm->cpu, KVM_SET_SREGS, &sregs))
		cannot("put the local APIC elsewhere");
}

static void have_controllers(const struct vm *vm)
{
	struct kvm_enable_cap apics = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { ROUTES } };
	struct kvm_enable_cap wide = { .cap = KVM_CAP_X2APIC_API, .args = { KVM_X2APIC_API_USE_32BIT_IDS } };

	if (row->split ? ioctl(vm->fd, KVM_ENABLE_CAP, &apics) : ioctl(vm->fd, KVM_CREATE_IRQCHIP))
		cannot("have interrupt controllers");
	if (row->wide_twin && ioctl(vm->fd, KVM_ENABLE_CAP, &wide))
		cannot("have APICs with numbers of 32 bits");
}

void add_third(struct vm *vm, uint32_t number)
{
	if (vm->third_run)
		return;
	vm->third_run = add_processor(vm, &vm->third, number);
	offer_all(vm, vm->third);
}

void make_vm(struct vm *vm)
{
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm->fd = vm->kvm < 0 ? -1 : ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		cannot("create a VM by /dev/kvm");
	if (!row->no_apic)
		have_controllers(vm);
	if (row->second_boots && ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 1))
		cannot("have another processor boot");
	if (row->ring) {	/* before there is a virtual CPU */
		struct kvm_enable_cap ring = { .cap = KVM_CAP_DIRTY_LOG_RING,
					       .args = { RING_ENTRIES * sizeof(struct kvm_dirty_gfn) } };

		if (ioctl(vm->fd, KVM_ENABLE_CAP, &ring))
			cannot("have a dirty ring");
	}
	/* As QEMU has it: where the guest has large pages the VMM may have some. */
	vm->ram = map(RAM_BYTES + BIG_BYTES);
	vm->ram += -(uintptr_t)vm->ram % BIG_BYTES;
	vm->logged = map(SLOT_PAGES * PAGE);
	vm->readonly = map(SLOT_PAGES * PAGE);
	*(uint64_t *)vm->readonly = VALUE ^ (uint64_t)getpid();
	copy_program(vm);
	add_memory(vm, 0, 0, 0, RAM_BYTES, vm->ram);
	add_memory(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, SLOT_LOGGED, SLOT_PAGES * PAGE, vm->logged);
	add_memory(vm, 2, KVM_MEM_READONLY, SLOT_READONLY, SLOT_PAGES * PAGE, vm->readonly);
	vm->run = add_processor(vm, &vm->cpu, 0);
	if (row->wide_twin)
		add_third(vm, TWIN);
	if (row->second)
		vm->second_run = add_processor(vm, &vm->second, 1);
	if (row->third)
		vm->third_run = add_processor(vm, &vm->third, 2);
	if (row->ring) {
		vm->ring = mmap(NULL, RING_ENTRIES * sizeof(*vm->ring), PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu,
				KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
		if (vm->ring == MAP_FAILED)
			cannot("map the dirty ring");
	}
	offer_all(vm, vm->cpu);
	if (row->withholds)
		let_ask(vm, false);
	if (row->second) {
		offer_all(vm, vm->second);
		put_in_order(vm->second);
	}
	if (row->third) {
		offer_all(vm, vm->third);
		put_in_order(vm->third);
	}
	if (row->second_boots)
		let_run(vm->cpu);
	if (row->given.number == NESTED_STATE)
		give_nested_state(vm, row->given.value - PAGE, row->given.value);
	else if (has_vmx_on())
		give_nested_state(vm, row->given.value, NO_ADDRESS);
	else if (row->given.number)
		give_address(vm, row->given.number, row->given.value);
	if (row->apic_base)
		put_apic(vm, row->apic_base);
}

const char *program;	/* its name, which says what this program is where it is linked with others */

/* Whether the host's kernel is older than that release. */
bool older_than(unsigned int major, unsigned int minor)
{
	unsigned int of[2];
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u", &of[0], &of[1]) != 2)
		cannot("read the release of the host's kernel");
	return of[0] < major || (of[0] == major && of[1] < minor);
}

void fill_words(unsigned char *where, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((volatile uint64_t *)where)[i] = NEW_WORD;
}

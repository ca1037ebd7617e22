/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_VMM_H
#define TINY_VM_VMM_H

#include "guest.h"

#define DEADLINE_S 20
#define CPUID_ENTRIES 256
#define STRING_BYTES 256
#define LOOK_US 1000		/* how often a process looks what another one has told */

#define MSR_SMBASE 0x9e
#define NESTED_STATE 0xffffffffu	/* no register, but what KVM_SET_NESTED_STATE takes */
#define BEYOND (1ull << 52)	/* of the guest's addresses: more than any processor has, and KVM without it */
#define RING_ENTRIES 1024u	/* a power of two, more than 64, which KVM keeps free */

struct vm {
	int kvm, fd, cpu;
	struct kvm_run *run;
	unsigned char *ram, *logged, *readonly, *extra, *far;
	unsigned char string[STRING_BYTES];	/* what came by PORT_STRING */
	uint32_t string_count;
	uint64_t mmio;		/* the last that was stored where the row has a device */
	uint64_t exits;		/* of the row's task switches */
	struct kvm_dirty_gfn *ring;	/* of what was written; NULL where the row has none */
	uint32_t next;		/* in the ring */
	int fail_nth;		/* Linux: Documentation/fault-injection/fault-injection.rst; of this thread */
	uint32_t fail_next;	/* which allocation is to fail in the next run; 0: none */
	uint32_t failed;	/* whether one did in the last */
	int second, third;	/* other processors, where the row has them */
	struct kvm_run *second_run, *third_run;
	uint64_t steps, disclosed, managed;	/* exits: for debugging, with the secret, in system management mode */
	uint64_t priorities;	/* exits that tell where the guest uses its task priority */
	uint64_t given_up;	/* exits because KVM gives up on an instruction, where the row has many */
	bool served;		/* the row's host side has done something */
	uint64_t ended_at;	/* the address of the page where KVM did not let the guest go on */
	bool ended_in_emulator;	/* KVM did not carry out an instruction of the guest's that was refused */
	bool anew;		/* the first processor has begun at its reset vector */
	bool over;		/* the machine was reset; the guest's report was this one */
	struct report report;
	bool again;		/* it was reset for another guest, whose report follows */
	uint64_t after_reset[3];	/* as ask_state() */
	bool upper_after_reset[2];
	uint64_t kept_by_reset;	/* as ask_kept() */
	struct {
		unsigned int count;
		uint64_t told;		/* as ask_state(), behind it */
		uint64_t goes_on;	/* as run_in_rom() */
		uint64_t words;		/* of the guest's, that the VMM finds when it has reset the machine */
	} shutdown;
	char wrong[200];	/* the exit that must not be */
};

enum mode { MODE64, MODE32, MODE16 };

struct word {
	const char *name;
	uint32_t expected;
};

struct row {
	const char *name;
	void (*run)(void);		/* in 64-bit mode; may be all that there is */
	const void *operands;
	unsigned int pages;			/* of the operands */
	const void *more;
	unsigned int more_pages;
	enum mode mode;				/* of what follows at begin, if not 64-bit */
	const unsigned char *begin;
	const struct word *words;		/* what that finds */
	uint64_t (*serve)(struct vm *vm, uint32_t what);
	uint64_t device;			/* what is stored or loaded there comes to the VMM, rightly */
	uint32_t device_more;			/* bytes behind that address that are the device's, too */
	bool device_if_plain;			/* but not of a protected guest */
	bool ring;				/* what is written is told in a ring, not in a log */
	bool refused;				/* KVM may end it: it cannot have the guest go on */
	uint32_t meets;				/* once the VMM has done that; 0: anything */
	void (*first)(void);			/* before the guest asks for protection, if it is to */
	uint64_t ends_at;			/* the page number's address where it does */
	bool ends_managed;			/* in system management mode, which begins as real mode does */
	bool gives_up;				/* KVM is to give up on an instruction, which ends the row */
	bool gives_up_often;			/* it is to, again and again, while another thread looks on */
	bool second;				/* there is another processor */
	bool third;				/* and one more */
	bool second_boots;			/* and it is the one that boots */
	bool no_apic;				/* KVM has none for it */
	bool split;				/* KVM has those alone; the other interrupt controllers are the VMM's */
	uint64_t apic_base;			/* where the local APIC is, if not where a reset puts it */
	bool withholds;				/* the VMM offers it no hypercall, and has KVM go by that */
	bool hyper_v;				/* the guest finds Hyper-V, and KVM */
	bool spec_ctrl;				/* the guest finds SPEC_CTRL, whether the processor has it or not */
	bool wide_twin;				/* APICs' numbers have 32 bits, and the twin comes before the second processor */
	bool one_space;				/* there is none of its own in system management mode */
	bool has_stack_in_window;		/* the VMM, by its registers, when it runs the guest */
	bool asks_exits;			/* exits come that the VMM has asked for */
	bool shuts_down;			/* the first processor does */
	bool goes_to_rom;			/* it goes on there, and then the VMM resets the machine for another guest */
	void (*report)(struct text *line, const struct vm *vm);	/* more, when the machine was reset */
	struct {
		uint32_t number;
		uint64_t value;
	} given;				/* an address in a register, before the VM starts: it cannot be protected then */
};

extern const struct row *row;
void *at(const struct vm *vm, const void *guest);
uint64_t nothing(struct vm *vm, uint32_t what);
extern int late_page;
GUEST __attribute__((noreturn)) void guest_begins(void);
void add_to_space(const struct vm *vm, uint32_t space, uint32_t slot, uint32_t flags, uint64_t gpa,
		  uint64_t size, void *where);
#define MANAGED_SPACE 1u	/* of system management mode (Documentation/virt/kvm/api.rst 4.35) */

void add_memory(const struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *where);
void *map(size_t size);
void copy_program(const struct vm *vm);

#define CPUID_INTERFACE 0x40000001u	/* of hypervisors; arch/x86/include/asm/hyperv-tlfs.h */
#define IS_HYPER_V 0x31237648u

struct kvm_segment segment(uint64_t base, uint16_t selector, uint8_t type, enum mode mode);
void set_mode(const struct vm *vm, enum mode mode, const void *begin);
void let_run(int cpu);
void let_ask(const struct vm *vm, bool anything);
void give_address(const struct vm *vm, uint32_t number, uint64_t address);

#define TWIN 0x101u	/* a processor that has the second one's number in the low byte, all that an xAPIC has */

/* Unless there is one. */
void add_third(struct vm *vm, uint32_t number);
void make_vm(struct vm *vm);
bool older_than(unsigned int major, unsigned int minor);
void fill_words(unsigned char *where, size_t bytes);
extern const char *program;

#endif

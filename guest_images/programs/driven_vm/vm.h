/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef DRIVEN_VM_VM_H
#define DRIVEN_VM_VM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../lib/line_server.h"

#define RAM_PAGES 4u

/* Series protected-memory: include/uapi/linux/kvm_para.h */
#define HC_ENABLE 13
#define HC_SHARE 14
#define HC_UNSHARE 15

struct vm {
	int fd, cpu;
	struct kvm_run *run;
	unsigned char *ram;
};

/* The file of KVM, the VM that lines drive, and another one of this process, which is there if it has a descriptor. */
extern int kvm_file;
extern struct vm first_vm, second_vm;

void make_driven_vm(struct vm *vm);

/* The process has no more to do with the VM. */
void leave_vm(const struct vm *vm);

void load_guest_code(const struct vm *vm);

/* The mode that the guest's code needs, or the reset vector in real mode. */
void set_processor(const struct vm *vm, bool reset);

/* Returns 0 or the errno. */
int set_slot(const struct vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t pages, void *where);

/* Has the guest do a job; how that ended: "ok", or how KVM did not go on. It is not the guest that ends. */
const char *run_vm(const struct vm *vm, struct kvm_regs *regs);

/* Adds the result of a hypercall. */
void add_call(struct text *reply, const struct vm *vm, uint64_t number, uint64_t a0, uint64_t a1);

/* Has the guest fill one of its pages with a word; "ok", or how KVM did not go on. */
const char *guest_fill_result(const struct vm *vm, uint64_t gpa, uint32_t word, bool emulated);

/* What the guest finds in one of its pages: as page_name(), or how KVM did not go on. */
const char *guest_look_result(const struct vm *vm, uint64_t gpa, bool emulated);

/* Anonymous memory. */
void *map_pages(size_t pages);

#endif

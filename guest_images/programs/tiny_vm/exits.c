// SPDX-License-Identifier: GPL-2.0-or-later
/* The guest runs, until it is done or something comes that must not. */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "exits.h"
#include "refusals.h"
#include "reset.h"
#include "second.h"
#include "disclosures.h"
#include "shutdown.h"

#define MEMORY_FAULT 39	/* an exit: Documentation/virt/kvm/api.rst KVM_EXIT_MEMORY_FAULT */

volatile sig_atomic_t alarms;

/* Interrupts the system call that a thread is in. */
void take_kick(int number)
{
	(void)number;
}

void take_alarm(int number)
{
	(void)number;
	alarms = alarms + 1;
}

void wrong_exit(struct vm *vm, const char *what, uint64_t more)
{
	struct kvm_regs regs = { 0 };

	ioctl(vm->cpu, KVM_GET_REGS, &regs);
	snprintf(vm->wrong, sizeof(vm->wrong), "%s (%#llx) at rip %#llx", what, (unsigned long long)more,
		 (unsigned long long)regs.rip);
}

static void string_port(struct vm *vm)
{
	unsigned char *const data = (unsigned char *)vm->run + vm->run->io.data_offset;

	for (uint32_t i = 0; i < vm->run->io.count * vm->run->io.size; i++) {
		if (vm->run->io.direction == KVM_EXIT_IO_OUT)
			vm->string[vm->string_count++ % STRING_BYTES] = data[i];
		else
			data[i] = (unsigned char)(0x40 + vm->string_count++ - 128);
	}
}

void set_fail_nth(const struct vm *vm, uint32_t nth)
{
	char number[16];
	const int length = snprintf(number, sizeof(number), "%u", nth);

	if (pwrite(vm->fail_nth, number, (size_t)length, 0) != length)
		cannot("write /proc/thread-self/fail-nth");
}

/* Whether the allocation that was to fail was made. None fails from now on. */
bool has_failed(const struct vm *vm)
{
	char number[16] = "";

	if (pread(vm->fail_nth, number, sizeof(number) - 1, 0) <= 0)
		cannot("read /proc/thread-self/fail-nth");
	set_fail_nth(vm, 0);
	return atoi(number) == 0;
}

#define BELOW_IT 0x1000			/* a stack ends above where it begins */

/* KVM_RUN by a thread whose frame pointer leads there; the system call needs no stack. */
static int run_with_stack_in_window(const struct vm *vm)
{
	long result;

	asm volatile("mov %%rsp, %%r12\n\tmov %%rbp, %%r13\n\tmov %[stack], %%rsp\n\tmov %[frame], %%rbp\n\t"
		     "syscall\n\tmov %%r12, %%rsp\n\tmov %%r13, %%rbp"
		     : "=a"(result)
		     : "0"(SYS_ioctl), "D"(vm->cpu), "S"(KVM_RUN), "d"(0), [stack] "i"(BELOW_IT), [frame] "i"(KVMS_WINDOW)
		     : "rcx", "r11", "r12", "r13", "memory");
	if (result >= 0)
		return 0;
	errno = (int)-result;
	return -1;
}

/* KVM_RUN; once more where it was its own allocation that failed, and not one of the guest's request. */
static int run_guest(struct vm *vm)
{
	int result;

	if (row->has_stack_in_window)
		return run_with_stack_in_window(vm);
	if (!vm->fail_next)
		return ioctl(vm->cpu, KVM_RUN, 0);
	set_fail_nth(vm, vm->fail_next);
	result = ioctl(vm->cpu, KVM_RUN, 0);
	const int error = errno;

	vm->failed = has_failed(vm);
	vm->fail_next = 0;
	errno = error;
	return result && (error == ENOMEM || error == EFAULT) ? ioctl(vm->cpu, KVM_RUN, 0) : result;
}

/* An exit that the VMM has asked for: whether the secret is anywhere in what KVM and the VMM share. */
static bool note_exit(struct vm *vm)
{
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	const uint64_t secret = SECRET;

	switch (vm->run->exit_reason) {
	case KVM_EXIT_DEBUG:
		vm->steps++;
		return true;
	case KVM_EXIT_TPR_ACCESS:
		vm->priorities += vm->run->tpr_access.rip != 0;
		return true;
	case KVM_EXIT_X86_WRMSR:
		vm->disclosed += size > 0 && memmem(vm->run, (size_t)size, &secret, sizeof(secret));
		vm->run->msr.error = 0;
		return true;
	case KVM_EXIT_XEN:
		vm->disclosed += size > 0 && memmem(vm->run, (size_t)size, &secret, sizeof(secret));
		vm->run->xen.u.hcall.result = 0;
		return true;
	default:
		return false;
	}
}

/* The address that KVM tells of a page that the guest cannot have; all ones without one. */
static uint64_t memory_fault(const struct kvm_run *run)
{
	const struct {
		uint64_t flags, gpa, size;
	} *const fault_exit = (const void *)&run->hw;	/* all exits begin there; the headers may not know this one */

	return run->exit_reason == MEMORY_FAULT ? fault_exit->gpa & -(uint64_t)PAGE : ~0ull;
}

/* Whether an access that comes to the VMM is one to the row's device. */
static bool take_access(struct vm *vm)
{
	const struct kvm_run *const run = vm->run;

	if (!row->device || run->mmio.phys_addr < row->device || run->mmio.phys_addr > row->device + row->device_more ||
	    (way != PLAIN && row->device_if_plain))
		return false;
	if (run->mmio.is_write)
		memcpy(&vm->mmio, run->mmio.data, sizeof(vm->mmio));
	else
		row->serve(vm, LOADED);
	return true;
}

/* Runs the guest until it says so by that port. Else `wrong` is set. */
void run_until(struct vm *vm, unsigned int port)
{
	struct kvm_run *const run = vm->run;
	struct report *const report = at(vm, &shared.report);

	while (!vm->wrong[0]) {
		if (run_guest(vm)) {
			if (row->refused && way != PLAIN && errno == EFAULT) {
				vm->ended_at = memory_fault(run);
				return;
			}
			wrong_exit(vm, errno == EINTR ? "no end in time" : strerrorname_np(errno), 0);
			return;
		}
		if (run->exit_reason == KVM_EXIT_MMIO) {
			if (!take_access(vm))
				wrong_exit(vm, "KVM_EXIT_MMIO", run->mmio.phys_addr);
			else if (vm->over)
				return;
		} else if (row->gives_up && run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
			   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
			return;
		} else if (row->gives_up_often && run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
			   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
			if (++vm->given_up == GIVE_UPS)
				return;
		} else if (row->refused && way != PLAIN && run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
			   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
			vm->ended_in_emulator = true;
			return;
		} else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
			wrong_exit(vm, "KVM_EXIT_INTERNAL_ERROR", run->internal.suberror);
		} else if (row->shuts_down && run->exit_reason == KVM_EXIT_SHUTDOWN && !vm->shutdown.count) {
			take_shutdown(vm);
		} else if (run->exit_reason == KVM_EXIT_SHUTDOWN) {
			wrong_exit(vm, "KVM_EXIT_SHUTDOWN", 0);
		} else if (row->asks_exits && note_exit(vm)) {
			continue;
		} else if (run->exit_reason != KVM_EXIT_IO) {
			wrong_exit(vm, "exit", run->exit_reason);
		} else if (run->io.port == port) {
			return;
		} else if (run->io.port == PORT_STRING) {
			string_port(vm);
		} else if (run->io.port == PORT_SERVICE) {
			const uint32_t what = *(uint32_t *)((unsigned char *)run + run->io.data_offset);

			const uint64_t answer = (row->serve ? row->serve : nothing)(vm, what);

			vm->served |= !row->meets || what == row->meets;
			if (vm->over)
				return;
			report->answer = answer;
		} else if (run->io.port == PORT_READY && vm->again) {
			continue;
		} else if (run->io.port == PORT_ANEW) {
			vm->anew = true;
			return;
		} else if (run->io.port == PORT_MANAGED) {
			vm->managed++;
		} else if (run->io.port == PORT_STRAY) {
			wrong_exit(vm, "fault of that vector", report->last.vector);
			snprintf(vm->wrong + strlen(vm->wrong), sizeof(vm->wrong) - strlen(vm->wrong),
				 ", error %#llx, rip %#llx, cr2 %#llx", (unsigned long long)report->last.error,
				 (unsigned long long)report->last.rip, (unsigned long long)report->last.cr2);
		} else {
			wrong_exit(vm, "port", run->io.port);
		}
	}
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * How KVM_RUN has ended in each process, since the host's start: how often, how
 * often for a device's memory, and each time that no working guest makes it
 * end. Above all an access to memory that went to the VMM as if it were a
 * device's: KVM's emulator does that with a page that it cannot reach, and the
 * VMM gets what the guest stores.
 */
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "sealproof_uapi.h"

#define THREADS 128	/* that may be in KVM_RUN at the same time */

static DEFINE_XARRAY(processes);	/* of struct sealproof_exits by process; they stay */
static DEFINE_RAW_SPINLOCK(counting);	/* of what is in them */
static atomic_t lost = ATOMIC_INIT(0);	/* ends that could not be counted */

/* Whether the memory access that the VMM is to carry out is one to the guest's memory, which it may make itself. */
static bool is_memory(struct kvm_vcpu *vcpu, const struct kvm_run *run)
{
	struct kvm_memory_slot *slot;
	struct kvm *kvm = vcpu->kvm;
	bool memory;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	slot = __gfn_to_memslot(__kvm_memslots(kvm, kvm_arch_vcpu_memslots_id(vcpu)), gpa_to_gfn(run->mmio.phys_addr));
	memory = slot && !(run->mmio.is_write && (slot->flags & KVM_MEM_READONLY));
	srcu_read_unlock(&kvm->srcu, idx);
	return memory;
}

/* Whether a guest that works, on a VMM that does, makes KVM_RUN end so. */
static bool is_ordinary(u32 reason)
{
	switch (reason) {
	case KVM_EXIT_IO:
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_TPR_ACCESS:
		return true;
	default:
		return false;
	}
}

static struct sealproof_exits *counts_of(pid_t pid)
{
	struct sealproof_exits *counts = xa_load(&processes, pid), *there;

	if (counts)
		return counts;
	counts = kzalloc(sizeof(*counts), GFP_ATOMIC);
	if (!counts)
		return NULL;
	there = xa_cmpxchg(&processes, pid, NULL, counts, GFP_ATOMIC);
	if (!there)
		return counts;
	kfree(counts);
	return xa_is_err(there) ? NULL : there;
}

static void count(struct sealproof_exits *counts, struct kvm_vcpu *vcpu, int result)
{
	const struct kvm_run *run = vcpu->run;
	struct sealproof_exit exit = {
		.reason = run->exit_reason,
		.result = result,
	};
	bool device = !result && exit.reason == KVM_EXIT_MMIO && !is_memory(vcpu, run);
	unsigned long flags;

	if (!result && exit.reason == KVM_EXIT_MMIO) {
		exit.gpa = run->mmio.phys_addr;
		exit.length = run->mmio.len;
		exit.is_write = run->mmio.is_write;
	} else if (!result && exit.reason == KVM_EXIT_INTERNAL_ERROR) {
		exit.suberror = run->internal.suberror;
	}
	raw_spin_lock_irqsave(&counting, flags);
	counts->exits++;
	counts->device += device;
	if (result ? result != -EINTR && result != -EAGAIN : !device && !is_ordinary(exit.reason))
		counts->last[counts->noted++ % SEALPROOF_EXITS_KEPT] = exit;
	raw_spin_unlock_irqrestore(&counting, flags);
}

static int begins(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	*(struct kvm_vcpu **)instance->data = (struct kvm_vcpu *)regs_get_kernel_argument(regs, 0);
	return 0;
}

static int ends(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct sealproof_exits *counts = counts_of(task_tgid_nr(current));

	if (counts)
		count(counts, *(struct kvm_vcpu **)instance->data, (int)regs_return_value(regs));
	else
		atomic_inc(&lost);
	return 0;
}

static struct kretprobe run = {
	.kp.symbol_name = "kvm_arch_vcpu_ioctl_run",
	.entry_handler = begins,
	.handler = ends,
	.data_size = sizeof(struct kvm_vcpu *),
	.maxactive = THREADS,
};

static long exits_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	struct sealproof_exits asked, *counts;
	unsigned long flags;
	u32 pid;

	if (command != SEALPROOF_EXITS)
		return -ENOTTY;
	if (get_user(pid, (u32 __user *)arg))
		return -EFAULT;
	counts = xa_load(&processes, pid);
	if (!counts)
		return -ESRCH;
	raw_spin_lock_irqsave(&counting, flags);
	asked = *counts;
	raw_spin_unlock_irqrestore(&counting, flags);
	asked.pid = pid;
	asked.missed = run.nmissed + atomic_read(&lost);
	return copy_to_user((void __user *)arg, &asked, sizeof(asked)) ? -EFAULT : 0;
}

static const struct file_operations exits_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = exits_ioctl,
};

static struct miscdevice exits_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = SEALPROOF_EXITS_NAME,
	.fops = &exits_fops,
	.mode = 0600,
};

static int __init exits_init(void)
{
	int err = register_kretprobe(&run);

	if (err)
		return err;
	err = misc_register(&exits_device);
	if (err)
		unregister_kretprobe(&run);
	return err;
}

static void __exit exits_exit(void)
{
	struct sealproof_exits *counts;
	unsigned long pid;

	misc_deregister(&exits_device);
	unregister_kretprobe(&run);
	xa_for_each(&processes, pid, counts)
		kfree(counts);
	xa_destroy(&processes);
}

module_init(exits_init);
module_exit(exits_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("How KVM_RUN has ended in each process");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * What KVM has written down about a VM: its memory slots, and the pages that
 * the guest has asked to share. It is KVM's book of the guest's own requests,
 * by guest page number; what the VMM's page tables and the direct map make of
 * it is for others to try.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kallsyms.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "compat.h"
#include "sealproof_uapi.h"

/* An answer in the making: room for so many entries, and how many there are, which may be more. */
struct list {
	u64 room;
	u64 count;
};

struct answer {
	struct list slots, shared;
	struct sealproof_slot *slot;
	struct sealproof_pages *run;
	bool protected;
};

static void add_slots(struct kvm *kvm, struct answer *answer)
{
	struct kvm_memory_slot *slot;
	int space, bkt;

	for (space = 0; space < KVM_MAX_NR_ADDRESS_SPACES; space++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, space)) {
			u64 at = answer->slots.count;

			if (slot->id >= KVM_USER_MEM_SLOTS)
				continue;
			answer->slots.count++;
			if (at < answer->slots.room)
				answer->slot[at] = (struct sealproof_slot) {
					.gpa = gfn_to_gpa(slot->base_gfn),
					.pages = slot->npages,
					.address = slot->userspace_addr,
					.read_only = !!(slot->flags & KVM_MEM_READONLY),
					.space = space,
				};
		}
	}
}

#ifdef CONFIG_KVM_PROTECTED_MEM
static void add_shared(struct kvm *kvm, struct answer *answer)
{
	struct sealproof_pages run = {};
	unsigned long gfn;
	void *entry;

	answer->protected = kvm->mem_protected;
	xa_for_each(&kvm->mem_shared, gfn, entry) {
		if (!run.pages || gfn != run.gfn + run.pages) {
			run = (struct sealproof_pages) { .gfn = gfn };
			answer->shared.count++;
		}
		run.pages++;
		if (answer->shared.count <= answer->shared.room)
			answer->run[answer->shared.count - 1] = run;
	}
}
#else
static void add_shared(struct kvm *kvm, struct answer *answer)
{
}
#endif

static int give(u64 buffer, const struct list *list, const void *entries, size_t size)
{
	if (list->count > list->room)
		return -ENOSPC;
	return copy_to_user(u64_to_user_ptr(buffer), entries, list->count * size) ? -EFAULT : 0;
}

static int answer_for(struct kvm *kvm, struct sealproof_vm *vm)
{
	struct answer answer = {
		.slots.room = vm->slots,
		.shared.room = vm->shared,
	};
	int err = -ENOMEM;

	if (vm->slots > SEALPROOF_ORACLE_MAX || vm->shared > SEALPROOF_ORACLE_MAX)
		return -EINVAL;
	answer.slot = kvcalloc(vm->slots, sizeof(*answer.slot), GFP_KERNEL);
	answer.run = kvcalloc(vm->shared, sizeof(*answer.run), GFP_KERNEL);
	if (!answer.slot || !answer.run)
		goto free;

	mutex_lock(&kvm->slots_lock);
	add_slots(kvm, &answer);
	add_shared(kvm, &answer);
	mutex_unlock(&kvm->slots_lock);

	err = give(vm->slot_buffer, &answer.slots, answer.slot, sizeof(*answer.slot));
	if (!err)
		err = give(vm->shared_buffer, &answer.shared, answer.run, sizeof(*answer.run));
	vm->slots = answer.slots.count;
	vm->shared = answer.shared.count;
	vm->protected = answer.protected;
free:
	kvfree(answer.slot);
	kvfree(answer.run);
	return err;
}

/* KVM's file_is_kvm() tells; newer kernels (seen in 7.3) export it to KVM's own modules alone. */
static bool is_vm(struct file *file)
{
	const char *function = "kvm_vm_ioctl";
	char name[KSYM_SYMBOL_LEN];

	snprintf(name, sizeof(name), "%ps", file->f_op->unlocked_ioctl);
	return str_has_prefix(name, function) == strlen(function) &&
	       (name[strlen(function)] == '\0' || name[strlen(function)] == ' ');
}

static long oracle_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	struct sealproof_vm vm;
	struct file *owner;
	long err;

	if (command != SEALPROOF_VM)
		return -ENOTTY;
	if (copy_from_user(&vm, (void __user *)arg, sizeof(vm)))
		return -EFAULT;
	owner = fget(vm.fd);
	if (!owner)
		return -EBADF;
	err = is_vm(owner) ? answer_for(owner->private_data, &vm) : -EINVAL;
	fput(owner);
	if (err)
		return err;
	return copy_to_user((void __user *)arg, &vm, sizeof(vm)) ? -EFAULT : 0;
}

static const struct file_operations oracle_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = oracle_ioctl,
};

static struct miscdevice oracle_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = SEALPROOF_ORACLE_NAME,
	.fops = &oracle_fops,
	.mode = 0600,
};

static int __init oracle_init(void)
{
	return misc_register(&oracle_device);
}

static void __exit oracle_exit(void)
{
	misc_deregister(&oracle_device);
}

module_init(oracle_init);
module_exit(oracle_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A VM's memory slots, and the pages that its guest has asked to share");

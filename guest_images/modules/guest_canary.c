// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's kernel side of its canaries: pages of the kernel that user space
 * fills, reads back and learns the physical address of; whether the guest is
 * protected; pages, the kernel's or the caller's, shared with the host; and
 * KVM's hypercalls.
 */
#include <linux/cc_platform.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kvm_para.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/set_memory.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "sealproof_uapi.h"
#include "share_content.h"

/* One canary: at most one of own and pinned is there. */
struct slot {
	struct page *own;	/* the kernel's page; the one before it is the approach */
	struct page *pinned;	/* the caller's page, while it is shared */
	bool shared;
};

/* A block that was free, of which every other run of pages is shared. */
struct block {
	unsigned long pages;	/* its address; 0: there is none */
	void *shared;		/* the pages that are, in the vmalloc area: one after the other there alone */
};

/* What one open file has. */
struct canaries {
	struct mutex lock;	/* of all slots */
	struct slot slots[SEALPROOF_CANARY_SLOTS];
	struct block free[SEALPROOF_FREE_BLOCKS];
};

static unsigned long approach(const struct slot *slot)
{
	return (unsigned long)page_address(slot->own) - PAGE_SIZE;
}

/* The slot's own page, and right before it one that is shared with the host: what starts there can run into ours. */
static int allocate(struct slot *slot)
{
	struct page *two;
	int err;

	if (slot->own)
		return 0;
	two = alloc_pages(GFP_KERNEL | __GFP_ZERO, 1);
	if (!two)
		return -ENOMEM;
	slot->own = two + 1;
	err = set_memory_decrypted(approach(slot), 1);
	if (err) {
		__free_pages(two, 1);
		slot->own = NULL;
		return err;
	}
	memset((void *)approach(slot), SEALPROOF_APPROACH, PAGE_SIZE);
	return 0;
}

/* Gives the slot's page and its approach back; what the host still sees is lost until the guest ends. */
static void give_back(struct slot *slot)
{
	int err = slot->shared ? -EBUSY : set_memory_encrypted(approach(slot), 1);

	if (err) {
		pr_err("a page stays shared: error %d\n", err);
		return;
	}
	memzero_explicit(page_address(slot->own), PAGE_SIZE);
	__free_pages(slot->own - 1, 1);
}

static int plant(struct slot *slot, void __user *buffer)
{
	int err = slot->pinned ? -EBUSY : allocate(slot);

	if (err)
		return err;
	return copy_from_user(page_address(slot->own), buffer, PAGE_SIZE) ? -EFAULT : 0;
}

static int read(struct slot *slot, void __user *buffer)
{
	if (!slot->own)
		return -ENOENT;
	return copy_to_user(buffer, page_address(slot->own), PAGE_SIZE) ? -EFAULT : 0;
}

static int pin(struct slot *slot, unsigned long address)
{
	int count;

	if (slot->own)
		return -EBUSY;
	if (!PAGE_ALIGNED(address))
		return -EINVAL;
	count = pin_user_pages_fast(address, 1, FOLL_WRITE | FOLL_LONGTERM, &slot->pinned);
	if (count == 1)
		return 0;
	slot->pinned = NULL;
	return count < 0 ? count : -EFAULT;
}

static void unpin(struct slot *slot)
{
	if (slot->pinned)
		unpin_user_page(slot->pinned);
	slot->pinned = NULL;
}

static unsigned long direct_map_address(const struct slot *slot)
{
	return (unsigned long)page_address(slot->own ? slot->own : slot->pinned);
}

static int share(struct slot *slot, unsigned long address)
{
	int err;

	if (slot->shared)
		return -EBUSY;
	err = address ? pin(slot, address) : allocate(slot);
	if (err)
		return err;
	err = share_content((void *)direct_map_address(slot), 1);
	if (err)
		unpin(slot);
	else
		slot->shared = true;
	return err;
}

static int unshare(struct slot *slot)
{
	int err;

	if (!slot->shared)
		return -ENOENT;
	err = set_memory_encrypted(direct_map_address(slot), 1);
	if (err)
		return err;
	slot->shared = false;
	unpin(slot);
	return 0;
}

static int carry_out(unsigned int command, struct slot *slot, u64 address)
{
	switch (command) {
	case SEALPROOF_CANARY_PLANT:
		return plant(slot, u64_to_user_ptr(address));
	case SEALPROOF_CANARY_READ:
		return read(slot, u64_to_user_ptr(address));
	case SEALPROOF_CANARY_SHARE:
		return share(slot, address);
	case SEALPROOF_CANARY_UNSHARE:
		return unshare(slot);
	case SEALPROOF_CANARY_STATE:
		return 0;
	default:
		return -ENOTTY;
	}
}

static void describe(const struct slot *slot, struct sealproof_canary *request)
{
	const struct page *page = slot->own ? slot->own : slot->pinned;

	request->gpa = page ? page_to_phys(page) : 0;
	if (!cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		request->state = SEALPROOF_PLAIN;
	else
		request->state = slot->shared ? SEALPROOF_SHARED : SEALPROOF_PRIVATE;
}

static long hypercall(void __user *arg)
{
	struct sealproof_hypercall request;

	if (copy_from_user(&request, arg, sizeof(request)))
		return -EFAULT;
	request.result = kvm_hypercall2(request.number, request.a0, request.a1);
	return copy_to_user(arg, &request, sizeof(request)) ? -EFAULT : 0;
}

/*
 * Every other run of a block's pages, as one buffer: what lies between them is nobody's to see, though a kernel that
 * takes the buffer for one in its direct map shares that.
 */
static void *map_runs(unsigned long block)
{
	struct page *pages[SEALPROOF_FREE_SHARED];

	for (int i = 0; i < SEALPROOF_FREE_SHARED; i++)
		pages[i] = virt_to_page((void *)block) + i + i / SEALPROOF_FREE_RUN * SEALPROOF_FREE_RUN;
	return vmap(pages, SEALPROOF_FREE_SHARED, VM_MAP, PAGE_KERNEL);
}

/* Nobody writes there: what others have left in it is what the host sees, if the kernel does not clear it. */
static int share_free(struct canaries *canaries)
{
	for (int i = 0; i < SEALPROOF_FREE_BLOCKS; i++) {
		struct block *const block = &canaries->free[i];
		int err;

		if (block->pages)
			return -EBUSY;
		block->pages = __get_free_pages(GFP_KERNEL, SEALPROOF_FREE_ORDER);
		if (!block->pages)
			return -ENOMEM;
		block->shared = map_runs(block->pages);
		if (!block->shared)
			return -ENOMEM;
		err = set_memory_decrypted((unsigned long)block->shared, SEALPROOF_FREE_SHARED);
		if (err)
			return err;
	}
	return 0;
}

static int take_back_ends(struct canaries *canaries)
{
	for (int i = 0; i < SEALPROOF_FREE_BLOCKS; i++) {
		const unsigned long shared = (unsigned long)canaries->free[i].shared;
		int err;

		if (!shared)
			return -ENOENT;
		err = set_memory_encrypted(shared, 1);
		if (!err)
			err = set_memory_encrypted(shared + (SEALPROOF_FREE_SHARED - 1) * PAGE_SIZE, 1);
		if (err)
			return err;
	}
	return 0;
}

static void give_back_free(struct canaries *canaries)
{
	for (int i = 0; i < SEALPROOF_FREE_BLOCKS; i++) {
		const struct block *const block = &canaries->free[i];

		if (block->shared && set_memory_encrypted((unsigned long)block->shared, SEALPROOF_FREE_SHARED)) {
			pr_err("pages stay shared\n");	/* and are lost until the guest ends */
			continue;
		}
		vunmap(block->shared);
		free_pages(block->pages, SEALPROOF_FREE_ORDER);
	}
}

static long canary_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	struct canaries *canaries = file->private_data;
	struct sealproof_canary request;
	struct slot *slot;
	int err;

	if (command == SEALPROOF_HYPERCALL)
		return hypercall((void __user *)arg);
	if (command == SEALPROOF_SHARE_FREE || command == SEALPROOF_TAKE_BACK_ENDS) {
		mutex_lock(&canaries->lock);
		err = command == SEALPROOF_SHARE_FREE ? share_free(canaries) : take_back_ends(canaries);
		mutex_unlock(&canaries->lock);
		return err;
	}
	if (_IOC_TYPE(command) != 'S' || _IOC_SIZE(command) != sizeof(request))
		return -ENOTTY;
	if (copy_from_user(&request, (void __user *)arg, sizeof(request)))
		return -EFAULT;
	if (request.slot >= SEALPROOF_CANARY_SLOTS || request.state)
		return -EINVAL;
	slot = &canaries->slots[request.slot];
	mutex_lock(&canaries->lock);
	err = carry_out(command, slot, request.buffer);
	if (!err)
		describe(slot, &request);
	mutex_unlock(&canaries->lock);
	if (err)
		return err;
	return copy_to_user((void __user *)arg, &request, sizeof(request)) ? -EFAULT : 0;
}

static int canary_open(struct inode *inode, struct file *file)
{
	struct canaries *canaries = kzalloc(sizeof(*canaries), GFP_KERNEL);

	if (!canaries)
		return -ENOMEM;
	mutex_init(&canaries->lock);
	file->private_data = canaries;
	return 0;
}

static int canary_release(struct inode *inode, struct file *file)
{
	struct canaries *canaries = file->private_data;

	for (int i = 0; i < SEALPROOF_CANARY_SLOTS; i++) {
		struct slot *slot = &canaries->slots[i];
		int err = slot->shared ? unshare(slot) : 0;

		if (slot->own)
			give_back(slot);
		else if (err)
			pr_err("a page stays shared: error %d\n", err);
	}
	give_back_free(canaries);
	kfree(canaries);
	return 0;
}

static const struct file_operations canary_fops = {
	.owner = THIS_MODULE,
	.open = canary_open,
	.release = canary_release,
	.unlocked_ioctl = canary_ioctl,
};

static struct miscdevice canary_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = SEALPROOF_CANARY_NAME,
	.fops = &canary_fops,
	.mode = 0600,
};

static int __init canary_init(void)
{
	BUILD_BUG_ON(PAGE_SIZE != SEALPROOF_PAGE_BYTES);
	return misc_register(&canary_device);
}

static void __exit canary_exit(void)
{
	misc_deregister(&canary_device);
}

module_init(canary_init);
module_exit(canary_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Canaries in the guest's memory, private and shared");

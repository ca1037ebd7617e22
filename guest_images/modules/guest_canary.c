// SPDX-License-Identifier: GPL-2.0-only
/*
 * Canaries in the guest's kernel memory: pages that user space fills, reads
 * back and learns the physical address of.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>

#include "sealproof_uapi.h"

static DEFINE_MUTEX(lock);
static struct page *pages[SEALPROOF_CANARY_SLOTS];

static int plant(struct sealproof_canary *request)
{
	struct page **page = &pages[request->slot];

	if (!*page)
		*page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!*page)
		return -ENOMEM;
	if (copy_from_user(page_address(*page), u64_to_user_ptr(request->buffer), PAGE_SIZE))
		return -EFAULT;
	request->gpa = page_to_phys(*page);
	return 0;
}

static int read(struct sealproof_canary *request)
{
	struct page *page = pages[request->slot];

	if (!page)
		return -ENOENT;
	if (copy_to_user(u64_to_user_ptr(request->buffer), page_address(page), PAGE_SIZE))
		return -EFAULT;
	request->gpa = page_to_phys(page);
	return 0;
}

static long canary_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	struct sealproof_canary request;
	int err;

	if (command != SEALPROOF_CANARY_PLANT && command != SEALPROOF_CANARY_READ)
		return -ENOTTY;
	if (copy_from_user(&request, (void __user *)arg, sizeof(request)))
		return -EFAULT;
	if (request.slot >= SEALPROOF_CANARY_SLOTS || request.reserved)
		return -EINVAL;
	mutex_lock(&lock);
	err = command == SEALPROOF_CANARY_PLANT ? plant(&request) : read(&request);
	mutex_unlock(&lock);
	if (err)
		return err;
	return copy_to_user((void __user *)arg, &request, sizeof(request)) ? -EFAULT : 0;
}

static const struct file_operations canary_fops = {
	.owner = THIS_MODULE,
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
	for (int i = 0; i < SEALPROOF_CANARY_SLOTS; i++) {
		if (!pages[i])
			continue;
		memzero_explicit(page_address(pages[i]), PAGE_SIZE);
		__free_page(pages[i]);
	}
}

module_init(canary_init);
module_exit(canary_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Canaries in the guest's kernel memory");

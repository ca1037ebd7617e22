// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ways of the host's kernel to a guest's memory, each one a line of the table
 * below. Adding one: a number in sealproof_uapi.h, a function, a line.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pfn.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "sealproof_uapi.h"

/* One try: bytes move between target and bytes; sets done, returns 0 or the errno met. */
struct method {
	bool writes;	/* to the target */
	bool in_page;	/* a transfer stays within one page of the target */
	int (*attempt)(const struct sealproof_attack *attack, void *bytes, u64 *done);
};

static int by_copy_from_user(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	unsigned long left = copy_from_user(bytes, u64_to_user_ptr(attack->target), attack->length);

	*done = attack->length - left;
	return left ? -EFAULT : 0;
}

static int by_copy_to_user(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	unsigned long left = copy_to_user(u64_to_user_ptr(attack->target), bytes, attack->length);

	*done = attack->length - left;
	return left ? -EFAULT : 0;
}

/* The direct-map address of a physical one, NULL when no struct page stands behind it. */
static void *direct_map_address(u64 physical)
{
	unsigned long pfn = PHYS_PFN(physical);

	if (!pfn_valid(pfn))
		return NULL;
	return page_address(pfn_to_page(pfn)) + offset_in_page(physical);
}

static int by_direct_map_read(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	const void *address = direct_map_address(attack->target);
	int err;

	if (!address)
		return -ENXIO;
	err = copy_from_kernel_nofault(bytes, address, attack->length);
	*done = err ? 0 : attack->length;
	return err;
}

/* copy_to_kernel_nofault() is not exported to modules; its building block is a macro. */
static int by_direct_map_write(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	u8 *address = direct_map_address(attack->target), *from = bytes;

	if (!address)
		return -ENXIO;
	pagefault_disable();
	for (; *done < attack->length; ++*done)
		__put_kernel_nofault(address + *done, from + *done, u8, fault);
	pagefault_enable();
	return 0;
fault:
	pagefault_enable();
	return -EFAULT;
}

static const struct method methods[] = {
	[SEALPROOF_COPY_FROM_USER]   = { false, false, by_copy_from_user },
	[SEALPROOF_COPY_TO_USER]     = { true,  false, by_copy_to_user },
	[SEALPROOF_DIRECT_MAP_READ]  = { false, true,  by_direct_map_read },
	[SEALPROOF_DIRECT_MAP_WRITE] = { true,  true,  by_direct_map_write },
};

static const struct method *method_of(const struct sealproof_attack *attack)
{
	const struct method *method;

	if (attack->method >= ARRAY_SIZE(methods) || !methods[attack->method].attempt)
		return NULL;
	method = &methods[attack->method];
	if (attack->flags || !attack->length || attack->length > SEALPROOF_ATTACK_MAX)
		return NULL;
	if (method->in_page && offset_in_page(attack->target) + attack->length > PAGE_SIZE)
		return NULL;
	return method;
}

static long attack_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	struct sealproof_attack attack;
	const struct method *method;
	void __user *buffer;
	void *bytes;
	long err = 0;

	if (command != SEALPROOF_ATTACK)
		return -ENOTTY;
	if (copy_from_user(&attack, (void __user *)arg, sizeof(attack)))
		return -EFAULT;
	method = method_of(&attack);
	if (!method)
		return -EINVAL;
	buffer = u64_to_user_ptr(attack.buffer);
	bytes = kzalloc(attack.length, GFP_KERNEL);
	if (!bytes)
		return -ENOMEM;
	if (method->writes && copy_from_user(bytes, buffer, attack.length)) {
		err = -EFAULT;
		goto free;
	}
	attack.done = 0;
	attack.result = method->attempt(&attack, bytes, &attack.done);
	if (!method->writes && copy_to_user(buffer, bytes, attack.done))
		err = -EFAULT;
	if (copy_to_user((void __user *)arg, &attack, sizeof(attack)))
		err = -EFAULT;
free:
	kfree_sensitive(bytes);
	return err;
}

static const struct file_operations attack_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = attack_ioctl,
};

static struct miscdevice attack_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = SEALPROOF_ATTACK_NAME,
	.fops = &attack_fops,
	.mode = 0600,
};

module_misc_device(attack_device);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Ways of the host's kernel to a guest's memory");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instructions of ring 0 that KVM carries out in the guest's memory: strings to
 * and from ports.
 */
#include <linux/cc_platform.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/set_memory.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <asm/emulate_prefix.h>

#include "sealproof_uapi.h"
#include "share_content.h"

#define BY_PREFIX ".byte " __stringify(__KVM_EMULATE_PREFIX) "\n\t"

static DEFINE_MUTEX(alone);
static void *memory;	/* SEALPROOF_STRING_BYTES, private or shared, by need */

/* --- strings and ports --------------------------------------------------- */

#define STRING_IO(before, after, op)							\
	asm volatile(before "rep " op after						\
		     : "+S" (from), "+D" (to), "+c" (left)				\
		     : "d" (port) : "memory", "cc")
#define EACH_WIDTH(before, after)							\
	do {										\
		switch (request->width | request->is_input << 3) {			\
		case 1:									\
			STRING_IO(before, after, "outsb");				\
			break;								\
		case 2:									\
			STRING_IO(before, after, "outsw");				\
			break;								\
		case 4:									\
			STRING_IO(before, after, "outsl");				\
			break;								\
		case 9:									\
			STRING_IO(before, after, "insb");				\
			break;								\
		case 10:								\
			STRING_IO(before, after, "insw");				\
			break;								\
		case 12:								\
			STRING_IO(before, after, "insl");				\
			break;								\
		}									\
	} while (0)

static void move_string(struct sealproof_string *request)
{
	unsigned long start = (unsigned long)memory + request->offset, from = start, to = start;
	unsigned long left = request->count;
	u16 port = request->port;

	if (request->by_prefix && request->backward)
		EACH_WIDTH("std\n\t" BY_PREFIX, "\n\tcld");
	else if (request->by_prefix)
		EACH_WIDTH(BY_PREFIX, "");
	else if (request->backward)
		EACH_WIDTH("std\n\t", "\n\tcld");
	else
		EACH_WIDTH("", "");
	request->left = left;
	request->moved = (request->is_input ? to : from) - start;
}

/* The same without a string: each element by an instruction of its own, and a register. */
static void move_elements(struct sealproof_string *request)
{
	void *at = memory + request->offset;
	u64 i;

	for (i = 0; i < request->count; i++, at += request->width) {
		switch (request->width | request->is_input << 3) {
		case 1:
			outb(*(u8 *)at, request->port);
			break;
		case 2:
			outw(*(u16 *)at, request->port);
			break;
		case 4:
			outl(*(u32 *)at, request->port);
			break;
		case 9:
			*(u8 *)at = inb(request->port);
			break;
		case 10:
			*(u16 *)at = inw(request->port);
			break;
		case 12:
			*(u32 *)at = inl(request->port);
			break;
		}
	}
	request->left = 0;
	request->moved = at - memory - request->offset;
}

static int carry_out_string(struct sealproof_string *request)
{
	u64 bytes = request->count * request->width;
	u64 first = request->offset;

	if ((request->width != 1 && request->width != 2 && request->width != 4) || request->is_input > 1)
		return -EINVAL;
	if (request->count > SEALPROOF_STRING_BYTES || first > SEALPROOF_STRING_BYTES)
		return -EINVAL;
	if (request->backward ? bytes > first + request->width : first + bytes > SEALPROOF_STRING_BYTES)
		return -EINVAL;
	if (request->by_elements && request->backward)
		return -EINVAL;
	if (copy_from_user(memory, u64_to_user_ptr(request->buffer), SEALPROOF_STRING_BYTES))
		return -EFAULT;
	if (request->by_elements)
		move_elements(request);
	else
		move_string(request);
	return copy_to_user(u64_to_user_ptr(request->buffer), memory, SEALPROOF_STRING_BYTES) ? -EFAULT : 0;
}

/* --- the device ---------------------------------------------------------- */

#define ORDER get_order(SEALPROOF_STRING_BYTES)

static int share(bool shared)
{
	unsigned long address = (unsigned long)memory;

	if (!cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return 0;
	return shared ? share_content(memory, 1 << ORDER) : set_memory_encrypted(address, 1 << ORDER);
}

static int on_memory(struct sealproof_string *request)
{
	int err, again;

	mutex_lock(&alone);
	err = request->shared ? share(true) : 0;
	if (!err) {
		err = carry_out_string(request);
		again = request->shared ? share(false) : 0;
		err = err ?: again;
	}
	mutex_unlock(&alone);
	return err;
}

static long emulation_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct sealproof_string request;
	long err;

	if (command != SEALPROOF_STRING)
		return -ENOTTY;
	if (copy_from_user(&request, user, sizeof(request)))
		return -EFAULT;
	err = on_memory(&request);
	if (err)
		return err;
	return copy_to_user(user, &request, sizeof(request)) ? -EFAULT : 0;
}

static const struct file_operations emulation_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = emulation_ioctl,
};

static struct miscdevice emulation_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = SEALPROOF_EMULATION_NAME,
	.fops = &emulation_fops,
	.mode = 0600,
};

static int __init emulation_init(void)
{
	int err;

	memory = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, ORDER);
	if (!memory)
		return -ENOMEM;
	err = misc_register(&emulation_device);
	if (err)
		free_pages((unsigned long)memory, ORDER);
	return err;
}

static void __exit emulation_exit(void)
{
	misc_deregister(&emulation_device);
	free_pages((unsigned long)memory, ORDER);
}

module_init(emulation_init);
module_exit(emulation_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Instructions of ring 0 that KVM carries out in the guest's memory");

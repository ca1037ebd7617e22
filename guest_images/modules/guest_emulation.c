// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instructions of ring 0 that KVM carries out in the guest's memory: strings to
 * and from ports, and those that use the tables of descriptors. Each of the
 * latter also as the processor itself does it.
 */
#include <linux/cc_platform.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/objtool.h>
#include <linux/set_memory.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <asm/desc.h>
#include <asm/emulate_prefix.h>
#include <asm/segment.h>

#include "sealproof_uapi.h"

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

/* --- tables of descriptors ----------------------------------------------- */

/* The kernel's table, and behind it four descriptors of ours, which nobody has used. */
#define OURS GDT_ENTRIES
#define DATA OURS	/* each is 8 bytes, those of a system segment take two */
#define CODE (OURS + 1)
#define TSS (OURS + 2)
#define LDT (OURS + 4)
#define SELECTOR(entry) ((entry) * 8)
#define UNUSED_DATA 0x00cf92000000ffffull	/* ring 0, all memory, writable, not accessed */
#define UNUSED_CODE 0x00af9a000000ffffull	/* ring 0, 64 bits, readable, not accessed */
#define TYPE(descriptor) (((descriptor) >> 40) & 0xf)
#define TSS_AVAILABLE 9

struct table {
	u64 entries[OURS + 6];
	struct desc_ptr pointer, stored;
};

static void fill_table(struct table *table)
{
	const u64 *kernels = (const u64 *)get_cpu_gdt_rw(smp_processor_id());
	u64 base = (unsigned long)table;

	memset(table, 0, sizeof(*table));
	memcpy(table->entries, kernels, GDT_SIZE);
	table->entries[DATA] = UNUSED_DATA;
	table->entries[CODE] = UNUSED_CODE;
	table->entries[TSS] = (kernels[GDT_ENTRY_TSS] & ~(0xfull << 40)) | (u64)TSS_AVAILABLE << 40;
	table->entries[TSS + 1] = kernels[GDT_ENTRY_TSS + 1];
	table->entries[LDT] = 0xff | (base & 0xffffff) << 16 | (u64)(DESC_LDT | 0x80) << 40 | (base & 0xff000000) << 32;
	table->entries[LDT + 1] = base >> 32;
	table->pointer.size = sizeof(table->entries) - 1;
	table->pointer.address = base;
}

#define USE_TABLE(name, prefix)								\
	static noinline void name(struct table *table, struct sealproof_descriptors *seen) \
	{										\
		u16 before, es, tr, ldt;						\
											\
		asm volatile("movw %%es, %w0" : "=r" (before));				\
		asm volatile(prefix "lgdt %0" : : "m" (table->pointer));		\
		asm volatile(prefix "sgdt %0" : "=m" (table->stored));			\
		asm volatile(prefix "movw %w0, %%es" : : "r" (SELECTOR(DATA)));		\
		asm volatile("movw %%es, %w0" : "=r" (es));				\
		asm volatile("movw %w0, %%es" : : "r" (before));			\
		asm volatile("pushq %q0\n\t"						\
			     "leaq 1f(%%rip), %%rax\n\t"				\
			     "pushq %%rax\n\t"						\
			     prefix "lretq\n"						\
			     "1:\tmovw %%cs, %w1\n\t"					\
			     "pushq %q2\n\t"						\
			     "leaq 2f(%%rip), %%rax\n\t"				\
			     "pushq %%rax\n\t"						\
			     "lretq\n"							\
			     "2:"							\
			     : : "r" (SELECTOR(CODE)), "r" (0), "r" (__KERNEL_CS) : "rax", "memory"); \
		asm volatile(prefix "ltr %w0" : : "r" (SELECTOR(TSS)));			\
		asm volatile(prefix "str %w0" : "=r" (tr));				\
		asm volatile(prefix "lldt %w0" : : "r" (SELECTOR(LDT)));		\
		asm volatile(prefix "sldt %w0" : "=r" (ldt));				\
		asm volatile("lldt %w0" : : "r" (0));					\
		seen->es = es;								\
		seen->tr = tr;								\
		seen->ldt = ldt;							\
	}										\
	STACK_FRAME_NON_STANDARD(name)

USE_TABLE(use_natively, "");
USE_TABLE(use_by_prefix, BY_PREFIX);

/* The kernel's own table and task again; in the table the task's segment is busy, as it has been all the time. */
static void restore_table(void)
{
	int cpu = smp_processor_id();

	load_direct_gdt(cpu);
	((struct ldttss_desc *)get_cpu_gdt_rw(cpu))[GDT_ENTRY_TSS / 2].type = TSS_AVAILABLE;
	asm volatile("ltr %w0" : : "r" (SELECTOR(GDT_ENTRY_TSS)));
	load_fixmap_gdt(cpu);
}

static void use_table(struct sealproof_descriptors *seen)
{
	struct table *table = memory;
	unsigned long flags;

	local_irq_save(flags);
	fill_table(table);
	if (seen->by_prefix)
		use_by_prefix(table, seen);
	else
		use_natively(table, seen);
	restore_table();
	local_irq_restore(flags);
	seen->stored_size = table->stored.size;
	seen->stored_right = table->stored.address == table->pointer.address;
	seen->data = TYPE(table->entries[DATA]);
	seen->code = TYPE(table->entries[CODE]);
	seen->tss = TYPE(table->entries[TSS]);
	seen->system = TYPE(table->entries[LDT]);
}

/* --- the device ---------------------------------------------------------- */

#define ORDER get_order(SEALPROOF_STRING_BYTES)

static int share(bool shared)
{
	unsigned long address = (unsigned long)memory;

	if (!cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return 0;
	return shared ? set_memory_decrypted(address, 1 << ORDER) : set_memory_encrypted(address, 1 << ORDER);
}

static int on_memory(bool shared, int (*carry_out)(void *request), void *request)
{
	int err, again;

	mutex_lock(&alone);
	err = shared ? share(true) : 0;
	if (!err) {
		err = carry_out(request);
		again = shared ? share(false) : 0;
		err = err ?: again;
	}
	mutex_unlock(&alone);
	return err;
}

static int on_string(void *request)
{
	return carry_out_string(request);
}

static int on_table(void *request)
{
	use_table(request);
	return 0;
}

static long emulation_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	union {
		struct sealproof_string string;
		struct sealproof_descriptors descriptors;
	} request = {};
	long err;

	if (command != SEALPROOF_STRING && command != SEALPROOF_DESCRIPTORS)
		return -ENOTTY;
	if (copy_from_user(&request, user, _IOC_SIZE(command)))
		return -EFAULT;
	if (command == SEALPROOF_STRING)
		err = on_memory(request.string.shared, on_string, &request);
	else
		err = on_memory(request.descriptors.shared, on_table, &request);
	if (err)
		return err;
	return copy_to_user(user, &request, _IOC_SIZE(command)) ? -EFAULT : 0;
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

	BUILD_BUG_ON(sizeof(struct table) > SEALPROOF_STRING_BYTES);
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

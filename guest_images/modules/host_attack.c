// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ways of the host's kernel to a guest's memory, each one a line of the table
 * below. Adding one: a number in sealproof_uapi.h, a function, a line.
 */
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/kgdb.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pfn.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "sealproof_uapi.h"

/* One try: bytes move between target and bytes; sets done, returns 0 or the errno met. */
struct method {
	bool writes;	/* to the target */
	bool in_page;	/* a transfer stays within one page of the target */
	bool on_cpu;	/* flags is the number of a CPU that is online */
	bool any_flags;	/* flags is anything */
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

/* The page behind a physical address, NULL when no struct page stands behind it. */
static struct page *page_of(const struct sealproof_attack *attack)
{
	unsigned long pfn = PHYS_PFN(attack->target);

	return pfn_valid(pfn) ? pfn_to_page(pfn) : NULL;
}

/* Its direct-map address, likewise. */
static void *direct_map_address(const struct sealproof_attack *attack)
{
	struct page *page = page_of(attack);

	return page ? page_address(page) + offset_in_page(attack->target) : NULL;
}

static int load(const struct sealproof_attack *attack, void *bytes, const void *address, u64 *done)
{
	int err = copy_from_kernel_nofault(bytes, address, attack->length);

	*done = err ? 0 : attack->length;
	return err;
}

/* copy_to_kernel_nofault() is not exported to modules; its building block is a macro. */
static int store(const struct sealproof_attack *attack, const void *bytes, void *address, u64 *done)
{
	const u8 *from = bytes;
	u8 *to = address;

	pagefault_disable();
	for (; *done < attack->length; ++*done)
		__put_kernel_nofault(to + *done, from + *done, u8, fault);
	pagefault_enable();
	return 0;
fault:
	pagefault_enable();
	return -EFAULT;
}

/* ---- the direct map ----------------------------------------------------- */

static int by_direct_map_read(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	const void *address = direct_map_address(attack);

	return address ? load(attack, bytes, address, done) : -ENXIO;
}

static int by_direct_map_write(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	void *address = direct_map_address(attack);

	return address ? store(attack, bytes, address, done) : -ENXIO;
}

/* Each byte on its own, by the widest load that is aligned and gets through: no part of a page can hide behind another. */
static int by_direct_map_loads(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	const u8 *address = direct_map_address(attack);
	u8 *to = bytes;
	int err = 0;

	if (!address)
		return -ENXIO;
	for (u64 at = 0; at < attack->length; at++) {
		for (unsigned int width = 8; width; width /= 2) {
			u64 room = attack->length - at;

			if (!IS_ALIGNED((unsigned long)address + at, width) || room < width)
				continue;
			err = copy_from_kernel_nofault(to + *done, address + at, width);
			if (!err) {
				*done += width;
				at += width - 1;
				break;
			}
		}
	}
	return *done == attack->length ? 0 : err;
}

static int by_kmap_local_read(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page = page_of(attack);
	void *address;
	int err;

	if (!page)
		return -ENXIO;
	address = kmap_local_page(page);
	err = load(attack, bytes, address + offset_in_page(attack->target), done);
	kunmap_local(address);
	return err;
}

static int by_kmap_local_write(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page = page_of(attack);
	void *address;
	int err;

	if (!page)
		return -ENXIO;
	address = kmap_local_page(page);
	err = store(attack, bytes, address + offset_in_page(attack->target), done);
	kunmap_local(address);
	return err;
}

static int by_memremap(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	void *address = memremap(attack->target, attack->length, MEMREMAP_WB);
	int err;

	if (!address)
		return -ENXIO;
	err = load(attack, bytes, address, done);
	memunmap(address);
	return err;
}

/* ---- one CPU, whose TLB may know more than the page tables -------------- */

struct cpu_read {
	const struct sealproof_attack *attack;
	void *bytes;
	u64 *done;
	int err;
};

static void read_here(void *data)
{
	struct cpu_read *read = data;

	read->err = by_direct_map_read(read->attack, read->bytes, read->done);
}

static int by_cpu_read(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct cpu_read read = { attack, bytes, done };
	int err = smp_call_function_single(attack->flags, read_here, &read, true);

	return err ?: read.err;
}

/*
 * A thread that reads, and leaves its CPU to nobody but interrupts: in a switch to another process the CPU would drop
 * what its TLB holds. It gives up after so long, not to be taken for a CPU that hangs.
 */
#define WATCH_TIME	(15 * HZ)	/* a stall is reported after 20 s or more */

static struct watch {
	struct task_struct *task;
	struct sealproof_attack attack;
	struct completion begun, ended;
	bool stop;
	int err;		/* of the first read, then of the last */
	u64 done;
	u8 bytes[PAGE_SIZE];
} watch;
static DEFINE_MUTEX(watch_lock);

static int keep_reading(void *unused)
{
	bool yields = watch.attack.method == SEALPROOF_WATCH_START_YIELDING;
	unsigned long end = jiffies + WATCH_TIME * (yields ? 4 : 1);
	bool late;

	watch.err = by_direct_map_read(&watch.attack, watch.bytes, &watch.done);
	complete(&watch.begun);
	do {
		late = time_after(jiffies, end);
		by_direct_map_read(&watch.attack, watch.bytes, &watch.done);
		/* To a thread of the kernel's: no address space is switched, which would drop what the TLB has. */
		if (yields)
			cond_resched();
		cpu_relax();
	} while (!READ_ONCE(watch.stop) && !late);
	watch.done = 0;
	watch.err = late ? -ETIME : by_direct_map_read(&watch.attack, watch.bytes, &watch.done);
	complete(&watch.ended);
	return 0;
}

static int end_watch(void)
{
	if (!watch.task)
		return -ENOENT;
	WRITE_ONCE(watch.stop, true);
	wait_for_completion(&watch.ended);
	watch.task = NULL;
	return watch.err;
}

static int by_watch_start(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct task_struct *task;
	int err;

	if (offset_in_page(attack->target) || attack->length != PAGE_SIZE)
		return -EDOM;
	mutex_lock(&watch_lock);
	end_watch();
	watch.attack = *attack;
	watch.stop = false;
	init_completion(&watch.begun);
	init_completion(&watch.ended);
	task = kthread_create_on_cpu(keep_reading, NULL, attack->flags, "sealproof/%u");
	err = PTR_ERR_OR_ZERO(task);
	if (!err) {
		watch.task = task;
		wake_up_process(task);
		wait_for_completion(&watch.begun);
		err = watch.err;
	}
	mutex_unlock(&watch_lock);
	return err;
}

static int by_watch_stop(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	int err;

	mutex_lock(&watch_lock);
	err = attack->length == PAGE_SIZE ? end_watch() : -EDOM;
	if (!err) {
		memcpy(bytes, watch.bytes, PAGE_SIZE);
		*done = watch.done;
	}
	memzero_explicit(watch.bytes, PAGE_SIZE);
	mutex_unlock(&watch_lock);
	return err;
}

/* ---- get_user_pages ----------------------------------------------------- */

/* What get_user_pages() said as an error. */
static int gup_error(long pages)
{
	return pages == 1 ? 0 : pages < 0 ? pages : -EFAULT;
}

static long get_page_at(u64 address, unsigned int flags, struct page **page)
{
	long got;

	mmap_read_lock(current->mm);
	got = get_user_pages(address, 1, flags, page);
	mmap_read_unlock(current->mm);
	return got;
}

static int load_page(const struct sealproof_attack *attack, struct page *page, void *bytes, u64 *done)
{
	int err = load(attack, bytes, page_address(page) + offset_in_page(attack->target), done);

	/* It was had, which is not to be taken for a refusal. */
	return err == -EFAULT ? -EADDRNOTAVAIL : err;
}

static int by_get_user_pages(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page;
	int err = gup_error(get_page_at(attack->target, FOLL_FORCE, &page));

	if (!err) {
		err = load_page(attack, page, bytes, done);
		put_page(page);
	}
	return err;
}

static int by_get_user_pages_fast(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page;
	int err = gup_error(get_user_pages_fast(attack->target, 1, 0, &page));

	if (!err) {
		err = load_page(attack, page, bytes, done);
		put_page(page);
	}
	return err;
}

static int by_pin_user_pages(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page;
	int err = gup_error(pin_user_pages_fast(attack->target, 1, FOLL_WRITE | FOLL_LONGTERM, &page));

	if (!err) {
		err = load_page(attack, page, bytes, done);
		unpin_user_page(page);
	}
	return err;
}

/* The flags by the numbers that they have in Linux 6.12; what a kernel does not know is none. */
static const unsigned int foll_flags[] = {
	FOLL_WRITE, FOLL_GET, FOLL_DUMP, FOLL_FORCE, FOLL_NOWAIT, FOLL_NOFAULT, FOLL_HWPOISON, FOLL_ANON, FOLL_LONGTERM,
	FOLL_SPLIT_PMD, FOLL_PCI_P2PDMA, FOLL_INTERRUPTIBLE, FOLL_HONOR_NUMA_FAULT,
};

static unsigned int flags_of(const struct sealproof_attack *attack)
{
	unsigned int flags = 0;

	for (unsigned int bit = 0; bit < ARRAY_SIZE(foll_flags); bit++) {
		if (attack->flags & BIT(bit))
			flags |= foll_flags[bit];
	}
	return flags;
}

/* By a mapping of our own, so that what was had is read also where it is in no other one. */
static int by_get_user_pages_with(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page;
	void *address;
	int err = gup_error(get_page_at(attack->target, flags_of(attack), &page));

	if (err)
		return err;
	address = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	err = address ? load(attack, bytes, address + offset_in_page(attack->target), done) : -ENOMEM;
	vunmap(address);
	put_page(page);
	return err;
}

static int by_access_process_vm_read(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	*done = access_process_vm(current, attack->target, bytes, attack->length, FOLL_FORCE);
	return 0;
}

static int by_access_process_vm_write(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	*done = access_process_vm(current, attack->target, bytes, attack->length, FOLL_FORCE | FOLL_WRITE);
	return 0;
}

/* ---- full control: the page is mapped anew ------------------------------ */

static int by_vmap_read(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page = page_of(attack);
	void *address = page ? vmap(&page, 1, VM_MAP, PAGE_KERNEL) : NULL;
	int err;

	if (!address)
		return page ? -ENOMEM : -ENXIO;
	err = load(attack, bytes, address + offset_in_page(attack->target), done);
	vunmap(address);
	return err;
}

static int by_vmap_write(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page = page_of(attack);
	void *address = page ? vmap(&page, 1, VM_MAP, PAGE_KERNEL) : NULL;
	int err;

	if (!address)
		return page ? -ENOMEM : -ENXIO;
	err = store(attack, bytes, address + offset_in_page(attack->target), done);
	vunmap(address);
	return err;
}

/* FOLL_KVM of the series; other kernels give the number no meaning. */
#define AS_KVM	(1U << 13)

/* As an attacker would: if the page is refused, ask for it as KVM does, and map it. */
static int by_get_user_pages_as_kvm(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	struct page *page;
	void *address;
	int err = gup_error(get_page_at(attack->target, FOLL_WRITE, &page));

	if (err)
		err = gup_error(get_page_at(attack->target, FOLL_WRITE | AS_KVM, &page));
	if (err)
		return err;
	address = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	err = address ? load(attack, bytes, address + offset_in_page(attack->target), done) : -ENOMEM;
	vunmap(address);
	put_page(page);
	return err;
}

typedef int (*change_direct_map)(struct page *page);

/* A function that is not exported: a kprobe tells where it is. */
static void *find_function(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	void *address;

	if (register_kprobe(&probe))
		return NULL;
	address = probe.addr;
	unregister_kprobe(&probe);
	return address;
}

static void forget(void *address)
{
	asm volatile("invlpg (%0)" : : "r" (address) : "memory");
}

/* Puts the page back into the direct map, and for the time after as it was. */
static int by_direct_map_again(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	change_direct_map put = find_function("set_direct_map_default_noflush");
	change_direct_map take = find_function("set_direct_map_invalid_noflush");
	struct page *page = page_of(attack);
	int err;

	if (!page || !put || !take)
		return -ENXIO;
	if (!by_direct_map_read(attack, bytes, done))
		return 0;
	err = put(page);
	if (err)
		return err;
	err = by_direct_map_read(attack, bytes, done);
	if (take(page))
		pr_err("a page stays in the direct map\n");
	on_each_cpu(forget, page_address(page), true);
	return err;
}

/* To split a large entry flushes all TLBs; whoever uses the page meanwhile would fault. */
static int by_direct_map_split(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	change_direct_map put = find_function("set_direct_map_default_noflush");
	change_direct_map take = find_function("set_direct_map_invalid_noflush");
	struct page *page = page_of(attack);

	if (!page || !put || !take)
		return -ENXIO;
	return take(page) ?: put(page);
}

/* ---- kgdb --------------------------------------------------------------- */

#define KGDB_BYTES	256	/* in one packet; its buffer has 1,024 characters */
#define DETACH		"$D#44+"

/* What a debugger would send, and all that it would hear. */
static struct {
	char said[2 * KGDB_BYTES + 64], heard[2 * KGDB_BYTES + 64];
	unsigned int at, length;
} session;
static DEFINE_MUTEX(session_lock);

/* After the session's end it detaches for ever: the kernel stands still until it did. */
static int session_read(void)
{
	if (!session.said[session.at]) {
		strscpy(session.said, DETACH, sizeof(session.said));
		session.at = 0;
	}
	return session.said[session.at++];
}

static void session_write(u8 byte)
{
	if (session.length < sizeof(session.heard) - 1)
		session.heard[session.length++] = byte;
}

static struct kgdb_io session_io = {
	.name = "sealproof",
	.read_char = session_read,
	.write_char = session_write,
};

/* Enters the debugger with one packet; its answer, without frame, replaces it. Returns its length or an error. */
static int converse(const char *packet)
{
	u8 sum = 0;
	char *first, *last;
	int err;

	for (const char *at = packet; *at; at++)
		sum += *at;
	snprintf(session.said, sizeof(session.said), "$%s#%02x+" DETACH, packet, sum);
	memset(session.heard, 0, sizeof(session.heard));
	session.at = session.length = 0;
	err = kgdb_register_io_module(&session_io);
	if (err)
		return err;
	kgdb_breakpoint();
	kgdb_unregister_io_module(&session_io);
	first = strchr(session.heard, '$');
	last = first ? strchr(first, '#') : NULL;
	if (!last)
		return -EPROTO;
	memmove(session.heard, first + 1, last - first - 1);
	session.heard[last - first - 1] = '\0';
	return last - first - 1;
}

/* The errno that an answer is, two decimal digits; 0 for another one. */
static int error_of(int length)
{
	unsigned int number;

	return length == 3 && sscanf(session.heard, "E%2u", &number) == 1 ? -(int)number : 0;
}

static int by_kgdb_read(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	char packet[64];
	int got, err;

	if (attack->length > KGDB_BYTES)
		return -EDOM;
	snprintf(packet, sizeof(packet), "m%lx,%llx", (unsigned long)direct_map_address(attack), attack->length);
	mutex_lock(&session_lock);
	got = converse(packet);
	err = got < 0 ? got : error_of(got);
	if (!err && got == 2 * attack->length && !hex2bin(bytes, session.heard, attack->length))
		*done = attack->length;
	else if (!err)
		err = -EPROTO;
	mutex_unlock(&session_lock);
	return err;
}

static int by_kgdb_write(const struct sealproof_attack *attack, void *bytes, u64 *done)
{
	char packet[2 * KGDB_BYTES + 32];
	int got, err, length;

	if (attack->length > KGDB_BYTES / 2)
		return -EDOM;
	length = snprintf(packet, sizeof(packet), "M%lx,%llx:", (unsigned long)direct_map_address(attack),
			  attack->length);
	*bin2hex(packet + length, bytes, attack->length) = '\0';
	mutex_lock(&session_lock);
	got = converse(packet);
	err = got < 0 ? got : error_of(got);
	if (!err && !strcmp(session.heard, "OK"))
		*done = attack->length;
	else if (!err)
		err = -EPROTO;
	mutex_unlock(&session_lock);
	return err;
}

static const struct method methods[] = {
	[SEALPROOF_COPY_FROM_USER]      = { .attempt = by_copy_from_user },
	[SEALPROOF_COPY_TO_USER]        = { .attempt = by_copy_to_user, .writes = true },
	[SEALPROOF_DIRECT_MAP_READ]     = { .attempt = by_direct_map_read, .in_page = true },
	[SEALPROOF_DIRECT_MAP_WRITE]    = { .attempt = by_direct_map_write, .in_page = true, .writes = true },
	[SEALPROOF_DIRECT_MAP_LOADS]    = { .attempt = by_direct_map_loads, .in_page = true },
	[SEALPROOF_KMAP_LOCAL_READ]     = { .attempt = by_kmap_local_read, .in_page = true },
	[SEALPROOF_KMAP_LOCAL_WRITE]    = { .attempt = by_kmap_local_write, .in_page = true, .writes = true },
	[SEALPROOF_MEMREMAP_READ]       = { .attempt = by_memremap, .in_page = true },
	[SEALPROOF_CPU_READ]            = { .attempt = by_cpu_read, .in_page = true, .on_cpu = true },
	[SEALPROOF_WATCH_START]         = { .attempt = by_watch_start, .in_page = true, .on_cpu = true },
	[SEALPROOF_WATCH_START_YIELDING] = { .attempt = by_watch_start, .in_page = true, .on_cpu = true },
	[SEALPROOF_WATCH_STOP]          = { .attempt = by_watch_stop, .in_page = true },
	[SEALPROOF_GET_USER_PAGES]      = { .attempt = by_get_user_pages, .in_page = true },
	[SEALPROOF_GET_USER_PAGES_FAST] = { .attempt = by_get_user_pages_fast, .in_page = true },
	[SEALPROOF_GET_USER_PAGES_WITH] = { .attempt = by_get_user_pages_with, .in_page = true, .any_flags = true },
	[SEALPROOF_PIN_USER_PAGES]      = { .attempt = by_pin_user_pages, .in_page = true },
	[SEALPROOF_ACCESS_VM_READ]      = { .attempt = by_access_process_vm_read },
	[SEALPROOF_ACCESS_VM_WRITE]     = { .attempt = by_access_process_vm_write, .writes = true },
	[SEALPROOF_KGDB_READ]           = { .attempt = by_kgdb_read, .in_page = true },
	[SEALPROOF_KGDB_WRITE]          = { .attempt = by_kgdb_write, .in_page = true, .writes = true },
	[SEALPROOF_VMAP_READ]           = { .attempt = by_vmap_read, .in_page = true },
	[SEALPROOF_VMAP_WRITE]          = { .attempt = by_vmap_write, .in_page = true, .writes = true },
	[SEALPROOF_GET_AS_KVM]          = { .attempt = by_get_user_pages_as_kvm, .in_page = true },
	[SEALPROOF_DIRECT_MAP_AGAIN]    = { .attempt = by_direct_map_again, .in_page = true },
	[SEALPROOF_DIRECT_MAP_SPLIT]    = { .attempt = by_direct_map_split, .in_page = true },
};

static const struct method *method_of(const struct sealproof_attack *attack)
{
	const struct method *method;

	if (attack->method >= ARRAY_SIZE(methods) || !methods[attack->method].attempt)
		return NULL;
	method = &methods[attack->method];
	if (method->any_flags)
		;
	else if (method->on_cpu ? attack->flags >= nr_cpu_ids || !cpu_online(attack->flags) : attack->flags)
		return NULL;
	if (!attack->length || attack->length > SEALPROOF_ATTACK_MAX)
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

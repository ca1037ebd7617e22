/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What the kernel modules and the programs that call them agree on.
 *
 * All integers are little-endian and naturally aligned; no structure has
 * hidden padding. "struct" formats are those of Python's struct module.
 *
 * An ioctl's own return value speaks only of the call: 0 when the request was
 * understood and carried out, -EINVAL, -ENOMEM or -EFAULT (the caller's own
 * structure or buffer is bad) when not, and what is said at the command. What an attack met stands in
 * sealproof_attack.result. So a fault of the harness is never taken for a
 * blocked attack.
 */
#ifndef SEALPROOF_UAPI_H
#define SEALPROOF_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SEALPROOF_PAGE_BYTES	4096

/* ---- guest_canary.ko: canaries of the guest ----------------------------- */

#define SEALPROOF_CANARY_NAME	"sealproof-canary"	/* below /dev */
#define SEALPROOF_CANARY_SLOTS	16
/* Each byte of the page before a slot's own page; that one is shared with the host, if the guest shares any. */
#define SEALPROOF_APPROACH	0xa5

/* Who may see a page, as the guest's kernel has it. */
enum sealproof_state {
	SEALPROOF_PLAIN = 1,	/* everybody: the guest did not ask for protection */
	SEALPROOF_PRIVATE = 2,	/* the guest alone: it asked for protection, and has not shared the page */
	SEALPROOF_SHARED = 3,	/* the host, too: it asked for protection, and has shared the page */
};

/*
 * struct.Struct("<IIQQ"), 24 bytes.
 *
 * A slot is a page: one of the kernel's own, allocated on first use, or one of the caller's, while it is shared.
 * Slots belong to the open file; when it ends, what is shared is made private again, and all pages are given back.
 */
struct sealproof_canary {
	__u32 slot;	/* in: 0 .. SEALPROOF_CANARY_SLOTS - 1 */
	__u32 state;	/* in: 0; out: enum sealproof_state, of the slot's page as it is now */
	__u64 buffer;	/* in: user address, by command */
	__u64 gpa;	/* out: physical address of the page, in bytes; 0: the slot has none */
};

/* Fill the slot's own page with the SEALPROOF_PAGE_BYTES bytes at buffer. */
#define SEALPROOF_CANARY_PLANT	_IOWR('S', 0x01, struct sealproof_canary)	/* 0xc0185301 */
/* Copy the slot's own page to buffer; -ENOENT when nothing was planted. */
#define SEALPROOF_CANARY_READ	_IOWR('S', 0x02, struct sealproof_canary)	/* 0xc0185302 */
/*
 * Share the slot's page with the host: the caller's at buffer, which is pinned, or when buffer is 0 its own.
 * -EBUSY when it is shared already, else the errno that pinning or sharing met. A plain guest does all but share it.
 */
#define SEALPROOF_CANARY_SHARE	_IOWR('S', 0x03, struct sealproof_canary)	/* 0xc0185303 */
/* Make the slot's page private again, and unpin it; -ENOENT when it is not shared. It stays shared when that fails. */
#define SEALPROOF_CANARY_UNSHARE _IOWR('S', 0x04, struct sealproof_canary)	/* 0xc0185304 */
/* Tell the state alone. A slot without a page has the state of all that the guest has not shared. */
#define SEALPROOF_CANARY_STATE	_IOWR('S', 0x05, struct sealproof_canary)	/* 0xc0185305 */

/*
 * struct.Struct("<QQQq"), 32 bytes: a hypercall of KVM's, made in ring 0 as the guest's kernel makes them.
 */
struct sealproof_hypercall {
	__u64 number;	/* in */
	__u64 a0, a1;	/* in */
	__s64 result;	/* out: what KVM returned */
};

#define SEALPROOF_HYPERCALL	_IOWR('S', 0x06, struct sealproof_hypercall)	/* 0xc0205306 */

/*
 * Share free memory as it is, as for a device that has yet to write there: of SEALPROOF_FREE_BLOCKS blocks of
 * 1 << SEALPROOF_FREE_ORDER pages every other run of SEALPROOF_FREE_RUN, as one buffer in the vmalloc area, for as long
 * as the file is open. No argument. -EBUSY the second time, else the errno that sharing met.
 */
#define SEALPROOF_SHARE_FREE	_IO('S', 0x07)	/* 0x5307 */
#define SEALPROOF_FREE_BLOCKS	64
#define SEALPROOF_FREE_ORDER	5
#define SEALPROOF_FREE_SHARED	16	/* pages of a block */
#define SEALPROOF_FREE_RUN	8
/*
 * Take back the two ends of each of these buffers, its first and its last page. No argument. -ENOENT when they are not
 * shared, else the errno that it met.
 */
#define SEALPROOF_TAKE_BACK_ENDS	_IO('S', 0x08)	/* 0x5308 */

/* ---- host_attack.ko: ways of the host's kernel to memory ---------------- */

#define SEALPROOF_ATTACK_NAME	"sealproof-attack"	/* below /dev */
#define SEALPROOF_ATTACK_MAX	(16 * SEALPROOF_PAGE_BYTES)

/*
 * struct.Struct("<IIQQQqQ"), 48 bytes.
 */
struct sealproof_attack {
	__u32 method;	/* in: enum sealproof_method */
	__u32 flags;	/* in: 0, or the number of a CPU or flags, by method */
	__u64 target;	/* in: an address of the calling process, or a physical address, by method */
	__u64 length;	/* in: bytes, 1 .. SEALPROOF_ATTACK_MAX */
	__u64 buffer;	/* in: the caller's own memory, length bytes: what was read goes here, what is written comes from here */
	__s64 result;	/* out: 0 or the negative errno that the attack met */
	__u64 done;	/* out: bytes that the attack moved, from the start; only these were put into buffer */
};

#define SEALPROOF_ATTACK	_IOWR('S', 0x10, struct sealproof_attack)	/* 0xc0305310 */

/*
 * A number, once given, keeps its meaning. A method that reads copies from the target to the kernel, and
 * then to buffer; one that writes copies from buffer to the kernel, and then to the target.
 *
 * COPY_*_USER: target is a virtual address of the calling process. The first copy is copy_from_user() or
 *   copy_to_user(); result is -EFAULT when it stopped early, done says where.
 * GET_USER_PAGES, GET_USER_PAGES_FAST, PIN_USER_PAGES: target as above, within a page, which is had by get_user_pages()
 *   with FOLL_FORCE, get_user_pages_fast(), pin_user_pages_fast() to write and for long, and read at page_address().
 *   result is the error of that call, -EFAULT when it had no page, -EADDRNOTAVAIL when it had one that cannot be read there.
 * GET_USER_PAGES_WITH: likewise, with flags as the FOLL_ flags of Linux 6.12, and read by a new mapping.
 * ACCESS_VM_*: target as above. access_process_vm() with FOLL_FORCE; result is 0, done what it returned.
 *
 * All others: target is a physical address; a transfer stays within one page (-EINVAL of the ioctl otherwise). result is
 * -ENXIO when no struct page stands behind it, -EFAULT when the access to the address named here faulted.
 *
 * DIRECT_MAP_*: page_address(page). LOADS tries each byte alone, by loads of 8, 4, 2 and 1 bytes; what any got is in
 *   buffer, without gaps.
 * KMAP_LOCAL_*: kmap_local_page(page). MEMREMAP: memremap(target, length, MEMREMAP_WB).
 * CPU_READ: page_address(page), by an interrupt on the CPU with the number flags.
 * WATCH_START: a thread on the CPU with the number flags reads the page at page_address(page) without a break, alone there
 *   but for interrupts; result is what its first read met. WATCH_STOP: it reads once more and ends; result and buffer are
 *   of that read. -ETIME when it gave up before, after 15 s; -ENOENT when there is none. length is a page's.
 * WATCH_START_YIELDING: the same, but that it lets others run there when they are due, and gives up after 60 s.
 * KGDB_*: page_address(page), by the kernel's debugger, in one packet of at most 256 bytes to read, 128 to write; result
 *   is the errno of its answer. -EBUSY when it has another I/O driver, -EPROTO when its answer makes no sense.
 * VMAP_*: a new mapping by vmap(). GET_AS_KVM: target is a virtual address of the caller; get_user_pages(), if refused
 *   with the value that FOLL_KVM has in the series, and vmap(). DIRECT_MAP_AGAIN: page_address(page), for which a page that
 *   is not in the direct map is put back there, and taken out again.
 * DIRECT_MAP_SPLIT: reads nothing. The page leaves the direct map and comes back, by which the large entry that it was
 *   part of becomes 512 of 4 KiB.
 */
enum sealproof_method {
	SEALPROOF_COPY_FROM_USER = 1,
	SEALPROOF_COPY_TO_USER = 2,
	SEALPROOF_DIRECT_MAP_READ = 3,
	SEALPROOF_DIRECT_MAP_WRITE = 4,
	SEALPROOF_DIRECT_MAP_LOADS = 5,
	SEALPROOF_KMAP_LOCAL_READ = 6,
	SEALPROOF_KMAP_LOCAL_WRITE = 7,
	SEALPROOF_MEMREMAP_READ = 8,
	SEALPROOF_CPU_READ = 9,
	SEALPROOF_WATCH_START = 10,
	SEALPROOF_WATCH_STOP = 11,
	SEALPROOF_GET_USER_PAGES = 12,
	SEALPROOF_GET_USER_PAGES_FAST = 13,
	SEALPROOF_PIN_USER_PAGES = 14,
	SEALPROOF_ACCESS_VM_READ = 15,
	SEALPROOF_ACCESS_VM_WRITE = 16,
	SEALPROOF_KGDB_READ = 17,
	SEALPROOF_KGDB_WRITE = 18,
	SEALPROOF_VMAP_READ = 19,
	SEALPROOF_VMAP_WRITE = 20,
	SEALPROOF_GET_AS_KVM = 21,
	SEALPROOF_DIRECT_MAP_AGAIN = 22,
	SEALPROOF_WATCH_START_YIELDING = 23,
	SEALPROOF_GET_USER_PAGES_WITH = 24,
	SEALPROOF_DIRECT_MAP_SPLIT = 25,
};

/* ---- host_oracle.ko: what KVM knows of a VM's memory ---------------------- */

#define SEALPROOF_ORACLE_NAME	"sealproof-oracle"	/* below /dev */
#define SEALPROOF_ORACLE_MAX	(1 << 20)	/* entries of a list */

/* struct.Struct("<QQQII"), 32 bytes: a memory slot of the VMM's; KVM's own are left out. */
struct sealproof_slot {
	__u64 gpa;	/* guest-physical, bytes */
	__u64 pages;
	__u64 address;	/* in the VMM */
	__u32 read_only;	/* to the guest: its content is the VMM's */
	__u32 space;	/* 0: as the processor sees memory; 1: in system management mode */
};

/* struct.Struct("<QQ"), 16 bytes: guest pages in a row. */
struct sealproof_pages {
	__u64 gfn;	/* number of the first */
	__u64 pages;
};

/*
 * struct.Struct("<IIQQQQ"), 40 bytes. All of it is of one moment.
 *
 * -EBADF, -EINVAL: fd is no VM of KVM's; -ENOSPC: there are more entries than there is room for.
 */
struct sealproof_vm {
	__u32 fd;	/* in: the VM, as KVM_CREATE_VM returned it */
	__u32 protected;	/* out: 1 when its guest asked for protection, and has it */
	__u64 slots;	/* in: entries of slot_buffer; out: how many there are */
	__u64 slot_buffer;	/* in: struct sealproof_slot, in no order */
	__u64 shared;	/* in: entries of shared_buffer; out: how many there are */
	__u64 shared_buffer;	/* in: struct sealproof_pages, ascending: what the guest has asked to share */
};

#define SEALPROOF_VM	_IOWR('S', 0x20, struct sealproof_vm)	/* 0xc0285320 */

/* ---- host_exits.ko: how KVM_RUN ends ------------------------------------ */

#define SEALPROOF_EXITS_NAME	"sealproof-exits"	/* below /dev */
#define SEALPROOF_EXITS_KEPT	16

/*
 * struct.Struct("<IiIIQII"), 32 bytes: an end of KVM_RUN that no working guest gives it.
 */
struct sealproof_exit {
	__u32 reason;	/* KVM_EXIT_*; without meaning where result is an error */
	__s32 result;	/* 0, or the negative errno */
	__u32 suberror;	/* of KVM_EXIT_INTERNAL_ERROR */
	__u32 is_write;	/* this and what follows of KVM_EXIT_MMIO, which is here for an access to memory alone */
	__u64 gpa;	/* guest-physical, bytes */
	__u32 length;
	__u32 zero;
};

/*
 * All that KVM_RUN ended with in a process since the host's start.
 *
 * -ESRCH: it has made no KVM_RUN.
 */
struct sealproof_exits {
	__u32 pid;	/* in: the process */
	__u32 missed;	/* out: ends that were not counted, in any process */
	__u64 exits;	/* out: how often it ended */
	__u64 device;	/* out: how often for memory of a device: where no slot is, or a store where it is read-only */
	__u64 noted;	/* out: how often as no working guest makes it end */
	struct sealproof_exit last[SEALPROOF_EXITS_KEPT];	/* out: those; number n is at n % SEALPROOF_EXITS_KEPT */
};

#define SEALPROOF_EXITS	_IOWR('S', 0x30, struct sealproof_exits)	/* 0xc2205330 */

/* ---- guest_emulation.ko: what KVM carries out for ring 0 of the guest ---- */

#define SEALPROOF_EMULATION_NAME	"sealproof-emulation"	/* below /dev */
#define SEALPROOF_STRING_BYTES	(2 * SEALPROOF_PAGE_BYTES)

/*
 * struct.Struct("<8IQQQq"), 64 bytes: "rep ins" or "rep outs" with memory of the kernel's, which is first filled from buffer and then copied there.
 */
struct sealproof_string {
	__u32 port;
	__u32 width;	/* of an element: 1, 2 or 4 bytes */
	__u32 is_input;
	__u32 by_prefix;	/* by the forced-emulation prefix; else by the access itself */
	__u32 backward;
	__u32 by_elements;	/* no string instruction at all, but one after the other with a register between */
	__u32 shared;	/* with the host; else the guest's own */
	__u32 offset;	/* of the first element in the memory, bytes */
	__u64 count;	/* of elements; all must lie in the memory, or -EINVAL */
	__u64 buffer;	/* SEALPROOF_STRING_BYTES of the caller's */
	__u64 left;	/* out: rcx afterwards */
	__s64 moved;	/* out: how far rsi or rdi went */
};

#define SEALPROOF_STRING	_IOWR('S', 0x40, struct sealproof_string)	/* 0xc0405340 */

#endif

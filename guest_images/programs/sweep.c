// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * sweep - try one way to every page of a guest's memory.
 *
 * usage: sweep PID WAY [BYTES [ADDRESS PAGES ..]]
 *
 * PID is a QEMU. WAY is process_vm_readv, proc_pid_mem, direct_map, kmap_local or memremap. BYTES is read of each page, from its start
 * (default 4096). The pages are those of the VM's memory slots, unless ranges of addresses are given.
 *
 * Prints one JSON object and judges nothing:
 *   "protected"    whether the guest has protection, as KVM has it
 *   "slots"        [[gpa, pages, address, read_only, space], ..], KVM's memory slots
 *   "shared"       [[gpa, pages], ..], what the guest has asked to share, as KVM wrote it down before the sweep
 *   "still_shared" the same after it
 *   "absent"       [[gpa, pages], ..], pages that the VMM's page tables did not have before the sweep
 *   "found"        [[gpa, pages, "EFAULT"], ..], what the pages met: the errno, null where bytes came
 *   "ns"           how long the tries took
 * A gpa is that of the processor, or else that of system management mode; of given ranges it is the address itself.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../modules/sealproof_uapi.h"
#include "lib/check.h"

#define PAGE SEALPROOF_PAGE_BYTES
#define AT_ONCE 256	/* pages that one call asks for at most */
#define SHARE 2048	/* pages that a thread takes at a time */
#define THREADS 16	/* at most: one per processor that we may use */
#define ROOM 65536	/* entries of KVM's lists */
#define PRESENT (1ull << 63)	/* Documentation/admin-guide/mm/pagemap.rst */
#define PFN ((1ull << 55) - 1)
#define KVM_VM "anon_inode:kvm-vm"

struct page {
	uint64_t gpa, address;
	uint64_t physical;	/* on the host, bytes; 0: absent */
	int met;	/* an errno, 0: bytes came */
};

static struct page *pages;
static size_t page_count;
static size_t bytes_of_each = PAGE;
static pid_t victim;
static int device;	/* or file, by which the way goes */

/* --- what KVM says ------------------------------------------------------- */

struct vm {
	int fd, oracle;
	struct sealproof_vm state;
	struct sealproof_slot slots[ROOM];
	struct sealproof_pages shared[ROOM];
};

static int open_path(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cannot(path);
	return fd;
}

/* Our own descriptor of the VM that the process has; it must have one and no more. */
static int vm_of(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), vm = -1;

	if (pidfd < 0)
		cannot("open the process");
	for (int number = 0; number < 1024; number++) {
		char path[64], target[64];

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, number);
		ssize_t len = readlink(path, target, sizeof(target) - 1);

		if (len != (ssize_t)strlen(KVM_VM) || memcmp(target, KVM_VM, (size_t)len))
			continue;
		if (vm >= 0) {
			errno = EMLINK;
			cannot("tell its VMs apart");
		}
		vm = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
		if (vm < 0)
			cannot("get the VM's descriptor");
	}
	close(pidfd);
	if (vm < 0) {
		errno = ENOENT;
		cannot("find a VM in the process");
	}
	return vm;
}

static void ask(struct vm *vm)
{
	vm->state = (struct sealproof_vm){
		.fd = (uint32_t)vm->fd,
		.slots = ROOM,
		.slot_buffer = (uintptr_t)vm->slots,
		.shared = ROOM,
		.shared_buffer = (uintptr_t)vm->shared,
	};
	if (ioctl(vm->oracle, SEALPROOF_VM, &vm->state))
		cannot("ask KVM about the VM");
}

/* --- the pages ----------------------------------------------------------- */

static void add_page(uint64_t gpa, uint64_t address)
{
	static size_t room;

	if (page_count == room) {
		room = 2 * room + 65536;
		pages = realloc(pages, room * sizeof(*pages));
		if (!pages)
			cannot("have memory");
	}
	pages[page_count++] = (struct page){ .gpa = gpa, .address = address };
}

static bool is_in(const struct vm *vm, uint32_t space, uint64_t gpa)
{
	for (uint64_t i = 0; i < vm->state.slots; i++) {
		const struct sealproof_slot *slot = &vm->slots[i];

		if (slot->space == space && gpa >= slot->gpa && gpa - slot->gpa < slot->pages * PAGE)
			return true;
	}
	return false;
}

static int by_gpa(const void *a, const void *b)
{
	const struct page *left = a, *right = b;

	return (left->gpa > right->gpa) - (left->gpa < right->gpa);
}

/* System management mode sees most memory as the processor does: only what it alone has is added. */
static void add_slots(const struct vm *vm)
{
	for (uint64_t i = 0; i < vm->state.slots; i++) {
		const struct sealproof_slot *slot = &vm->slots[i];

		for (uint64_t at = 0; at < slot->pages * PAGE; at += PAGE) {
			if (!slot->space || !is_in(vm, 0, slot->gpa + at))
				add_page(slot->gpa + at, slot->address + at);
		}
	}
	qsort(pages, page_count, sizeof(*pages), by_gpa);
}

/* How many pages from the first on lie one behind the other in the VMM, up to a limit. */
static size_t in_a_row(size_t first, size_t limit)
{
	size_t count = 1;

	while (count < limit && first + count < page_count &&
	       pages[first + count].address == pages[first].address + count * PAGE)
		count++;
	return count;
}

static void find_on_the_host(void)
{
	uint64_t entries[AT_ONCE];
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", victim);
	int pagemap = open(path, O_RDONLY | O_CLOEXEC);

	if (pagemap < 0)
		cannot(path);
	for (size_t first = 0, count; first < page_count; first += count) {
		count = in_a_row(first, AT_ONCE);
		off_t at = (off_t)(pages[first].address / PAGE * sizeof(*entries));

		if (pread(pagemap, entries, count * sizeof(*entries), at) != (ssize_t)(count * sizeof(*entries)))
			cannot(path);
		for (size_t i = 0; i < count; i++)
			pages[first + i].physical = entries[i] & PRESENT ? (entries[i] & PFN) * PAGE : 0;
	}
	close(pagemap);
}

/* --- the ways: bytes read of so many pages in a row, or -1 and errno ------ */

/* Whole pages in a row are one piece. */
static ssize_t by_process_vm_readv(size_t first, size_t count, void *buffer)
{
	struct iovec here = { buffer, count * bytes_of_each }, there[AT_ONCE];
	bool whole = bytes_of_each == PAGE;

	for (size_t i = 0; i < count; i++)
		there[i] = (struct iovec){ (void *)(uintptr_t)pages[first + i].address, bytes_of_each };
	if (whole)
		there[0].iov_len = count * PAGE;
	return process_vm_readv(victim, &here, 1, there, whole ? 1 : count, 0);
}

/* One read goes on from page to page only if it takes all of each. */
static ssize_t by_proc_pid_mem(size_t first, size_t count, void *buffer)
{
	size_t whole = bytes_of_each == PAGE ? count : 1;

	return pread(device, buffer, whole * bytes_of_each, (off_t)pages[first].address);
}

static ssize_t by_module(uint32_t method, size_t first, void *buffer)
{
	struct sealproof_attack attack = {
		.method = method,
		.target = pages[first].physical,
		.length = bytes_of_each,
		.buffer = (uintptr_t)buffer,
	};

	if (ioctl(device, SEALPROOF_ATTACK, &attack))
		cannot("have the attack module try");
	if (attack.done || !attack.result)
		return (ssize_t)attack.done;
	errno = (int)-attack.result;
	return -1;
}

static ssize_t by_direct_map(size_t first, size_t count, void *buffer)
{
	(void)count;
	return by_module(SEALPROOF_DIRECT_MAP_READ, first, buffer);
}

static ssize_t by_kmap_local(size_t first, size_t count, void *buffer)
{
	(void)count;
	return by_module(SEALPROOF_KMAP_LOCAL_READ, first, buffer);
}

static ssize_t by_memremap(size_t first, size_t count, void *buffer)
{
	(void)count;
	return by_module(SEALPROOF_MEMREMAP_READ, first, buffer);
}

static const struct way {
	const char *name;
	const char *device;	/* below it is what the way opens; with the process id, if it has a place for one */
	bool physical;	/* only a page that is on the host can be tried */
	ssize_t (*read)(size_t first, size_t count, void *buffer);
} ways[] = {
	{ "process_vm_readv", NULL, false, by_process_vm_readv },
	{ "proc_pid_mem", "/proc/%d/mem", false, by_proc_pid_mem },
	{ "direct_map", "/dev/" SEALPROOF_ATTACK_NAME, true, by_direct_map },
	{ "kmap_local", "/dev/" SEALPROOF_ATTACK_NAME, true, by_kmap_local },
	{ "memremap", "/dev/" SEALPROOF_ATTACK_NAME, true, by_memremap },
};

static const struct way *way_named(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		if (!strcmp(ways[i].name, name))
			return &ways[i];
	}
	fprintf(stderr, "no way is called %s\n", name);
	exit(2);
}

static void open_way(const struct way *way)
{
	char path[64];

	if (!way->device)
		return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(path, sizeof(path), way->device, victim);
#pragma GCC diagnostic pop
	device = open_path(path);
}

/*
 * Many pages a call where they can be read, few where they cannot: a refused page ends its call, so the next begins
 * behind it, alone, and takes twice as many with each success.
 */
static void sweep_pages(const struct way *way, size_t at, size_t end, void *buffer)
{
	size_t limit = AT_ONCE;

	while (at < end) {
		if (way->physical && !pages[at].physical) {
			pages[at++].met = ENODATA;	/* not tried: it stands in "absent", and not in "found" */
			continue;
		}
		ssize_t got = way->read(at, in_a_row(at, limit < end - at ? limit : end - at), buffer);

		if (got <= 0) {
			pages[at++].met = got ? errno : ENODATA;
			limit = 1;
			continue;
		}
		/* A page of which a part came has been read. */
		size_t read = ((size_t)got + bytes_of_each - 1) / bytes_of_each;

		for (size_t i = 0; i < read; i++)
			pages[at + i].met = 0;
		at += read;
		limit = limit < AT_ONCE / 2 ? 2 * limit : AT_ONCE;
	}
}

/* A thread of the sweep: takes the next pages that nobody has taken, until there are none. */
static void *take_shares(void *way)
{
	static _Atomic size_t taken;
	void *buffer = malloc(AT_ONCE * PAGE);

	if (!buffer)
		cannot("have memory");
	for (size_t at; (at = taken += SHARE) - SHARE < page_count;)
		sweep_pages(way, at - SHARE, at < page_count ? at : page_count, buffer);
	free(buffer);
	return NULL;
}

/* On all processors that we may use. */
static void sweep(const struct way *way)
{
	pthread_t threads[THREADS];
	cpu_set_t ours;
	int count;

	if (sched_getaffinity(0, sizeof(ours), &ours))
		cannot("tell which processors may be used");
	count = CPU_COUNT(&ours) < THREADS ? CPU_COUNT(&ours) : THREADS;
	for (int i = 0; i < count; i++) {
		errno = pthread_create(&threads[i], NULL, take_shares, (void *)(uintptr_t)way);
		if (errno)
			cannot("start a thread");
	}
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

/* --- what is printed ----------------------------------------------------- */

static void add_slot_list(struct text *t, const struct vm *vm)
{
	text_add(t, ",\"slots\":[");
	for (uint64_t i = 0; i < vm->state.slots; i++) {
		const struct sealproof_slot *slot = &vm->slots[i];

		text_add(t, "%s[%llu,%llu,%llu,%u,%u]", i ? "," : "", slot->gpa, slot->pages, slot->address,
			 slot->read_only, slot->space);
	}
	text_add(t, "]");
}

static void add_shared(struct text *t, const char *key, const struct vm *vm)
{
	text_add(t, ",\"%s\":[", key);
	for (uint64_t i = 0; i < vm->state.shared; i++)
		text_add(t, "%s[%llu,%llu]", i ? "," : "", vm->shared[i].gfn * PAGE, vm->shared[i].pages);
	text_add(t, "]");
}

/* Runs of pages that are alike and follow one another; `same` gives what they are alike in, -1: not of interest. */
static void add_runs(struct text *t, const char *key, int (*same)(const struct page *page),
		     void (*add)(struct text *t, int value))
{
	const char *comma = "";

	text_add(t, ",\"%s\":[", key);
	for (size_t first = 0, count; first < page_count; first += count) {
		int value = same(&pages[first]);

		for (count = 1; first + count < page_count; count++) {
			if (same(&pages[first + count]) != value ||
			    pages[first + count].gpa != pages[first].gpa + count * PAGE)
				break;
		}
		if (value < 0)
			continue;
		text_add(t, "%s[%llu,%zu", comma, (unsigned long long)pages[first].gpa, count);
		if (add)
			add(t, value);
		text_add(t, "]");
		comma = ",";
	}
	text_add(t, "]");
}

static int absent(const struct page *page)
{
	return page->physical ? -1 : 0;
}

static int met(const struct page *page)
{
	return page->met;
}

static int met_on_the_host(const struct page *page)
{
	return page->physical ? page->met : -1;
}

static void add_met(struct text *t, int value)
{
	const char *name = strerrorname_np(value);

	if (!value)
		text_add(t, ",null");
	else if (name)
		text_add(t, ",\"%s\"", name);
	else
		text_add(t, ",\"errno %d\"", value);
}

int main(int argc, char **argv)
{
	static struct vm before, after;
	struct text t = { 0 };

	if (argc < 3 || (argc > 4 && argc % 2)) {
		fputs("usage: sweep PID WAY [BYTES [ADDRESS PAGES ..]]\n", stderr);
		return 2;
	}
	const struct way *way = way_named(argv[2]);
	bool of_a_vm = argc <= 4;

	victim = (pid_t)number_argument(argc, argv, 1, 0);
	bytes_of_each = number_argument(argc, argv, 3, PAGE);
	if (!bytes_of_each || bytes_of_each > PAGE) {
		fputs("BYTES: 1 to 4096\n", stderr);
		return 2;
	}
	for (int i = 4; i + 1 < argc; i += 2) {
		uint64_t address = number_argument(argc, argv, i, 0), count = number_argument(argc, argv, i + 1, 0);

		for (uint64_t page = 0; page < count; page++)
			add_page(address + page * PAGE, address + page * PAGE);
	}
	if (of_a_vm) {
		before.oracle = open_path("/dev/" SEALPROOF_ORACLE_NAME);
		before.fd = vm_of(victim);
		ask(&before);
		add_slots(&before);
	}
	open_way(way);
	find_on_the_host();

	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	sweep(way);
	uint64_t took = clock_ns(CLOCK_MONOTONIC) - start;

	text_add(&t, "{\"way\":\"%s\",\"bytes\":%zu,\"pages\":%zu,\"ns\":%llu", way->name, bytes_of_each, page_count,
		 (unsigned long long)took);
	if (of_a_vm) {
		after.oracle = before.oracle;
		after.fd = before.fd;
		ask(&after);
		text_add(&t, ",\"protected\":%s", before.state.protected ? "true" : "false");
		add_slot_list(&t, &before);
		add_shared(&t, "shared", &before);
		add_shared(&t, "still_shared", &after);
	}
	add_runs(&t, "absent", absent, NULL);
	add_runs(&t, "found", way->physical ? met_on_the_host : met, add_met);
	text_add(&t, "}");
	print_line(&t);
	return 0;
}

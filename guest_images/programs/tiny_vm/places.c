// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory that a VMM puts, moves and takes away beside private pages: it brings nothing, and nothing goes out by it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "places.h"
#include "exits.h"
#include "looks.h"
#include "modes.h"
#include "ranges.h"
#include "refusals.h"
#include "second.h"
#include "walk.h"

#define BEHIND_SLOT (EXTRA_SLOT + EXTRA_PAGES * PAGE)	/* another one, right behind that slot */
#define FILLED_PAGES 1024u	/* more than the blocks have from which KVM takes private pages */
#define FILLED_ROUNDS 3u	/* KVM clears what was freed after a while */
#define FAR_SLOT (4ull << 30)
#define FAR_BYTES (5ull << 30)
#define NEAR_OFFSET 0x3000ull	/* of a page in that slot, and of one 4 GiB behind it */
#define FAR_OFFSET (NEAR_OFFSET + (4ull << 30))

/* What the host side is asked. */
enum { ADD_BEHIND = 0xa000, ADD_BEFORE, ADD_AND_MOVE_SLOT, DELETE_SLOT, TELL_STORED, FILL_SLOT, ADD_FAR_SLOT, LOOK_NEAR, LOOK_FAR,
       ADD_SLOT_BESIDE, REFUSE_BESIDE, TELL_MERGED, ADD_MANAGED, ADD_MANAGED_LATER, LOOK_MANAGED, MANAGE, DELETE_MANAGED,
       PUT_IN_WINDOW, ADD_TWO_SPACES, REFUSE_MOVED, TELL_MOVED, FREE_ALL, FREE_ALONG, TELL_FREED, TAKE_BESIDE_WINDOW,
       ADD_STRINGS };

#define UNTOUCHED_PAGES 64u
#define STRING_LENGTH 1000u	/* bytes of each string */
#define STRING_WORD 0x6161616161616161ull
#define FREED_PAGES 4096u	/* the VMM frees all of them at once, and then some at a time, all along */
#define FREED_ALONG 1024u	/* of them: KVM clears the rest in a shorter time */
#define FREED_AT_ONCE 32u
#define FREED_PAUSE_US 200
#define FREED_ROUNDS 4u

/* Pages with content that KVM clears in the VMM's name when the guest needs others; the host side looks at its stack then. */
static GUEST void pages_are_cleared_for_others(void)
{
	for (unsigned int round = 0; round < FILLED_ROUNDS; round++) {
		service(FILL_SLOT);
		fill_pages(EXTRA_SLOT, FILLED_PAGES, OLD_WORD);
		fill_pages(RANGE_AT + round * UNTOUCHED_PAGES * PAGE, UNTOUCHED_PAGES, 0);
	}
	tell("the last pages, whole", FILLED_PAGES, whole_pages(EXTRA_SLOT, FILLED_PAGES, OLD_WORD));
}

/* As alias_is_not_shared(): the second number is not the first of those that the guest shares. */
static GUEST void alias_behind_is_not_shared(void)
{
	const uint64_t refused = way == PLAIN ? 0 : NOT_VALID, may = way == PLAIN ? EACH(1) : 0;

	service(ADD_BEHIND);
	fill_pages(BEHIND_SLOT, 1, OLD_WORD);
	service(ADD_BEFORE);
	tell("another page and the second number: to share", refused, change(HC_SHARE, EXTRA_SLOT, 2));
	tell("the page behind that number: reached by load, write(), direct map", may, reached(EXTRA_SLOT + PAGE, 1));
	tell("the page, whole", 1, whole_pages(BEHIND_SLOT, 1, OLD_WORD));
}

/* A slot comes to its place by a move, and goes: a protected guest's store is none to a device, and ends it. */
static GUEST void moved_slot_becomes_no_device(void)
{
	volatile uint64_t *const memory = (uint64_t *)(uint64_t)BEHIND_SLOT;

	service(ADD_AND_MOVE_SLOT);
	*memory = OLD_WORD;
	tell("loaded from the slot where it was moved to", OLD_WORD, *memory);
	service(DELETE_SLOT);
	*memory = SECRET;	/* the guest may end here */
	tell("what the VMM got of the store behind the deleted slot", way == PLAIN ? SECRET : 0, service(TELL_STORED));
}

/*
 * As new_slot_brings_nothing(), for more than there is of clear pages: those come, at once, that the VMM had, and those
 * that the guest had stored to in the slot before, before KVM has cleared them.
 */
static GUEST void filled_slot_brings_nothing(void)
{
	uint64_t filled = 0;

	for (unsigned int round = 0; round < FILLED_ROUNDS; round++) {
		service(FILL_SLOT);
		for (uint64_t page = 0; page < FILLED_PAGES; page++) {
			volatile uint64_t *const word = (uint64_t *)(EXTRA_SLOT + page * PAGE);

			filled += *word != 0;
			*word = OLD_WORD;
		}
	}
	tell("pages with content, of slots that the VMM has filled", way == PLAIN ? FILLED_ROUNDS * FILLED_PAGES : 0, filled);
}

static GUEST void have_managed_memory(void)
{
	service(ADD_MANAGED);
	tell("memory of system management mode, unprotected: reached", EACH(EXTRA_PAGES), service(LOOK_MANAGED));
}

/* Memory that a processor has in system management mode alone is private as well, also what comes later. */
static GUEST void managed_memory_is_private(void)
{
	const uint64_t may = way == PLAIN ? EACH(EXTRA_PAGES) : 0;

	if (way == PLAIN)
		have_managed_memory();
	tell("memory of system management mode: reached", may, service(LOOK_MANAGED));
	service(ADD_MANAGED_LATER);
	tell("memory of system management mode that came later: reached", may, service(LOOK_MANAGED));
}

extern const unsigned char managed_stores[], managed_stores_end[];

asm(".text\n"
    ".code16\n"
    "managed_stores:\n"
    "	mov $0xe7c0ffee, %eax\n"	/* what of SECRET fits */
    "	addr32 mov %eax, 0x4000000\n"	/* EXTRA_SLOT */
    "	rsm\n"
    "managed_stores_end:\n"
    ".code64\n");

_Static_assert(EXTRA_SLOT == 0x4000000 && (uint32_t)SECRET == 0xe7c0ffee, "managed_stores has both");

/* As moved_slot_becomes_no_device(), for memory that a processor has in system management mode alone. */
static GUEST void managed_memory_becomes_no_device(void)
{
	copy_code(MANAGED_AT, managed_stores, managed_stores_end);
	service(ADD_MANAGED);
	service(MANAGE);
	service(DELETE_MANAGED);
	service(MANAGE);	/* the guest may end here */
	tell("what the VMM got of a store in system management mode behind the deleted slot",
	     way == PLAIN ? (uint32_t)SECRET : 0, (uint32_t)service(TELL_STORED));
}

#define CARD_AT 0xa0000u	/* the graphics card's window, where memory may come and go */
#define BEFORE_CARD_AT (CARD_AT - PAGE)
#define BEHIND_CARD_AT 0xc0000u	/* the firmware's, and shared as long as the guest does not take it back */

/* As page_has_one_number(): nor does a page get a second number in that window. */
static GUEST void window_shows_no_other_page(void)
{
	fill_pages(RANGE_AT, 1, OLD_WORD);
	service(PUT_IN_WINDOW);
	tell("loaded by the graphics card's window", way == PLAIN ? OLD_WORD : 0, *(volatile uint64_t *)(uint64_t)CARD_AT);
}

/* The page before that window is memory as any other. */
static GUEST void window_begins_where_it_does(void)
{
	fill_pages(RANGE_AT, 1, OLD_WORD);
	service(PUT_IN_WINDOW);
	tell("loaded by the page before the graphics card's window", way == PLAIN ? OLD_WORD : 0,
	     *(volatile uint64_t *)(uint64_t)BEFORE_CARD_AT);
}

/* As moved_slot_becomes_no_device(): nor does a page beside the window, in which a device may have what is stored. */
static GUEST uint64_t store_when_taken(uint64_t address)
{
	volatile uint64_t *const memory = (uint64_t *)address;

	*memory = OLD_WORD;
	service(TAKE_BESIDE_WINDOW);
	*memory = SECRET;	/* the guest may end here */
	return service(TELL_STORED);
}

static GUEST void memory_before_window_becomes_no_device(void)
{
	tell("what the VMM got of a store to the page before the graphics card's window", way == PLAIN ? SECRET : 0,
	     store_when_taken(BEFORE_CARD_AT));
}

static GUEST void memory_behind_window_becomes_no_device(void)
{
	tell("to take back the page behind the graphics card's window", 0, change(HC_UNSHARE, BEHIND_CARD_AT, 1));
	tell("what the VMM got of a store to that page", way == PLAIN ? SECRET : 0, store_when_taken(BEHIND_CARD_AT));
}

/* A page number with other memory in system management mode: a request would be about two pages at once. */
static GUEST void managed_alias_is_not_shared(void)
{
	service(ADD_TWO_SPACES);
	fill_pages(EXTRA_SLOT, 1, OLD_WORD);
	tell("a page that is another one in system management mode: to share", way == PLAIN ? 0 : NOT_VALID,
	     change(HC_SHARE, EXTRA_SLOT, 1));
	tell("the page: reached by load, write(), direct map", way == PLAIN ? EACH(1) : 0, reached(EXTRA_SLOT, 1));
	tell("the page, whole", 1, whole_pages(EXTRA_SLOT, 1, OLD_WORD));
}

/* A slot of more than 4 GiB: what the guest shares in it is that page, and not the one 4 GiB before it. */
static GUEST void far_page_is_shared(void)
{
	const uint64_t may = way == PLAIN ? EACH(1) : 0;

	service(ADD_FAR_SLOT);
	root[1] = (uint64_t)table(0) | TABLE;
	table(0)[IN_POINTERS] = (uint64_t)table(1) | TABLE;
	table(1)[IN_DIRECTORY] = (uint64_t)table(2) | TABLE;
	table(2)[IN_ENTRIES] = (FAR_SLOT + NEAR_OFFSET) | TABLE;
	table(2)[IN_ENTRIES + 1] = (FAR_SLOT + FAR_OFFSET) | TABLE;
	flush_tlb();
	fill_pages(WINDOW, 2, OLD_WORD);
	tell("the page beyond 4 GiB: to share", 0, change(HC_SHARE, FAR_SLOT + FAR_OFFSET, 1));
	tell("the page beyond 4 GiB shared: reached by load, write(), direct map", EACH(1), service(LOOK_FAR));
	tell("the page beyond 4 GiB shared: the page 4 GiB before it, reached", may, service(LOOK_NEAR));
	tell("the page beyond 4 GiB: to take back", 0, change(HC_UNSHARE, FAR_SLOT + FAR_OFFSET, 1));
	tell("the page beyond 4 GiB taken back: reached", may, service(LOOK_FAR));
	tell("both, whole", 2, whole_pages(WINDOW, 2, OLD_WORD));
}

/*
 * As refused_slot_opens_nothing(), beside memory of the guest's. Meanwhile another thread of the VMM makes one mapping
 * of the two: the slot's memory stays private then, as to open it would open all.
 */
static GUEST void refused_slot_opens_no_neighbour(void)
{
	service(ADD_SLOT_BESIDE);
	fill_pages(EXTRA_SLOT, EXTRA_PAGES, OLD_WORD);
	tell("what KVM says to a slot beyond all addresses", 22, service(REFUSE_BESIDE));	/* EINVAL */
	tell("the VMM makes one private mapping of the slot's memory and the guest's", way != PLAIN, service(TELL_MERGED));
	tell("the guest's memory beside it: reached", way == PLAIN ? EACH(EXTRA_PAGES) : 0,
	     reached(EXTRA_SLOT, EXTRA_PAGES));
	tell("the guest's memory, whole", EXTRA_PAGES, whole_pages(EXTRA_SLOT, EXTRA_PAGES, OLD_WORD));
}

/* As pages_are_cleared_for_others(): a string in each page, which KVM clears then. */
static GUEST void strings_are_cleared_for_others(void)
{
	for (unsigned int round = 0; round < FILLED_ROUNDS; round++) {
		service(ADD_STRINGS);
		for (uint64_t page = 0; page < FILLED_PAGES; page++) {
			volatile uint64_t *const words = (uint64_t *)(EXTRA_SLOT + page * PAGE);

			for (unsigned int i = 0; i < STRING_LENGTH / 8; i++)
				words[i] = STRING_WORD;
			words[STRING_LENGTH / 8] = 0;
		}
		fill_pages(RANGE_AT + round * UNTOUCHED_PAGES * PAGE, UNTOUCHED_PAGES, 0);
	}
	tell("the end of the last string", STRING_WORD,
	     *(volatile uint64_t *)(EXTRA_SLOT + (FILLED_PAGES - 1) * PAGE + STRING_LENGTH - 8));
}

GUEST uint64_t touch_pages(uint64_t pages)
{
	uint64_t touched = 0;

	for (uint64_t page = 0; page < pages; page++) {
		volatile uint64_t *const word = (uint64_t *)(RANGE_AT + page * PAGE);

		touched += *word == 0;
		*word = OLD_WORD;
	}
	return touched;
}

/* The VMM frees many pages, and then, all along, each page that the guest touches: KVM has more and more to clear. */
static GUEST void pages_are_freed_all_along(void)
{
	uint64_t touched = 0;

	for (unsigned int round = 0; round < FREED_ROUNDS; round++) {
		touch_pages(FREED_PAGES);
		service(FREE_ALL);
		service(FREE_ALONG);
		touched += touch_pages(FREED_ALONG);
		service(TELL_FREED);
	}
	tell("pages that the VMM has freed, and the guest finds empty: many", 1, touched >= FREED_ROUNDS * FREED_ALONG);
}

/*
 * As refused_slot_opens_nothing(): while KVM refuses the slot, another thread of the VMM moves a page of the guest's to
 * the slot's memory (mremap). The page is lost by that, and empty when KVM gives the memory back.
 */
static GUEST void refused_slot_opens_nothing_moved(void)
{
	service(ADD_SLOT_BESIDE);
	fill_pages(EXTRA_SLOT, 1, OLD_WORD);
	tell("bytes of the guest's page that the VMM gets by a slot that KVM refuses", way == PLAIN ? PAGE : 0,
	     service(REFUSE_MOVED));
	tell("the page came there meanwhile", 1, service(TELL_MOVED));
}

#define LONGEST_WAIT 4096u	/* rounds: of a thread, so that it meets a moment of another one */
#define BESIDE_MOST 2000u	/* of attempts that another thread is to meet */

/* A plain guest's memory, or of a protected guest's VMM a page of its own. */
static void lay_in_window(struct vm *vm)
{
	void *const window = (void *)(uintptr_t)KVMS_WINDOW;

	if (way == PLAIN)
		vm->extra = mremap(vm->extra, FILLED_PAGES * PAGE, FILLED_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, window);
	else if (mmap(window, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == window)
		fill_words(window, PAGE);
	else
		vm->extra = MAP_FAILED;
	if (vm->extra == MAP_FAILED)
		cannot("have memory where KVM has its window");
}

static void drop_slot(const struct vm *vm)
{
	if (!vm->extra)
		return;
	add_memory(vm, 3, 0, EXTRA_SLOT, 0, vm->extra);
	munmap(vm->extra, FILLED_PAGES * PAGE);
}

static void renew_slot(struct vm *vm)
{
	drop_slot(vm);
	vm->extra = map(FILLED_PAGES * PAGE);
	add_memory(vm, 3, 0, EXTRA_SLOT, FILLED_PAGES * PAGE, vm->extra);
}

/* Has a slot of its own for memory that was filled, in place of the one before. */
static void fill_slot(struct vm *vm)
{
	drop_slot(vm);
	vm->extra = map(FILLED_PAGES * PAGE);
	if (row->has_stack_in_window)
		lay_in_window(vm);
	fill_words(vm->extra, FILLED_PAGES * PAGE);
	add_memory(vm, 3, 0, EXTRA_SLOT, FILLED_PAGES * PAGE, vm->extra);
}

/* Changes what the VMM may do there, all along. */
static struct {
	pthread_t thread;
	unsigned char *where;
	volatile bool ends, merged;
} changer;

static void *change_rights(void *unused)
{
	(void)unused;
	while (!changer.ends) {
		if (mprotect(changer.where, (EXTRA_PAGES + 1) * PAGE, PROT_READ) ||
		    mprotect(changer.where, (EXTRA_PAGES + 1) * PAGE, PROT_READ | PROT_WRITE))
			cannot("change what the VMM may do with its memory");
	}
	return NULL;
}

static bool is_loaded(const unsigned char *page)
{
	uint64_t word;

	return load_word(page, &word);
}

/*
 * Asks again and again for a slot behind the guest's, until the mappings have merged: then its memory stays private, or
 * all of it is open. Return: what KVM says, where that is not that another thread was changing the memory.
 */
static uint64_t refuse_beside(const struct vm *vm)
{
	unsigned char *const beside = vm->extra + EXTRA_PAGES * PAGE;
	struct kvm_userspace_memory_region region = { .slot = 4, .guest_phys_addr = BEYOND, .memory_size = PAGE,
						      .userspace_addr = (uintptr_t)beside };
	const sig_atomic_t before = alarms;
	uint64_t said = 0;

	changer.where = vm->extra;
	errno = pthread_create(&changer.thread, NULL, change_rights, NULL);
	if (errno)
		cannot("start a thread");
	for (unsigned int left = way == PLAIN ? 1 : BESIDE_MOST; left && !changer.merged && alarms == before; left--) {
		if (!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
			break;
		if (errno != EOPNOTSUPP)
			said = (uint64_t)errno;
		changer.merged = !is_loaded(beside) || (way != PLAIN && is_loaded(vm->extra));
	}
	changer.ends = true;
	pthread_join(changer.thread, NULL);
	return said;
}

/* Memory in that mode's address space alone, with content. */
static void add_managed(struct vm *vm, uint32_t slot, uint64_t gpa)
{
	vm->extra = map(EXTRA_PAGES * PAGE);
	memset(vm->extra, 1, EXTRA_PAGES * PAGE);
	add_to_space(vm, MANAGED_SPACE, slot, 0, gpa, EXTRA_PAGES * PAGE, vm->extra);
}

/* One slot becomes two, with a page number between them. */
static void leave_place(const struct vm *vm)
{
	const uint32_t place = (uint32_t)row->ends_at, behind = place + PAGE;

	add_to_space(vm, 0, 0, 0, 0, 0, vm->ram);
	add_to_space(vm, 0, 0, 0, 0, place, vm->ram);
	add_to_space(vm, 0, 3, 0, behind, RAM_BYTES - behind, vm->ram + behind);
}

/* Behind that number comes a page that has one already. */
static void put_in_window(const struct vm *vm)
{
	leave_place(vm);
	add_to_space(vm, 0, 4, 0, row->ends_at, PAGE, vm->ram + RANGE_AT);
}

/* Moves a page of the guest's to the VMM's, and waits until the VMM has looked, each time. */
static struct {
	pthread_t thread;
	unsigned char *guests, *vmms;
	volatile bool ends, goes, there, met;
	unsigned int tries;
} mover;

static void *move_guests(void *unused)
{
	(void)unused;
	while (!mover.ends) {
		if (!mover.goes)
			continue;
		for (volatile unsigned int wait = mover.tries++ % LONGEST_WAIT; wait; wait--)
			;
		if (mremap(mover.guests, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mover.vmms) != mover.vmms)
			cannot("move a page");
		mover.goes = false;
		mover.there = true;
	}
	return NULL;
}

/* Bytes of the guest's page that the VMM loads. */
static uint64_t guests_bytes(const unsigned char *page)
{
	uint64_t bytes = 0, word;

	for (unsigned int i = 0; i < PAGE && load_word(page + i, &word); i += sizeof(word))
		bytes += word == OLD_WORD ? sizeof(word) : 0;
	return bytes;
}

static void move_home(void)
{
	if (mremap(mover.vmms, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, mover.guests) != mover.guests ||
	    mmap(mover.vmms, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != mover.vmms)
		cannot("move a page back");
	*mover.vmms = 1;
	mover.there = false;
}

/*
 * Asks again and again for a slot behind the guest's, until a page of the guest's has come to its memory after KVM has
 * made that private and before KVM gives it back: then the VMM can load there. Return: what it loads of the guest's.
 */
static uint64_t refuse_moved(const struct vm *vm)
{
	struct kvm_userspace_memory_region region = { .slot = 4, .guest_phys_addr = BEYOND, .memory_size = PAGE };
	const sig_atomic_t before = alarms;

	mover.guests = vm->extra;
	mover.vmms = vm->extra + EXTRA_PAGES * PAGE;
	region.userspace_addr = (uintptr_t)mover.vmms;
	errno = pthread_create(&mover.thread, NULL, move_guests, NULL);
	if (errno)
		cannot("start a thread");
	while (!mover.met && alarms == before) {
		mover.goes = true;
		if (!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
			break;
		while (!mover.there)
			sched_yield();
		mover.met = is_loaded(mover.vmms);
		if (!mover.met)
			move_home();
	}
	mover.ends = true;
	pthread_join(mover.thread, NULL);
	return guests_bytes(mover.vmms);
}

static uint64_t serve_places(struct vm *vm, uint32_t what)
{
	switch (what) {
	case ADD_SLOT_BESIDE:
		vm->extra = map((EXTRA_PAGES + 1) * PAGE);
		vm->extra[EXTRA_PAGES * PAGE] = 1;	/* or its pages could not be of one mapping with the others (anon_vma) */
		add_memory(vm, 3, 0, EXTRA_SLOT, EXTRA_PAGES * PAGE, vm->extra);
		return 0;
	case REFUSE_BESIDE:
		return refuse_beside(vm);
	case TELL_MERGED:
		return changer.merged;
	case ADD_FAR_SLOT:
		vm->far = mmap(NULL, FAR_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (vm->far == MAP_FAILED)
			cannot("map 5 GiB");
		add_memory(vm, 3, 0, FAR_SLOT, FAR_BYTES, vm->far);
		return 0;
	case LOOK_NEAR:
		return look_at(vm->far + NEAR_OFFSET, 1, false);
	case LOOK_FAR:
		return look_at(vm->far + FAR_OFFSET, 1, false);
	case ADD_MANAGED:
		add_managed(vm, 3, EXTRA_SLOT);
		return 0;
	case ADD_MANAGED_LATER:
		add_managed(vm, 4, BEHIND_SLOT);
		return 0;
	case MANAGE:
		return raise_smi(vm, 0);
	case DELETE_MANAGED:
		add_to_space(vm, MANAGED_SPACE, 3, 0, EXTRA_SLOT, 0, vm->extra);
		return 0;
	case PUT_IN_WINDOW:
		put_in_window(vm);
		return 0;
	case TAKE_BESIDE_WINDOW:
		leave_place(vm);
		return 0;
	case ADD_STRINGS:
		renew_slot(vm);
		return 0;
	case ADD_TWO_SPACES:
		add_managed(vm, 3, EXTRA_SLOT);
		vm->extra = map(EXTRA_PAGES * PAGE);
		add_to_space(vm, 0, 3, 0, EXTRA_SLOT, EXTRA_PAGES * PAGE, vm->extra);
		return 0;
	case REFUSE_MOVED:
		return refuse_moved(vm);
	case TELL_MOVED:
		return mover.met;
	case LOOK_MANAGED:	/* KVM empties what comes later */
		return look_at(vm->extra, EXTRA_PAGES, true);
	case ADD_BEHIND:
		vm->extra = map(EXTRA_PAGES * PAGE);
		/* The first of two pages keeps the number that this gives it; the second gets another one. */
		add_memory(vm, 3, 0, EXTRA_SLOT, 2 * PAGE, vm->extra);
		add_memory(vm, 3, 0, EXTRA_SLOT, 0, vm->extra);
		add_memory(vm, 4, 0, BEHIND_SLOT, PAGE, vm->extra + PAGE);
		return 0;
	case ADD_BEFORE:
		add_memory(vm, 3, 0, EXTRA_SLOT, 2 * PAGE, vm->extra);
		return 0;
	case ADD_AND_MOVE_SLOT:
		vm->extra = map(PAGE);
		add_memory(vm, 3, 0, EXTRA_SLOT, PAGE, vm->extra);
		add_memory(vm, 3, 0, BEHIND_SLOT, PAGE, vm->extra);
		return 0;
	case DELETE_SLOT:
		add_memory(vm, 3, 0, BEHIND_SLOT, 0, vm->extra);
		return 0;
	case TELL_STORED:
		return vm->mmio;
	case FILL_SLOT:
		fill_slot(vm);
		return 0;
	default:
		return serve_ranges(vm, what);
	}
}

/*
 * Frees pages of the guest's, some at a time, all along. In between is time for a page fault of the guest's to end: KVM
 * begins it anew if pages have gone meanwhile.
 */
static struct {
	pthread_t thread;
	unsigned char *pages;
	volatile bool ends;
} freer;

static void *free_along(void *unused)
{
	(void)unused;
	for (unsigned int page = 0; !freer.ends; page = (page + FREED_AT_ONCE) % FREED_PAGES) {
		if (madvise(freer.pages + page * PAGE, FREED_AT_ONCE * PAGE, MADV_DONTNEED))
			cannot("free some memory");
		usleep(FREED_PAUSE_US);
	}
	return NULL;
}

static uint64_t serve_freed(struct vm *vm, uint32_t what)
{
	freer.pages = at(vm, (void *)(uintptr_t)RANGE_AT);
	switch (what) {
	case FREE_ALL:
		if (madvise(freer.pages, FREED_PAGES * PAGE, MADV_DONTNEED))
			cannot("free memory");
		return 0;
	case FREE_ALONG:
		freer.ends = false;
		errno = pthread_create(&freer.thread, NULL, free_along, NULL);
		if (errno)
			cannot("start a thread");
		return 0;
	default:
		freer.ends = true;
		pthread_join(freer.thread, NULL);
		return 0;
	}
}

const struct row places_rows[] = {
	{ "alias-behind", alias_behind_is_not_shared, .operands = NULL, .serve = serve_places },
	{ "filled-slot", filled_slot_brings_nothing, .operands = NULL, .serve = serve_places },
	{ "moved-slot", moved_slot_becomes_no_device, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = DELETE_SLOT, .ends_at = BEHIND_SLOT, .device = BEHIND_SLOT, .device_if_plain = true },
	{ "cleared", pages_are_cleared_for_others, .operands = NULL, .serve = serve_places, .has_stack_in_window = true },
	{ "managed-slot", managed_memory_is_private, .operands = NULL, .serve = serve_places, .first = have_managed_memory },
	{ "managed-deleted", managed_memory_becomes_no_device, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = DELETE_MANAGED, .ends_at = EXTRA_SLOT, .ends_managed = true, .device = EXTRA_SLOT,
	  .device_if_plain = true },
	{ "window", window_shows_no_other_page, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = PUT_IN_WINDOW, .ends_at = CARD_AT },
	{ "window-before", window_begins_where_it_does, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = PUT_IN_WINDOW, .ends_at = BEFORE_CARD_AT },
	{ "before-window", memory_before_window_becomes_no_device, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = TAKE_BESIDE_WINDOW, .ends_at = BEFORE_CARD_AT, .device = BEFORE_CARD_AT, .device_if_plain = true,
	  .one_space = true },	/* or the page had its number by the other one, and were lost at once */
	{ "behind-window", memory_behind_window_becomes_no_device, .operands = NULL, .serve = serve_places, .refused = true,
	  .meets = TAKE_BESIDE_WINDOW, .ends_at = BEHIND_CARD_AT, .device = BEHIND_CARD_AT, .device_if_plain = true,
	  .one_space = true },
	{ "cleared-strings", strings_are_cleared_for_others, .operands = NULL, .serve = serve_places },
	{ "alias-managed", managed_alias_is_not_shared, .operands = NULL, .serve = serve_places },
	{ "refused-moved", refused_slot_opens_nothing_moved, .operands = NULL, .serve = serve_places },
	{ "freed-along", pages_are_freed_all_along, .operands = NULL, .serve = serve_freed },
	{ "refused-beside", refused_slot_opens_no_neighbour, .operands = NULL, .serve = serve_places },
	{ "far", far_page_is_shared, .operands = NULL, .serve = serve_places },
	{ .name = NULL },
};

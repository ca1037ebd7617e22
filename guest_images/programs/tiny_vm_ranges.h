/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many pages a request, and what the host took while a page was shared: who reaches what afterwards. */
#ifndef TINY_VM_RANGES_H
#define TINY_VM_RANGES_H

#include "tiny_vm_nested.h"
#include "tiny_vm_slots.h"

#define HC_UNSHARE 15
#define RANGE 0x2400000u		/* memory that nothing else uses; in the middle of a large page */
#define RANGE_AT (RANGE + 0x3000u)
#define GROUP_AT (RANGE + 0x8000u)	/* the first of 8 pages that KVM may map together */
#define FIRMWARE_AT 0xc0000u	/* shared from the start, up to 1 MiB */
#define FIRMWARE_PAGES 64u
#define RANGE_MOST 600u			/* more than KVM does in one go */
#define EXTRA_SLOT RAM_BYTES		/* right behind the VM's memory, a slot of its own */
#define EXTRA_PAGES 16u
#define NOT_VALID ((uint64_t)-22)	/* KVM_EINVAL */
#define NO_RIGHT ((uint64_t)-1)		/* KVM_EPERM */
#define IS_BUSY ((uint64_t)-16)		/* KVM_EBUSY */
#define ALTERNATE 1000ull		/* single pages, each with another one behind it */
#define A_FEW 8u
#define SEAL_PAGES 5u
#define SEAL_FROM 2u
#define SEAL_ROUNDS 300u
#define NO_MEMORY ((uint64_t)-12)	/* KVM_ENOMEM */
#define FAIL_MOST 1000u		/* allocations of one request: more than any makes */
#define FAIL_PAGES 5u
#define EACH(pages) ((uint64_t)(pages) | (uint64_t)(pages) << 16 | (uint64_t)(pages) << 32)

/* What the host side is asked; a range is in the report's first words. */
enum { COUNT_REACHED = 1, ADD_SLOT, TAKE_HANDLES, LOOK_BY_PIN, LOOK_BY_PIPE, LOOK_BY_VM, LOOK_BY_BUFFER, LOOK_BY_LOAD, ASK_ANOTHER,
       COUNT_MAPPINGS, SEAL, COUNT_LOADS, ADD_ALIAS, COUNT_SPARSE, FAILED, SWEEP_SLOTS, FORBID_WRITES, ALLOW_WRITES, MOVE_THERE,
       MOVE_BACK, REPLACE, LOOK_ON, END_ANOTHER, ASK_UNGIVEN, SEAL_REST, FAIL_NTH = 0x1000 };

#define PIN_PAGE 0	/* of the operands */
#define PIPE_PAGE 1
#define VM_PAGE 2
#define BUFFER_PAGE 3
#define HELD_PAGES 4u
#define SPARSE_PAGES 96u
#define EACH_THIRD 3u		/* of them is touched before the rest */

#define OLD_WORD 0x0123456789abcdefull
#define NEW_WORD 0xfedcba9876543210ull

/* All of a range, by as many requests as it takes: KVM says how far it went, if it did not do all. */
static GUEST uint64_t change(uint64_t number, uint64_t address, uint64_t pages)
{
	uint64_t first = address / PAGE;

	if (way == PLAIN)
		return 0;
	while (pages) {
		const uint64_t done = hypercall(number, first, pages);

		if (!done)
			return 0;
		if (done > pages)
			return done;
		first += done;
		pages -= done;
	}
	return 0;
}

static GUEST uint64_t reached(uint64_t address, uint64_t pages)
{
	shared.report.word[0] = (uint32_t)address;
	shared.report.word[1] = (uint32_t)pages;
	return service(COUNT_REACHED);
}

/* The same of pages some of which may not be there. */
static GUEST uint64_t reached_if_there(uint64_t address, uint64_t pages)
{
	shared.report.word[0] = (uint32_t)address;
	shared.report.word[1] = (uint32_t)pages;
	return service(COUNT_SPARSE);
}

static GUEST void fill_pages(uint64_t address, uint64_t pages, uint64_t word)
{
	for (uint64_t page = 0; page < pages; page++) {
		volatile uint64_t *const words = (uint64_t *)(address + page * PAGE);

		for (unsigned int i = 0; i < PAGE / 8; i++)
			words[i] = word + page;
	}
}

static GUEST uint64_t whole_pages(uint64_t address, uint64_t pages, uint64_t word)
{
	uint64_t whole = 0;

	for (uint64_t page = 0; page < pages; page++) {
		const volatile uint64_t *const words = (uint64_t *)(address + page * PAGE);
		bool same = true;

		for (unsigned int i = 0; i < PAGE / 8; i++)
			same &= words[i] == word + page;
		whole += same;
	}
	return whole;
}

struct range_names {
	const char *share, *reached, *before, *behind, *back, *reached_back, *middle, *reached_ends, *whole;
};

#define RANGE_NAMES(n) { \
	n ": to share them", n " shared: reached by load, write(), direct map", n " shared: the page before them", \
	n " shared: the page behind them", n ": to take them back", n " taken back: reached", \
	n ": to take back all but the ends", n " but for the ends taken back: reached", n ": whole in the end" }

static GUEST void one_range(uint64_t pages, const struct range_names *names)
{
	const uint64_t may = way == PLAIN ? EACH(1) : 0;

	fill_pages(RANGE_AT - PAGE, pages + 2, OLD_WORD);
	tell(names->share, 0, change(HC_SHARE, RANGE_AT, pages));
	tell(names->reached, EACH(pages), reached(RANGE_AT, pages));
	tell(names->before, may, reached(RANGE_AT - PAGE, 1));
	tell(names->behind, may, reached(RANGE_AT + pages * PAGE, 1));
	if (pages > 2 && way != SHARED) {
		tell(names->middle, 0, change(HC_UNSHARE, RANGE_AT + PAGE, pages - 2));
		tell(names->reached_ends, EACH(way == PLAIN ? pages : 2), reached(RANGE_AT, pages));
	}
	if (way != SHARED) {
		tell(names->back, 0, change(HC_UNSHARE, RANGE_AT, pages));
		tell(names->reached_back, EACH(way == PLAIN ? pages : 0), reached(RANGE_AT, pages));
	}
	tell(names->whole, pages + 2, whole_pages(RANGE_AT - PAGE, pages + 2, OLD_WORD));
}

static GUEST void ranges_are_shared(void)
{
	static const struct range_names one = RANGE_NAMES("one page"), five = RANGE_NAMES("5 pages"),
					many = RANGE_NAMES("600 pages");

	one_range(1, &one);
	if (way == SHARED)	/* what is shared is so already */
		tell("1 page of them, to take it back", 0, change(HC_UNSHARE, RANGE_AT, 1));
	one_range(5, &five);
	if (way == SHARED)
		tell("5 pages, to take them back", 0, change(HC_UNSHARE, RANGE_AT, 5));
	one_range(RANGE_MOST, &many);
	/* In the page before it, which is the graphics card's in a machine, the guest has nothing. */
	fill_pages(FIRMWARE_AT, FIRMWARE_PAGES + 1, OLD_WORD);
	tell("the firmware's area: reached", EACH(FIRMWARE_PAGES), reached(FIRMWARE_AT, FIRMWARE_PAGES));
	tell("the page before the firmware's area: reached", way == PLAIN ? EACH(1) : 0,
	     reached_if_there(FIRMWARE_AT - PAGE, 1));
	tell("the page behind the firmware's area: reached", way == PLAIN ? EACH(1) : 0,
	     reached(FIRMWARE_AT + FIRMWARE_PAGES * PAGE, 1));
	if (way == PLAIN)
		return;
	/* Two memory slots, one right behind the other: none of it, or else nobody could say how much. */
	service(ADD_SLOT);
	fill_pages(EXTRA_SLOT - PAGE, 2, OLD_WORD);
	tell("across two slots: to share", NOT_VALID, hypercall(HC_SHARE, EXTRA_SLOT / PAGE - 1, 2));
	tell("across two slots: the last page of the first, reached", 0, reached(EXTRA_SLOT - PAGE, 1));
	tell("across two slots: the first page of the second, reached", 0, reached(EXTRA_SLOT, 1));
	tell("the second slot's first page: to share", 0, hypercall(HC_SHARE, EXTRA_SLOT / PAGE, 1));
	tell("the second slot's first page: reached", EACH(1), reached(EXTRA_SLOT, 1));
	tell("across two slots: to take back", NOT_VALID, hypercall(HC_UNSHARE, EXTRA_SLOT / PAGE - 1, 2));
	tell("the second slot's first page: to take back", 0, hypercall(HC_UNSHARE, EXTRA_SLOT / PAGE, 1));
	tell("the second slot's first page, taken back: reached", 0, reached(EXTRA_SLOT, 1));
	tell("the first slot's last page: to share", 0, hypercall(HC_SHARE, EXTRA_SLOT / PAGE - 1, 1));
	tell("the first slot's last page: reached", EACH(1), reached(EXTRA_SLOT - PAGE, 1));
	tell("the first slot's last page: to take back", 0, hypercall(HC_UNSHARE, EXTRA_SLOT / PAGE - 1, 1));
	tell("across two slots: whole in the end", 2, whole_pages(EXTRA_SLOT - PAGE, 2, OLD_WORD));
}

/* The VMM puts a page behind another number too: whoever shares that number must not give the page away. */
static GUEST void alias_is_not_shared(void)
{
	const uint64_t refused = way == PLAIN ? 0 : NOT_VALID, may = way == PLAIN ? EACH(1) : 0;

	fill_pages(RANGE_AT, 1, OLD_WORD);
	service(ADD_ALIAS);
	tell("the other number: to share", refused, change(HC_SHARE, EXTRA_SLOT, 1));
	tell("the page: reached by load, write(), direct map", may, reached(RANGE_AT, 1));
	tell("its own number: to share", 0, change(HC_SHARE, RANGE_AT, 1));
	tell("the page: reached then", EACH(1), reached(RANGE_AT, 1));
	tell("its own number: to take back", 0, change(HC_UNSHARE, RANGE_AT, 1));
	tell("the page: reached afterwards", may, reached(RANGE_AT, 1));
	tell("the page, whole", 1, whole_pages(RANGE_AT, 1, OLD_WORD));
}

/* Whether a page is reached by a load, by write() and in the direct map, or by none of them. */
static GUEST bool agree(uint64_t reached)
{
	return (reached & 0xffff) == (reached >> 16 & 0xffff) && (reached & 0xffff) == reached >> 32;
}

/* The VMM may not write to its memory while the guest shares it: then it may, and finds shared pages or private ones. */
static GUEST void read_only_is_shared_as_a_whole(void)
{
	fill_pages(RANGE_AT, SEAL_PAGES, OLD_WORD);
	service(FORBID_WRITES);
	const bool shared_now = !change(HC_SHARE, RANGE_AT, SEAL_PAGES);

	service(ALLOW_WRITES);
	const uint64_t after = reached(RANGE_AT, SEAL_PAGES);

	tell("load, write() and direct map agree", 1, agree(after));
	tell("reached as the guest was told", way == PLAIN || shared_now ? EACH(SEAL_PAGES) : 0, after);
	tell("to take them back", 0, change(HC_UNSHARE, RANGE_AT, SEAL_PAGES));
	tell("taken back: reached", way == PLAIN ? EACH(SEAL_PAGES) : 0, reached(RANGE_AT, SEAL_PAGES));
	tell("whole in the end", SEAL_PAGES, whole_pages(RANGE_AT, SEAL_PAGES, OLD_WORD));
}

/* The VMM moves a page to the address of another one, which the guest then shares. */
static GUEST void moved_page_is_not_shared(void)
{
	fill_pages(RANGE_AT, 1, NEW_WORD);
	fill_pages(RANGE_AT + PAGE, 1, OLD_WORD);
	service(MOVE_THERE);
	change(HC_SHARE, RANGE_AT + PAGE, 1);	/* it may be refused */
	tell("bytes of another page at the address of the shared one", way == PLAIN ? PAGE : 0, service(LOOK_BY_LOAD));
	change(HC_UNSHARE, RANGE_AT + PAGE, 1);
	service(MOVE_BACK);
	tell("the page that was moved, whole", 1, whole_pages(RANGE_AT, 1, NEW_WORD));
	tell("the page that was moved, reached", way == PLAIN ? EACH(1) : 0, reached(RANGE_AT, 1));
}

/*
 * A nested guest behind large pages of nested tables, for which KVM maps neighbours of a page along with it: the VMM has
 * put memory of its own in the place of the next one. KVM does not let the guest go on.
 */
static GUEST void neighbour_of_the_vmm_is_not_mapped(void)
{
	prepare_nested();
	table(NESTED_ROOT)[0] = (uint64_t)table(NESTED_POINTERS) | TABLE;
	table(NESTED_POINTERS)[0] = (uint64_t)table(NESTED_DIRECTORY) | TABLE;
	for (uint64_t i = 0; i < RAM_BYTES >> 21; i++)
		table(NESTED_DIRECTORY)[i] = i << 21 | TABLE | LEAF;
	*in_control(VM_NESTED) = 1;
	*in_control(VM_NESTED_CR3) = (uint64_t)table(NESTED_ROOT);
	*in_control(VM_RIP) = (uint64_t)nested_loads;
	fill_pages(GROUP_AT, 2, OLD_WORD);
	service(REPLACE);
	tell("loaded from a page", OLD_WORD, run_nested((uint64_t)table(CONTROL), GROUP_AT));
	*in_control(VM_RIP) += 3;
	tell("loaded from the next one", way == PLAIN ? NEW_WORD : OLD_WORD + 1,
	     run_nested((uint64_t)table(CONTROL), GROUP_AT));
}

/* Shares every second page of a range, one by one, and takes them back: the VMM has its mappings as before. */
static GUEST void every_second_is_shared(void)
{
	const uint64_t before = service(COUNT_MAPPINGS);

	fill_pages(RANGE_AT, 2 * ALTERNATE, OLD_WORD);
	for (uint64_t page = 0; page < ALTERNATE; page++)
		change(HC_SHARE, RANGE_AT + 2 * page * PAGE, 1);
	tell("every second page of 2,000 shared: reached", EACH(way == PLAIN ? 2 * ALTERNATE : ALTERNATE),
	     reached(RANGE_AT, 2 * ALTERNATE));
	const uint64_t after = service(COUNT_MAPPINGS);

	tell("mappings of the VMM that this added, above a few", 0, after > before + A_FEW ? after - before : 0);
	for (uint64_t page = 0; page < ALTERNATE; page++)
		change(HC_UNSHARE, RANGE_AT + 2 * page * PAGE, 1);
	const uint64_t left = service(COUNT_MAPPINGS);

	tell("mappings that are left when all is taken back, above a few", 0, left > before + A_FEW ? left - before : 0);
	tell("the pages, whole", 2 * ALTERNATE, whole_pages(RANGE_AT, 2 * ALTERNATE, OLD_WORD));
}

/*
 * A range of which the VMM has sealed (mseal()) the second part, so that a request may fail in the middle. It must be as
 * if it had not been made, for another thread of the VMM too, which loads from the first page without a break.
 */
static GUEST void failure_opens_nothing(void)
{
	uint64_t failed = 0, kept = 0;	/* requests to share that failed; whether the last one to take back did */

	fill_pages(RANGE_AT, SEAL_PAGES, OLD_WORD);
	service(SEAL);
	for (unsigned int round = 0; round < SEAL_ROUNDS; round++) {
		if (change(HC_SHARE, RANGE_AT, SEAL_PAGES)) {
			failed++;
			continue;
		}
		kept = change(HC_UNSHARE, RANGE_AT, SEAL_PAGES) ? SEAL_PAGES : 0;
	}
	const uint64_t loads = service(COUNT_LOADS);

	if (way == PLAIN)	/* the control: it does look */
		tell("loads of the VMM that got through, some", 1, loads != 0);
	tell("loads of the VMM that got through, where each request failed", 0, failed == SEAL_ROUNDS ? loads : 0);
	/* The VMM may keep what the guest has shared; the guest is told. */
	tell("reached in the end", EACH(way == PLAIN ? SEAL_PAGES : kept), reached(RANGE_AT, SEAL_PAGES));
	tell("whole in the end", SEAL_PAGES, whole_pages(RANGE_AT, SEAL_PAGES, OLD_WORD));
}

/*
 * The guest has shared the first pages, and takes back all when the VMM has sealed the others: KVM has done the first
 * before it finds out. Then it must be as before, for the VMM and for KVM.
 */
static GUEST void failure_takes_nothing_back(void)
{
	fill_pages(RANGE_AT, SEAL_PAGES, OLD_WORD);
	tell("to share the first pages", 0, change(HC_SHARE, RANGE_AT, SEAL_FROM));
	service(SEAL_REST);
	tell("to take back all", way == PLAIN ? 0 : NO_RIGHT, change(HC_UNSHARE, RANGE_AT, SEAL_PAGES));
	tell("reached in the end", EACH(way == PLAIN ? SEAL_PAGES : SEAL_FROM), reached(RANGE_AT, SEAL_PAGES));
	tell("loaded by KVM from the first page", OLD_WORD, attempt(emulated_load, RANGE_AT, 0));
	tell("whole in the end", SEAL_PAGES, whole_pages(RANGE_AT, SEAL_PAGES, OLD_WORD));
}

/* What came of one request, made again and again: each time a later one of its allocations fails. */
struct sweep {
	uint64_t failed;	/* requests that were told so */
	uint64_t wrong;		/* of them, with another error than KVM_ENOMEM */
	uint64_t changed;	/* of them, after which the host reaches more or less than before */
	uint64_t lost;		/* of them, after which KVM does not load for the guest what it loaded before */
};

/*
 * The host side has the nth allocation from now on fail, until the guest comes back. Return: whether that was to be
 * found out by a request that can fail further on.
 */
static GUEST bool failing(struct sweep *sweep, uint64_t nth, uint64_t number, uint64_t pages, uint64_t before)
{
	service(FAIL_NTH + (uint32_t)nth);
	const uint64_t result = hypercall(number, number == HC_ENABLE ? 0 : RANGE_AT / PAGE, pages);

	if (!result && number == HC_ENABLE)
		share(&shared, sizeof(shared) / PAGE);	/* or nobody could be asked */
	const bool failed = service(FAILED);

	if (result) {
		sweep->failed++;
		sweep->wrong += result != NO_MEMORY;
		sweep->changed += reached(RANGE_AT, FAIL_PAGES) != before;
		sweep->lost += attempt(emulated_load, RANGE_AT, 0) != OLD_WORD;
	}
	return failed && !(number == HC_ENABLE && !result);
}

#define SWEEP_NAMES(what) what ": some requests fail", what ": failed with another error than KVM_ENOMEM", \
	what ": failed, and the host reaches something else", \
	what ": failed, and KVM does not load what it loaded before"

static GUEST void tell_sweep(const struct sweep *sweep, const char *some, const char *wrong, const char *changed,
			     const char *lost)
{
	tell(some, 1, sweep->failed != 0);
	tell(wrong, 0, sweep->wrong);
	tell(changed, 0, sweep->changed);
	tell(lost, 0, sweep->lost);
}

/* In place of ask_for_protection(): no allocation of the request can be missing without a word. */
static GUEST void fail_to_enable(void)
{
	struct sweep sweep = { 0 };

	fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	for (uint64_t nth = 1; nth < FAIL_MOST && failing(&sweep, nth, HC_ENABLE, 0, EACH(FAIL_PAGES)); nth++)
		;
	tell_sweep(&sweep, SWEEP_NAMES("ENABLE"));
	tell("ENABLE: reached in the end", 0, reached(RANGE_AT, FAIL_PAGES));
}

/* Requests of which each allocation fails once: all of a request is done, or nothing. */
static GUEST void failed_allocation_opens_nothing(void)
{
	struct sweep to_share = { 0 }, to_take_back = { 0 };
	bool more = true;

	if (way == PLAIN) {	/* the control: there is nothing to ask for, and the host reaches all */
		fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
		tell("reached in the end", EACH(FAIL_PAGES), reached(RANGE_AT, FAIL_PAGES));
		tell("a new memory slot, of which some attempts fail", 1, service(SWEEP_SLOTS) != 0);
		return;
	}
	for (uint64_t nth = 1; nth < FAIL_MOST && more; nth++) {
		change(HC_SHARE, RANGE_AT + PAGE, 1);	/* a page is shared already, and stays so */
		more = failing(&to_share, nth, HC_SHARE, FAIL_PAGES, EACH(1));
		change(HC_UNSHARE, RANGE_AT, FAIL_PAGES);
	}
	tell_sweep(&to_share, SWEEP_NAMES("SHARE"));
	tell("SHARE: all of its allocations failed once", 0, more);
	tell("SHARE: to share in the end", 0, change(HC_SHARE, RANGE_AT, FAIL_PAGES));
	more = true;
	for (uint64_t nth = 1; nth < FAIL_MOST && more; nth++) {
		more = failing(&to_take_back, nth, HC_UNSHARE, FAIL_PAGES, EACH(FAIL_PAGES));
		change(HC_SHARE, RANGE_AT, FAIL_PAGES);
	}
	tell_sweep(&to_take_back, SWEEP_NAMES("UNSHARE"));
	tell("UNSHARE: all of its allocations failed once", 0, more);
	tell("UNSHARE: to take back in the end", 0, change(HC_UNSHARE, RANGE_AT, FAIL_PAGES));
	tell("reached in the end", 0, reached(RANGE_AT, FAIL_PAGES));
	tell("whole in the end", FAIL_PAGES, whole_pages(RANGE_AT, FAIL_PAGES, OLD_WORD));
	tell("a new memory slot, of which some attempts fail", 1, service(SWEEP_SLOTS) != 0);
	fill_pages(EXTRA_SLOT, EXTRA_PAGES, OLD_WORD);
	tell("the new memory slot: reached", 0, reached(EXTRA_SLOT, EXTRA_PAGES));
}

/* Each allocation that KVM makes to run a nested guest fails once; what it held meanwhile is told by who counts pages. */
static GUEST void failed_allocation_holds_nothing(void)
{
	uint64_t failed = 0;
	bool more = true;

	prepare_nested();
	for (uint64_t nth = 1; nth < FAIL_MOST && more; nth++) {
		*in_control(VM_RIP) = (uint64_t)nested_code;
		service(FAIL_NTH + (uint32_t)nth);
		attempt((const void *)run_nested, (uint64_t)table(CONTROL), (uint64_t)table(NESTED_DATA));
		asm volatile("stgi");	/* where a fault has ended it, as KVM finds no memory */
		more = service(FAILED);
		failed += more;
	}
	if (way == PRIVATE)	/* else KVM may have all that it needs */
		tell("some allocations fail", 1, failed != 0);
	tell("all of them failed once", 0, more);
	*in_control(VM_RIP) = (uint64_t)nested_code;
	tell("rbx, loaded by the nested guest", 0xda7a, run_on(0));
}

/* The host takes what it can of shared pages, the guest takes them back and writes something else there. */
static GUEST void handles_are_dead(bool at_once)
{
	const uint64_t pages = (uint64_t)operands, seen = way == PRIVATE ? 0 : PAGE;

	tell("to share the pages", 0, change(HC_SHARE, pages, HELD_PAGES));
	for (unsigned int page = 0; page < HELD_PAGES; page++)
		fill_pages(pages + page * PAGE, 1, OLD_WORD);
	tell("what the host took: pin, page in a pipe, a second VM's, buffer of io_uring", 15, service(TAKE_HANDLES));
	if (way == PRIVATE && at_once) {
		tell("to take back all that is held by one request", 0, change(HC_UNSHARE, pages, HELD_PAGES));
	} else if (way == PRIVATE) {
		tell("to take back a page that is pinned", 0, change(HC_UNSHARE, pages + PIN_PAGE * PAGE, 1));
		tell("to take back a page that is in a pipe", 0, change(HC_UNSHARE, pages + PIPE_PAGE * PAGE, 1));
		tell("to take back a page that a second VM has", 0, change(HC_UNSHARE, pages + VM_PAGE * PAGE, 1));
		tell("to take back a registered buffer", 0, change(HC_UNSHARE, pages + BUFFER_PAGE * PAGE, 1));
	}
	for (unsigned int page = 0; page < HELD_PAGES; page++) {
		tell("a page as the guest left it", 1, whole_pages(pages + page * PAGE, 1, OLD_WORD));
		fill_pages(pages + page * PAGE, 1, NEW_WORD);
	}
	tell("bytes of what the guest wrote since, by the pin", seen, service(LOOK_BY_PIN));
	tell("bytes of what the guest wrote since, by the pipe", seen, service(LOOK_BY_PIPE));
	tell("bytes of what the guest wrote since, by the second VM", seen, service(LOOK_BY_VM));
	tell("bytes of what the guest wrote since, by the buffer", seen, service(LOOK_BY_BUFFER));
	for (unsigned int page = 0; page < HELD_PAGES; page++)
		tell("a page as the guest wrote it last", 1, whole_pages(pages + page * PAGE, 1, NEW_WORD));
}

static GUEST void handles_are_dead_one_by_one(void)
{
	handles_are_dead(false);
}

static GUEST void handles_are_dead_at_once(void)
{
	handles_are_dead(true);
}

/* A range of which the guest has touched some pages when it shares it, and the VMM the rest when it takes it back. */
static GUEST void sparse_range_is_shared(void)
{
	const uint64_t all = EACH(SPARSE_PAGES), may = way == PLAIN ? all : 0;

	for (uint64_t page = 0; page < SPARSE_PAGES; page += EACH_THIRD)
		fill_pages(RANGE_AT + page * PAGE, 1, OLD_WORD + page);
	tell("every third page touched: reached", may, reached_if_there(RANGE_AT, SPARSE_PAGES));
	tell("to share them", 0, change(HC_SHARE, RANGE_AT, SPARSE_PAGES));
	tell("shared: reached", all, reached_if_there(RANGE_AT, SPARSE_PAGES));
	if (way != SHARED)
		tell("to take them back", 0, change(HC_UNSHARE, RANGE_AT, SPARSE_PAGES));
	tell("afterwards: reached", way == PRIVATE ? 0 : all, reached_if_there(RANGE_AT, SPARSE_PAGES));
	for (uint64_t page = 0; page < SPARSE_PAGES; page += EACH_THIRD)
		tell("a page that was touched, whole", 1, whole_pages(RANGE_AT + page * PAGE, 1, OLD_WORD + page));
	fill_pages(RANGE_AT, SPARSE_PAGES, NEW_WORD);
	tell("when all were touched: reached", way == PRIVATE ? 0 : all, reached_if_there(RANGE_AT, SPARSE_PAGES));
	tell("whole in the end", SPARSE_PAGES, whole_pages(RANGE_AT, SPARSE_PAGES, NEW_WORD));
}

#define NO_MEMORY_AT 0x7abc000		/* where the VM has none: the address of a device, and in the instruction */
#define UNTOLD_BYTES 8u
#define GIVE_UPS 2000u
extern const unsigned char untold_instruction[];
/* KVM's emulator does not know it: paddd NO_MEMORY_AT, %xmm0. */
asm(".text\n.globl untold_instruction\nuntold_instruction: .byte 0x66, 0x0f, 0xfe, 0x04, 0x25\n\t.long 0x7abc000\n\tret\n");

/* Makes KVM give up on an instruction, which is the guest's own memory. This ends the row. */
static GUEST void instruction_is_not_told(void)
{
	((void (*)(void))untold_instruction)();
}

/* The same, until another thread of the VMM would have seen what KVM says meanwhile. The guest may get a fault of it. */
static GUEST void instruction_is_not_told_meanwhile(void)
{
	service(LOOK_ON);
	for (;;)
		attempt(untold_instruction, 0, 0);
}

/*
 * One VM of a process can be protected: another one could be given the first one's memory. That other one ends, and
 * takes nothing along that is not its own.
 */
static GUEST void another_is_refused(void)
{
	tell("what another VM of the process is told", way == PLAIN ? 0 : IS_BUSY, service(ASK_ANOTHER));
	service(END_ANOTHER);
	tell("what one more is told when that one has ended", way == PLAIN ? 0 : IS_BUSY, service(ASK_ANOTHER));
}

#endif

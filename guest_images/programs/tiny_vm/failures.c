// SPDX-License-Identifier: GPL-2.0-or-later
/* What fails in the middle leaves nothing open, nothing taken back and nothing held. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "failures.h"
#include "exits.h"
#include "looks.h"
#include "nested.h"
#include "ranges.h"
#include "walk.h"

#define SEAL_FROM 2u
#define SEAL_ROUNDS 300u
#define FAIL_MOST 1000u		/* allocations of one request: more than any makes */

/*
 * A range of which the VMM has sealed (mseal()) the second part, so that a request may fail in the middle. It must be as
 * if it had not been made, for another thread of the VMM too, which loads from the first page without a break.
 */
static GUEST void failure_opens_nothing(void)
{
	uint64_t failed = 0, shared_still = 0;	/* requests to share that failed; whether the last one to take back did */

	fill_pages(RANGE_AT, SEAL_PAGES, OLD_WORD);
	service(SEAL);
	for (unsigned int round = 0; round < SEAL_ROUNDS; round++) {
		if (change(HC_SHARE, RANGE_AT, SEAL_PAGES)) {
			failed++;
			continue;
		}
		shared_still = change(HC_UNSHARE, RANGE_AT, SEAL_PAGES) ? SEAL_PAGES : 0;
	}
	const uint64_t loads = service(COUNT_LOADS);

	if (way == PLAIN)	/* the control: it does look */
		tell("loads of the VMM that got through, some", 1, loads != 0);
	tell("loads of the VMM that got through, where each request failed", 0, failed == SEAL_ROUNDS ? loads : 0);
	/* The VMM may keep what the guest has shared; the guest is told. */
	tell("reached in the end", EACH(way == PLAIN ? SEAL_PAGES : shared_still), reached(RANGE_AT, SEAL_PAGES));
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

static struct {
	pthread_t thread;
	const volatile uint64_t *page;
	volatile bool ends;
	volatile uint64_t tries, loads;
} watcher;

/* Loads again and again; a load that faults is none. */
static void *load_all_along(void *unused)
{
	uint64_t word;

	(void)unused;
	while (!watcher.ends) {
		if (load_word((const void *)watcher.page, &word) && word == OLD_WORD)
			watcher.loads++;
		watcher.tries++;
	}
	return NULL;
}

static uint64_t serve_sealed(struct vm *vm, uint32_t what)
{
	unsigned char *const range = at(vm, (void *)(uintptr_t)RANGE_AT);

	switch (what) {
	case SEAL:
		seal(range + SEAL_FROM * PAGE, (SEAL_PAGES - SEAL_FROM) * PAGE);
		watcher.page = (uint64_t *)range;
		errno = pthread_create(&watcher.thread, NULL, load_all_along, NULL);
		if (errno)
			cannot("start a thread");
		while (!watcher.tries)	/* or the guest might be done before it begins */
			sched_yield();
		return 0;
	case SEAL_REST:
		seal(range + SEAL_FROM * PAGE, (SEAL_PAGES - SEAL_FROM) * PAGE);
		return 0;
	case COUNT_LOADS:
		watcher.ends = true;
		pthread_join(watcher.thread, NULL);
		return watcher.loads;
	default:
		return serve_ranges(vm, what);
	}
}

void write_setting(const char *name, const char *value)
{
	const int file = open(name, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, value, strlen(value)) < 0)
		cannot(name);
	close(file);
}

/* All allocations may fail, those that can wait too; none does, but for a thread that asks for it. */
static void let_allocations_fail(struct vm *vm)
{
	write_setting("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	write_setting("/sys/kernel/debug/failslab/verbose", "0");
	write_setting("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_setting("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N");
	write_setting("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	write_setting("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	prctl(PR_SET_NAME, "fail-nth");	/* the kernel may report an allocation that fails; host_setup/hosts/kernel_log.py */
	vm->fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (vm->fail_nth < 0)
		cannot("open /proc/thread-self/fail-nth");
}

/* Gives the VM a new slot, of which first each allocation fails once. Return: how many attempts failed. */
static uint64_t sweep_slots(struct vm *vm)
{
	uint64_t attempts = 0;
	bool failed = true;

	for (uint32_t nth = 1; failed && nth < FAIL_MOST; nth++) {
		struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = EXTRA_SLOT,
							      .memory_size = EXTRA_PAGES * PAGE };

		vm->extra = map(EXTRA_PAGES * PAGE);
		memset(vm->extra, 1, EXTRA_PAGES * PAGE);
		region.userspace_addr = (uintptr_t)vm->extra;
		set_fail_nth(vm, nth);
		const int result = ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);

		failed = has_failed(vm);
		if (result) {
			unsigned int loaded = 0, written = 0;

			attempts++;
			count_reached(vm->extra, EXTRA_PAGES, &loaded, &written);
			if (loaded != EXTRA_PAGES || written != EXTRA_PAGES)
				snprintf(vm->wrong, sizeof(vm->wrong), "a slot that failed keeps memory: %u, %u pages "
					 "reached, with allocation %u", loaded, written, nth);
		} else if (failed) {	/* it did without; the next one is to be new too */
			region.memory_size = 0;
			if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
				cannot("take the slot away");
		}
	}
	return attempts;
}

static uint64_t serve_failures(struct vm *vm, uint32_t what)
{
	if (!vm->fail_nth)
		let_allocations_fail(vm);
	if (what >= FAIL_NTH) {
		vm->fail_next = what - FAIL_NTH;
		return 0;
	}
	switch (what) {
	case FAILED:
		return vm->failed;
	case SWEEP_SLOTS:
		return sweep_slots(vm);
	default:
		return serve_ranges(vm, what);
	}
}

const struct row failures_rows[] = {
	{ "sealed", failure_opens_nothing, .operands = NULL, .serve = serve_sealed },
	{ "sealed-rest", failure_takes_nothing_back, .operands = NULL, .serve = serve_sealed },
	{ "fail-nth", failed_allocation_opens_nothing, .operands = NULL, .serve = serve_failures,
	  .first = fail_to_enable },
	{ "fail-nested", failed_allocation_holds_nothing, .operands = operands, .pages = NESTED_STACK + 1,
	  .serve = serve_failures },
	{ .name = NULL },
};

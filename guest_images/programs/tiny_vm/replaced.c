// SPDX-License-Identifier: GPL-2.0-or-later
/* Other memory in the place of the guest's: moved, put there anew, or of another size. */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "replaced.h"
#include "looks.h"
#include "nested.h"
#include "ranges.h"
#include "refusals.h"
#include "walk.h"

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

enum { REPLACE_SLOT = 0x6000, REPLACE_BY_WRITABLE, FAIL_SLOT, LOOK_AT_FAILED, MAKE_LARGE, LOOK_AT_LARGE,
       REPLACE_BY_CODE, REPLACE_BY_TABLE };

/* The VMM moves a page of the guest's to the place of another one: the guest must not take one for the other. */
static GUEST void moved_page_is_not_taken_for_another(void)
{
	volatile uint64_t *const other = (uint64_t *)(uint64_t)(RANGE_AT + PAGE);

	fill_pages(RANGE_AT, 1, NEW_WORD);
	fill_pages(RANGE_AT + PAGE, 1, OLD_WORD);
	service(MOVE_THERE);
	tell("loaded where the VMM has put another page", way == PLAIN ? NEW_WORD : OLD_WORD, *other);
}

/* The VMM has memory of its own in the place of a slot's, to be read alone: KVM must not load from it for the guest. */
static GUEST void replaced_memory_is_not_loaded(void)
{
	fill_pages(SLOT_LOGGED, 1, OLD_WORD);
	service(REPLACE_SLOT);
	tell("loaded by KVM from what the VMM has put there", way == PLAIN ? NEW_WORD : OLD_WORD + 1,
	     attempt(emulated_load, SLOT_LOGGED, 0));
}

/* The same for code: what lies behind the prefix is fetched by KVM alone, here a return. */
static GUEST void replaced_code_is_not_run(void)
{
	map_window(TABLE, TABLE);
	write_prefix();
	table(ENTRIES)[IN_ENTRIES + 1] = SLOT_LOGGED | TABLE;
	flush_tlb();
	fill_pages(SLOT_LOGGED, 1, OLD_WORD);
	service(REPLACE_BY_CODE);
	attempt((void *)(WINDOW + PAGE - 5), 0, 0);
	tell("fault at code that the VMM has put there", way == PLAIN ? NO_FAULT : 6, fault.vector);
}

/* The same for a table of pages, by which the VMM would choose what KVM loads for the guest, and where it stores. */
static GUEST void replaced_table_is_not_walked(void)
{
	volatile uint64_t *const entry = (uint64_t *)(uint64_t)SLOT_LOGGED + IN_ENTRIES;

	map_window(TABLE, TABLE);
	table(DIRECTORY)[IN_DIRECTORY] = SLOT_LOGGED | TABLE;
	flush_tlb();
	*entry = (uint64_t)table(FIRST) | TABLE;
	table(FIRST)[0] = OLD_WORD;
	table(SECOND)[0] = NEW_WORD;
	tell("loaded by KVM by the guest's own table", OLD_WORD, attempt(emulated_load, WINDOW, 0));
	service(REPLACE_BY_TABLE);
	flush_tlb();
	const uint64_t loaded = attempt(emulated_load, WINDOW, 0);

	tell("fault of a load by a table that the VMM has put there", way == PLAIN ? NO_FAULT : 14, fault.vector);
	tell("what KVM has loaded", way == PLAIN ? NEW_WORD : 0, fault.vector == NO_FAULT ? loaded : 0);
}

/* As the VMM puts content into a slot of its own: none of it may be the guest's private memory. */
static GUEST void new_slot_brings_nothing(void)
{
	fill_pages(SLOT_LOGGED, 1, OLD_WORD);
	service(REPLACE_BY_WRITABLE);
	tell("loaded from a slot that the VMM has filled", way == PLAIN ? NEW_WORD : 0,
	     *(volatile uint64_t *)(uint64_t)SLOT_LOGGED);
}

/* The guest takes back what it has not shared, as it does with all memory when it starts. */
static GUEST void taking_back_brings_nothing(void)
{
	fill_pages(GROUP_AT, 2, OLD_WORD);
	service(REPLACE);
	tell("to take back the page that the VMM has replaced", 0, change(HC_UNSHARE, GROUP_AT, 2));
	tell("loaded from it", way == PLAIN ? NEW_WORD : 0, *(volatile uint64_t *)(uint64_t)(GROUP_AT + PAGE));
	tell("the page before it, whole", 1, whole_pages(GROUP_AT, 1, OLD_WORD));
}

/* As taking_back_brings_nothing(), beside a page that the guest has shared, and so may have content of the VMM's. */
static GUEST void taking_back_both_brings_nothing(void)
{
	fill_pages(GROUP_AT, 2, OLD_WORD);
	tell("to share the page before", 0, change(HC_SHARE, GROUP_AT, 1));
	service(REPLACE);
	tell("to take back that page and the one that the VMM has replaced", 0, change(HC_UNSHARE, GROUP_AT, 2));
	tell("loaded from the one that was replaced", way == PLAIN ? NEW_WORD : 0,
	     *(volatile uint64_t *)(uint64_t)(GROUP_AT + PAGE));
	tell("the one that was shared, whole", 1, whole_pages(GROUP_AT, 1, OLD_WORD));
}

/* Memory that a slot was to have is private until KVM refuses the slot; what got there meanwhile must not open. */
static GUEST void refused_slot_opens_nothing(void)
{
	tell("what KVM says to a slot beyond all addresses", 22, service(FAIL_SLOT));	/* EINVAL */
	tell("words that are where it was to be", way == PLAIN ? PAGE / 8 : 0, service(LOOK_AT_FAILED));
}

/* A large page of the VMM's behind a page that is shared, and behind 511 that are not. */
static GUEST void large_page_is_not_mapped(void)
{
	fill_pages(BIG + 5 * PAGE, 1, OLD_WORD);
	change(HC_SHARE, BIG + 5 * PAGE, 1);
	tell("the VMM has a large page there", 1, service(MAKE_LARGE));
	tell("loaded from the page that is shared", NEW_WORD, *(volatile uint64_t *)(uint64_t)(BIG + 5 * PAGE));
	*(volatile uint64_t *)(uint64_t)(BIG + 8 * PAGE) = SECRET;	/* the guest may end here */
	tell("the VMM has what the guest stores in another page", way == PLAIN, service(LOOK_AT_LARGE));
}

#define COLLAPSE 25	/* MADV_COLLAPSE, where the libc does not know it */

uint64_t serve_moves(struct vm *vm, uint32_t what)
{
	unsigned char *const range = at(vm, (void *)(uintptr_t)RANGE_AT), *const next = range + PAGE;
	unsigned char *const neighbour = (unsigned char *)at(vm, (void *)(uintptr_t)GROUP_AT) + PAGE;
	static bool moved;
	uint64_t bytes = 0, word;

	switch (what) {
	case FORBID_WRITES:
	case ALLOW_WRITES:
		if (mprotect(range, SEAL_PAGES * PAGE, what == FORBID_WRITES ? PROT_READ : PROT_READ | PROT_WRITE))
			cannot("change what the VMM may do with its memory");
		return 0;
	case MOVE_THERE:	/* it may be refused */
		moved = mremap(range, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, next) == next;
		return 0;
	case MOVE_BACK:
		if (moved && mremap(next, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, range) != range)
			cannot("move a page back");
		return 0;
	case REPLACE:
		if (mmap(neighbour, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			cannot("map memory in the place of the guest's");
		for (unsigned int i = 0; i < PAGE / 8; i++)
			((volatile uint64_t *)neighbour)[i] = NEW_WORD;
		return 0;
	case LOOK_BY_LOAD:
		for (unsigned int i = 0; i < PAGE; i += sizeof(word)) {
			if (load_word(next + i, &word) && word == NEW_WORD)
				bytes += sizeof(word);
		}
		return bytes;
	default:
		return serve_ranges(vm, what);
	}
}

/* Deletes a slot, and has one there with another content. Return: where that is. */
static unsigned char *replace_slot(const struct vm *vm, uint32_t flags)
{
	unsigned char *const ours = map(SLOT_PAGES * PAGE);

	fill_words(ours, SLOT_PAGES * PAGE);
	add_memory(vm, 1, 0, SLOT_LOGGED, 0, vm->logged);
	add_memory(vm, 1, flags, SLOT_LOGGED, SLOT_PAGES * PAGE, ours);
	return ours;
}

/* Whether a large page is there now; it is collapsed whatever the host's setting is. */
bool make_large(unsigned char *where)
{
	char line[256];
	bool ours = false, large = false;
	unsigned long start, end, size;
	FILE *smaps;

	if (mmap(where, BIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		cannot("map memory in the place of the guest's");
	fill_words(where, BIG_BYTES);
	madvise(where, BIG_BYTES, COLLAPSE);
	smaps = fopen("/proc/self/smaps", "re");
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			ours = start <= (unsigned long)where && end > (unsigned long)where;
		if (ours && sscanf(line, "AnonHugePages: %lu kB", &size) == 1)
			large = size;
	}
	if (smaps)
		fclose(smaps);
	return large;
}

static uint64_t serve_slots(struct vm *vm, uint32_t what)
{
	static unsigned char *refused;
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = BEYOND, .memory_size = PAGE };
	uint64_t words = 0;

	switch (what) {
	case REPLACE_SLOT:
	case REPLACE_BY_WRITABLE:
		replace_slot(vm, what == REPLACE_SLOT ? KVM_MEM_READONLY : 0);
		return 0;
	case REPLACE_BY_CODE:
		*replace_slot(vm, KVM_MEM_READONLY) = 0xc3;	/* ret */
		return 0;
	case REPLACE_BY_TABLE:	/* the VMM knows where the guest has its pages */
		((uint64_t *)replace_slot(vm, KVM_MEM_READONLY))[IN_ENTRIES] =
			(uintptr_t)operands[SECOND] | TABLE | ACCESSED | DIRTY;
		return 0;
	case FAIL_SLOT:
		refused = map(PAGE);
		fill_words(refused, PAGE);
		region.userspace_addr = (uintptr_t)refused;
		return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
	case LOOK_AT_FAILED:
		for (unsigned int i = 0; i < PAGE / 8; i++)
			words += ((volatile uint64_t *)refused)[i] == NEW_WORD;
		return words;
	case MAKE_LARGE:
		return make_large(vm->ram + BIG);
	default:
		return *(volatile uint64_t *)(vm->ram + BIG + 8 * PAGE) == SECRET;
	}
}

const struct row replaced_rows[] = {
	{ "neighbour", neighbour_of_the_vmm_is_not_mapped, .operands = operands, .pages = NESTED_STACK + 1,
	  .serve = serve_moves, .refused = true },
	{ "moved", moved_page_is_not_shared, .operands = NULL, .serve = serve_moves },
	{ "moved-touched", moved_page_is_not_taken_for_another, .operands = NULL, .serve = serve_moves, .refused = true },
	{ "replaced", replaced_memory_is_not_loaded, .operands = NULL, .serve = serve_slots, .refused = true },
	{ "replaced-code", replaced_code_is_not_run, .operands = NULL, .serve = serve_slots },
	{ "replaced-table", replaced_table_is_not_walked, .operands = NULL, .serve = serve_slots },
	{ "new-slot", new_slot_brings_nothing, .operands = NULL, .serve = serve_slots },
	{ "taken-back-both", taking_back_both_brings_nothing, .operands = NULL, .serve = serve_moves },
	{ "taken-back", taking_back_brings_nothing, .operands = NULL, .serve = serve_moves },
	{ "refused-slot", refused_slot_opens_nothing, .operands = NULL, .serve = serve_slots },
	{ "large-page", large_page_is_not_mapped, .operands = NULL, .serve = serve_slots, .refused = true },
	{ .name = NULL },
};

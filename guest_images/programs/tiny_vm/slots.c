// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory slots of other kinds: with a log of what was written, and read-only. */
#include <sys/ioctl.h>

#include "slots.h"
#include "paravirt.h"
#include "ranges.h"
#include "walk.h"

#define SLOT_BYTES (EXTRA_PAGES * PAGE)
#define SECOND_AT (EXTRA_SLOT + SLOT_BYTES)
#define MOVED_AT (SLOT_LOGGED - SLOT_BYTES)

enum { ADD_NEIGHBOURS = 1, MOVE_FIRST };	/* what the host side is asked */

GUEST uint64_t *logged(unsigned int page)
{
	return (uint64_t *)(uint64_t)(SLOT_LOGGED + page * PAGE);
}

/* Everything that writes: the processor, KVM for the guest's instructions, KVM's walk, KVM by its own. */
static GUEST void writes_are_logged(void)
{
	/* All pages are there, and known as clean: what is only read must not be in the log. */
	for (unsigned int page = 0; page < SLOT_PAGES; page++)
		*(volatile uint64_t *)logged(page) = 0;
	service(1);	/* reads and clears the log */
	asm volatile("mov %0, (%1)" : : "r"(VALUE), "r"(logged(1)) : "memory");
	attempt(emulated_store, (uint64_t)logged(2), VALUE);
	attempt(emulated_add, (uint64_t)logged(3), 0);
	attempt(emulated_store, (uint64_t)logged(5) - 4, VALUE);	/* across pages 4 and 5 */
	attempt(native_load, (uint64_t)logged(6), 0);
	attempt(emulated_load, (uint64_t)logged(7), 0);
	write_msr(MSR_WALL_CLOCK, (uint64_t)logged(8));
	tell("pages in the log", 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8, service(1));
	/* KVM's walk marks entries as accessed, and that is to write to them. */
	root[1] = (uint64_t)logged(9) | TABLE;
	logged(9)[IN_POINTERS] = (uint64_t)logged(10) | TABLE;
	logged(10)[IN_DIRECTORY] = (uint64_t)logged(11) | TABLE;
	logged(11)[IN_ENTRIES] = (uint64_t)logged(12) | TABLE;
	flush_tlb();
	service(1);
	attempt(emulated_load, WINDOW, 0);
	tell("pages in the log after a walk of KVM's", 1 << 9 | 1 << 10 | 1 << 11, service(1));
	tell("pages in the log when nothing was written", 0, service(1));
	tell("what KVM stored", VALUE, *(volatile uint64_t *)logged(2));
}

/* The VMM's own memory, which the guest may read: a write goes to the VMM, as to a device. */
static GUEST void read_only_is_read_only(void)
{
	volatile uint64_t *const memory = (uint64_t *)(uint64_t)SLOT_READONLY;
	const uint64_t value = service(1);

	tell("loaded by the processor", value, memory[0]);
	tell("loaded by KVM", value, attempt(emulated_load, (uint64_t)memory, 0));
	table(AREA)[0] = 0;
	attempt(emulated_copy, (uint64_t)table(AREA), (uint64_t)memory);
	tell("copied by KVM", value, table(AREA)[0]);
	attempt(native_store, (uint64_t)memory, VALUE);
	tell("what the VMM got of the processor's store", VALUE, service(2));
	attempt(emulated_store, (uint64_t)memory, VALUE + 1);
	tell("what the VMM got of KVM's store", VALUE + 1, service(2));
	tell("loaded afterwards", value, memory[0]);
	if (way != PLAIN)
		tell("to share it", (uint64_t)-22, hypercall(HC_SHARE, SLOT_READONLY / PAGE, 1));	/* KVM_EINVAL */
}

/* Two slots in one mapping of the VMM's, one behind the other. The VMM moves the first: it begins anew, and the other stays. */
static GUEST void memory_beside_stays(void)
{
	service(ADD_NEIGHBOURS);
	fill_pages(EXTRA_SLOT, 2 * EXTRA_PAGES, OLD_WORD);
	service(MOVE_FIRST);
	tell("pages of the slot behind the one that moved, whole", EXTRA_PAGES,
	     whole_pages(SECOND_AT, EXTRA_PAGES, OLD_WORD + EXTRA_PAGES));
	fill_pages(MOVED_AT, EXTRA_PAGES, NEW_WORD);
	tell("pages of the slot that moved, whole when they are written anew", EXTRA_PAGES,
	     whole_pages(MOVED_AT, EXTRA_PAGES, NEW_WORD));
}

static uint64_t serve_neighbours(struct vm *vm, uint32_t what)
{
	static unsigned char *memory;

	if (what == MOVE_FIRST) {
		add_memory(vm, 3, 0, MOVED_AT, SLOT_BYTES, memory);
		return 0;
	}
	memory = map(2 * SLOT_BYTES);
	add_memory(vm, 3, 0, EXTRA_SLOT, SLOT_BYTES, memory);
	add_memory(vm, 4, 0, SECOND_AT, SLOT_BYTES, memory + SLOT_BYTES);
	return 0;
}

static uint64_t read_log(struct vm *vm, uint32_t what)
{
	uint64_t pages = 0;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = &pages };

	(void)what;
	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		cannot("read the dirty log");
	return pages;
}

/* The same from the ring of the virtual CPU (Documentation/virt/kvm/api.rst 8.29): takes what is new, and hands it back. */
static uint64_t read_ring(struct vm *vm, uint32_t what)
{
	uint64_t pages = 0;

	(void)what;
	for (struct kvm_dirty_gfn *entry; entry = &vm->ring[vm->next % RING_ENTRIES],
	     __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY; vm->next++) {
		if (entry->slot == 1 && entry->offset < SLOT_PAGES)
			pages |= 1ull << entry->offset;
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	}
	if (ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0) < 0)
		cannot("hand back the dirty ring");
	return pages;
}

static uint64_t tell_readonly(struct vm *vm, uint32_t what)
{
	const uint64_t last = vm->mmio;

	vm->mmio = 0;
	return what == 1 ? *(uint64_t *)vm->readonly : last;
}

const struct row slots_rows[] = {
	{ "dirty-log", writes_are_logged, .operands = (void *)(uintptr_t)SLOT_LOGGED, .pages = SLOT_PAGES,
	  .serve = read_log },
	{ "dirty-ring", writes_are_logged, .operands = (void *)(uintptr_t)SLOT_LOGGED, .pages = SLOT_PAGES,
	  .serve = read_ring, .ring = true },
	{ "read-only", read_only_is_read_only, .operands = operands, .pages = 1, .serve = tell_readonly,
	  .device = SLOT_READONLY },
	{ "beside-moved", memory_beside_stays, .operands = operands, .pages = 1, .serve = serve_neighbours,
	  .one_space = true },	/* in a second space the memory would keep its number, and be lost at once */
	{ .name = NULL },
};

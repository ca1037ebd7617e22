// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VMM that puts one page of the guest in the place of another one, or an old page in the place of a newer one: by
 * memory slots, which it may delete and create, and by mremap(). No byte of it is the VMM's, and none is shared.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "exchanges.h"
#include "paravirt.h"
#include "ranges.h"
#include "refusals.h"

/* Two slots of one page each. */
#define ONE_AT EXTRA_SLOT
#define OTHER_AT (EXTRA_SLOT + PAGE)
#define BESIDE_AT (EXTRA_SLOT + 8 * PAGE)	/* a third one */

/* What the host side is asked. */
enum { PUT_ONE = 0x7000, PUT_BOTH, EXCHANGE, PUT_NEWER, PUT_OLDER, PUT_SECOND_NUMBER, MOVE_AWAY, BRING_BACK, RENEW,
       PUT_OURS, UPCALL, PUT_BESIDE, PUT_NEWER_BESIDE, PUT_OLDER_BESIDE, MOVE_AND_MAP,
       PUT_TWO, MOVE_BOTH, BRING_BOTH };

/* The code of one page runs where the guest has another one. */
static GUEST void pages_are_not_exchanged(void)
{
	service(PUT_BOTH);
	fill_pages(ONE_AT, 1, OLD_WORD);
	fill_pages(OTHER_AT, 1, NEW_WORD);
	service(EXCHANGE);
	tell("loaded where the VMM has put another page", way == PLAIN ? NEW_WORD : 0,
	     *(volatile uint64_t *)(uint64_t)ONE_AT);
	tell("loaded in that one's place", way == PLAIN ? OLD_WORD : 0, *(volatile uint64_t *)(uint64_t)OTHER_AT);
	fill_pages(ONE_AT, 1, OLD_WORD + 2);
	fill_pages(OTHER_AT, 1, NEW_WORD + 2);
	tell("stored since, in both", 2,
	     whole_pages(ONE_AT, 1, OLD_WORD + 2) + whole_pages(OTHER_AT, 1, NEW_WORD + 2));
}

static GUEST void older_page_does_not_come_back(void)
{
	service(PUT_ONE);
	fill_pages(ONE_AT, 1, OLD_WORD);
	service(PUT_NEWER);
	fill_pages(ONE_AT, 1, NEW_WORD);
	service(PUT_OLDER);
	tell("loaded when the older page is there again", way == PLAIN ? OLD_WORD : 0,
	     *(volatile uint64_t *)(uint64_t)ONE_AT);
	service(PUT_OLDER);
	fill_pages(ONE_AT, 1, OLD_WORD);
	service(PUT_OLDER);
	tell("stored before a slot came again as it was, whole", 1, whole_pages(ONE_AT, 1, OLD_WORD));
}

/*
 * As older_page_does_not_come_back(). The slot that brings the older page back has memory of another one as well, by which
 * it differs from all that were there before.
 */
static GUEST void older_page_does_not_come_back_with_another(void)
{
	service(PUT_BESIDE);
	fill_pages(ONE_AT, 1, OLD_WORD);
	service(PUT_NEWER_BESIDE);
	fill_pages(ONE_AT, 1, NEW_WORD);
	service(PUT_OLDER_BESIDE);
	tell("loaded when the older page is there again, by a slot that reaches into another one's memory",
	     way == PLAIN ? OLD_WORD : 0, *(volatile uint64_t *)(uint64_t)ONE_AT);
}

static GUEST void have_a_second_number(void)
{
	service(PUT_ONE);
	fill_pages(ONE_AT, 1, OLD_WORD);
	service(PUT_SECOND_NUMBER);
}

static GUEST void page_keeps_its_number(void)
{
	have_a_second_number();
	tell("the page by its number, whole", 1, whole_pages(ONE_AT, 1, OLD_WORD));
}

static GUEST void page_has_one_number(void)
{
	have_a_second_number();
	tell("loaded by another number", way == PLAIN ? OLD_WORD : 0, *(volatile uint64_t *)(uint64_t)OTHER_AT);
}

/* What the VMM has put behind a shared page number would be content of the other page that has this memory. */
static GUEST void nothing_is_taken_back_for_another(void)
{
	service(PUT_BOTH);
	change(HC_SHARE, ONE_AT, 1);
	fill_pages(OTHER_AT, 1, OLD_WORD);
	service(PUT_OURS);
	tell("to take back a page that has another one's memory", way == PLAIN ? 0 : NOT_VALID, change(HC_UNSHARE, ONE_AT, 1));
	tell("loaded from that one", way == PLAIN ? NEW_WORD : 0, *(volatile uint64_t *)(uint64_t)OTHER_AT);
}

BOTH(table_store, "sgdt (%rdi)");

/* As page_has_one_number(), for what KVM stores without a load or a look before. The guest ends there, too. */
static GUEST void page_is_not_stored_to_by_another_number(void)
{
	have_a_second_number();
	attempt(emulated_table_store, OTHER_AT, 0);
	tell("the page when KVM has stored by another number, whole", way != PLAIN, whole_pages(ONE_AT, 1, OLD_WORD));
}

static GUEST void moved_page_does_not_come_back(void)
{
	service(PUT_ONE);
	fill_pages(ONE_AT, 1, OLD_WORD);
	service(MOVE_AWAY);
	fill_pages(ONE_AT, 1, NEW_WORD);	/* the guest may end here */
	service(BRING_BACK);
	tell("loaded when the page is there again", way == PLAIN ? OLD_WORD : NEW_WORD,
	     *(volatile uint64_t *)(uint64_t)ONE_AT);
}

/* As moved_page_does_not_come_back(), of two pages that are one slot: the second of them. */
static GUEST void second_moved_page_does_not_come_back(void)
{
	service(PUT_TWO);
	fill_pages(ONE_AT, 2, OLD_WORD);
	service(MOVE_BOTH);
	fill_pages(OTHER_AT, 1, NEW_WORD);	/* the guest may end here */
	service(BRING_BOTH);
	tell("loaded from the second page when both are there again", way == PLAIN ? OLD_WORD + 1 : NEW_WORD,
	     *(volatile uint64_t *)(uint64_t)OTHER_AT);
}

/* As moved_page_does_not_come_back(); meanwhile the guest shares what the VMM has in its place, and takes that back. */
static GUEST void moved_page_does_not_come_back_by_taking_back(void)
{
	service(PUT_ONE);
	fill_pages(ONE_AT, 1, OLD_WORD);
	service(MOVE_AND_MAP);
	tell("to share the page when the VMM has another one there", 0, change(HC_SHARE, ONE_AT, 1));
	fill_pages(ONE_AT, 1, NEW_WORD);
	service(BRING_BACK);
	tell("to take the page back when the old one is there again", 0, change(HC_UNSHARE, ONE_AT, 1));
	tell("loaded from what was taken back", way == PLAIN ? OLD_WORD : 0, *(volatile uint64_t *)(uint64_t)ONE_AT);
}

static GUEST void moved_page_is_not_replaced(void)
{
	service(PUT_ONE);
	fill_pages(ONE_AT, 1, OLD_WORD);
	tell("what KVM says to a slot in the place of what was moved", way == PLAIN ? 0 : 16, service(RENEW));	/* EBUSY */
	if (way != PLAIN)
		return;
	fill_pages(ONE_AT, 1, NEW_WORD);
	service(BRING_BACK);
	tell("loaded when the page is there again", OLD_WORD, *(volatile uint64_t *)(uint64_t)ONE_AT);
}

asm(".text\n"
    ".globl upcall_entry\n"
    "upcall_entry:\n"
    "	incq irq_count\n"
    "	andl $~0x200, 16(%rsp)\n"	/* IF of who was interrupted */
    "	iretq\n");

/* An interrupt that the local APIC does not know of would look like what the program does itself. */
static GUEST void no_upcall_comes(void)
{
	set_gate(UPCALL_VECTOR, upcall_entry, 0);
	tell("what KVM says to the vector, and to where it is asked for", 0, service(UPCALL));
	take_interrupts();
	tell("interrupts of the VMM's, past the local APIC", way == PLAIN, irq_count);
}

#define XEN_VCPU_INFO_HVA 9	/* an attribute of KVM's Xen, by the VMM's address, where the headers do not know it */

/* What the guest has behind a page number: a page, another one, or nothing. */
static void put_page(const struct vm *vm, uint32_t slot, uint64_t where, void *page)
{
	static bool there[8];

	if (there[slot])
		add_memory(vm, slot, 0, where, 0, page);
	there[slot] = page;
	if (page)
		add_memory(vm, slot, 0, where, PAGE, page);
}

/* A vector of the VM's for Xen's events, and one of these; the errno, or 0. */
static uint64_t raise_upcall(const struct vm *vm)
{
	unsigned char *const info = map(PAGE);	/* struct vcpu_info: its first byte says that an event is pending */
	struct kvm_xen_hvm_config config = { .flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, .msr = 0x40000000 };
	struct kvm_xen_hvm_attr wide = { .type = KVM_XEN_ATTR_TYPE_LONG_MODE, .u.long_mode = 1 };
	struct kvm_xen_hvm_attr vector = { .type = KVM_XEN_ATTR_TYPE_UPCALL_VECTOR, .u.vector = UPCALL_VECTOR };
	struct kvm_xen_vcpu_attr where = { .type = XEN_VCPU_INFO_HVA, .u.gpa = (uintptr_t)info };

	if (ioctl(vm->fd, KVM_XEN_HVM_CONFIG, &config) || ioctl(vm->fd, KVM_XEN_HVM_SET_ATTR, &wide) ||
	    ioctl(vm->fd, KVM_XEN_HVM_SET_ATTR, &vector))
		return (uint64_t)errno;
	if (way == PLAIN && older_than(6, 9)) {	/* it takes the guest's address alone */
		add_memory(vm, 3, 0, ONE_AT, PAGE, info);
		where.type = KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO;
		where.u.gpa = ONE_AT;
	}
	if (ioctl(vm->cpu, KVM_XEN_VCPU_SET_ATTR, &where))
		return (uint64_t)errno;
	info[0] = 1;
	return 0;
}

static uint64_t serve_exchanges(struct vm *vm, uint32_t what)
{
	static unsigned char *one, *other, *away;	/* behind the first is another page, of one mapping with it */
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = ONE_AT, .memory_size = PAGE };

	if (!one) {
		one = map(2 * PAGE);
		other = map(PAGE);
		away = map(2 * PAGE);
	}
	switch (what) {
	case PUT_BOTH:
		put_page(vm, 4, OTHER_AT, other);
		put_page(vm, 3, ONE_AT, one);
		return 0;
	case PUT_ONE:
	case PUT_OLDER:
		put_page(vm, 3, ONE_AT, one);
		return 0;
	case PUT_NEWER:
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case EXCHANGE:
		put_page(vm, 3, ONE_AT, NULL);
		put_page(vm, 4, OTHER_AT, one);
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case PUT_SECOND_NUMBER:
		put_page(vm, 4, OTHER_AT, one);
		return 0;
	case PUT_BESIDE:
		put_page(vm, 3, ONE_AT, one);
		put_page(vm, 4, BESIDE_AT, one + PAGE);
		return 0;
	case PUT_NEWER_BESIDE:
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case PUT_OLDER_BESIDE:
		put_page(vm, 3, ONE_AT, NULL);
		add_memory(vm, 3, 0, ONE_AT, 2 * PAGE, one);
		return 0;
	case PUT_OURS:
		if (mmap(other, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != other)
			cannot("map memory in the place of the guest's");
		fill_words(other, PAGE);
		put_page(vm, 3, ONE_AT, other);
		return 0;
	case MOVE_AWAY:
		if (mremap(one, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, other) != other)
			cannot("move a page away");
		return 0;
	case PUT_TWO:
		add_memory(vm, 3, 0, ONE_AT, 2 * PAGE, one);
		return 0;
	case MOVE_BOTH:
		if (mremap(one, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, away) != away)
			cannot("move two pages away");
		return 0;
	case BRING_BOTH:
		if (mremap(away, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, one) != one)
			cannot("bring two pages back");
		return 0;
	case MOVE_AND_MAP:
		if (mremap(one, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) != other ||
		    mmap(one, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != one)
			cannot("move a page away and map another one");
		return 0;
	case BRING_BACK:
		if (mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, one) != one)
			cannot("bring a page back");
		return 0;
	case RENEW:
		if (mremap(one, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) != other ||
		    mmap(one, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != one)
			cannot("move a page away and map another one");
		put_page(vm, 3, ONE_AT, NULL);
		region.userspace_addr = (uintptr_t)one;
		return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
	default:
		return raise_upcall(vm);
	}
}

const struct row exchanges_rows[] = {
	{ "exchanged", pages_are_not_exchanged, .operands = NULL, .serve = serve_exchanges,
	  .one_space = true },	/* or KVM would empty the page when it comes a second time, in the other one */
	{ "older", older_page_does_not_come_back, .operands = NULL, .serve = serve_exchanges },
	{ "older-beside", older_page_does_not_come_back_with_another, .operands = NULL, .serve = serve_exchanges },
	{ "second-number", page_keeps_its_number, .operands = NULL, .serve = serve_exchanges },
	{ "second-number-loaded", page_has_one_number, .operands = NULL, .serve = serve_exchanges, .refused = true,
	  .ends_at = OTHER_AT },
	{ "second-number-stored", page_is_not_stored_to_by_another_number, .operands = NULL, .serve = serve_exchanges,
	  .refused = true, .ends_at = OTHER_AT },
	{ "taken-for-another", nothing_is_taken_back_for_another, .operands = NULL, .serve = serve_exchanges, .refused = true },
	{ "moved-back", moved_page_does_not_come_back, .operands = NULL, .serve = serve_exchanges, .refused = true },
	{ "moved-back-second", second_moved_page_does_not_come_back, .operands = NULL, .serve = serve_exchanges,
	  .refused = true, .meets = MOVE_BOTH },
	{ "moved-taken-back", moved_page_does_not_come_back_by_taking_back, .operands = NULL, .serve = serve_exchanges },
	{ "moved-renewed", moved_page_is_not_replaced, .operands = NULL, .serve = serve_exchanges },
	{ "upcall", no_upcall_comes, .operands = NULL, .serve = serve_exchanges, .first = enable_with_registers },
	{ .name = NULL },
};

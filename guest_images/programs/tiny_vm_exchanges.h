/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VMM that puts one page of the guest in the place of another one, or an old page in the place of a newer one: by
 * memory slots, which it may delete and create, and by mremap(). No byte of it is the VMM's, and none is shared.
 */
#ifndef TINY_VM_EXCHANGES_H
#define TINY_VM_EXCHANGES_H

#include "tiny_vm_paravirt.h"
#include "tiny_vm_ranges.h"

/* Two slots of one page each. */
#define ONE_AT EXTRA_SLOT
#define OTHER_AT (EXTRA_SLOT + PAGE)
#define BESIDE_AT (EXTRA_SLOT + 8 * PAGE)	/* a third one */
#define UPCALL_VECTOR 0x80	/* of the system calls of 32-bit programs */

/* What the host side is asked. */
enum { PUT_ONE = 0x7000, PUT_BOTH, EXCHANGE, PUT_NEWER, PUT_OLDER, PUT_SECOND_NUMBER, MOVE_AWAY, BRING_BACK, RENEW,
       PUT_OURS, UPCALL, PUT_BESIDE, PUT_NEWER_BESIDE, PUT_OLDER_BESIDE, MOVE_AND_MAP };

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

/* It comes again as long as the VMM's memory says so: the first one is enough. */
extern const unsigned char upcall_entry[];
asm(".text\n"
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

#endif

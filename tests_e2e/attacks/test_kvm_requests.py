# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host reaches after a guest's requests: of many pages at once, and by what it took while they were shared.

The guest is that of the program ``tiny_vm``, which counts for each page who reaches it: a load of the VMM, a system
call of the VMM, a load of the kernel in its direct map.
"""

from __future__ import annotations

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.swap import swap_area
from tests_e2e.support.tiny_vm import tiny_vm_works

SWAP = "1M"

INSTRUCTION = "66 0f fe 04 25"  # guest_images/programs: untold_instruction, as the kernel prints bytes (%*ph)


def test_host_reaches_exactly_the_range_that_a_guest_shares(trial: Trial, host: Host) -> None:
    """Of 1, 5 and 600 pages that a guest shares or takes back at once the host reaches all, or none, and no other."""
    tiny_vm_works(trial, host, "ranges")


def test_host_reaches_exactly_the_range_that_a_guest_shares_beyond_4_gib(trial: Trial, host: Host) -> None:
    """Of a memory slot of 5 GiB the host reaches the page that the guest shares behind 4 GiB, and none before it."""
    tiny_vm_works(trial, host, "far")


def test_host_sees_nothing_new_by_what_it_took_while_a_page_was_shared(trial: Trial, host: Host) -> None:
    """A pin, a pipe, a registered buffer and a second VM show nothing that a guest writes when it took a page back."""
    tiny_vm_works(trial, host, "handles")


def test_host_sees_nothing_new_by_what_it_took_while_several_pages_were_shared(trial: Trial, host: Host) -> None:
    """Nor do they, and a registered buffer, when the guest takes back all of these pages by one request."""
    tiny_vm_works(trial, host, "handles-at-once")


def test_no_processor_stores_into_a_page_that_another_one_took_back(trial: Trial, host: Host) -> None:
    """What a processor stores without a break is nowhere in a page that the host took, once another took that back."""
    tiny_vm_works(trial, host, "second-stores")


def test_page_that_is_swapped_out_becomes_private(trial: Trial, host: Host) -> None:
    """Pages that the host has swapped out become private like all others, when the guest asks or takes them back."""
    with swap_area(host.ssh, SWAP):
        tiny_vm_works(trial, host, "swapped")


def test_host_reaches_exactly_the_range_that_a_guest_shares_untouched(trial: Trial, host: Host) -> None:
    """Of a range that the guest has touched in part when it shares it the host reaches all, and none afterwards."""
    tiny_vm_works(trial, host, "sparse")


def test_kvm_does_not_tell_the_vmm_an_instruction_that_it_cannot_emulate(trial: Trial, host: Host) -> None:
    """When KVM gives up on an instruction of a guest, the VMM does not get its bytes, which are the guest's memory."""
    tiny_vm_works(trial, host, "untold", "untold-registers", "untold-meanwhile", unsaid=INSTRUCTION)


def test_another_vm_of_the_process_cannot_be_protected_as_well(trial: Trial, host: Host) -> None:
    """Another VM of a process that has a protected one is refused protection, and the first one's stays as it is."""
    tiny_vm_works(trial, host, "another")


def test_page_is_not_shared_by_another_number(trial: Trial, host: Host) -> None:
    """A private page that the VMM has put behind a second page number is not shared by a request for that number."""
    tiny_vm_works(trial, host, "alias", "alias-behind", "alias-managed")


def test_nested_guest_shares_no_page_of_its_hypervisors(trial: Trial, host: Host) -> None:
    """A request to share pages that a nested guest makes, by a hypercall that is also Hyper-V's, opens none."""
    tiny_vm_works(trial, host, "nested-shares")


def test_request_that_fails_in_the_middle_opens_nothing(trial: Trial, host: Host) -> None:
    """A request over memory of which the VMM has sealed a part fails as a whole: no thread of it sees the rest open."""
    tiny_vm_works(trial, host, "sealed", "sealed-rest")


def test_memory_that_the_vmm_may_not_write_is_shared_as_a_whole(trial: Trial, host: Host) -> None:
    """A page that a guest shares while its VMM may not write there is a shared one, or stays private, in all ways."""
    tiny_vm_works(trial, host, "read-only-mapping")


def test_nested_guest_loads_nothing_that_the_vmm_put_beside_its_page(trial: Trial, host: Host) -> None:
    """Memory of the VMM in the place of a private page is not mapped for a nested guest along with its neighbour."""
    tiny_vm_works(trial, host, "neighbour")


def test_page_that_the_vmm_moves_is_not_shared_in_place_of_another(trial: Trial, host: Host) -> None:
    """A page that the VMM moves by mremap() to another one's address does not go out when the guest shares that one."""
    tiny_vm_works(trial, host, "moved")


def test_request_whose_allocation_fails_changes_nothing(trial: Trial, host: Host) -> None:
    """A request of which one allocation fails is done as a whole or changes nothing: ENABLE, SHARE, UNSHARE, slots."""
    tiny_vm_works(trial, host, "fail-nth")


def test_memory_that_is_not_the_vmms_alone_is_not_protected(trial: Trial, host: Host) -> None:
    """Memory that the VMM shares, moves, seals, may not write or has a hole in is refused protection, as a whole."""
    tiny_vm_works(trial, host, "kinds")


def test_vmm_that_may_not_lock_memory_has_no_private_memory(trial: Trial, host: Host) -> None:
    """A VMM without the right to lock memory gets its guest no private memory beyond its limit, and is told so."""
    tiny_vm_works(trial, host, "limit")


def test_vmm_that_ends_gives_back_what_it_has_locked(trial: Trial, host: Host) -> None:
    """A user who may lock the memory of one VM has one protected at a time, and the next when that has ended."""
    tiny_vm_works(trial, host, "locked")


def test_guest_gets_no_page_that_is_broken(trial: Trial, host: Host) -> None:
    """A frame that is declared broken while KVM has it free for a guest does not become a private page again."""
    tiny_vm_works(trial, host, "broken", ways=("private",))


def test_child_of_a_vmm_runs_a_protected_guest_of_its_own(trial: Trial, host: Host) -> None:
    """A process that a VMM has forked gets the guest of its own VM protected, as any other process does."""
    tiny_vm_works(trial, host, "child")


def test_guest_is_not_protected_where_kvm_has_an_address_of_the_vmms(trial: Trial, host: Host) -> None:
    """A guest is refused protection if the VMM has given KVM an address that leads into private memory."""
    tiny_vm_works(trial, host, "given-management", "given-save-area", "given-nested", "given-another")


def test_kvm_writes_to_no_private_page_at_further_addresses_of_the_vmms(trial: Trial, host: Host) -> None:
    """A VMM cannot have KVM write into private memory across pages, as a message of Hyper-V's, or the task priority."""
    tiny_vm_works(trial, host, "addresses")


def test_guest_reads_no_other_page_in_the_place_of_its_own(trial: Trial, host: Host) -> None:
    """A guest does not go on with a private page that the VMM has moved to the place of another one (mremap)."""
    tiny_vm_works(trial, host, "moved-touched")


def test_kvm_reads_nothing_of_the_vmms_in_the_place_of_private_memory(trial: Trial, host: Host) -> None:
    """KVM loads, fetches and walks nothing of a read-only slot that the VMM has put in the place of private memory."""
    tiny_vm_works(trial, host, "replaced", "replaced-code", "replaced-table")


def test_vmm_gets_no_large_page_over_private_memory(trial: Trial, host: Host) -> None:
    """A VMM cannot have a guest's private pages mapped to a large page of its own, by way of one that is shared."""
    tiny_vm_works(trial, host, "large-page")


def test_new_memory_slot_brings_and_opens_nothing(trial: Trial, host: Host) -> None:
    """A memory slot that a VMM adds brings no content into private memory, and opens none when KVM refuses the slot."""
    tiny_vm_works(trial, host, "new-slot", "filled-slot", "managed-slot", "refused-slot", "refused-moved")


def test_slot_that_is_refused_opens_no_neighbour(trial: Trial, host: Host) -> None:
    """A memory slot that KVM refuses opens no private memory that another thread has joined its memory with."""
    tiny_vm_works(trial, host, "refused-beside")


def test_guest_takes_back_no_content_of_the_vmms(trial: Trial, host: Host) -> None:
    """A guest that takes back a page that it has not shared finds nothing that the VMM has put in its place."""
    tiny_vm_works(trial, host, "taken-back", "taken-back-both")


def test_guests_store_behind_a_moved_slot_does_not_reach_the_vmm(trial: Trial, host: Host) -> None:
    """A guest's store goes to no VMM that deletes a slot it has moved, or memory beside the graphics card's window."""
    tiny_vm_works(trial, host, "moved-slot", "before-window", "behind-window")


def test_guest_is_protected_only_where_its_vmm_offers_that(trial: Trial, host: Host) -> None:
    """A guest whose VMM offers it no protection, and has KVM go by that, is told that there is no such hypercall."""
    tiny_vm_works(trial, host, "withheld")


def test_guests_store_that_finds_no_memory_does_not_reach_the_vmm(trial: Trial, host: Host) -> None:
    """What KVM stores for a guest does not go to the VMM that lets it have no more memory."""
    tiny_vm_works(trial, host, "limit-store")


def test_guests_store_in_management_mode_does_not_reach_the_vmm(trial: Trial, host: Host) -> None:
    """What a processor stores in system management mode does not go to the VMM when that deletes the mode's memory."""
    tiny_vm_works(trial, host, "managed-deleted")


def test_next_guest_finds_a_device_where_memory_was(trial: Trial, host: Host) -> None:
    """What the guest before had as memory, and the VMM has taken away with a reset, is none of the next guest's."""
    tiny_vm_works(trial, host, "reset-forgotten")


def test_next_guest_finds_nothing_of_the_one_before(trial: Trial, host: Host) -> None:
    """A page that the VMM keeps elsewhere while it resets a machine has nothing for the next guest, or for the VMM."""
    tiny_vm_works(trial, host, "reset-moved")


def test_sharing_ends_with_a_reset(trial: Trial, host: Host) -> None:
    """What a guest has shared is private again for the next guest, when the machine was reset."""
    tiny_vm_works(trial, host, "reset-shared")


def test_vmm_puts_no_page_of_the_guest_in_the_place_of_another(trial: Trial, host: Host) -> None:
    """A VMM cannot give a guest one of its pages in the place of another, or of a newer one (memory slots, mremap)."""
    rows = ("exchanged", "older", "older-beside", "second-number", "second-number-loaded", "second-number-stored")
    moved = ("taken-for-another", "moved-back", "moved-back-second", "moved-taken-back", "moved-renewed")
    tiny_vm_works(trial, host, *rows, "window", "window-before", *moved)

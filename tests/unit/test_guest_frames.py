# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a guest's pages are, and what is in them, without a machine."""

from __future__ import annotations

from signoff.observation import PAGE_SIZE
from tests_e2e.attacks.test_shared_content import PART, PATTERN, bytes_of
from tests_e2e.support.guest_frames import GuestFrames, _of_several, runs

PATTERN_BYTES = bytes(range(1, PATTERN + 1))


def test_pages_that_follow_each_other_in_the_vmm_are_asked_for_at_once() -> None:
    address = {0x0000: 0x50000, 0x1000: 0x51000, 0x2000: 0x90000, 0x8000: 0x52000}
    assert list(runs(address)) == [([0x0000, 0x1000, 0x8000], 0x50000), ([0x2000], 0x90000)]


def test_no_pages_are_no_runs() -> None:
    assert list(runs({})) == []


def test_what_was_so_before_alone_does_not_count() -> None:
    before = GuestFrames(private={1: 0x1000, 2: 0x2000, 3: 0x3000}, open={4: 0x4000})
    later = GuestFrames(private={1: 0x1000, 2: 0x9000}, open={3: 0x3000, 4: 0x4000})
    assert before.still(later) == GuestFrames(private={1: 0x1000}, open={4: 0x4000})
    assert before.all == {1, 2, 3, 4}


def test_a_pattern_is_counted_in_the_frames_asked_about() -> None:
    memory = bytes(PAGE_SIZE) + PATTERN_BYTES * (PAGE_SIZE // PATTERN) + PATTERN_BYTES + bytes(PAGE_SIZE - PATTERN)
    assert bytes_of(memory, PATTERN_BYTES, [0]) == 0
    assert bytes_of(memory, PATTERN_BYTES, [1]) == PAGE_SIZE
    assert bytes_of(memory, PATTERN_BYTES, [0, 2]) == PATTERN


def test_a_part_of_a_pattern_counts() -> None:
    assert bytes_of(PATTERN_BYTES[:PART] + bytes(PAGE_SIZE - PART), PATTERN_BYTES, [0]) == PART
    assert bytes_of(PATTERN_BYTES[1:] + bytes(PAGE_SIZE - PATTERN + 1), PATTERN_BYTES, [0]) == PART


def test_frame_that_several_pages_have_is_no_guests_own() -> None:
    address = {0x1000: 0x51000, 0x2000: 0x52000, 0x3000: 0x53000, 0xA1000: 0x51000}
    # The same page at two addresses of the guest's is one page of the VMM's.
    assert _of_several({0x1000: 7, 0xA1000: 7, 0x2000: 8, 0x3000: None}, address) == frozenset()
    assert _of_several({0x1000: 7, 0x2000: 8, 0x3000: 8}, address) == {8}

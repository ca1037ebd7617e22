# SPDX-License-Identifier: GPL-2.0-or-later
"""What claims about the end of a VM read in a trace, and in memory made by hand."""

from __future__ import annotations

import secrets

from signoff.observation import PAGE_SIZE
from tests_e2e.attacks.test_registers_left import pages_left
from tests_e2e.legitimate.test_end_of_vm import beyond_what_was_free, by_interrupts, count_freed
from tests_e2e.support.registers import GENERAL, VECTORS

CLEARED = "  kworker/u4:2-57  [001] .....  81.20: steps0: (guest_pages_clear+0x0/0xf0) cleared=16\n"
RETURNED = (
    "  kworker/u4:2-57  [001] .....  81.21: steps1: (set_direct_map_valid_noflush+0x0/0x90) returned=512 valid=1\n"
)
FREED = " CPU 0/KVM-{} [000] ...1.  12.3: nodes0: (call_rcu+0x0/0x10) function=0xffffffff81f0a2b0 flags=0x{:x}\n"


def test_blocks_are_early_that_come_back_before_most_is_clear() -> None:
    assert count_freed("") == (0, 0)
    assert count_freed(8 * CLEARED + 4 * RETURNED) == (4, 0)
    assert count_freed(4 * (CLEARED + CLEARED + RETURNED)) == (4, 2)
    assert count_freed(8 * CLEARED + 4 * RETURNED + CLEARED) == (4, 0)


def test_nodes_are_told_by_the_flag_of_interrupts_of_the_vmms_threads_alone() -> None:
    trace = FREED.format(7, 0x246) + FREED.format(8, 0x46) + FREED.format(8, 0x2) + FREED.format(9, 0x46)
    assert by_interrupts(trace, [7, 8]) == (1, 2)


def test_a_register_is_found_wherever_it_is_and_told_by_its_kind() -> None:
    mine, others = (secrets.token_bytes(VECTORS.stop) for _ in range(2))
    memory = bytearray(4 * PAGE_SIZE)
    memory[PAGE_SIZE + 40 : PAGE_SIZE + 48] = mine[GENERAL][-8:]
    memory[3 * PAGE_SIZE - 8 : 3 * PAGE_SIZE] = mine[VECTORS][8:16]
    memory[3 * PAGE_SIZE : 3 * PAGE_SIZE + len(others)] = others
    assert pages_left(memory, mine, others) == [
        {"general registers": {1}, "vector registers": {2}},
        {"general registers": {3}, "vector registers": {3}},
    ]


def test_work_is_told_with_what_it_clears_beyond_what_was_free() -> None:
    line = " kworker/u8:1-{} [000] d.... 1.2: {}: (f+0x0/0x10) {}\n".format
    trace = (
        line(7, "at-once1", "cleared=5")  # before its first work: of nobody
        + line(8, "at-once0", "dirty=100")
        + line(8, "at-once1", "cleared=60")
        + line(9, "at-once1", "cleared=70")
        + line(8, "at-once1", "cleared=48")
        + line(8, "at-once0", "dirty=3")
    )
    assert beyond_what_was_free("") == []
    assert beyond_what_was_free(trace) == [(100, 8), (3, -3)]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Who maps a guest's pages, in a host's memory made by hand: two VMs, the kernel, a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from common.errors import MachineError
from signoff.observation import PAGE_SIZE
from tests.unit.host_memory_samples import (
    BLOCK,
    DIRECT,
    GUESTS_BLOCK,
    KERNEL_LOWEST,
    KERNEL_MIDDLE,
    KERNEL_UPPER,
    NESTED,
    PLAIN,
    PLAIN_BLOCK,
    PLAIN_NESTED,
    PRIVATE,
    SHARED,
    STALE_ROOT,
    USER_LOWEST,
    VMM,
    Machine,
)
from tests_e2e.support import holders
from tests_e2e.support.guest_frames import GuestFrames
from tests_e2e.support.holders import counts, owners, topmost_in_use
from tests_e2e.support.nested_tables import find_nested_tables
from tests_e2e.support.translations import LARGE, PRESENT


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MANY", 8)
    monkeypatch.setattr(holders, "FEW", 2)


def test_all_is_right_where_everything_is_in_its_place() -> None:
    machine = Machine()
    machine.entry(USER_LOWEST, 100, PLAIN[0])
    machine.guests["plain"] = GuestFrames({}, machine.guests["plain"].open, address={0: VMM + 100 * PAGE_SIZE})
    assert machine.wrong() == []
    assert machine.wrong("plain") == []


def direct_map_entry(machine: Machine) -> None:
    machine.entry(KERNEL_LOWEST, 3, PRIVATE[3])


def alias_in_the_kernel(machine: Machine) -> None:
    machine.entry(KERNEL_MIDDLE, 5, 30)
    machine.entry(30, 7, PRIVATE[3])


def large_page_of_the_kernel(machine: Machine) -> None:
    machine.entry(KERNEL_MIDDLE, 1, 512, PRESENT | LARGE)


def stale_entry_of_a_process(machine: Machine) -> None:
    machine.entry(USER_LOWEST, 3, PRIVATE[3])


def alone_in_an_address_space(machine: Machine) -> None:
    """As a CPU has it for a moment, and no longer."""
    machine.entry(30, 511, 9)
    machine.entry(30, (DIRECT >> 39) & 511, KERNEL_UPPER)
    for table in (30, 31, 32):
        machine.entry(table, 1 if table == 31 else 0, table + 1)
    machine.entry(33, 0, PRIVATE[3])


def in_another_vm(machine: Machine) -> None:
    machine.entry(PLAIN_NESTED + 3, 9, PRIVATE[3])


def in_a_vm_of_nobodys(machine: Machine) -> None:
    machine.vm(50, 51, [PRIVATE[3]] * 1)
    machine.entry(54, 0, 0, 0)
    machine.entry(54, 77, PRIVATE[3])


def at_another_place(machine: Machine) -> None:
    machine.entry(NESTED + 3, 77, PRIVATE[3])


def in_another_frame(machine: Machine) -> None:
    machine.entry(NESTED + 3, 3, 900)


def in_a_frame_that_the_kernel_maps_and_the_vmm_knows_nothing_of(machine: Machine) -> None:
    machine.guests["protected"] = GuestFrames(
        {frame: gpa for frame, gpa in machine.guests["protected"].private.items() if frame != PRIVATE[3]},
        machine.guests["protected"].open,
        machine.guests["protected"].unshared,
        machine.guests["protected"].address,
    )
    direct_map_entry(machine)


def table_twice(machine: Machine) -> None:
    machine.entry(NESTED + 2, 1, NESTED + 3)


def shared_page_elsewhere_in_the_kernel(machine: Machine) -> None:
    machine.entry(KERNEL_MIDDLE, 5, 30)
    machine.entry(30, 7, SHARED[0])


def shared_page_elsewhere_in_a_process(machine: Machine) -> None:
    machine.entry(USER_LOWEST, 99, SHARED[0])


def shared_page_in_another_vm(machine: Machine) -> None:
    machine.entry(PLAIN_NESTED + 3, 9, SHARED[0])


def shared_page_not_in_the_direct_map(machine: Machine) -> None:
    machine.entry(KERNEL_LOWEST, SHARED[0] - 512, 0, 0)


def no_control_block(machine: Machine) -> None:
    machine.word(BLOCK, 0x10 // 8, 0)


PAGE_3 = f"{3 * PAGE_SIZE:#x}"
PAGE_10 = f"{10 * PAGE_SIZE:#x}"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (direct_map_entry, f"private pages that the kernel maps: 1: {PAGE_3} at 0xffff888000203000"),
        (alias_in_the_kernel, f"private pages that the kernel maps: 1: {PAGE_3} at 0xffff888000a07000"),
        (large_page_of_the_kernel, "private pages that the kernel maps: 10: 0x0 at 0xffff888000200000"),
        (stale_entry_of_a_process, f"private pages that a process maps: 1: {PAGE_3} at 0x40003000"),
        (
            alone_in_an_address_space,
            f"private pages that an address space maps which has nothing else: 1: {PAGE_3} at 0x40000000",
        ),
        (in_another_vm, f"private pages that nested page tables of others map: 1: {PAGE_3} at 0x9000"),
        (in_a_vm_of_nobodys, f"private pages that nested page tables of others map: 1: {PAGE_3} at 0x4d000"),
        (at_another_place, f"private pages that its own map elsewhere: 1: {PAGE_3} at 0x4d000"),
        (in_another_frame, f"pages that they and its VMM's page tables have in different frames: 1: {PAGE_3} at 0x384"),
        (
            in_a_frame_that_the_kernel_maps_and_the_vmm_knows_nothing_of,
            f"private pages that the kernel maps: 1: {PAGE_3} at 0xffff888000203000",
        ),
        (table_twice, "tables that its nested page tables have twice: 1: 0x200000 at 0x200000"),
        (
            shared_page_elsewhere_in_the_kernel,
            f"other pages that it maps elsewhere than in the direct map: 1: {PAGE_10} at 0xffff888000a07000",
        ),
        (
            shared_page_elsewhere_in_a_process,
            f"other pages that a process maps elsewhere than its VMM: 1: {PAGE_10} at 0x40063000",
        ),
        (
            shared_page_in_another_vm,
            f"other pages that nested page tables of others map: 1: {PAGE_10} at 0x9000",
        ),
        (shared_page_not_in_the_direct_map, f"other pages that the kernel does not map: 1: {PAGE_10} at 0x0"),
        (no_control_block, "control blocks of the guest's virtual CPUs: 0"),
    ],
)
def test_fault_is_named(fault: Callable[[Machine], None], words: str) -> None:
    machine = Machine()
    fault(machine)
    assert any(fault.startswith(words) for fault in machine.wrong())


def test_frame_of_all_empty_pages_is_no_guests_own() -> None:
    machine = Machine()
    for guest in machine.guests.values():
        cast(dict[int, int], guest.open)[1000] = 0x700000
    assert machine.wrong() == []


def test_memory_that_a_chipset_shows_twice_is_one_page() -> None:
    machine = Machine()
    at_another_place(machine)
    cast(dict[int, int], machine.guests["protected"].address)[0x4D000] = VMM + 3 * PAGE_SIZE
    assert machine.wrong() == []


def test_topmost_table_that_was_not_found_is_told() -> None:
    assert Machine().wrong(in_use=99) == ["the topmost table that a CPU has loaded was found: no"]


def test_a_guest_has_no_control_block_of_the_hosts() -> None:
    machine = Machine()
    frames = dict.fromkeys([GUESTS_BLOCK, *PRIVATE], 0)
    machine.guests["protected"] = GuestFrames(frames, machine.guests["protected"].open)
    machine.block(GUESTS_BLOCK, NESTED)
    assert [table.blocks for table in machine.holders().nested] == [(BLOCK,), (PLAIN_BLOCK,)]


@pytest.mark.parametrize("free", [BLOCK, NESTED])
def test_what_a_vm_that_has_ended_left_is_no_control_block(free: int) -> None:
    result = find_nested_tables(Machine().bytes, (), lambda frame: frame != free)
    assert [entry.root for entry in result] == [PLAIN_NESTED]


@pytest.mark.parametrize("word", [0x10, 0x58, 0x90, 0xB0, 0x4D0])
def test_what_vmrun_would_refuse_is_no_control_block(word: int) -> None:
    machine = Machine()
    machine.word(BLOCK, word // 8, 0)
    assert [table.root for table in find_nested_tables(machine.bytes)] == [PLAIN_NESTED]


def test_nested_large_page_maps_all_its_frames() -> None:
    machine = Machine()
    machine.entry(NESTED + 2, 2, 1024, PRESENT | LARGE | 1 << 12)
    (result, _) = find_nested_tables(machine.bytes)
    assert len(result.at) == 15 + 512
    assert result.at[0x400000 + 5 * PAGE_SIZE] == 1024 + 5


def test_device_of_a_guest_is_no_memory() -> None:
    machine = Machine()
    machine.word(NESTED + 3, 300, 1 << 51 | PRESENT)
    (result, _) = find_nested_tables(machine.bytes)
    assert len(result.at) == 15


def test_what_is_no_table_ends() -> None:
    machine = Machine()
    machine.block(60, STALE_ROOT)
    for index in range(512):
        machine.entry(STALE_ROOT, index, STALE_ROOT)
    (_, _, stale) = find_nested_tables(machine.bytes)
    assert (stale.tables, len(stale.at)) == (4, 512)


def test_tables_of_a_vm_that_has_ended_are_nobodys() -> None:
    machine = Machine()
    machine.vm(60, STALE_ROOT, [3000, 3001])
    assert owners(machine.guests, machine.holders().nested) == {NESTED: "protected", PLAIN_NESTED: "plain"}


def test_counts_say_who_maps_how_many() -> None:
    machine = Machine()
    stale_entry_of_a_process(machine)
    assert counts("protected", machine.guests, machine.holders()).splitlines() == [
        "protected: 10 private pages",
        "           9 mapped by its own nested page tables",
        "           1 mapped by its own nested page tables + a process",
        "protected: 5 other pages",
        "           5 mapped by its own nested page tables + the kernel + a process",
    ]


class Monitor:
    def __init__(self, words: str) -> None:
        self.words = words

    def monitor(self, command: str) -> str:
        assert command == "info registers"
        return self.words


def test_topmost_table_of_a_cpu_is_its_own_word() -> None:
    assert topmost_in_use(Monitor("CR0=80050033 CR2=0 CR3=0000000002c3a005 CR4=3006f0")) == 0x2C3A
    with pytest.raises(MachineError, match="tells no CR3"):
        topmost_in_use(Monitor(""))

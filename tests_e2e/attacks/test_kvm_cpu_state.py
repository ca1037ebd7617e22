# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by QEMU on its own VM's CPU: state whose setting makes KVM read or write the guest's memory.

The guest is stopped meanwhile, and its CPU goes on where it was. It keeps its memory private and not its registers:
with those QEMU could set nothing of this.
"""

from __future__ import annotations

import mmap
import re
import secrets
import struct

from host_setup.channels.puppets import Done, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE, Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support import nested
from tests_e2e.support.attack import UNDER_TEST, Aimed, Answer, Attack, Target
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.host_memory import PIECE, memory_of, pages_with
from tests_e2e.support.kvm import (
    ALIAS_SLOT,
    COPY,
    CR4_PAE,
    EFER_LONG,
    KVM_EXIT_IO,
    KVM_MEM_READONLY,
    MSR_KVM_STEAL_TIME,
    MSR_KVM_SYSTEM_TIME_NEW,
    MSR_KVM_WALL_CLOCK_NEW,
    PAUSE,
    SPARE,
    OwnVm,
    by_own_vm,
    load,
    own_vm,
)
from tests_e2e.support.live_memory import frames_in
from tests_e2e.support.tracing import trace_events

ENABLED = 1  # lowest bit of the paravirtual MSRs that hold an address
WALL_CLOCK, CLOCK, STEAL_TIME = 12, 32, 64  # bytes that KVM writes: asm/pvclock-abi.h, asm/kvm_para.h
COPIED_AT = 0x40200000  # where the guest never has memory of its own
TABLE = 32  # bytes: four page directory pointers
# A page directory of 32-bit paging: its first entry is a table, present, writable, for everybody.
ENTRIES, PRESENT, TABLE_FLAGS = 64, 1, 7
TRACED, ENTRY, ROOT_SHIFT = 16, 8, 39  # entries of the root that are walked, bytes of one, what it maps
WALK = "kvmmmu/kvm_mmu_paging_element"


def find_content(own: OwnVm, page: Target, size: int) -> bytes:
    """What KVM has put into the page, as far as QEMU can tell: it cannot foresee it, and looks."""
    return load(own.qemu, page).data[:size]


def test_kvm_cannot_be_made_to_write_the_wall_clock_into_private_page(attack: Attack, steered_host: Host) -> None:
    """QEMU cannot have KVM write the wall clock over a private page, by setting the CPU's MSR for it."""

    def probe(own: OwnVm, page: Target) -> Answer:
        before = own.cpu.msr(MSR_KVM_WALL_CLOCK_NEW)
        done = own.cpu.set_msr(MSR_KVM_WALL_CLOCK_NEW, page.gpa)
        wrote = find_content(own, page, WALL_CLOCK)
        own.cpu.set_msr(MSR_KVM_WALL_CLOCK_NEW, before).require("set the wall clock's MSR back")
        return Answer(done, wrote=wrote)

    by_own_vm(attack, "KVM_SET_MSRS(wall clock)", probe, steered_host)


def test_kvm_cannot_be_made_to_write_the_clock_into_private_page(attack: Attack, steered_host: Host) -> None:
    """QEMU cannot have KVM write the guest's clock over a private page, by setting the CPU's MSR for it."""

    def probe(own: OwnVm, page: Target) -> Answer:
        return write_msr(own, page, MSR_KVM_SYSTEM_TIME_NEW, CLOCK)

    by_own_vm(attack, "KVM_RUN, clock", probe, steered_host)


def test_kvm_cannot_be_made_to_write_steal_time_into_private_page(attack: Attack, steered_host: Host) -> None:
    """QEMU cannot have KVM write the steal time over a private page, by setting the CPU's MSR for it."""

    def probe(own: OwnVm, page: Target) -> Answer:
        return write_msr(own, page, MSR_KVM_STEAL_TIME, STEAL_TIME)

    by_own_vm(attack, "KVM_RUN, steal time", probe, steered_host)


def write_msr(own: OwnVm, page: Target, msr: int, size: int) -> Answer:
    """Have KVM write what belongs to an MSR, which it does before the CPU runs."""
    before = own.cpu.msr(msr)
    with own.code(PAUSE) as code:
        own.cpu.set_msr(msr, page.gpa | ENABLED).require("set the MSR")
        own.cpu.aim(code, 0, 0)
        done = own.cpu.run()
        own.cpu.set_msr(msr, before).require("set the MSR back")
        return Answer(done, wrote=find_content(own, page, size))


def test_kvm_does_not_tell_page_directory_pointers_of_a_protected_guest(trial: Trial, steered_host: Host) -> None:
    """KVM does not tell the page directory pointers of a protected guest: they are memory that QEMU can choose.

    KVM takes four entries of 8 bytes if none of them has a bit that it must not have, which an entry without its
    lowest bit may: so of random bytes one table in 16 is taken as it is. The first that is taken ends the probe.
    """
    with Attack.puppeteer(steered_host) as puppeteer:
        _judge(
            trial,
            steered_host,
            on_each(steered_host.guests, lambda guest: _pointers_told(steered_host, puppeteer, guest)),
        )


def _judge(trial: Trial, host: Host, results: list[list[Check]]) -> None:
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def _pointers_told(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """What KVM_GET_SREGS2 does while CR3 leads to the guest's canary, and how much of that it tells."""
    (aimed,) = (aim for aim in Attack.aim(guest, [UNDER_TEST]) if aim.planted.kind == "user")
    page, private = aimed.target, aimed.planted.state == State.PRIVATE
    with own_vm(host, puppeteer, guest) as own, own.code(bytes(TABLE)) as empty:
        own.cpu.aim(empty, 0, 0)
        tables = (empty, *range(page.gpa, page.gpa + PAGE_SIZE, TABLE))
        answers: list[tuple[Done, bytes]] = []
        for done, pointers in own.cpu.page_directory_pointers(tables):
            answers.append((done, pointers))
            if any(pointers):
                break
    ends = {done.errno or "done" for done, _ in answers}
    most = max(Canary(aimed.planted.content).count_leaked(data) for _, data in answers)
    return [
        Check("how it ends", "EOPNOTSUPP" if private else "done", ", ".join(sorted(ends))),
        Check("bytes of the page that it tells", "0" if private else str(TABLE), str(most)),
    ]


def test_kvm_translate_does_not_walk_a_private_page(trial: Trial, steered_host: Host) -> None:
    """KVM_TRANSLATE tells nothing of a private page by walking it as a page table, and writes nothing there.

    The page directory is QEMU's own, and its entry leads to the page. Of each of its entries of 4 bytes whose lowest
    bit is set 32-bit paging tells the 20 bits of an address, and it sets the bit that says that the entry was used.
    """
    with Attack.puppeteer(steered_host) as puppeteer:
        _judge(
            trial, steered_host, on_each(steered_host.guests, lambda guest: _check_walk(steered_host, puppeteer, guest))
        )


def _check_walk(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    (aimed,) = (aim for aim in Attack.aim(guest, [UNDER_TEST]) if aim.planted.kind == "user")
    private = aimed.planted.state == State.PRIVATE
    directory = struct.pack("<I", aimed.target.gpa | TABLE_FLAGS)
    with own_vm(host, puppeteer, guest) as own, own.code(directory) as table:
        own.cpu.aim(table, 0, 0)
        own.cpu.walk_from(table)
        translations = [own.cpu.translate(at * PAGE_SIZE) for at in range(ENTRIES)]
    entries = [entry for (entry,) in struct.iter_unpack("<I", aimed.planted.content[: ENTRIES * 4])]
    leads = [entry & -PAGE_SIZE if entry & PRESENT else None for entry in entries]
    present = sum(lead is not None for lead in leads)
    right = sum(page is not None and at == page for page, (_, at) in zip(leads, translations, strict=True))
    (after,) = guest.canaries.read([aimed.planted])
    ends = {done.errno or "done" for done, _ in translations}
    return [
        Check("how it ends", "EOPNOTSUPP" if private else "done", ", ".join(sorted(ends))),
        Check(
            "entries of the page that are present, told 20 bits each",
            "none" if private else "all",
            "none" if right == 0 else "all" if right == present else f"{right} of {present}",
        ),
        Check("the guest's page is as it was", str(private).lower(), str(after == aimed.planted.content).lower()),
    ]


def test_traced_kvm_translate_does_not_show_a_private_page(trial: Trial, steered_host: Host) -> None:
    """Root and QEMU together do not see a private page that KVM_TRANSLATE walks, by KVM's trace event of page walks.

    The event prints an entry before KVM looks whether there is one: all bytes of a page, 8 a walk.
    """
    with Attack.puppeteer(steered_host) as puppeteer:
        _judge(
            trial,
            steered_host,
            on_each(steered_host.guests, lambda guest: _walks_traced(steered_host, puppeteer, guest)),
        )


def _walks_traced(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    (aimed,) = (aim for aim in Attack.aim(guest, [UNDER_TEST]) if aim.planted.kind == "user")
    private = aimed.planted.state == State.PRIVATE
    with own_vm(host, puppeteer, guest) as own, own.code(b"") as code, trace_events(host.ssh, WALK) as trace:
        own.cpu.aim(code, 0, 0)
        own.cpu.walk_from(aimed.target.gpa, CR4_PAE, EFER_LONG)
        ends = {own.cpu.translate(at << ROOT_SHIFT)[0].errno or "done" for at in range(TRACED)}
        entries = re.findall(r"kvm_mmu_paging_element: pte ([0-9a-f]+)", trace())
    shown = Canary(aimed.planted.content).count_leaked(b"".join(struct.pack("<Q", int(entry, 16)) for entry in entries))
    return [
        Check("how it ends", "EOPNOTSUPP" if private else "done", ", ".join(sorted(ends))),
        Check("bytes of the page in the trace", "0" if private else str(TRACED * ENTRY), str(shown)),
    ]


def test_kvm_does_not_tell_the_control_block_of_a_nested_guest(trial: Trial, steered_host: Host) -> None:
    """KVM_GET_NESTED_STATE tells nothing of the control block of a nested guest, which its hypervisor keeps private."""
    with Attack.puppeteer(steered_host) as puppeteer:
        _judge(
            trial,
            steered_host,
            on_each(steered_host.guests, lambda guest: _check_nested_state(steered_host, puppeteer, guest)),
        )


def _check_nested_state(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """The guest copies a control block into its page, and runs it; the mark in it is what must not be told."""
    aimed, other = _pages_of(guest)
    private, mark = aimed.planted.state == State.PRIVATE, secrets.randbits(64)
    with own_vm(host, puppeteer, guest) as own:
        done, state = _run_nested(own, aimed.target.gpa, other.target.gpa, mark)
    return [
        Check("how the nested guest's run ends", str(KVM_EXIT_IO), str(done.returned)),
        Check("KVM tells the mark in its control block", str(not private), str(struct.pack("<Q", mark) in state)),
    ]


def _pages_of(guest: Guest) -> tuple[Aimed, Aimed]:
    pages = {aim.planted.kind: aim for aim in Attack.aim(guest, [UNDER_TEST])}
    return pages["user"], pages["kernel"]


def _run_nested(own: OwnVm, block_at: int, directory_at: int, mark: int, register: int = 0) -> tuple[Done, bytes]:
    """A nested guest's run, and what KVM tells of it. The guest copies block and directory into pages of its own."""
    code = nested.code_page(nested.HYPERVISOR)
    for content, to, size in (
        (nested.guest_block(mark, register), block_at, nested.BLOCK_BYTES),
        (code, directory_at, PAGE_SIZE),
    ):
        page = own.qemu.memory(content)
        own.vm.region(ALIAS_SLOT, COPIED_AT, PAGE_SIZE, page, KVM_MEM_READONLY).require("a slot for what is copied")
        with own.code(COPY) as copying:
            own.cpu.aim(copying, COPIED_AT, to, rcx=size // 4)
            own.cpu.run().require("the guest's copy")
        own.vm.region(ALIAS_SLOT, 0, 0, 0).require("delete the slot for what is copied")
    with own.code(code):
        done = nested.run_nested(own, block_at, directory_at)
        state = nested.state_told(own)
        nested.leave(own)
    return done, state


def test_host_keeps_no_copy_of_a_nested_guests_control_block(trial: Trial, steered_host: Host) -> None:
    """When a nested guest has run, the page of its control block is in the guest's memory and nowhere in the host's."""
    with Attack.puppeteer(steered_host) as puppeteer:
        _judge(
            trial,
            steered_host,
            on_each(steered_host.guests, lambda guest: _copies_kept(steered_host, puppeteer, guest)),
        )


def _copies_kept(host: Host, puppeteer: Puppeteer, guest: Guest) -> list[Check]:
    """Behind the block the page has what the guest alone knows; KVM works on a copy of the page as a whole.

    By the block KVM makes one of its own for the processor, with the nested guest's registers. It gives that back to
    the kernel when the guest switches SVM off.
    """
    aimed, other = _pages_of(guest)
    private, register = aimed.planted.state == State.PRIVATE, secrets.randbits(64)
    with own_vm(host, puppeteer, guest) as own:
        done, _ = _run_nested(own, aimed.target.gpa, other.target.gpa, 0, register)
        with memory_of(host) as memory:
            before = _count_blocks_of_kvm(memory, register)
        own.cpu.aim(SPARE, 0, 0)  # without SVM
        with memory_of(host) as memory:
            (pages,) = pages_with(memory, [secrets.token_bytes(PIECE) + aimed.planted.content[PIECE:]])
            after = _count_blocks_of_kvm(memory, register)
    checks = [
        Check("how the nested guest's run ends", str(KVM_EXIT_IO), str(done.returned)),
        Check("pages of the host's memory with what is behind the block", "1", str(len(pages) // PAGE_SIZE)),
        Check("blocks of KVM's with the nested guest's register", "some", "some" if before else "none"),
    ]
    if private:
        checks.append(Check("blocks of KVM's with that register once SVM is off", "0", str(after)))
    return checks


def _count_blocks_of_kvm(memory: mmap.mmap, register: int) -> int:
    """How many pages of memory are control blocks that the processor used, with the register.

    It put there why the nested guest ended. The guest's page lacks that, and so do copies made on the way to it.
    """
    word, at = struct.pack("<Q", register), nested.RAX_AT
    reason, ends_at = struct.pack("<Q", nested.EXIT_BY_PORT), nested.EXIT_CODE_AT
    return sum(
        memory[page + at : page + at + len(word)] == word
        and memory[page + ends_at : page + ends_at + len(reason)] == reason
        for page in (frame * PAGE_SIZE for frame in frames_in(memory))
    )

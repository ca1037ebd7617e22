# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by what the kernel offers to root for reading, and writing, its own memory."""

from __future__ import annotations

import os

from host_setup.channels.puppets import Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.bpf import read_by_bpf
from tests_e2e.support.direct_map import direct_map
from tests_e2e.support.faults import that_met
from tests_e2e.support.kprobe_event import FETCHED, read_by_event


def test_host_cannot_read_private_page_by_proc_kcore(attack: Attack) -> None:
    """The host cannot read a private page of a guest through /proc/kcore: it finds zeros."""
    layout = direct_map(attack.host.ssh)

    def probe(attacker: Puppet, page: Target) -> Answer:
        return _pread(attacker, "/proc/kcore", layout.kcore_offset(page.hpa))

    attack.by_a_process("pread(/proc/kcore)", probe)


def test_host_cannot_read_private_page_by_dev_mem(attack: Attack) -> None:
    """The host cannot read a private page of a guest through /dev/mem."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        return _pread(attacker, "/dev/mem", page.hpa)

    attack.by_a_process("pread(/dev/mem)", probe)


def test_host_cannot_write_private_page_by_dev_mem(attack: Attack) -> None:
    """The host cannot overwrite a private page of a guest through /dev/mem."""

    def probe(attacker: Puppet, page: Target) -> Answer:
        file = attacker.open("/dev/mem", os.O_RDWR)
        done = attacker.syscall("pwrite64", file, attacker.memory(PATTERN), PAGE_SIZE, page.hpa)
        return Answer(done, wrote=PATTERN)

    attack.by_a_process("pwrite(/dev/mem)", probe)


def test_bpf_program_cannot_read_private_page(attack: Attack) -> None:
    """A BPF program cannot read a private page of a guest by bpf_probe_read_kernel()."""
    layout = direct_map(attack.host.ssh)

    def probe(attacker: Puppet, page: Target) -> Answer:
        return Answer(*read_by_bpf(attacker, layout.address(page.hpa), PAGE_SIZE))

    attack.by_a_process("bpf_probe_read_kernel", probe)


def test_kprobe_event_cannot_fetch_from_private_page(attack: Attack) -> None:
    """A kprobe event of the tracer cannot fetch bytes of a private page of a guest."""
    host = attack.host
    layout = direct_map(host.ssh)

    def probe(attacker: Puppet, page: Target) -> Answer:
        address = layout.address(page.hpa)
        return that_met(host.ssh, address, lambda: Answer(*read_by_event(host.ssh, attacker, address, FETCHED)))

    attack.by_a_process("kprobe event", probe)


def _pread(attacker: Puppet, path: str, offset: int) -> Answer:
    file = attacker.open(path, os.O_RDONLY)
    buffer = attacker.memory(PAGE_SIZE)
    done = attacker.syscall("pread64", file, buffer, PAGE_SIZE, offset)
    data = attacker.read(buffer, PAGE_SIZE)
    attacker.syscall("close", file).require("close")
    return Answer(done, data)

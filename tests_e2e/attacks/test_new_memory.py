# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest finds in memory that it has never used: nothing of what others on its host have left there.

A process of the host fills half of the free memory with a pattern and ends. Then the guest reads all of its memory, so
that the host's kernel gives it page frames for what it never touched, and nobody writes there. All of its frames are
searched from outside.
"""

from __future__ import annotations

import secrets

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import PAGE
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.attacks.test_shared_content import PATTERN, bytes_of
from tests_e2e.support.attack import Attack
from tests_e2e.support.each import on_each
from tests_e2e.support.guest_frames import frames_of
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.live_memory import frames_in
from tests_e2e.support.memory import MIB, shell
from tests_e2e.support.registers import judge_each

QUARTERS_LEFT = 2  # quarters of the memory that is available to the host
TIMEOUT = 120.0  # for a host to fill that, on a busy machine
MANY = 1024  # page frames: 4 MiB


def test_guest_finds_nothing_of_the_host_in_new_memory(trial: Trial, attack: Attack) -> None:
    """In memory that a guest uses for the first time it finds nothing of what a process of its host has left there."""
    with attack.pool.fresh() as host:
        pattern = secrets.token_bytes(PATTERN)
        _leave(host, pattern)
        with memory_of(host) as memory:
            host_frames = frozenset(frame for frame in frames_in(memory) if bytes_of(memory, pattern, (frame,)) == PAGE)
        judge_each(trial, host, on_each(host.guests, lambda guest: _look(host, guest, pattern, host_frames)))


def _leave(host: Host, pattern: bytes) -> None:
    """Have a process of the host fill memory with a pattern, and end."""
    available = "awk '/^MemAvailable:/ { print $2 }' /proc/meminfo"
    size = int(host.ssh.run(["sh", "-c", available], seconds=20).require().text) * QUARTERS_LEFT // 4 // (MIB >> 10)
    host.ssh.run([f"{HOST_PROGRAMS}/leave_behind", pattern.hex(), str(size)], seconds=TIMEOUT).require()


def _look(host: Host, guest: Guest, pattern: bytes, host_frames: frozenset[int]) -> list[Check]:
    before = frames_of(host, guest).all
    # But for the first MiB, which is full of holes, and for the last: its end is the firmware's, where /dev/mem ends.
    shell(guest, f"dd if=/dev/mem of=/dev/null bs=1M skip=1 count={guest.spec.memory - 2}")
    frames = frames_of(host, guest).all
    with memory_of(host) as memory:
        content = bytes_of(memory, pattern, frames)
    checks = [
        Check("frames of the host with the pattern, before", "many", _many(host_frames)),
        Check("bytes of the pattern in the guest's memory", "0", str(content)),
    ]
    if guest.protected:  # a plain guest that reads gets no frame but that of all empty pages
        checks.append(
            Check("frames that it gets, and that had the pattern", "many", _many((frames - before) & host_frames))
        )
    return checks


def _many(frames: frozenset[int]) -> str:
    return "many" if len(frames) >= MANY else str(len(frames))

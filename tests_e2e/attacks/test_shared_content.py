# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in the pages that a guest shares: nothing of what others in it have left behind as free memory.

The guest's devices bounce their data through shared pages. A program fills memory with a pattern and ends, so that the
kernel gives that memory to whoever asks next, buffers for devices among them. All that the host may see is then
searched for the pattern, while a disk that is slow and the network have buffers under way, and while free memory is
shared with nobody having written there (the guest's program ``share_free``).

What a buffer holds that a device is to fill does not depend on what memory the kernel hands out: a program waits for
the disk with a buffer that it has filled with another pattern (``await_disk``).
"""

from __future__ import annotations

import mmap
import secrets
from collections.abc import Iterable

from common.errors import MachineError
from common.waiting import Deadline, poll_until
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_PROGRAMS
from signoff.observation import PAGE_SIZE, Check
from signoff.trial import Trial
from tests_e2e.support.attack import pages_of
from tests_e2e.support.each import on_each, opted_in
from tests_e2e.support.guest_frames import frames_of
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.memory import MIB, shell

PATTERN, PART = 16, 8  # bytes; and those of a part that counts for itself
DEAD_MIB, LIVING_MIB = 60, 1  # MiB that an ended process leaves, and that a living one has
LIVES = 600  # seconds
SLOW = 256 << 10  # bytes a second of the disk
DISK = "/dev/vda"
READS = '"reading":2'
TIMEOUT = 60.0


def test_shared_pages_hold_nothing_of_a_process_that_ended(trial: Trial, host: Host) -> None:
    """What a guest shares while its devices work holds nothing of an ended process, nor of a buffer to be filled."""
    guests = [guest for guest, _ in pages_of(host)]
    results = on_each(guests, lambda guest: _look(host, guest))
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def _look(host: Host, guest: Guest) -> list[Check]:
    dead, living, awaiting = (secrets.token_bytes(PATTERN) for _ in range(3))
    shell(
        guest,
        f"{GUEST_PROGRAMS}/leave_behind {living.hex()} {LIVING_MIB} {LIVES} > /run/kept 2>&1 & echo $! > /run/keeper",
    )
    poll_until(lambda: "filled" in shell(guest, "cat /run/kept"), Deadline(TIMEOUT), "a process to fill its memory")
    shell(guest, f"{GUEST_PROGRAMS}/leave_behind {dead.hex()} {DEAD_MIB}")
    _throttle(guest, SLOW)
    try:
        shell(guest, f"echo 3 > /proc/sys/vm/drop_caches; cat {DISK} > /dev/null 2>&1 & echo $! > /run/reader")
        shell(guest, f"{GUEST_PROGRAMS}/await_disk {DISK} {awaiting.hex()} > /run/awaited 2>&1 & echo $! > /run/waiter")
        poll_until(lambda: READS in shell(guest, "cat /run/awaited"), Deadline(TIMEOUT), "a second read of the disk")
        shell(guest, f"{GUEST_PROGRAMS}/share_free {LIVES} > /run/shared 2>&1 & echo $! > /run/sharer")
        poll_until(lambda: "shared" in shell(guest, "cat /run/shared"), Deadline(TIMEOUT), "free memory to be shared")
        shell(guest, "head -c 100000 /dev/urandom | od")  # the network's part
        frames = frames_of(host, guest)
        reading = shell(guest, "kill -0 $(cat /run/reader) $(cat /run/waiter) && echo yes || echo no").strip()
        with memory_of(host) as memory:
            seen_left = bytes_of(memory, dead, frames.open)
            has_kept = bytes_of(memory, living, frames.all)
            has_left = bytes_of(memory, dead, frames.all)
            seen_awaiting = bytes_of(memory, awaiting, frames.open)
            has_awaiting = bytes_of(memory, awaiting, frames.all)
    finally:
        _throttle(guest, 0)
        shell(
            guest, "kill $(cat /run/keeper /run/reader /run/waiter /run/sharer); rm /run/kept /run/awaited /run/shared"
        )
    can_see_all = not guest.protected
    return [
        Check("the disk is being read", "yes", reading),
        Check("pages that the host may see", "some", "some" if frames.open else "none"),
        # The controls: a search that finds, in all of the guest's memory, what a living process has.
        Check(
            "all of what a living process has is found in the guest's memory",
            "yes",
            _word(has_kept >= LIVING_MIB * MIB),
        ),
        Check("a buffer that the disk is to fill is found in the guest's memory", "yes", _word(has_awaiting)),
        Check(
            "bytes of that buffer in what the host may see" if not can_see_all else "what that buffer holds",
            "0" if not can_see_all else "some",
            str(seen_awaiting) if not can_see_all else "some" if seen_awaiting else "none",
        ),
        Check(
            "bytes of the ended process in what the host may see" if not can_see_all else "what the ended process left",
            "0" if not can_see_all else "some",
            str(seen_left) if not can_see_all else "some" if has_left else "none",
        ),
    ]


def _throttle(guest: Guest, rate: int) -> None:
    """Have a guest's disk give so many bytes a second at most; 0: as it can."""
    answer = guest.qmp.monitor(f"block_set_io_throttle scratch 0 {rate} 0 0 0 0")
    if answer.strip():
        raise MachineError(f"block_set_io_throttle of guest {guest.spec.name}: {answer}")


def bytes_of(memory: mmap.mmap | bytes, pattern: bytes, frames: Iterable[int]) -> int:
    """How many bytes of a pattern lie in page frames, in parts that are long enough to be no chance."""
    parts = [pattern[at : at + PART] for at in range(0, PATTERN, PART)]
    count = 0
    for frame in frames:
        page = memory[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE]
        count += sum(page.count(part) for part in parts)
    return count * PART


def _word(value: object) -> str:
    return "yes" if value else "no"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the host does when a VM ends that had much: in small steps, of which each one leaves room for others.

Nothing here is a matter of time. Probes of the kernel's functions tell the order of what it does, and whether
interrupts were off.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection

from common.errors import DeadlineError
from common.waiting import Deadline, poll_until
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.each import on_each
from tests_e2e.support.kprobes import Event, events
from tests_e2e.support.memory import shell
from tests_e2e.support.tiny_vm import run
from tests_e2e.support.tracing import threads_of
from tests_e2e.support.vm_end import kill_qemu, reset

ROOM = 8 << 10  # KiB of a trace, for each processor
SETTLES = 60.0  # seconds: what is freed may wait for a worker of the kernel
FILLED = 64  # MiB that a guest uses one page after the other, beside what it has used to boot
QUIET = 2.0  # seconds without an event, after which none comes
BLOCK_PAGES = 512
BLOCKS = FILLED // 2  # that come back, at least
EARLY = 8  # blocks
CLEARS, RETURNS = "guest_pages_clear", "set_direct_map_valid_noflush"
# Linux 6.12: lib/radix-tree.c, of the XArray too; call_rcu(head, function)
NODE_FREE, FREES_LATER, NODE_SLOTS = "radix_tree_node_rcu_free", "call_rcu", 64
INTERRUPTS_ON = 1 << 9  # arch/x86/include/uapi/asm/processor-flags.h: X86_EFLAGS_IF
MANY, FEW = 64, 16  # nodes: all of 16 MiB of shared pages has 64 at least; a VMM that ends frees some of its files'
# The work that clears pages has their number in the word before it (struct guest_pool of the series).
WORK, DIRTY = "pool_work", "-8(%di)"
LARGE = 1024  # pages that were free when the work began: it takes long enough for others to come
WORKS = 3  # of these, at least
BEYOND = 64  # pages: the last that it takes at once, and those that came between the probe and the work's own look
FREED_ROW = "freed-along"
OF_WORK = re.compile(r"-(\d+) +\[.* (dirty|cleared)=(\d+)")
EVENT = re.compile(r"-(\d+) +\[.* flags=0x([0-9a-f]+)")


def test_private_memory_comes_back_block_by_block(trial: Trial, pool: HostPool) -> None:
    """Of the memory of a VM that has ended a part is back in the host's direct map long before all of it is clear."""
    with pool.fresh() as host:
        protected = host.guest.protected if host.plain_guest is not None else None
        results = on_each(host.guests, lambda guest: _in_steps(trial, host, guest))
    trial.legitimate(*results, protected=protected)


def _in_steps(trial: Trial, host: Host, guest: Guest) -> list[Check]:
    """Have a guest's QEMU killed, and see in which order blocks are cleared and come back."""
    private = guest.protected
    shell(guest, f"dd if=/dev/zero of=/run/filled bs=1M count={FILLED}")
    cleared = Event(CLEARS, "cleared=%si:u32", "cleared > 0")
    returned = Event(RETURNS, "returned=%si:u32 valid=%dx:u8", f"returned == {BLOCK_PAGES} && valid == 1")
    # A host without the series has neither, and so nothing of a plain guest's to tell.
    probed = [cleared, returned] if private or _address(host.ssh, CLEARS) else []
    with events(host.ssh, "steps", probed, kib=ROOM) as trace:
        kill_qemu(host, guest)
        with contextlib.suppress(DeadlineError):  # the checks below tell what has come back
            poll_until(lambda: _is_settled(trace.count) or not private, Deadline(SETTLES), "memory to come back")
        trace_text = trace.content().decode()
    trial.attach(f"{guest.spec.name}.txt", trace_text)
    blocks, early = count_freed(trace_text)
    if not private:
        return [Check("blocks of it that come back", "none", str(blocks or "none"))]
    return [
        Check("blocks of it that come back", "many", "many" if blocks >= BLOCKS else str(blocks)),
        Check(
            "of these, before three quarters of its pages are clear",
            "many",
            "many" if early >= EARLY else f"{early} of {blocks}",
        ),
    ]


def _is_settled(count: Callable[[], int]) -> bool:
    """Whether there were events, and no more come."""
    before = count()
    with contextlib.suppress(DeadlineError):
        poll_until(lambda: count() > before, Deadline(QUIET), "another event", interval=0.2)
    return 0 < before == count()


def count_freed(trace_text: str) -> tuple[int, int]:
    """How many blocks came back by a trace of both events, and how many before most of the pages were clear.

    Not before the last one is: the host's CPUs hold back some pages for long (mm/swap.c).
    """
    order = [(name, int(count)) for name, count in re.findall(r" (cleared|returned)=(\d+)", trace_text)]
    most = sum(count for name, count in order if name == "cleared") * 3 // 4
    early = blocks = clear = 0
    for name, count in order:
        if name == "cleared":
            clear += count
        else:
            blocks += 1
            early += clear < most
    return blocks, early


def test_clearing_ends_though_a_vmm_frees_memory_all_along(trial: Trial, host: Host) -> None:
    """The host clears in one go what private memory was free when it began, and no more, though more is freed."""
    plain = run(host, FREED_ROW)
    if host.plain_guest is None:
        trial.legitimate(plain)
    else:
        trial.legitimate(_cleared_at_once(trial, host), plain)


def _cleared_at_once(trial: Trial, host: Host) -> list[Check]:
    began, cleared = Event(WORK, f"dirty={DIRTY}:u64", "dirty >= 0"), Event(CLEARS, "cleared=%si:u32", "cleared > 0")
    with events(host.ssh, "at_once", [began, cleared], kib=ROOM) as trace:
        rows = run(host, FREED_ROW, "private")
        log = trace.content().decode()
    trial.attach("cleared.txt", log)
    beyond = sorted(more for dirty, more in beyond_what_was_free(log) if dirty >= LARGE)
    most, middle = f"at most {BEYOND}", beyond[len(beyond) // 2] if beyond else 0
    return [
        *rows,
        Check(f"works that begin with {LARGE} pages", f"{WORKS} at least", _at_least(len(beyond), WORKS)),
        Check("pages that one in the middle of them clears beyond", most, most if middle <= BEYOND else str(middle)),
    ]


def beyond_what_was_free(log: str) -> list[tuple[int, int]]:
    """Of each work how many pages were free when it began, and how many more it has cleared, by a trace.

    A thread that clears pages without such a work has needed them itself.
    """
    works: dict[str, list[tuple[int, int]]] = {}
    for thread, name, count in OF_WORK.findall(log):
        if name == "dirty":
            works.setdefault(thread, []).append((int(count), -int(count)))
        elif thread in works:
            dirty, more = works[thread][-1]
            works[thread][-1] = dirty, more + int(count)
    return [work for of_thread in works.values() for work in of_thread]


def _at_least(count: int, least: int) -> str:
    return f"{least} at least" if count >= least else str(count)


def test_interrupts_are_on_while_the_host_forgets_what_was_shared(trial: Trial, pool: HostPool) -> None:
    """At a reset and at the end of a VM the host gives up its book of shared pages with interrupts on."""
    checks: dict[str, list[Check]] = {}
    for name, end in (("reset", lambda _, guest: reset(guest)), ("SIGKILL", kill_qemu)):
        with pool.fresh() as host:
            protected = host.guest.protected if host.plain_guest is not None else None
            for guest in host.guests:
                checks.setdefault(guest.spec.name, []).extend(_forgets(trial, host, guest, name, end))
    trial.legitimate(*checks.values(), protected=protected)


def _forgets(trial: Trial, host: Host, guest: Guest, name: str, end: Callable[[Host, Guest], object]) -> list[Check]:
    private = guest.protected
    shared = int(dict(re.findall(r"(\w+): (\d+)", guest.memory.protection())).get("shared_pages", "0"))
    theirs = threads_of(host.ssh, guest.pid)
    freed = Event(FREES_LATER, "function=%si:x64 flags=%flags:x64", f"function == {_address(host.ssh, NODE_FREE):#x}")
    with events(host.ssh, "nodes", [freed], kib=ROOM) as trace:
        end(host, guest)
        trace_text = trace.content().decode()
    trial.attach(f"{guest.spec.name}-{name}.txt", trace_text)
    on, off = by_interrupts(trace_text, theirs)
    few = f"at most {FEW}"
    return [
        Check(f"{name}: pages that it has shared", "many" if private else "none", _how_many(shared, MANY * NODE_SLOTS)),
        *([Check(f"{name}: parts of the book that are freed", "many", _how_many(on, MANY))] if private else []),
        Check(f"{name}: parts that are freed with interrupts off", few, few if off <= FEW else str(off)),
    ]


def by_interrupts(trace_text: str, threads: Collection[int]) -> tuple[int, int]:
    """How many nodes threads have freed with interrupts on, and how many with interrupts off, by a trace."""
    flags = [int(word, 16) for thread, word in EVENT.findall(trace_text) if int(thread) in threads]
    on = sum(bool(flag & INTERRUPTS_ON) for flag in flags)
    return on, len(flags) - on


def _how_many(count: int, many: int) -> str:
    return "many" if count >= many else str(count) if count else "none"


def _address(ssh: Ssh, symbol: str) -> int:
    """Where a function of the host's kernel is; 0 if it has none of that name."""
    symbol_line = ssh.run(["grep", f" {symbol}$", "/proc/kallsyms"], seconds=20).text.split()
    return int(symbol_line[0], 16) if symbol_line else 0

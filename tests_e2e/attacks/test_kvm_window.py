# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by root's probes in the moment in which the kernel has a private page mapped, at an address of user space.

One CPU loads an address space of its own for it (series: arch/x86/mm/guest_page.c). To whatever reads memory of the
process that runs for a probe, the page is at that address. The place that can be probed is where the kernel clears a
page that is private no more: the page is mapped, with the guest's content, when that begins.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import secrets
from collections.abc import Iterator

from common.errors import ChannelError, DeadlineError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Puppet
from host_setup.channels.ssh import Ssh
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import Aimed, Attack, pages_of
from tests_e2e.support.bpf_strings import Place, record_string
from tests_e2e.support.chain import Call, call, run_chain
from tests_e2e.support.direct_map import code
from tests_e2e.support.each import attempt, on_each, result_of
from tests_e2e.support.kprobes import Event, events
from tests_e2e.support.registers import judge_each, user_canary
from tests_e2e.support.steps import open_file
from tests_e2e.support.tiny_vm import run

WINDOW = 0x40000000
AT_WINDOW = f"at == {WINDOW:#x}"
CALL, CALLED = "sched_yield", "__x64_sys_sched_yield"  # never fails, and takes no notice of its arguments
FIRST_ARGUMENT = "+112(%di)"  # of a system call: where struct pt_regs has rdi
LENGTH = 1000  # bytes of a string; guest_images/programs: STRING_LENGTH
FEW = 100  # of such strings an event with all pages has more in the mean; time stamps take a few bytes
STRING = 512  # bytes from one string that is fetched to the next
PRIVATE_KIB = "/^Rss:/{size = $2} /^VmFlags:.* kp/{sum += size} END{print sum + 0}"  # of /proc/PID/smaps
# The series' own function that clears pages; the instruction is among so many bytes of it.
CLEARS, CLEARS_BYTES, REP_STOSB = "guest_pages_clear", 512, bytes.fromhex("f3aa")
FAULTS = "handle_mm_fault"  # KVM_RUN has the kernel call it before it needs a page, also where clearing is in line
KPROBES = "/sys/kernel/debug/kprobes/list"
ROOM = 24 << 10  # KiB of a trace that shows what many pages begin with
STACKS = 4 << 10  # KiB of a trace with the stacks of a VMM
GUESTS, VMMS = "0123456789ab", "fedcba9876543210"  # guest_images/programs: OLD_WORD, less what differs, and NEW_WORD
SOON = 10.0  # seconds until a page that was given back is cleared
TIMEOUT = 120.0  # until the last page of a guest is, on a slow, busy machine


def test_tracer_reads_no_private_page_that_is_cleared(trial: Trial, host: Host, pool: HostPool) -> None:
    """No kprobe event that fetches strings of user memory shows a private page when it is cleared after QEMU's end."""
    del host  # it is only to be known to the report
    with pool.fresh() as fresh:
        protected = None if fresh.plain_guest is None else fresh.guest.protected
        sets = dict(pages_of(fresh))
        results = on_each(list(sets), lambda guest: _as_it_goes(fresh, guest, sets[guest]))
        trial.legitimate(*results, protected=protected)


def test_bpf_program_reads_no_private_page_that_is_cleared(trial: Trial, host: Host) -> None:
    """No BPF program that reads strings of user memory gets a private page when it is cleared, as QEMU gave it back."""
    judge_each(trial, host, on_each(host.guests, lambda guest: _by_bpf(host, guest)))


def test_tracer_walks_no_stack_in_a_private_page_that_is_cleared(trial: Trial, host: Host) -> None:
    """No trace of user stacks shows a private page that is cleared, whose place the VMM says that its stack has."""
    plain = _stack_walked(host, "plain")
    if host.plain_guest is None:
        trial.legitimate(plain)
    else:
        tried = attempt(lambda: _stack_walked(host, "private"))
        trial.legitimate(result_of(tried, "private pages", [plain]), plain)


def _stack_walked(host: Host, way: str) -> list[Check]:
    """The VMM of ``tiny_vm`` has its frame pointer in the window; a plain guest's memory is there, or the VMM's own."""
    private = way == "private"
    places = [_clearing(host.ssh), (FAULTS, 0)]
    mine = 'comm == "tiny_vm"'
    cleared, faulted = (f"{function}+{offset}" for function, offset in places)
    hits = [Event(cleared, "at=%di", mine), Event(faulted, "", mine)]
    with events(host.ssh, "stack", hits, option="userstacktrace", kib=STACKS) as trace:
        with contextlib.suppress(DeadlineError):  # the checks tell whether there were any stacks
            poll_until(lambda: _are_jumps(host.ssh, places), Deadline(SOON), "the probes to be jumps", interval=0.2)
        checks = run(host, "cleared", way)
        trace_text = trace.content().decode(errors="replace")
    walked = re.search(rf"at={WINDOW:#x}\n.*<user stack trace>", trace_text) is not None
    return [
        *checks,
        Check("stacks walked while KVM clears pages in its window", _some(private), _some(walked)),
        Check("words of the VMM's own page as its stack", _some(private), _some(f"<{VMMS}" in trace_text)),
        Check("words of the guest's pages as its stack", _some(not private), _some(f"<{GUESTS}" in trace_text)),
    ]


def _are_jumps(ssh: Ssh, places: list[tuple[str, int]]) -> bool:
    """Whether the kernel has made jumps of the probes at functions and offsets, as it does after a moment.

    Before, the processor takes a trap there, in which no user stack is walked (kernel/trace/trace.c: in_nmi()).
    """
    probes = ssh.run(["cat", KPROBES], seconds=20).require().text
    return all(re.search(rf"\b{place}\+{offset:#x} .*\[OPTIMIZED\]", probes) for place, offset in places)


def test_tracer_learns_no_length_of_a_string_in_a_private_page(trial: Trial, host: Host) -> None:
    """The size of a kprobe event with a string of user memory does not tell how long one in a private page is."""
    own = _size_for_own_string(host)
    plain = _lengths(host, "plain", own)
    if host.plain_guest is None:
        trial.legitimate(plain)
    else:
        tried = attempt(lambda: _lengths(host, "private", own))
        trial.legitimate(result_of(tried, "private pages", [plain]), plain)


def _size_for_own_string(host: Host) -> float:
    """Bytes of an event that fetches a string of the process's own, which is as long as those of ``tiny_vm``."""
    with Attack.puppeteer(host) as puppeteer:
        attacker = puppeteer.spawn()
        named = Event(CALLED, f"at=%di there=+0({FIRST_ARGUMENT}):ustring", f"common_pid == {attacker.pid}")
        string = attacker.memory(b"a" * LENGTH + b"\0")
        with events(host.ssh, "own", [named]) as trace:
            attacker.syscall(CALL, string).require(CALL)
            return trace.mean_size()


def _lengths(host: Host, way: str, own: float) -> list[Check]:
    """A guest's pages with strings are cleared for others: KVM does that in its window, if they are private."""
    private = way == "private"
    place = "{}+{}".format(*_clearing(host.ssh))
    cleared = Event(place, "at=%di there=+0(%di):ustring", f'{AT_WINDOW} && comm == "tiny_vm"')
    with events(host.ssh, "lengths", [cleared], kib=ROOM) as trace:
        checks = run(host, "cleared-strings", way)
        count, size = trace.count(), trace.mean_size()
    more = size - (own - LENGTH) if count else 0.0
    return [
        *checks,
        Check("bytes that an event has for a string of a process's own", f"{LENGTH} at least", _least(own)),
        Check("pages that KVM clears in its window meanwhile", _some(private), _some(count > 0)),
        Check("bytes that an event has for a string in such a page", "none", "none" if more < FEW else f"{more:.0f}"),
    ]


def _least(size: float) -> str:
    return f"{LENGTH} at least" if size >= LENGTH else f"{size:.0f}"


def _some(is_so: bool) -> str:  # noqa: FBT001  it is all that it says
    return "some" if is_so else "none"


def _by_bpf(host: Host, guest: Guest) -> list[Check]:
    aimed = user_canary(guest)
    own = secrets.token_bytes(PAGE_SIZE)
    with Attack.puppeteer(host) as puppeteer, puppeteer.inside(guest.pid) as qemu:

        def read_named(address: int) -> tuple[int, bytes]:
            with record_string(host.ssh, qemu, Place(CALLED, address)) as result:
                qemu.syscall(CALL).require(CALL)
                return result()

        def read_cleared() -> tuple[int, bytes]:
            function, offset = _clearing(host.ssh)
            with (
                record_string(host.ssh, qemu, Place(function, WINDOW, only=True, offset=offset)) as result,
                _giving_back(qemu, aimed) as calls,
            ):
                run_chain(qemu, *calls)
                with contextlib.suppress(DeadlineError):  # the count tells it
                    poll_until(lambda: result()[0] > 0, Deadline(SOON), "the page to be cleared", interval=0.2)
                return result()

        _, shown = read_named(qemu.memory(own))
        private = aimed.planted.state == State.PRIVATE
        count, content = read_cleared() if private else read_named(aimed.target.hva)
    return _checks(aimed, (own, shown), count, content)


def _checks(aimed: Aimed, own: tuple[bytes, bytes], count: int, page_bytes: bytes) -> list[Check]:
    """What the probe shows of a page of QEMU's own, how often it met the guest's, and what it shows of that."""
    content, shown = own
    private = aimed.planted.state == State.PRIVATE
    return [
        Check("it shows bytes of a page of QEMU's own", "True", str(Canary(content).count_leaked(shown) > 0)),
        Check("it met the guest's page", "True", str(count > 0)),
        Check(
            "it shows bytes of that page",
            str(not private),
            str(Canary(aimed.planted.content).count_leaked(page_bytes) > 0),
        ),
    ]


@contextlib.contextmanager
def _giving_back(qemu: Puppet, aimed: Aimed) -> Iterator[tuple[Call, Call]]:
    """Calls by which QEMU gives back a guest's page; nobody holds it then.

    A page that was new lies in a list of its CPU, which holds it until that is emptied (mm/swap.c, fs/drop_caches.c).
    """
    with open_file(qemu, "/proc/sys/vm/drop_caches", os.O_WRONLY) as drop:
        yield (
            call("pwrite64", drop, qemu.memory(b"1"), 1, 0),
            call("madvise", aimed.target.hva, PAGE_SIZE, mmap.MADV_DONTNEED),
        )


def _clearing(ssh: Ssh) -> tuple[str, int]:
    """Where the processor begins to clear a page, with its address in rdi: a function, and bytes from its start.

    On 6.12 clear_page() calls a function for that, by what the processor can do (arch/x86/include/asm/page_64.h). On
    7.3 it is in line, and the port does not call it: the function of the series has the one instruction itself.
    """
    flags = ssh.run(["grep", "-m1", "^flags", "/proc/cpuinfo"], seconds=20).require().text.split()
    name = "clear_page_erms" if "erms" in flags else "clear_page_rep" if "rep_good" in flags else "clear_page_orig"
    if ssh.run(["grep", "-q", f" {name}$", "/proc/kallsyms"], seconds=20).status == 0:
        return name, 0
    at = code(ssh, CLEARS, CLEARS_BYTES).find(REP_STOSB)
    if at < 0:
        raise ChannelError(f"neither {name}() nor {CLEARS}() of the host's kernel clears a page")
    return CLEARS, at


def _as_it_goes(host: Host, guest: Guest, sets: tuple[str, ...]) -> list[Check]:
    """Have QEMU name the pages that it may see in a system call, then end it: what do the probes of both show?"""
    pages = Attack.aim(guest, sets)
    hidden = [page for page in pages if page.planted.state == State.PRIVATE]
    shown = [page for page in pages if page not in hidden]
    # A string that begins with its end shows nothing: so there are several. An event of them all may be too long for
    # the trace, which then has none (kernel/trace/ring_buffer.c: BUF_MAX_DATA_SIZE): each has one of its own.
    mine = f"common_pid == {guest.pid}"
    fetches = [f"there=+{offset}({FIRST_ARGUMENT}):ustring" for offset in range(0, PAGE_SIZE, STRING)]
    with events(host.ssh, "named", [Event(CALLED, fetch, mine) for fetch in fetches]) as trace:
        with Attack.puppeteer(host) as puppeteer, puppeteer.inside(guest.pid) as qemu:
            for answer in shown:
                qemu.syscall(CALL, answer.target.hva).require(CALL)
        named = trace.content()
    checks = [Check("pages that QEMU names and the probe shows", str(len(shown)), str(_count_pages(shown, named)))]
    if hidden:
        checks += _as_it_is_cleared(host, guest, hidden)
    return checks


def _as_it_is_cleared(host: Host, guest: Guest, pages: list[Aimed]) -> list[Check]:
    name = "{}+{}".format(*_clearing(host.ssh))
    showing = Event(name, "at=%di there=+0(%di):ustring", f'{AT_WINDOW} && there ~ "?*"')
    passing = Event(name, "at=%di", AT_WINDOW)
    with events(host.ssh, "shown", [showing], kib=ROOM) as trace, events(host.ssh, "passed", [passing]) as passed:
        least = _private_pages(host.ssh, guest.pid)
        guest.may_end()
        host.ssh.run(["kill", "-KILL", str(guest.pid)], seconds=20).require()
        poll_until(lambda: guest.vitals.reason is not None, Deadline(TIMEOUT), "QEMU's end to be noticed")
        with contextlib.suppress(DeadlineError):  # the check below tells how many there were
            poll_until(lambda: passed.count() >= least, Deadline(TIMEOUT), "the last page to be cleared", interval=0.5)
        met, shown = passed.count(), trace.content()
    return [
        Check("private pages that the probe met when they were cleared", "all", "all" if met >= least else str(met)),
        Check("private pages that it shows", "0", str(_count_pages(pages, shown))),
    ]


def _private_pages(ssh: Ssh, pid: int) -> int:
    """How many pages of a process are there and private.

    :raises ChannelError: none is.
    """
    kib = int(ssh.run(["awk", PRIVATE_KIB, f"/proc/{pid}/smaps"], seconds=60).require().text)
    if not kib:
        raise ChannelError(f"process {pid} has no private page")
    return (kib << 10) // PAGE_SIZE


def _count_pages(pages: list[Aimed], text: bytes) -> int:
    """Of how many pages a text has bytes."""
    return sum(Canary(page.planted.content).count_leaked(text) > 0 for page in pages)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The messages of an unhealthy Linux kernel on its console."""

from __future__ import annotations

import re

_TRACE = "Call Trace:"
# After one of these the kernel is, or may be, gone (lib/dump_stack.c, kernel/panic.c, arch/x86/kernel/dumpstack.c).
_FATAL = re.compile(
    r"Kernel panic - not syncing"
    r"|: [0-9a-fA-F]{4} \[#[0-9]+\]"  # each oops: "Oops: divide error: 0000 [#1] SMP", and without "Oops: " before 6.10
    r"|BUG: unable to handle"
    r"|BUG: kernel NULL pointer"
    r"|kernel BUG at "
    r"|PANIC: double fault"
    r"|Attempted to kill init"
)
# After one of these it goes on, and something is wrong all the same.
_SPLAT = re.compile(
    r"------------\[ cut here \]"
    # At the message's start: "Spectre V2 : WARNING: ..." and its like are remarks on the processor.
    r"|(^|\] )WARNING: "
    r"|\bBUG: "
    r"|hard LOCKUP"
    r"|INFO: (task|rcu)[^\n]*(blocked for more than|stall|detected)"
    r"|rcu: INFO: "
    r"|watchdog: BUG: soft lockup"
    r"|possible (circular|recursive) locking"
    r"|Bad page (state|map)"
    r"|KASAN: "
    rf"|{_TRACE}"
    r"|refcount_t: "
)
# warn_alloc() (mm/page_alloc.c) reports an allocation that failed, dump_header() (mm/oom_kill.c) a process that used
# more than its memory cgroup may have. Neither is a complaint where our own program has it happen, under the names
# fail-nth and past-limit (guest_images/programs/tiny_vm/).
_MADE_TO_FAIL = re.compile(
    r"^[^\n]*\bfail-nth: (?:vmalloc error|page allocation failure)[^\n]*\n(?:[^\n]*\n){0,60}?[^\n]*Mem-Info:[^\n]*$"
    r"|^[^\n]*\bpast-limit invoked oom-killer: [^\n]*\n(?:[^\n]*\n){0,250}?"
    r"[^\n]*Memory cgroup out of memory: Killed process [0-9]+ \(past-limit\)[^\n]*$",
    re.MULTILINE,
)
# A process of the host died of a fault of its own (arch/x86/mm/fault.c show_signal_msg(), arch/x86/kernel/traps.c).
_USER_FAULT = re.compile(r"\]: segfault at |traps: \S+\[\d+\] (general protection|trap )")


def user_faults(log: str) -> list[str]:
    """The lines about processes that died of a fault. Attacks cause such lines; before them there must be none."""
    return [line for line in log.splitlines() if _USER_FAULT.search(line)]


def fatal(line: str) -> bool:
    """Whether the line says that the kernel died or is dying."""
    return _FATAL.search(line) is not None


def splats(log: str) -> list[str]:
    """The lines of a log that report a fault in the kernel; empty for a healthy kernel."""
    return _complaints(_MADE_TO_FAIL.sub(_what_is_no_part_of_it, log))


def _what_is_no_part_of_it(report: re.Match[str]) -> str:
    """What another fault says in the middle of a report of an allocation that we made fail."""
    return "\n".join(line for line in _complaints(report[0]) if _TRACE not in line)


def _complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if _SPLAT.search(line) or _FATAL.search(line)]

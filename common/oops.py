# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Linux kernel says when it finds a fault in itself, taken apart, with a fingerprint of the fault.

The same fault has the same fingerprint in every build and on every machine: it is made of the kind of the fault and of
the names of functions, without offsets, without what the compiler adds to a name, and without addresses, processes and
processors. The forms of the messages: arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c, kernel/panic.c, lib/bug.c,
mm/kasan/report.c, kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/hung_task.c (Linux 6.12).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_MOST = 150  # lines that one message may have
_NAMED = 4  # functions that a fingerprint is made of: those further out are the way in, which inlining changes as well
# What stands before a message: the time, and with CONFIG_PRINTK_CALLER the thread or processor; syslog's priority.
_PREFIX = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?")
_KINDS = (
    (re.compile(r"^BUG: kernel NULL pointer dereference"), "NULL pointer dereference"),
    (re.compile(r"^BUG: unable to handle (?:kernel )?(?:paging request|page fault)"), "page fault"),
    (re.compile(r"^BUG: KASAN: ([\w-]+)"), "KASAN: {}"),
    (re.compile(r"^BUG: (KFENCE: [\w -]+?) in "), "{}"),
    (re.compile(r"^kernel BUG at (\S+?):\d+"), "BUG at {}"),
    (re.compile(r"^WARNING: CPU: \d+ PID: \d+ at (\S+?):\d+"), "WARNING at {}"),
    (re.compile(r"^WARNING: (possible [\w ]+ detected|inconsistent lock state|suspicious RCU usage)"), "{}"),
    (re.compile(r"^(?:watchdog: )?BUG: soft lockup"), "soft lockup"),
    (re.compile(r"^(?:watchdog: )?.*\bhard LOCKUP\b", re.IGNORECASE), "hard lockup"),
    (re.compile(r"^rcu: INFO: \w+ (?:self-detected stall|detected (?:expedited )?stalls)"), "RCU stall"),
    (re.compile(r"^INFO: task \S+ blocked for more than"), "hung task"),
    (re.compile(r"^BUG: (Bad page (?:state|map|cache))"), "{}"),
    (re.compile(r"^BUG: (sleeping function called from invalid context|scheduling while atomic)"), "{}"),
    (
        re.compile(r"^(?:Oops: )?(general protection fault|divide error|stack segment|int3|bounds|alignment check)\b"),
        "{}",
    ),
    (re.compile(r"^(?:Oops: )?(invalid opcode): \w{4} \[#"), "{}"),
    (re.compile(r"^PANIC: (double fault)"), "{}"),
    (re.compile(r"^Oops: (?:Oops: )?\w{4} \[#"), "oops"),
    (re.compile(r"^Kernel panic - not syncing: (?!Fatal exception)(.*?)(?:: | exitcode=|$)"), "panic: {}"),
)
_ENDS = re.compile(r"^---\[ end (?:trace|Kernel panic)")
_FOLLOWS = re.compile(r"^Kernel panic - not syncing: (?:Fatal exception|.*panic_on_\w+ set)|^Oops: ")
_ACCESS = re.compile(r"^#PF: supervisor (read|write|instruction) |^(Read|Write) of size ")
_RIP = re.compile(r"^RIP: 0010:(?:\[?<[0-9a-f]+>\]? )?([A-Za-z_][\w.]*)\+0x")
_IN = re.compile(r"^BUG: \S+ [\w-]+ in ([A-Za-z_][\w.]*)\+0x")
_FRAME = re.compile(r"^ (\? )?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_MARK = re.compile(r"^ </?(?:TASK|IRQ|NMI|SOFTIRQ|#\w+)>")
_REGISTERS = ("R", "Code:", "FS:", "CS:", "ORIG_RAX:", "EFLAGS:")
_MADE_UP = re.compile(r"\.(?:isra|constprop|cold|part|llvm|lto_priv)(?:\.\d+)*(?=\.|$)")
# Who tells of a fault, and how a kernel is entered, is no part of it.
_TELLERS = re.compile(
    r"(?:__)?(?:dump_stack(?:_lvl)?|show_stack|print_report|print_address_description|kasan_\w+|__?asan_\w+|check_\w+_range"
    r"|warn|warn_slowpath_\w+|report_bug|handle_bug|die|die_addr|die_body|panic|page_fault_oops|bad_page|oops_end"
    r"|asm_\w+|exc_\w+|do_(?:user|kern)_addr_fault|bad_area\w*|sysvec_\w+|nmi\w*|watchdog_\w+|rcu_sched_clock_irq"
    r"|sched_show_task|lockdep_\w+|print_\w+bug|__might_resched|__schedule_bug)"
)
_ENTRIES = re.compile(
    r"entry_\w+|do_syscall_64|x64_sys_call|ret_from_fork\w*|(?:common|secondary)_startup_64\w*|start_secondary"
    r"|cpu_startup_entry|do_idle|rest_init|start_kernel|kthread|__do_sys_\w+|__se_sys_\w+|__x64_sys_\w+"
)
_WAITS = re.compile(r"__schedule|schedule\w*|preempt_\w+|io_schedule\w*|__cond_resched|context_switch")
STALLS = ("soft lockup", "hard lockup", "RCU stall")
"""Where the processor was is chance; the way there is not."""


@dataclass(frozen=True, slots=True)
class Oops:
    """One message.

    :ivar kind: of the fault. :ivar functions: that it happened in, the innermost first. :ivar text: as it was printed.
    """

    kind: str
    functions: tuple[str, ...]
    text: str

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits, the same for the same fault."""
        return hashlib.sha256("\n".join((self.kind, *self._named)).encode()).hexdigest()[:12]

    @property
    def _named(self) -> tuple[str, ...]:
        return self.functions[-_NAMED:] if self.kind in STALLS else self.functions[:_NAMED]

    @property
    def words(self) -> str:
        """One line for people: kind, functions, fingerprint."""
        where = f" in {' < '.join(self._named)}" if self.functions else ""
        return f"{self.kind}{where} [{self.fingerprint}]"


def find(log: str) -> list[Oops]:
    """The messages in a console's or a kernel's log, in order."""
    return [_parse_oops(kind, lines) for kind, lines in _messages(log.splitlines())]


def bare(line: str) -> str:
    """A line of a kernel's log without time, caller and priority."""
    return _PREFIX.sub("", line.rstrip("\r"))


def _messages(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The kind and the lines of each message."""
    kind, block, traced = "", list[str](), False
    for line in lines:
        text = bare(line)
        begins = _kind(text)
        # The second line of one message may look like the first of another, but comes before the trace.
        if begins and (not block or (traced and not _FOLLOWS.match(text))):
            if block:
                yield kind, block
            kind, block, traced = begins, [line], False
        elif block:
            block.append(line)
            traced = traced or _FRAME.match(text) is not None
            if _ENDS.match(text) or len(block) >= _MOST:
                yield kind, block
                block = []
    if block:
        yield kind, block


def _kind(text: str) -> str:
    for pattern, kind in _KINDS:
        if match := pattern.match(text):
            return kind.format(*(group.strip() for group in match.groups()))
    return ""


def _parse_oops(kind: str, lines: Sequence[str]) -> Oops:
    texts = [bare(line) for line in lines]
    access = next((match[1] or match[2] for line in texts if (match := _ACCESS.match(line))), "")
    by_way = kind in STALLS
    functions = [match[1] for line in texts[:1] if (match := _IN.match(line))]
    functions += [match[1] for line in texts if not by_way and (match := _RIP.match(line))][:1]
    functions += _frames(texts[_last(" <TASK>", texts) :] if by_way else texts)
    named = [name for name in map(_plain, functions) if not _is_way(name)]
    if kind == "hung task":
        named = [name for name in named if not _WAITS.fullmatch(name)]
    once = [name for at, name in enumerate(named) if not at or named[at - 1] != name]
    return Oops(f"{kind}, {access.lower()}" if access else kind, tuple(once), "\n".join(lines))


def _frames(texts: Sequence[str]) -> list[str]:
    """The functions of the first trace; a "?" stands before one that may only have been left on the stack."""
    frames: list[str] = []
    for line in texts:
        frame = _FRAME.match(line)
        if frame is not None and not frame[1]:
            frames.append(frame[2])
        elif frames and frame is None and not _MARK.match(line) and not line.startswith(_REGISTERS):
            break
    return frames


def _last(mark: str, texts: Sequence[str]) -> int:
    return max((at for at, line in enumerate(texts) if line.startswith(mark)), default=0)


def _plain(name: str) -> str:
    return _MADE_UP.sub("", name)


def _is_way(name: str) -> bool:
    return _TELLERS.fullmatch(name) is not None or _ENTRIES.fullmatch(name) is not None

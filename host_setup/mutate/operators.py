# SPDX-License-Identifier: GPL-2.0-or-later
"""Which faults can be put into the code that a series adds, each by a change that leaves it C.

A mutant changes one place of one function, and no line moves: what the compiler and the coverage say of a line holds
for the mutant as well. It is named ``file:function:line:operator``, with ``#2`` where a line has it twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from host_setup.mutate.text import CText, Function


class Operator(StrEnum):
    """What a mutant does to its place."""

    CHECK_DROPPED = "check-dropped"
    CHECK_INVERTED = "check-inverted"
    GATE_IGNORED = "gate-ignored"
    ERROR_IGNORED = "error-ignored"
    REFUSAL_IS_SUCCESS = "refusal-is-success"
    ANSWER_INVERTED = "answer-inverted"
    CLEAR_DROPPED = "clear-dropped"
    FLUSH_DROPPED = "flush-dropped"
    LOCK_DROPPED = "lock-dropped"
    CALL_DROPPED = "call-dropped"
    STORE_DROPPED = "store-dropped"
    FLAG_DROPPED = "flag-dropped"
    END_MOVED = "end-moved"
    LOOP_ONCE = "loop-once"
    LOOP_SHORT = "loop-short"
    STOCK_HELPER = "stock-helper"


@dataclass(frozen=True, slots=True)
class Edit:
    """What stands at two offsets of a file is replaced."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault.

    :ivar file: relative to the tree. :ivar line: of its first change, from 1. :ivar before: that line as it is.
    :ivar after: the same with the fault.
    """

    id: str
    file: str
    function: str
    line: int
    operator: Operator
    edits: tuple[Edit, ...]
    before: str
    after: str

    @property
    def name(self) -> str:
        """As other faults have one."""
        return self.id

    def apply_to(self, text: str) -> str:
        """The file with the fault."""
        for edit in sorted(self.edits, key=lambda edit: edit.start, reverse=True):
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text


_IF = re.compile(r"\bif\s*(\()")
_LOOP = re.compile(r"\b(?:for|while|(?:\w+_)?for_each\w*)\s*(\()")
_CALL = re.compile(r"^[ \t]*((\w+)\s*(\())", re.MULTILINE)
_RESULT = re.compile(r"^[ \t]*(?:ret|r|err|error|rc)\s*=\s*([^;={}]*\([^;{}]*);", re.MULTILINE)
_STORE = re.compile(
    r"^[ \t]*(\*?\w+(?:(?:->|\.)\w+|\[[^];]*\])+\s*(?:[-+|&^]|<<|>>)?=\s*[^;={}][^;{}]*;)", re.MULTILINE
)
_RETURN_ERROR = re.compile(r"\breturn\s+(-E[A-Z]+)\s*;")
_RETURN_BOOL = re.compile(r"\breturn\s+(true|false)\s*;")
_FLAG = r"[A-Z][A-Z0-9]*_[A-Z0-9_]+"
_FLAG_LAST = re.compile(rf"(?<![|\s])(\s*\|\s*{_FLAG})\b(?!\s*\()")
_FLAG_FIRST = re.compile(rf"(?<![|\w])({_FLAG}\s*\|(?!\|)\s*)")
_END = re.compile(r"(?<![\w.>&*])(end)\b(?!\s*(?:=(?!=)|\(|\+\+|--|\.|->))")
_BOUND = re.compile(r"(?<![\w.>])([a-z]\w*)\s*<\s*[\w>.\-]+\s*;")
_LOCK = re.compile(r"((?:\w+_)?(?:lock|guard)|local_irq_(?:save|disable)|\w*_enter|\w+_lock_\w+)")
_UNLOCK = re.compile(r"\w*unlock\w*|local_irq_(?:restore|enable)|\w*_exit")
_CLEAR = re.compile(r"\w*(?:clear|zap|memset|memzero|zero|wipe|scrub)\w*")
_FLUSH = re.compile(r"\w*(?:flush|invalidate|sync|drain|unmap|shootdown|kick|gone)\w*")
# What only frees, counts, asserts, yields or begins: without it the fault is a leak of memory, or none.
_HARMLESS = re.compile(
    r"if|for|while|switch|return|sizeof|do|else|case|goto|cond_resched|WARN\w*|BUG\w*|\w*assert\w*|INIT_\w+|k?v?free\w*"
    r"|\w+_init|pr_\w+|dev_\w+|trace_\w+|might_\w+|EXPORT_\w+|\w*seq_\w+|mutex_init|kref_\w+|put_\w+|folio_put|usleep\w*"
    r"|xa_destroy|\w*for_each\w*|seq_\w+|vcpu_unimpl|kvm_pr_\w+"
)
_PREDICATE = re.compile(r"^(?:static )?(?:__always_inline |inline )*bool (?:noinline )?(\w+)\(", re.MULTILINE)
_BEGINS = ";{}:)"  # what a statement stands behind, words apart
_BY_ADDRESS = re.compile(r"\b(?:vma|PAGE_SIZE|PAGE_ALIGN|addr|address)\b|(?<!>)\bmm\b")  # of a function with an end

_STOCK = {
    "kvm_copy_from_slot": "(__copy_from_user({3}, (void __user *)({2}), {4}) ? -EFAULT : 0)",
    "kvm_copy_to_slot": "(__copy_to_user((void __user *)({2}), {3}, {4}) ? -EFAULT : 0)",
    "guest_private_folio": "alloc_anon_folio(vmf)",
}
"""What a helper of the series stands in for, by its arguments: Linux 6.12, virt/kvm/kvm_main.c and mm/memory.c."""


def predicates(text: str) -> frozenset[str]:
    """Functions that a file defines which answer yes or no."""
    return frozenset(_PREDICATE.findall(text))


def mutants(file: str, text: str, added: Collection[int], gates: Collection[str]) -> list[Mutant]:
    """All mutants of a file, in the order of their places.

    :param added: the lines that may be changed, from 1. :param gates: predicates that the series has added.
    """
    parsed = CText(text)
    added_lines = frozenset(added)
    made_here: list[Mutant] = []
    count: dict[str, int] = {}
    places = [
        (min(edit.start for edit in edits), operator, function, edits)
        for function in parsed.functions
        if any(parsed.line(function.start) <= line <= parsed.line(function.end) for line in added_lines)
        for operator, edits in _in(parsed, function, gates)
    ]
    places.sort(key=lambda place: (place[0], place[1]))
    for start, operator, function, edits in places:
        lines = {parsed.line(edit.start) for edit in edits}
        if not lines <= added_lines:
            continue
        line = parsed.line(start)
        name = f"{file}:{function.name}:{line}:{operator}"
        count[name] = count.get(name, 0) + 1
        if count[name] > 1:
            name = f"{name}#{count[name]}"
        plain = Mutant(name, file, function.name, line, operator, edits, "", "")
        applied = plain.apply_to(text)
        before, after = (source.split("\n", line)[line - 1].strip() for source in (text, applied))
        made_here.append(replace(plain, before=before, after=after))
    return made_here


def _in(parsed: CText, function: Function, gates: Collection[str]) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    for make in (_checks, _calls, _locks, _values, _flags, _ends, _loops):
        yield from make(parsed, function)
    yield from _gates(parsed, function, gates)


def _each(pattern: re.Pattern[str], parsed: CText, function: Function) -> Iterator[re.Match[str]]:
    return pattern.finditer(parsed.code, function.start + 1, function.end)


def _around(start: int, end: int, before: str, after: str) -> tuple[Edit, Edit]:
    return Edit(start, start, before), Edit(end, end, after)


def _blank(parsed: CText, start: int, end: int) -> tuple[Edit]:
    """Drop a statement; its lines stay."""
    return (Edit(start, end, "(void)0;" + "\n" * parsed.text.count("\n", start, end)),)


def _checks(parsed: CText, function: Function) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    """What is asked is asked still, as it may do something; only its answer counts no more, or the other way."""
    for match in _each(_IF, parsed, function):
        opening = match.start(1)
        closing = parsed.close(opening)
        if 0 < closing < function.end:
            yield Operator.CHECK_DROPPED, _around(opening + 1, closing, "(", ") && 0")
            yield Operator.CHECK_INVERTED, _around(opening + 1, closing, "!(", ")")


def _statement(parsed: CText, match: re.Match[str]) -> int:
    """Where a call that is a statement of its own ends, behind its semicolon; -1 if it is none."""
    before = parsed.before(match.start(1))
    closing = parsed.close(match.start(3))
    begins = before[-1:] in _BEGINS or re.search(r"\b(?:else|do)$", before)
    return closing + 2 if begins and parsed.code[closing + 1 : closing + 2] == ";" else -1


def _calls(parsed: CText, function: Function) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    for match in _each(_CALL, parsed, function):
        name, end = match[2], _statement(parsed, match)
        if end < 0 or _LOCK.fullmatch(name) or _UNLOCK.fullmatch(name) or _HARMLESS.fullmatch(name):
            continue
        kind = Operator.CALL_DROPPED
        if _CLEAR.fullmatch(name):
            kind = Operator.CLEAR_DROPPED
        elif _FLUSH.fullmatch(name):
            kind = Operator.FLUSH_DROPPED
        yield kind, _blank(parsed, match.start(1), end)


def _locks(parsed: CText, function: Function) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    """A lock goes together with all that release it in its function: half of a pair would only hang."""
    calls = [(match, _statement(parsed, match)) for match in _each(_CALL, parsed, function)]
    locks = [(match, end) for match, end in calls if end > 0 and _LOCK.fullmatch(match[2])]
    for match, end in locks:
        arguments = parsed.arguments(match.start(3))
        if match[2] == "guard":
            continue
        released = [
            (other, last)
            for other, last in calls
            if last > 0 and _UNLOCK.fullmatch(other[2]) and parsed.arguments(other.start(3))[:1] == arguments[:1]
        ]
        same = [lock for lock, _ in locks if parsed.arguments(lock.start(3))[:1] == arguments[:1]]
        if (
            released
            and len(same) == 1
            and not any(word in parsed.code[function.start : function.end] for word in ("goto",))
        ):
            yield (
                Operator.LOCK_DROPPED,
                tuple(
                    edit for start, last in [(match, end), *released] for edit in _blank(parsed, start.start(1), last)
                ),
            )


def _values(parsed: CText, function: Function) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    for match in _each(_RESULT, parsed, function):
        yield Operator.ERROR_IGNORED, _around(match.start(1), match.end(1), "((", "), 0)")
    for match in _each(_STORE, parsed, function):
        before = parsed.before(match.start(1))
        if before[-1:] in _BEGINS or re.search(r"\b(?:else|do)$", before):
            yield Operator.STORE_DROPPED, _blank(parsed, match.start(1), match.end(1))
    for match in _each(_RETURN_ERROR, parsed, function):
        yield Operator.REFUSAL_IS_SUCCESS, (Edit(match.start(1), match.end(1), "0"),)
    for match in _each(_RETURN_BOOL, parsed, function):
        other = "false" if match[1] == "true" else "true"
        yield Operator.ANSWER_INVERTED, (Edit(match.start(1), match.end(1), other),)


def _flags(parsed: CText, function: Function) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    for pattern in (_FLAG_LAST, _FLAG_FIRST):
        for match in _each(pattern, parsed, function):
            start, end = match.span(1)
            yield Operator.FLAG_DROPPED, (Edit(start, end, "\n" * parsed.text.count("\n", start, end)),)


def _ends(parsed: CText, function: Function) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    """The end of a range comes a page too early; where it counts pages, that is one."""
    body = parsed.code[function.start : function.end]
    page = "PAGE_SIZE" if _BY_ADDRESS.search(body) else "1"
    for match in _each(_END, parsed, function):
        before = parsed.before(match.start(1))
        if re.search(r"(?:[,(<>=-]|\breturn)$", before):  # it is used, not declared
            yield Operator.END_MOVED, (Edit(match.start(1), match.end(1), f"(end - {page})"),)


def _loops(parsed: CText, function: Function) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    for match in _each(_LOOP, parsed, function):
        closing = parsed.close(match.start(1))
        bound = _BOUND.search(parsed.code, match.start(1), closing)
        if bound:
            yield Operator.LOOP_SHORT, (Edit(bound.end(1), bound.end(1), " + 1"),)
        body = re.compile(r"\s*").match(parsed.code, closing + 1)
        start = body.end() if body else closing + 1
        if parsed.code[start] == "{":
            end = parsed.close(start)
            yield Operator.LOOP_ONCE, (Edit(end, end, "break; "),)
        elif re.compile(r"\w+[^;{}]*;").match(parsed.code, start) and not re.compile(
            r"(?:if|for|while|do|switch)\b"
        ).match(parsed.code, start):
            end = parsed.code.index(";", start) + 1
            yield Operator.LOOP_ONCE, _around(start, end, "{ ", " break; }")


def _gates(parsed: CText, function: Function, gates: Collection[str]) -> Iterator[tuple[Operator, tuple[Edit, ...]]]:
    """What the series asks of a page, a mapping or a VM is answered with no; a helper of its own is the stock one."""
    for match in _each(re.compile(r"\b(\w+)(\()"), parsed, function):
        name, closing = match[1], parsed.close(match.start(2))
        if name in gates:
            yield Operator.GATE_IGNORED, _around(match.start(1), closing + 1, "(0 && ", ")")
        if name in _STOCK and closing > 0:
            text = _STOCK[name].format(*parsed.arguments(match.start(2)))
            lines = parsed.text.count("\n", match.start(1), closing) - text.count("\n")
            yield Operator.STOCK_HELPER, (Edit(match.start(1), closing + 1, text + "\n" * max(0, lines)),)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a selftest says of itself: its exit status, and what it printed in the Kernel Test Anything Protocol.

Documentation/dev-tools/ktap.rst in the kernel's source; the exit statuses are those of its kselftest.h. Many of the KVM
selftests print no KTAP and say all by their status.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SKIPPED = 4  # KSFT_SKIP
TIMED_OUT = 124  # of timeout(1), when the signal that it sends was enough
_KILLED = 128 + signal.SIGKILL  # of timeout(1), when it was not

_PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*SKIP\b\s*(.*))?", re.IGNORECASE)
_CHECK = re.compile(r"(not )?ok\b\s*(\d+)?\s*(?:- )?(.*)")
_DIRECTIVE = re.compile(r"#\s*(SKIP|XFAIL|TODO|TIMEOUT|ERROR)\b\s*(.*)", re.IGNORECASE)
_BAIL_OUT = "Bail out!"
_ASSERTION = "==== Test Assertion Failure ===="  # tools/testing/selftests/kvm/lib/assert.c
_SKIPPING = ", skipping test"  # tools/testing/selftests/kvm/lib/test_util.c
_NOTICE = re.compile(
    r"TAP version|# (Totals:|Planned tests|Starting|FAILED:|PASSED:|\[(RUN|INFO)\]|\s*(RUN|OK|FAIL) )|Random seed: "
)


class KtapOutcome(StrEnum):
    """How a selftest ended. Only PASS says that the kernel does what it asks for."""

    PASS = "PASS"  # noqa: S105  no password
    SKIP = "SKIP"
    FAIL = "FAIL"
    TIMEOUT = "TIMEOUT"
    LOST = "LOST"
    """The host was lost in it."""


@dataclass(frozen=True, slots=True)
class KtapCheck:
    """One result line of a test. ``reason``: what its directive says, and the remarks before the line."""

    outcome: KtapOutcome
    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KtapOutput:
    """What a test's output holds of the protocol.

    :ivar planned: how many checks it announced; None when it did not. :ivar skipped: why it skipped all of them.
    """

    checks: tuple[KtapCheck, ...] = ()
    planned: int | None = None
    skipped: str | None = None
    bail_out: str | None = None

    def count(self, outcome: KtapOutcome) -> int:
        """How many of the checks ended so."""
        return sum(check.outcome is outcome for check in self.checks)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a test ended, and why it did not pass; for one that passed, what it left out."""

    outcome: KtapOutcome
    reason: str = ""


def read(output: str) -> KtapOutput:
    """The protocol's lines among all that a test wrote. Nested checks are indented and belong to their parent."""
    checks: list[KtapCheck] = []
    planned: int | None = None
    skipped: str | None = None
    bail_out: str | None = None
    remarks: list[str] = []
    for line in output.splitlines():
        if line.startswith(_BAIL_OUT):
            bail_out = line.removeprefix(_BAIL_OUT).strip()
        elif match := _PLAN.fullmatch(line.rstrip()):
            planned = int(match[1])
            skipped = (match[2] or "").removeprefix("- ") if planned == 0 else None
        elif match := _CHECK.fullmatch(line.rstrip()):
            checks.append(_check(failed=match[1] is not None, text=match[3], remarks=remarks))
            remarks = []
        elif line.startswith("# ") and not _NOTICE.match(line):
            remarks.append(line.removeprefix("# ").strip())
    return KtapOutput(tuple(checks), planned, skipped, bail_out)


def _check(*, failed: bool, text: str, remarks: Sequence[str]) -> KtapCheck:
    directive = _DIRECTIVE.search(text)
    name = (text[: directive.start()] if directive else text).strip()
    skipped = directive is not None and directive[1].upper() == "SKIP"
    outcome = KtapOutcome.FAIL if failed else KtapOutcome.SKIP if skipped else KtapOutcome.PASS
    if outcome is KtapOutcome.PASS:  # an expected failure (XFAIL, TODO) included: so does kselftest.h
        return KtapCheck(outcome, name)
    remark = directive[2].strip() if directive else ""
    return KtapCheck(outcome, name, "; ".join(part for part in (remark, *remarks) if part))


def judge(status: int, output: str, *, seconds: float, deadline: float) -> Judgement:
    """How a test ended.

    :param status: as a shell tells it: 128 and more for a signal; ``timeout(1)``'s when it had to end the test.
    :param seconds: that the test took. :param deadline: seconds that it had.
    """
    protocol = read(output)
    if status == TIMED_OUT or (status == _KILLED and seconds >= deadline):
        return Judgement(KtapOutcome.TIMEOUT, f"not done after {deadline:g} s{_lately(output)}")
    failed = [check for check in protocol.checks if check.outcome is KtapOutcome.FAIL]
    if status not in (0, SKIPPED) or failed or protocol.bail_out is not None:
        return Judgement(KtapOutcome.FAIL, _why_failed(status, protocol, failed, output))
    if status == SKIPPED:
        return Judgement(KtapOutcome.SKIP, _why_skipped(protocol, output))
    if protocol.planned == 0 or (protocol.checks and protocol.count(KtapOutcome.SKIP) == len(protocol.checks)):
        return Judgement(KtapOutcome.SKIP, _why_skipped(protocol, output))  # it ends with 0, and has tried nothing
    if protocol.planned is not None and len(protocol.checks) < protocol.planned:
        return Judgement(
            KtapOutcome.FAIL, f"made {len(protocol.checks)} of {protocol.planned} checks, and ended with status 0"
        )
    left_out = protocol.count(KtapOutcome.SKIP)
    return Judgement(KtapOutcome.PASS, f"{left_out} of {len(protocol.checks)} checks skipped" if left_out else "")


def _why_skipped(protocol: KtapOutput, output: str) -> str:
    reasons = [
        protocol.skipped or "",
        *(check.reason for check in protocol.checks if check.outcome is KtapOutcome.SKIP),
    ]
    reasons += [line.removesuffix(_SKIPPING) for line in output.splitlines() if line.endswith(_SKIPPING)]
    reason_found = next((reason for reason in reasons if reason), "")
    return reason_found.removeprefix("Requirement not met: ") or _last_line(output) or "no reason given"


def _why_failed(status: int, protocol: KtapOutput, failed: Sequence[KtapCheck], output: str) -> str:
    how = _name_of_signal(status) if status > 128 else f"status {status}"
    if protocol.bail_out is not None:
        return f"{how}: {protocol.bail_out}"
    assertion = _assertion(output)
    if assertion:
        return f"{how}: {assertion}"
    if failed:
        first = " - ".join(part for part in (failed[0].name, failed[0].reason) if part)
        return f"{how}: {len(failed)} of {len(protocol.checks)} checks failed, the first: {first or 'unnamed'}"
    return ": ".join(part for part in (how, _last_line(output)) if part)


def _assertion(output: str) -> str:
    """The place and the condition of a failed TEST_ASSERT, and the message below its trace."""
    lines = [line.strip() for line in output.splitlines()]
    if _ASSERTION not in lines:
        return ""
    block = lines[lines.index(_ASSERTION) + 1 :]
    # The trace's lines are numbered, and in a program without symbols they are remarks on addr2line.
    texts = [
        line for line in block if line and not re.match(r"pid=|\d+\t|\d+  |\(stack trace empty\)|sh: |addr2line", line)
    ]
    return "; ".join(texts[:2])


def _name_of_signal(status: int) -> str:
    try:
        return f"killed by {signal.Signals(status - 128).name}"
    except ValueError:
        return f"status {status}"


def _lately(output: str) -> str:
    last = _last_line(output)
    return f"; it said last: {last}" if last else ""


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() and not _NOTICE.match(line)]
    return lines[-1][:200] if lines else ""

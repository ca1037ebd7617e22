# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparisons and a claim's history, in words for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from history.compare import Change, Comparison, Line, Sitting, differing
from history.model import Run
from history.review import GOOD

WIDTH = 120
_LISTED = (Change.REGRESSED, Change.FLAKY, Change.FIXED, Change.NEW, Change.GONE, Change.SLOWER)
_MANY = 20  # new, gone or untried claims, of which more are only counted
_DIGEST = 12  # characters of a SHA-256 that are shown


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """A comparison."""
    yield f"before  {run_words(comparison.before)}"
    yield f"after   {run_words(comparison.after)}"
    yield ""
    if comparison.inputs:
        yield "what differs in the inputs"
        yield from (f"  {line}" for line in inputs(comparison.inputs))
    else:
        yield "the inputs do not differ"
    yield ""
    for change in _LISTED:
        yield from _group(comparison.of(change))
    bad = [line for line in comparison.of(Change.UNCHANGED) if line.after and line.after.worst not in GOOD]
    for line in bad:
        yield from _entry("still not PASS", line)
    yield ", ".join(f"{count} {change}" for change, count in comparison.counts.items())
    if comparison.pace > 1.0:
        yield f"a claim took {comparison.pace:.2f} times as long as before (the median of all)"


def run_words(run: Run) -> str:
    """A run, in a line."""
    cut = " (cut short)" if run.cut_short else ""
    return f"{run.id}  {run.track}: {run.verdict}{cut}"


def inputs(differences: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """What differs, in lines."""
    for name, before, after in differences:
        yield f"{name}: {shorten(before)} -> {shorten(after)}"


def claim_history(claim: str, tracks: Sequence[tuple[str, Sequence[Sitting]]]) -> Iterator[str]:
    """How a claim fared, sitting by sitting, in each track; beside each change of its status what differs."""
    yield claim
    yield from _sentences(claim, tracks)[-1:]
    for track, sittings in tracks:
        yield ""
        yield track
        before: Sitting | None = None
        for sitting in sittings:
            if claim not in sitting.listed:
                continue
            result = sitting.results.get(claim)
            if result is None:
                yield f"  {_when(sitting.first)}  {sitting.first.id}  not tried"
                continue
            words = "/".join(result.statuses)
            took = f"{sitting.seconds[claim]:8.1f} s" if claim in sitting.seconds else " " * 10
            flaky = "  flaky" if result.is_flaky else ""
            why = f"  {result.claim.why.partition(chr(10))[0]}" if result.claim.why else ""
            yield f"  {_when(sitting.first)}  {sitting.first.id}  {words:5}{took}{flaky}{why}"
            if before is not None and before.results[claim].worst is not result.worst:
                yield from (f"      {line}" for line in _since(before.first, sitting.first))
            before = sitting


def _sentences(claim: str, tracks: Sequence[tuple[str, Sequence[Sitting]]]) -> list[str]:
    """What it claims, in the words of each run."""
    runs = [sitting.first for _, sittings in tracks for sitting in sittings]
    return [entry.sentence for run in runs for entry in run.claims if entry.id == claim and entry.sentence]


def _since(before: Run, after: Run) -> list[str]:
    return list(inputs(differing(before, after))) or ["the inputs do not differ from the run before"]


def _group(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines[:_MANY] if lines and lines[0].change in (Change.NEW, Change.GONE) else lines:
        yield from _entry(line.change, line)
    if lines and lines[0].change in (Change.NEW, Change.GONE) and len(lines) > _MANY:
        yield f"{lines[0].change:14}  and {len(lines) - _MANY} more"


def _entry(word: str, line: Line) -> Iterator[str]:
    yield f"{word:14}  {line.claim}"
    if line.change is not Change.GONE:
        indent = " " * 16
        yield from textwrap.wrap(line.words, WIDTH, initial_indent=indent, subsequent_indent=indent)


def shorten(value: str) -> str:
    """An input for a person to read: of a hash the beginning."""
    return f"{value[:_DIGEST]}..." if len(value) >= 40 and set(value) <= set("0123456789abcdef") else value


def _when(run: Run) -> str:
    return run.started.replace("T", " ").rstrip("Z")[:16]

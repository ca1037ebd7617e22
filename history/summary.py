# SPDX-License-Identifier: GPL-2.0-or-later
"""A night in a few words: a plain text, for a mail and for a terminal, and Markdown for the job page of a CI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from common.text import printable
from history.compare import Change, Line, Sitting
from history.database import Cause
from history.review import CellReview, Review
from history.wording import inputs

MOST = 20
"""Claims that are told of each cell and kind; more are only counted."""
NOT_WELL = "not PASS"
"""What is said of a claim that fails in the first night of its cell."""
OOPS = "oops.txt"
"""In a claim's evidence: signoff.trial."""
_OOPS_LINES, _LONGEST_OOPS = 40, 1 << 16  # lines that are told; characters that are read
_PATCHES = 12  # differing inputs that are told


def headline(review: Review) -> str:
    """The night in a line."""
    tried = [cell for cell in review.cells if cell.sitting]
    broken = [cell for cell in review.cells if cell.is_broken and not cell.broke]
    parts = [
        _count(review.regressions, "regression"),
        f"{review.flaky} flaky" if review.flaky else "",
        f"{len(tried)} of {_count(len(review.cells), 'cell')} tried",
        f"{len(broken)} could not be tried" if broken else "",
        "not finished" if review.night.ended is None else "",
    ]
    return f"sealproof, night of {review.night.started[:10]}: {', '.join(part for part in parts if part)}"


def text(review: Review, page: Path | None = None) -> str:
    """The night as a plain text: what regressed, since when, and how to repeat it.

    :param page: of the trend, to be named.
    """
    out = [headline(review), *review.night.problems, ""]
    for cell in review.cells:
        out += [*_cell(cell), ""]
    if page is not None:
        out.append(f"all nights: {page}")
    return printable("\n".join(out).rstrip() + "\n")


def markdown(review: Review) -> str:
    """The night in Markdown, for the job pages of GitHub (``$GITHUB_STEP_SUMMARY``) and GitLab."""
    out = [
        f"## {_escape_markdown(headline(review))}",
        "",
        *(line for words in review.night.problems for line in (_escape_markdown(words), "")),
        "| cell | result | regressed | flaky | fixed | slower | not PASS |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in review.cells:
        counts = cell.comparison.counts if cell.comparison else {}
        numbers = [counts.get(change, 0) for change in (Change.REGRESSED, Change.FLAKY, Change.FIXED, Change.SLOWER)]
        shown = " | ".join(str(number) if number else "" for number in (*numbers, len(cell.failing)))
        out.append(f"| {_escape_markdown(cell.cell)} | {_escape_markdown(_state(cell))} | {shown} |")
    for cell in review.cells:
        if claim_lines := list(lines_of(cell)):
            out += ["", f"### {_escape_markdown(cell.cell)}", ""]
            for word, line in claim_lines[:MOST]:
                out.append(f"- **{word}** `{line.claim}`: {_escape_markdown(line.words)}")
                if (cause := cell.cause(line.claim)) is not None and cause.told:
                    out.append(f"  - first bad: {_escape_markdown(cause.told)}")
            out += [f"- and {len(claim_lines) - MOST} more"] if len(claim_lines) > MOST else []
            out += ["", *_inputs_of(cell)]
        elif cell.is_broken:
            out += ["", f"### {_escape_markdown(cell.cell)}", "", _escape_markdown(cell.why)]
    return printable("\n".join(out).rstrip() + "\n")


def _inputs_of(cell: CellReview) -> list[str]:
    comparison = cell.comparison
    if comparison is None:
        return ["The first night of this cell."]
    if not comparison.inputs:
        return ["The inputs do not differ from those of the night before."]
    bullets = [f"- {_escape_markdown(line)}" for line in inputs(comparison.inputs)]
    return ["What differs in the inputs:", "", *bullets[:_PATCHES], *(["- ..."] if len(bullets) > _PATCHES else [])]


def lines_of(cell: CellReview) -> Iterator[tuple[str, Line]]:
    """The lines about a cell's claims, the worst first, each with a word for it."""
    if cell.comparison is None:
        for name in cell.failing:
            sitting: Sitting | None = cell.sitting
            if sitting is not None:
                yield NOT_WELL, Line(name, Change.NEW, None, sitting.results[name])
        return
    for change in (Change.REGRESSED, Change.FLAKY, Change.FIXED, Change.SLOWER):
        for line in cell.comparison.of(change):
            yield change, line
    shown_claims = {line.claim for line in cell.comparison.of(Change.REGRESSED, Change.FLAKY)}
    for line in cell.comparison.lines:
        if line.claim in cell.failing and line.claim not in shown_claims:
            yield ("new, not PASS" if line.change is Change.NEW else "still not PASS"), line


def _state(cell: CellReview) -> str:
    if not cell.is_begun:
        return "not begun: no time"
    if cell.is_broken:
        return f"{'REGRESSION: ' if cell.broke else ''}no claim was tried"
    if cell.sitting is None:
        return "ended early: no claim counts"
    verdict = cell.sitting.first.verdict
    again = max((attempt.number for attempt in cell.attempts), default=1) - 1
    return f"{verdict}{f', {again} run again' if again else ''}"


def _cell(cell: CellReview) -> list[str]:
    out = [f"{cell.cell}: {_state(cell)}"]
    if cell.is_broken:
        out += [f"  {line}" for line in cell.why.splitlines()[:5]]
    claim_lines = list(lines_of(cell))
    for word, line in claim_lines[:MOST]:
        out += ["", *_entry(word, line, cell.cause(line.claim))]
    if len(claim_lines) > MOST:
        out += ["", f"  and {len(claim_lines) - MOST} more"]
    if claim_lines and cell.comparison:
        out += ["", "  what differs in the inputs from the night before"]
        input_lines = list(inputs(cell.comparison.inputs))
        out += [f"    {line}" for line in input_lines[:_PATCHES]] or ["    nothing"]
        out += ["    ..."] if len(input_lines) > _PATCHES else []
    return out


def _entry(word: str, line: Line, cause: Cause | None) -> list[str]:
    out = [f"  {word.upper() if word == Change.REGRESSED else word}  {line.claim}"]
    facts = {"": line.words}
    if line.change is Change.REGRESSED and line.after and len(line.after.statuses) == 1:
        facts["but"] = "it was not run again, for lack of time"
    if line.since is not None and line.change in (Change.REGRESSED, Change.FIXED):
        facts["before"] = f"run {line.since.id}"
    if cause is not None:
        facts["cause" if cause.told else "bisect"] = cause.told or cause.command
        facts |= {"seen": cause.file} if cause.file else {}
    if line.after is not None and line.after.claim.command:
        facts["repeat"] = line.after.claim.command
        facts["see"] = f"{line.after.run.folder}/signoff.html"
    out += [f"    {f'{name:8}' if name else ''}{value}" for name, value in facts.items()]
    if line.change is Change.REGRESSED or word == NOT_WELL:
        out += _oops(line)
    return out


def _oops(line: Line) -> list[str]:
    """What a kernel said as the claim was tried, if that is still there."""
    if line.after is None:
        return []
    file = Path(line.after.run.folder) / "evidence" / line.claim / OOPS
    try:
        with file.open(encoding="utf-8", errors="replace") as text:
            lines = text.read(_LONGEST_OOPS).splitlines()
    except (OSError, ValueError):  # it is a stranger's path, or was cleaned away
        return []
    more = ["..."] if len(lines) > _OOPS_LINES else []
    return ["    oops", *(f"      {line}".rstrip() for line in [*lines[:_OOPS_LINES], *more])]


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _escape_markdown(words: str) -> str:
    """Text for Markdown: one line, in which nothing is a link, a tag, a column or a mention."""
    line = " ".join(printable(words).split())
    return re.sub(r"([\\`*_{}\[\]<>|#!~@&])", r"\\\1", line)

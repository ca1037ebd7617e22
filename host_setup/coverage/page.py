# SPDX-License-Identifier: GPL-2.0-or-later
"""The page: the lines that the series adds, which of them ran, and for which claims; and a table of it in Markdown.

The page needs nothing beside it: its style and its script are in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from host_setup.coverage.result import Coverage, Gap, Totals

AROUND = 3  # lines of the file that are shown before and after what was added


@dataclass(frozen=True, slots=True)
class PageLine:
    """A line of the page.

    :ivar state: ``ran``, ``partly``, ``explained``, ``missing``, ``none`` (no code), or ``old`` (not the series').
    :ivar branches: such as ``1/2``. :ivar claims: number of the set of claims, -1 for none.
    """

    number: int
    text: str
    state: str
    patch: str
    branches: str
    claims: int
    reason: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A file of the page. :ivar pieces: lines that follow each other."""

    name: str
    totals: Totals
    pieces: Sequence[Sequence[PageLine]]


class Sets:
    """Sets of claims, each kept once: thousands of lines have the same ones."""

    def __init__(self, claims: Sequence[str]) -> None:
        self._places = {claim: place for place, claim in enumerate(claims)}
        self._numbers: dict[tuple[int, ...], int] = {}

    def number(self, claims: set[str]) -> int:
        """The number of a set; -1 of the empty one."""
        if not claims:
            return -1
        key = tuple(sorted(self._places[claim] for claim in claims))
        return self._numbers.setdefault(key, len(self._numbers))

    @property
    def all(self) -> list[list[int]]:
        """The sets, by number."""
        return [list(key) for key in self._numbers]


def html(result: Coverage, facts: Mapping[str, str]) -> str:
    """The page.

    :param facts: what was run, in words: date, commit, kernel and so on.
    """
    sets = Sets(result.claims)
    sheets = [_sheet(result, name, sets) for name in sorted(result.added)]
    environment = Environment(
        loader=PackageLoader("host_setup.coverage", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    data = json.dumps({"claims": list(result.claims), "sets": sets.all}).replace("<", "\\u003c")
    return environment.get_template("coverage.html.j2").render(
        result=result, facts=facts, sheets=sheets, totals=result.totals(), data=data, share=share
    )


def _sheet(result: Coverage, name: str, sets: Sets) -> Sheet:
    lines, code = result.added[name], result.code.get(name, {})
    gaps = {gap.number: gap for gap in result.gaps if gap.file == name}
    shown: list[list[PageLine]] = []
    last = -AROUND
    near = {number for at in lines.patches for number in range(at - AROUND, at + AROUND + 1)}
    for number in sorted(near):
        if not 1 <= number <= len(lines.text):
            continue
        if number != last + 1:
            shown.append([])
        last = number
        line, gap = code.get(number), gaps.get(number)
        shown[-1].append(
            PageLine(
                number,
                lines.text[number - 1].expandtabs(8),
                _state(number in lines.patches, line is not None, gap),
                lines.patches.get(number, ""),
                f"{line.branches_taken}/{len(line.branches)}" if line is not None and line.branches else "",
                sets.number(line.claims) if line is not None else -1,
                gap.reason if gap is not None else "",
            )
        )
    return Sheet(name, result.totals(name), shown)


def _state(is_added: bool, has_code: bool, gap: Gap | None) -> str:  # noqa: FBT001  three facts of one line
    if not is_added:
        return "old"
    if not has_code:
        return "none"
    if gap is None:
        return "ran"
    if gap.reason:
        return "explained"
    return "partly" if gap.branches else "missing"


def share(part: int, whole: int) -> str:
    """A share in per cent, rounded down: 100 % means all."""
    return "-" if not whole else f"{part * 1000 // whole / 10:g} %"


def markdown(result: Coverage, facts: Mapping[str, str]) -> str:
    """The table, and what is not covered with the reason, one by one."""
    return "\n".join(_markdown(result, facts)) + "\n"


def _markdown(result: Coverage, facts: Mapping[str, str]) -> Iterator[str]:
    yield "# Coverage of the series by claims"
    yield ""
    yield "Which lines and branches that the series adds were executed while the claims ran: in the host, or in one"
    yield "of its guests. `make coverage` makes this page, and one that shows each line with its claims. No sign-off."
    yield ""
    yield from (f"- {name}: {value}" for name, value in facts.items())
    yield ""
    yield "| file | added | with code | executed | explained | missing | branches | taken | explained |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    rows = [(f"`{name}`", result.totals(name)) for name in sorted(result.added) if result.code.get(name)]
    for name, totals in [*rows, ("**all**", result.totals())]:
        yield (
            f"| {name} | {totals.added} | {totals.code} | {totals.ran} ({share(totals.ran, totals.code)}) | "
            f"{totals.explained} | {totals.missing} | {totals.branches} | {totals.branches_taken} "
            f"({share(totals.branches_taken, totals.branches)}) | "
            f"{totals.branches_explained} |"
        )
    yield ""
    without = [name for name in sorted(result.added) if not result.code.get(name)]
    yield (
        f"The series adds no code, but declarations, to {', '.join(f'`{name}`' for name in without)}."
        if without
        else ""
    )
    for title, gaps in (
        ("Not executed", [gap for gap in result.gaps if not gap.branches]),
        ("Executed, with branches that were never taken", [gap for gap in result.gaps if gap.branches]),
    ):
        yield f"\n## {title}\n"
        yield "| file | function | line | why |"
        yield "| --- | --- | --- | --- |"
        for gap in gaps:
            text = gap.text.replace("|", "&#124;")
            yield f"| `{gap.file}` {gap.number} | `{gap.function}` | `{text}` | {_why(gap)} |"


def _why(gap: Gap) -> str:
    return " ".join(gap.reason.split()) or "**not by the claims that were run**"

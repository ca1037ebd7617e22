# SPDX-License-Identifier: GPL-2.0-or-later
"""What a merged report's page says of its machines: what each did, how they differ, where they disagree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from verifier.markup import DASH, clock, first_line, heads, mark, numbers, safe, scroll
from verifier.run import STATUSES

WORST_FIRST = ("FAIL", "ERROR", "MISS", "PASS", "SKIP")
OF_THE_START = "started"
"""A fact of a host that differs from start to start."""
Word = dict[str, Any]
"""What one part says of a claim: part, status, why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What one machine did.

    :ivar settled: how many claims it said to have each status. :ivar cut_short: why parts of it were.
    """

    name: str
    parts: list[dict[str, Any]]
    settled: dict[str, int]
    cut_short: list[str]

    @property
    def seconds(self) -> float:
        """Of its parts, one after the other."""
        return float(sum(part["seconds"] for part in self.parts))


@dataclass(frozen=True, slots=True)
class Fleet:
    """All machines.

    :ivar kinds: names of machines of which all facts are the same. :ivar differing: a fact, and its value on each kind.
    :ivar verdicts: a claim, and the worst word of each kind, where the words differ; None: it has none.
    """

    machines: list[Machine]
    kinds: list[list[str]]
    differing: list[tuple[str, list[str]]]
    verdicts: list[tuple[str, list[Word | None]]]


def fleet(content: dict[str, Any]) -> Fleet:
    """What the parts come to.

    :param content: the list of them.
    """
    of = {part["run"]: part["machine"] for part in content["parts"]}
    names = list(dict.fromkeys(of.values()))
    words: dict[str, list[Word]] = content["words"]

    def worst(claim: str, machines: list[str]) -> Word | None:
        counting = [row for row in words[claim] if of[row["part"]] in machines]
        return min(counting, key=lambda row: WORST_FIRST.index(row["status"]), default=None)

    machines = []
    for name in names:
        parts = [part for part in content["parts"] if part["machine"] == name]
        statuses = [word["status"] for claim in words if (word := worst(claim, [name]))]
        settled = {status: statuses.count(status) for status in STATUSES}
        machines.append(
            Machine(name, parts, settled, [machine["cut_short"] for machine in parts if machine["cut_short"]])
        )
    facts = {machine.name: _facts(machine.parts) for machine in machines}
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(repr(list(facts[name].items())), []).append(name)
    columns = [facts[each[0]] for each in kinds.values()]
    differing = []
    for fact in dict.fromkeys(fact for column in columns for fact in column):
        values = [column.get(fact, "unknown") for column in columns]
        if len(set(values)) > 1:
            differing.append((fact, values))
    verdicts = []
    for claim in words:
        each = [worst(claim, kind) for kind in kinds.values()]
        if len({row["status"] for row in each if row}) > 1:
            verdicts.append((claim, each))
    return Fleet(machines, list(kinds.values()), differing, verdicts)


def facts_of_part(part: dict[str, Any]) -> dict[str, str]:
    """What may differ from machine to machine, as a part tells it; nothing, if its kernel was not identified."""
    kernel = part["kernel"]
    if kernel is None:
        return {}
    return {
        "tier": part["tier"] or "unknown",
        "kernel": kernel["release"],
        "build id": kernel["build_id"],
        "configuration": f"sha256 {kernel['config_sha256']}",
        "compiler": kernel["compiler"] or "unknown",
        **{name: value for name, value in part["host"].items() if name != OF_THE_START},
    }


def _facts(parts: Iterable[dict[str, Any]]) -> dict[str, str]:
    """A machine's facts; where its parts do not agree, all that they say."""
    facts_of: dict[str, dict[str, None]] = {}
    for part in parts:
        for name, value in facts_of_part(part).items():
            facts_of.setdefault(name, {})[value] = None
    return {name: " or ".join(values) for name, values in facts_of.items()}


def machines_part(content: dict[str, Any], sentences: dict[str, str]) -> Iterator[str]:
    """The page's part on the machines.

    :param content: the list of the parts. :param sentences: what each claim says.
    """
    parts = fleet(content)
    yield from _proof_rows(parts)
    yield from _differences(parts, sentences)
    yield from _parts(content)


def _proof_rows(fleet: Fleet) -> Iterator[str]:
    yield '<h2 id="machines">Which machine proved what</h2>'
    yield (
        '<p class="soft">This report was merged from parts. Each part is a run of its own, and the health of its '
        "host was judged at its end. If parts"
    )
    yield (
        "disagree on a claim, the worst verdict counts. From an interrupted part only FAIL verdicts are used; its "
        "other claims were tried again or are MISS.</p>"
    )
    yield scroll("Which machine proved what")
    yield '<table class="machines">'
    yield (
        f'<thead><tr><th>Machine</th><th class="n">Parts</th>{heads()}<th class="n">Time</th></tr></thead>'
    )  # fmt: skip
    yield "<tbody>"
    for machine in fleet.machines:
        why = "".join(f'<div class="why">cut short: {first_line(words)}</div>' for words in machine.cut_short)
        yield f'<tr><td>{safe(machine.name)}{why}</td><td class="n">{len(machine.parts)}</td>'
        yield "".join(numbers(machine.settled))
        yield f'<td class="n">{clock(machine.seconds) if machine.seconds else DASH}</td></tr>'
    yield from ("</tbody>", "</table>", "</div>")


def _differences(fleet: Fleet, sentences: dict[str, str]) -> Iterator[str]:
    kinds = "".join(f"<th>{_list_names(names)}</th>" for names in fleet.kinds)
    if fleet.differing:
        yield "<h3>Differences between the machines</h3>"
        yield scroll("What differs between the machines")
        yield '<table class="matrix">'
        yield f"<thead><tr><th></th>{kinds}</tr></thead>"
        yield "<tbody>"
        for fact, values in fleet.differing:
            cells = "".join(f"<td>{safe(value)}</td>" for value in values)
            yield f'<tr><th scope="row">{safe(fact)}</th>{cells}</tr>'
        yield from ("</tbody>", "</table>", "</div>")
    else:
        yield "<p>The machines are identical in every recorded property.</p>"
    if fleet.verdicts:
        yield "<h3>Claims on which the machines disagree</h3>"
        yield scroll("Claims on which the machines differ")
        yield '<table class="matrix">'
        yield f"<thead><tr><th>Claim</th>{kinds}</tr></thead>"
        yield "<tbody>"
        for name, words in fleet.verdicts:
            yield f'<tr><td><a href="#{name}">{safe(sentences[name])}</a></td>'
            yield f"{''.join(map(_word, words))}</tr>"
        yield from ("</tbody>", "</table>", "</div>")
    elif len(fleet.kinds) > 1:
        yield "<p>All kinds of machine agree on every claim that more than one of them tried.</p>"


def _parts(content: dict[str, Any]) -> Iterator[str]:
    yield f'<details class="dump"><summary>All {len(content["parts"])} parts</summary>'
    yield scroll("All parts")
    yield "<table>"
    yield (
        '<thead><tr><th>Part</th><th>Machine</th><th>Started</th><th class="n">Time</th><th>Kernel</th></tr></thead>'
    )
    yield "<tbody>"
    for part in content["parts"]:
        run = safe(part["run"])
        name = f'<a href="{page_of(part)}">{run}</a>' if part["ended"] else run
        time = clock(part["seconds"]) if part["seconds"] else DASH
        yield (
            f"<tr><td>{name}</td><td>{safe(part['machine'])}</td><td>{safe(part['started'])}</td>"
            f'<td class="n">{time}</td>'
        )
        kernel = part["kernel"]
        identity = f"{safe(kernel['release'])} <code>{safe(kernel['build_id'])}</code>" if kernel else "not identified"
        yield f"<td>{identity}</td></tr>"
    yield from ("</tbody>", "</table>", "</div>", "</details>")


def page_of(part: dict[str, Any]) -> str:
    """Where a part's own page is."""
    return f"parts/{safe(part['run'])}/signoff.html"


def _list_names(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return safe(f"{', '.join(names[:most])}{more}")


def _word(word: Word | None) -> str:
    if word is None:
        return '<td><span class="soft">not tried</span></td>'
    why = "" if word["status"] == "PASS" else f' <span class="soft">{first_line(word["why"])}</span>'
    return f"<td>{mark(word['status'])}{why}</td>"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What came of each fault: lines of a file, written at once, so that a run may end at any moment; and the table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from common import toml_file
from common.errors import UserInputError
from host_setup.mutate.faults import Fault

STAGE = "mutate"


class MutantVerdict(StrEnum):
    """What came of one fault."""

    KILLED = "killed"
    OTHERS = "killed by others"
    CRASH = "crash alone"
    SURVIVED = "survived"
    SURVIVED_SOME = "survived some"
    NOT_BUILT = "does not build"
    SAME = "same code"
    EQUIVALENT = "equivalent"
    UNTRIED = "could not be tried"

    @property
    def words(self) -> str:
        """What it means."""
        return _WORDS[self]

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do about it: it is no fault, or a claim names it."""
        return self in (MutantVerdict.KILLED, MutantVerdict.NOT_BUILT, MutantVerdict.SAME, MutantVerdict.EQUIVALENT)

    @property
    def is_mutant(self) -> bool:
        """Whether there was a kernel whose fault a claim could find."""
        return self not in (
            MutantVerdict.NOT_BUILT,
            MutantVerdict.SAME,
            MutantVerdict.EQUIVALENT,
            MutantVerdict.UNTRIED,
        )


_WORDS = {
    MutantVerdict.KILLED: "a claim names it",
    MutantVerdict.OTHERS: "a claim names it, but not all that must",
    MutantVerdict.CRASH: "it is noticed by a crash, a hang or an error alone: no claim names it",
    MutantVerdict.SURVIVED: "every claim was tried, and none notices it",
    MutantVerdict.SURVIVED_SOME: "the claims about it were tried, and none notices it; the others were not tried",
    MutantVerdict.NOT_BUILT: "the compiler refuses it",
    MutantVerdict.SAME: "the compiler makes the same code of it: it is not compiled, or changes nothing",
    MutantVerdict.EQUIVALENT: "it changes nothing that anybody could see, for the reason given",
    MutantVerdict.UNTRIED: "the harness broke",
}


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one fault, as it is kept.

    :ivar digest: of what it changes. :ivar claims: that are FAIL because of it, in the order in which they were found.
    :ivar why: the first one's reason, or what went wrong. :ivar tried: claims that came to a verdict.
    :ivar building: seconds. :ivar trying: seconds.
    """

    name: str
    digest: str
    verdict: MutantVerdict
    operator: str
    before: str
    mistake: str
    claims: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    why: str = ""
    tried: int = 0
    building: float = 0.0
    trying: float = 0.0
    when: str = ""
    commit: str = ""


class Book:
    """The results in a folder.

    :ivar lines: the last of each fault, by name.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "results.jsonl"
        self._controls_file = folder / "controls.jsonl"
        self.lines: dict[str, Line] = {}
        self.controls: dict[str, str] = {}
        for entry in _read_lines(self._file):
            line = _line(entry)
            self.lines[line.name] = line
        for entry in _read_lines(self._controls_file):
            self.controls[str(entry["claim"])] = str(entry["status"])

    def add(self, line: Line) -> None:
        """Keep a result."""
        self.lines[line.name] = line
        _append(self._file, asdict(line))

    def add_control(self, claim: str, status: str) -> None:
        """Keep how a claim ends on the series without any fault."""
        self.controls[claim] = status
        _append(self._controls_file, {"claim": claim, "status": status})

    def has_result(self, fault: Fault, again: Collection[MutantVerdict]) -> bool:
        """Whether a fault was tried before, as it is now.

        :param again: verdicts that do not count.
        """
        line = self.lines.get(fault.name)
        return line is not None and line.digest == fault.digest and line.verdict not in again

    def without_control(self) -> list[str]:
        """Claims that have killed, and of which nobody knows how they end without a fault."""
        return sorted({claim for line in self.lines.values() for claim in line.claims} - self.controls.keys())

    def verdicts(self, equivalents: Mapping[str, str]) -> list[Line]:
        """The results as they count: a claim that was not seen to be PASS without a fault kills nothing.

        :param equivalents: the reason for each fault that is none, by name.
        """
        return [self._verdict_on(line, equivalents) for line in self.lines.values()]

    def _verdict_on(self, line: Line, equivalents: Mapping[str, str]) -> Line:
        if line.name in equivalents and line.verdict in (MutantVerdict.SURVIVED, MutantVerdict.SURVIVED_SOME):
            return replace(line, verdict=MutantVerdict.EQUIVALENT, why=equivalents[line.name])
        if line.verdict not in (MutantVerdict.KILLED, MutantVerdict.OTHERS):
            return line
        broken = [claim for claim in line.claims if self.controls.get(claim) != "PASS"]
        claims = tuple(claim for claim in line.claims if claim not in broken)
        if claims:
            return replace(line, claims=claims)
        why = f"not seen to be PASS without a fault: {', '.join(broken)}"
        return replace(line, verdict=MutantVerdict.UNTRIED, claims=(), why=why)


def _read_lines(file: Path) -> Iterable[dict[str, object]]:
    """The lines of a file; the last one may be cut off, as its writer was killed."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for number, text in enumerate(lines, 1):
        try:
            yield json.loads(text)
        except ValueError as error:
            if number < len(lines):
                raise UserInputError(
                    f"{file}, line {number}: {error}", stage=STAGE, hint="remove the line: its fault is tried again"
                ) from error


def _line(entry: dict[str, object]) -> Line:
    fields = {**entry, "verdict": MutantVerdict(str(entry["verdict"]))}
    for name in ("claims", "must"):
        value = entry.get(name, ())
        fields[name] = tuple(str(item) for item in value) if isinstance(value, list) else ()
    return Line(**fields)  # type: ignore[arg-type]


def _append(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
    with file.open("a", encoding="utf-8") as out:
        out.write(("" if whole else "\n") + json.dumps(value) + "\n")


# --- what is no fault -------------------------------------------------------------------------------------------------


class _Equivalent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    before: str
    because: str = Field(min_length=20)


class _Equivalents(BaseModel):
    model_config = ConfigDict(extra="forbid")

    equivalent: tuple[_Equivalent, ...] = ()


def equivalents(file: Path, now: Mapping[str, str]) -> dict[str, str]:
    """The reason for each mutant that is none, by its name, from a file of ``[[equivalent]]`` tables.

    :param now: the line of each mutant that there is: a table that names none, or whose line has changed, is refused.
    :raises UserInputError: it is not right.
    """
    if not file.exists():
        return {}
    entries = toml_file.load(file, _Equivalents, stage=STAGE).equivalent
    stale = [entry.id for entry in entries if now.get(entry.id) != entry.before]
    if stale:
        raise UserInputError(
            f"{file.name}: the series lacks this mutant, or its line has changed: {', '.join(stale)}",
            stage=STAGE, artefact=file, hint="check each of them: 'make mutate ARGS=--list' lists them",
        )  # fmt: skip
    return {entry.id: " ".join(entry.because.split()) for entry in entries}


# --- the table --------------------------------------------------------------------------------------------------------


def summary(lines: Sequence[Line]) -> list[str]:
    """How many came to what."""
    counts = Counter(line.verdict for line in lines)
    faults = sum(counts[verdict] for verdict in MutantVerdict if verdict.is_mutant)
    rows = [f"{counts[verdict]:5} {verdict}: {verdict.words}" for verdict in MutantVerdict if counts[verdict]]
    return [*rows, f"{counts[MutantVerdict.KILLED]} of {faults} faults are named by a claim"]


_HEAD = (
    "<!-- SPDX-License-Identifier: GPL-2.0-or-later -->",
    "# Mutation of the series",
    "",
    "Each fault was put into the series alone, the kernel compiled and booted as the emulated host, and claims tried",
    "on it. A claim names a fault if it is FAIL by what it looked for, and PASS on the series without the fault; a",
    "crash, a hang, an error of the harness and the claims of health name nothing. `--table FILE` writes this page.",
    "",
)


def table(lines: Sequence[Line], claims: Sequence[str], command: str, faults: int) -> str:
    """The mutation table, a page in Markdown.

    :param claims: all there are. :param command: that made it. :param faults: how many faults there are to try.
    """
    order = list(MutantVerdict)
    ranked = sorted(lines, key=lambda line: (line.operator != "by hand", order.index(line.verdict), line.name))
    killers = Counter(claim for line in lines if line.verdict.is_mutant for claim in line.claims)
    when = max((line.when for line in lines), default="")
    commits = sorted({line.commit for line in lines})
    return "\n".join(
        [
            *_HEAD,
            f"Made by `{command}`; last result {when}, commit {', '.join(commits)}: {len(lines)} of {faults} faults.",
            "",
            "| | verdict | means |",
            "| ---: | --- | --- |",
            *(
                f"| {count} | {verdict} | {verdict.words} |"
                for verdict in MutantVerdict
                if (count := sum(line.verdict is verdict for line in lines))
            ),
            "",
            *_rows("By hand", [line for line in ranked if line.operator == "by hand"]),
            *_rows("By operators", [line for line in ranked if line.operator != "by hand"]),
            "## Claims that named a fault",
            "",
            f"{len(killers)} of {len(claims)} claims. That says nothing of the others: most faults are done with at",
            "the first claim that fails.",
            "",
            "| claim | faults |",
            "| --- | ---: |",
            *(
                f"| {claim} | {count} |"
                for claim, count in sorted(killers.items(), key=lambda pair: (-pair[1], pair[0]))
            ),
            "",
        ]
    )


def _rows(title: str, lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    rows = []
    for line in lines:
        change = _cell(line.mistake) if not line.before else f"{_code(line.before)} → {_code(line.mistake)}"
        by = ", ".join(line.claims) or _cell(line.why.partition("\n")[0])
        rows.append(f"| {_cell(line.name)} | {change} | {line.verdict} | {by} |")
    return [f"## {title}", "", "| fault | change | verdict | by |", "| --- | --- | --- | --- |", *rows, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""

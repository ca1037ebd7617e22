# SPDX-License-Identifier: GPL-2.0-or-later
"""``signoff.html``: the verdict for people. It needs its style beside it, no script and no network.

Its own policy (Content-Security-Policy) forbids everything else, so text from a machine under test cannot do anything
there. The page has no inline style or script, so a server with a strict policy shows it unchanged.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from common.progress import clock
from common.text import printable
from signoff.contract import Class, Kind, Mode
from signoff.fleet import matrix, shares
from signoff.memory_map import Fate, Span
from signoff.observation import PAGE_SIZE, State
from signoff.overall import EXIT_MEANING, Exit
from signoff.record import LISTS
from signoff.report.data import Report
from signoff.report.picture import pictures
from signoff.report.terminal import NO_SIGNOFF
from signoff.report.threats import threats
from signoff.results import Row, Run
from signoff.verdict import Status, outcome_words

SYMBOLS = {Status.PASS: "✓", Status.FAIL: "✗", Status.ERROR: "!", Status.MISS: "?", Status.SKIP: "»"}
_KINDS = {
    Kind.ATTACK: ("Attacks", "Each must be refused, exactly as the contract says."),
    Kind.BOUNDARY: ("Boundaries", "Paths that are documented to be open. Each must be exactly as open as documented."),
    Kind.ORACLE: (
        "All of the memory",
        "Every page of each guest was tried. Exactly the pages that the guest shares must be readable.",
    ),
    Kind.LEGITIMATE: ("Legitimate paths", "Each must keep working."),
    Kind.HEALTH: ("Health", "Nothing may break in host or guest during the run."),
}
_PROBES = (Kind.ATTACK, Kind.BOUNDARY)
_PLAIN_PROBES = "The controls of the named claims: in a guest without protection each probe must succeed."
_WORST_FIRST = (Status.FAIL, Status.ERROR, Status.MISS, Status.SKIP)
_LOUD = (Status.FAIL, Status.ERROR)
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'"
FEW = 40
"""Claims up to which all sections are open; of more, only those in which something did not pass."""
_FATES = {
    Fate.LEAKED: "private to the guest, but the host read it",
    Fate.LOST: "not private to the guest, but the host was refused",
    Fate.SHARED: "shared by the guest, and readable",
    Fate.READABLE: "never made private, and readable: a page of a plain guest, or content from the VMM",
    Fate.PRIVATE: "private to the guest, and the host was refused",
    Fate.ABSENT: "the host has no page there: the guest has not touched it",
}
STATUS_MEANING = {
    Status.PASS: "Refused (or right) exactly as contracted; an attack got through in both of its controls.",
    Status.FAIL: "The guest's bytes leaked or were changed, or the outcome is not the contract's.",
    Status.ERROR: "The harness broke. Nothing is known about the claim.",
    Status.MISS: "Not run, or run without what makes it a proof. Never counts as PASS.",
    Status.SKIP: "Cannot apply here, for the reason given.",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a claim's line.

    :ivar label: the heading where there is no room for a table. :ivar field: of the result.
    """

    heading: str
    label: str
    field: str


_EXPECTED = Column("Expected", "expected", "expected")
_BARE = (_EXPECTED, Column("Observed", "observed", "observed"), Column("Control", "control", "control"))
_PROBE = (
    _EXPECTED,
    Column("Page under test", "tested", "observed"),
    Column("Control: plain page", "plain", "control"),
    Column("Control: shared page", "shared", "shared"),
)
_WORK = (
    _EXPECTED,
    Column("Guest under test", "tested", "observed"),
    Column("Control: plain guest", "plain", "control"),
)


@dataclass(frozen=True, slots=True)
class Section:
    """The claims of one kind and class.

    :ivar open: whether its claims are shown at first.
    """

    kind: Kind
    threat: Class
    columns: tuple[Column, ...]
    rows: list[Row]
    open: bool

    @property
    def counts(self) -> dict[Status, int]:
        """How many claims have each status."""
        return {status: sum(row.result.status is status for row in self.rows) for status in Status}


def policy_of(style: str) -> str:
    """A policy (Content-Security-Policy) for a page that is one file: its own style, by the hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def to_css() -> str:
    """The page's style."""
    return environment("signoff.report").get_template("signoff.css").render(statuses=STATUS_MEANING)


def environment(package: str) -> Environment:
    """For the templates of a package: what a run says is escaped, and loses its control characters."""
    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )


def to_html(report: Report) -> str:
    """The page as text."""
    templates = environment("signoff.report")
    plain = report.record.mode is Mode.PLAIN
    templates.filters.update(
        clock=clock,
        hexdump=_hexdump,
        run_words=_run_words,
        by_page=_by_page,
        last_byte=_last_byte,
        listed=_list_names,
        first_line=lambda text: text.partition("\n")[0],
    )
    return templates.get_template("signoff.html.j2").render(
        report=report,
        record=report.record,
        overall=report.overall,
        kinds=[
            (kind, title, _PLAIN_PROBES if plain and kind in _PROBES else sentence, sections)
            for kind, (title, sentence) in _KINDS.items()
            if (sections := _sections(report, kind))
        ],
        titles={kind: title for kind, (title, _) in _KINDS.items()},
        tone=_tone(report),
        not_passed=[
            (status, status in _LOUD, rows)
            for status in _WORST_FIRST
            if (rows := [row for row in report.rows if row.result.status is status])
        ],
        pictures=pictures(report.rows),
        fleet=report.fleet,
        shares=shares(report.fleet) if report.fleet else [],
        matrix=matrix(report.fleet) if report.fleet else None,
        sentences={row.claim.id: row.result.sentence for row in report.rows},
        fates=_FATES,
        plain=plain,
        probes=_PROBES,
        no_signoff=NO_SIGNOFF,
        symbols=SYMBOLS,
        statuses=STATUS_MEANING,
        exits={int(code): EXIT_MEANING[code] for code in Exit},
        policy=POLICY,
        lists=LISTS,
        threats=[] if plain else threats(report),
    )


def _sections(report: Report, kind: Kind) -> list[Section]:
    order = list(Class)
    rows = sorted((row for row in report.rows if row.claim.kind is kind), key=lambda row: order.index(row.claim.threat))
    columns: tuple[Column, ...] = _BARE
    if report.record.mode is Mode.PROTECTED and kind is not Kind.HEALTH:
        columns = _PROBE if kind in _PROBES else _WORK
    sections = [(threat, list(group)) for threat, group in groupby(rows, key=lambda row: row.claim.threat)]
    few = len(report.rows) <= FEW
    return [
        Section(kind, threat, columns, group, few or any(row.result.status is not Status.PASS for row in group))
        for threat, group in sections
    ]


def _tone(report: Report) -> str:
    if report.overall.exit_code is Exit.PROVEN:
        # Controls that hold are good news, and yet nothing to sign: not green.
        return "neutral" if report.record.mode is Mode.PLAIN else "good"
    return "bad" if report.overall.exit_code is Exit.FAILED else "open"


def _hexdump(data: str) -> str:
    """Lines of sixteen bytes, each with its offset."""
    pairs = [data[at : at + 2] for at in range(0, len(data), 2)]
    return "\n".join(f"{at:04x}  {' '.join(pairs[at : at + 16])}" for at in range(0, len(pairs), 16))


def _list_names(names: Sequence[str], most: int = 6) -> str:
    """Names separated by commas; of many names only the first, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _last_byte(span: Span) -> int:
    return span.first + span.pages * PAGE_SIZE - 1


def _by_page(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """For each kind of page how the probe ended under test, on the plain control and on the shared one."""

    def words(page: str, group: list[Run]) -> str:
        return "; ".join(dict.fromkeys(f"{_run_words(run)} ({run.state})" for run in group if run.page == page))

    subject = [run for run in runs if run.role == "subject"]
    control = [run for run in runs if run.role != "subject"]
    shared = [run for run in control if run.state == State.SHARED]
    groups = (subject, [run for run in control if run not in shared], shared)
    return [(page, [words(page, group) for group in groups]) for page in dict.fromkeys(run.page for run in runs)]


def _run_words(run: Run) -> str:
    return outcome_words(run.ending, run.leaked, run.page_after)

# SPDX-License-Identifier: GPL-2.0-or-later
"""One run's folder -> the status of each claim, derived from the evidence; and all that does not fit together."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from verifier import bounds, identity, judge, leaks, needs, rows, sweeps
from verifier import contract as contracts
from verifier.contract import Claim
from verifier.judge import Checked, Seen
from verifier.sweeps import Sweep
from verifier.text import UnsoundError, known, lines, parse, same, shown, table
from verifier.tree import Tree

RECORD, CLAIMS, JOURNAL, CONTRACT = "record.json", "claims.jsonl", "journal.jsonl", "contract"
PLANNED = "planned.json"
STATUSES = ("PASS", "FAIL", "ERROR", "MISS", "SKIP")
KILLED = "the run was killed before its end"
UNKNOWN = "the kernel under test and the tier of its host were not identified"
NO_HEALTH = "the contract has no claim about the whole run, so the health of host and guest was not checked"
_MOST = 1 << 20  # bytes that one probe may bring
_DAY = 86400.0  # seconds: no clock is more wrong, nor farther west
_SLACK = 120.0  # seconds between two clocks' readings of one moment
_NO_LOGS = ("evidence", "parts", CONTRACT)
_CLAIM = re.compile(r"[a-z][a-z0-9_]{0,199}")
_RUN = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_RECORD = {
    *(
        "run",
        "started",
        "ended",
        "mode",
        "command",
        "commit",
        "tier",
        "series",
        "kernel",
        "host",
        "problems",
        "machine",
    ),
    *("interrupted", "given_up", "made_of", "durations"),
}
_WHY = {
    "attack": "refused exactly as contracted, and the same probe got through in both controls",
    "boundary": "open, as documented",
    "plain": "the probe gets through where nothing forbids it",
}
"""What a probe's claim says that is PASS."""
_CHAINED = ("number", "time", "event", "previous")
_EVENTS = {
    "begin": ("run", "nonce", "contract"),
    "planted": ("claim", "host", "guest", "page", "state", "gpa", "hva", "hpa", "mapping", "commitment"),
    "claim": ("id", "status", "line", "files"),
    "part": ("run", "sums"),
    "end": ("record", "claims"),
}
"""What each event of the journal has, beside what chains it."""
_LINE = (
    *("id", "sentence", "status", "why", "expected", "observed", "control", "shared", "seconds", "command", "evidence"),
    *("runs", "checks", "maps", "protected", "controlled", "skip", "row"),
)
_CHECK = ("role", "name", "expected", "got")
_MAP = ("guest", "way", "size", "rate", "spans")
_AIM = ("run", "host", "guest", "gpa", "hva", "hpa", "mapping", "planted", "commitment")
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("returned",), (int, type(None))),
    **dict.fromkeys(("errno", "signal", "si_code", "page_after"), (str, type(None))),
    **dict.fromkeys(("got", "leaked"), (int,)),
    **dict.fromkeys(("role", "call", "head", "canary", "data"), (str,)),
    "seen": (int, float),
    "reach": (list,),
}
"""Of which kind the values of an observation are. True and false are none of them."""
_MADE = ("data", "cuts", "canary_key", "canary_bytes")
"""What an observation has in the evidence and not in the journal's line."""
_OBSERVED = (
    *("page", "state", "call", "returned", "errno", "signal", "si_code", "page_after", "data", "cuts", "got", "leaked"),
    *("head", "canary", "reach", "aim", "seen", "role"),
)
_BESIDE = ("si_addr", "facts", *_MADE)
"""What an observation may have besides."""
_KERNEL = (
    *("release", "build_id", "running_build_id", "source", "source_sha256", "config_sha256", "image_sha256"),
    *("vmlinux_sha256", "compiler"),
)
_SICK = re.compile(
    r"Oops:|BUG: |\bkernel BUG at|Kernel panic|general protection fault, |\[ cut here \]|Call Trace:|KASAN: |UBSAN: |"
    r"KCSAN: |kmemleak: \d+ new|list_(?:add|del) corruption|Bad page (?:state|map)|soft lockup|hard LOCKUP|"
    r"INFO: (?:rcu_\w+ (?:self-)?detected|rcu[^\n]* stall)|blocked for more than|refcount_t: |"
    r"possible (?:circular|recursive|irq)[^\n]* lock|(?:^|\] )WARNING: |: [0-9a-fA-F]{4} \[#\d+\]|PANIC: double fault|"
    r"Attempted to kill init|mce: \[Hardware Error\]"
)
"""What a kernel that is not well says on its console."""
_MADE_TO_FAIL = re.compile(
    r"^[^\n]*\bfail-nth: (?:vmalloc error|page allocation failure)[^\n]*\n(?:[^\n]*\n){0,60}?[^\n]*Mem-Info:[^\n]*$",
    re.MULTILINE,
)
"""What warn_alloc() (Linux: mm/page_alloc.c) says of an allocation that a claim has fail, in a program of this name."""
_HARM = re.compile(r"/harm-\d+\.txt$")
"""Evidence of what a probe did to a machine under test."""
_OF_HOST = "/console.log"
_LOGS = (_OF_HOST, "-dmesg.log")
_BANNER = re.compile(r"^[^A-Za-z\n]*Linux version (\S+) \(\S+\) \((.*)\) #", re.MULTILINE)
_TOLD = ("/protected.txt", "/holders.txt")
_HOLDERS = re.compile(r"^\w+: \d+ (private|other) pages$")
_MAPPED = re.compile(r"frames hold the content, +(\d+) mapped by the kernel, +(\d+) by a process")
_STRANGER = re.compile(r"^ +[1-9]\d* mapped by (?!nobody$|its own nested page tables$)")


@dataclass(slots=True)
class Run:
    """A run, derived.

    :ivar contract: the SHA-256 that names it. :ivar claims: the contract, by id.
    :ivar rows: the run's own line for each claim, the last to be put down.
    :ivar status: of each claim, as it is derived. :ivar why: of each that is not PASS.
    :ivar events: of the journal, in order. :ivar sentences: what the run set out to claim, by claim.
    :ivar faults: what is not consistent. :ivar ended: whether the run came to its end.
    """

    tree: Tree
    record: dict[str, Any]
    contract: str
    claims: dict[str, Claim]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    checks: dict[str, list[Checked]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    planted: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    sentences: dict[str, str] = field(default_factory=dict)
    ended: bool = False

    @property
    def mode(self) -> str:
        """How the guest under test was to be protected."""
        return str(self.record["mode"])

    def folders(self, claim: str) -> tuple[str, ...]:
        """Where the evidence of a claim may lie."""
        parts = {name.split("/")[1] for name in self.tree.names if name.startswith("parts/")}
        return (*(f"parts/{part}/evidence/{claim}/" for part in parts), *(() if parts else (f"evidence/{claim}/",)))

    @property
    def logs(self) -> list[str]:
        """Files in folders, but for contract, evidence and parts."""
        return [name for name in self.tree.names if "/" in name and name.partition("/")[0] not in _NO_LOGS]


def record_of(tree: Tree) -> dict[str, Any]:
    """A run's identity.

    :raises UnsoundError: it is none.
    """
    record = table(parse(tree.read(RECORD), RECORD), RECORD, *sorted(_RECORD - {"durations"}))
    if not isinstance(record["run"], str) or not _RUN.fullmatch(record["run"]):
        raise UnsoundError(f"{RECORD}: {shown(record['run'], 60)!r} is no run's name")
    if record["mode"] not in ("plain", "protected") or record["tier"] not in ("emulated", "nested", "bare-metal", None):
        raise UnsoundError(f"{RECORD}: its mode or tier is none")
    if strange := set(record) - _RECORD:
        raise UnsoundError(f"{RECORD} has {shown(min(strange), 40)}, which no record has")
    told = [isinstance(record[name], dict) for name in ("host", "made_of")]
    told += [isinstance(record["interrupted"], bool), isinstance(record["given_up"], str)]
    told += [isinstance(value, str) for name in ("host", "made_of") for value in dict(record[name]).values()]
    if not all(told) or not isinstance(record["problems"], list):
        raise UnsoundError(f"{RECORD}: host, problems, its end or made_of are not what they must be")
    if record["kernel"] is not None:
        kernel = table(record["kernel"], f"{RECORD}: kernel", *_KERNEL, "patches")
        known(kernel, f"{RECORD}: kernel", (*_KERNEL, "patches"))
        if not isinstance(kernel["patches"], list) or not all(isinstance(kernel[name], str) for name in _KERNEL):
            raise UnsoundError(f"{RECORD}: the kernel is not told as it must be")
        for one in kernel["patches"]:
            known(table(one, f"{RECORD}: a patch", "name", "sha256"), f"{RECORD}: a patch", ("name", "sha256"))
    if not all(
        isinstance(record[name], str) for name in ("started", "ended", "command", "commit", "series", "machine")
    ):
        raise UnsoundError(f"{RECORD}: it has something else where a text must be")
    if not all(_is_number(one) and one >= 0 for one in table(record.get("durations", {}), RECORD).values()):
        raise UnsoundError(f"{RECORD}: its durations are none")
    return record


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def series_of(record: dict[str, Any]) -> str:
    """What names a series: the SHA-256 of its patches' lines, as ``sha256sum`` prints them."""
    kernel = record["kernel"] or {"patches": []}
    lines = "".join(f"{one.get('sha256')}  {one.get('name')}\n" for one in kernel["patches"])
    return hashlib.sha256(lines.encode()).hexdigest()


def opened(tree: Tree) -> Run:
    """A run with its record and its contract, of which nothing is derived yet.

    :raises UnsoundError: they cannot be read.
    """
    contract = tree.below(CONTRACT)
    sentences = table(parse(tree.read(PLANNED), PLANNED), PLANNED)
    if not all(isinstance(words, str) for words in sentences.values()):
        raise UnsoundError(f"{PLANNED}: a sentence is no text")
    return Run(tree, record_of(tree), contracts.sha256(contract), contracts.load(contract), sentences=sentences)


def derive(tree: Tree) -> Run:
    """Derive a run from its evidence.

    :raises UnsoundError: it cannot be read at all. Smaller faults are in the result.
    """
    run = opened(tree)
    chain(run)
    run.faults += bounds.record(run.record)
    if run.ended:
        run.faults += [*identity.told(run.record), *identity.kept(tree, run.record)]
    host = rows.facts(run.record)
    for name, claim in run.claims.items():
        row = run.rows.get(name)
        run.claims[name] = claim if row is None else _as_judged(run, claim, row, host)
        _settle(run, run.claims[name], row)
    _strays(run)
    _once(run)
    _planned(run)
    return run


def _once(run: Run) -> None:
    """Each page was planted for one claim, and two pages at a time are in two frames of the host."""
    of_claim: dict[bytes, str] = {}
    for name, each in run.seen.items():
        for number, one in enumerate(each):
            if of_claim.setdefault(one.canary, name) != name:
                run.faults.append(
                    f"{name}: the {one.page} page ({one.state}) is the page of two claims: {of_claim[one.canary]}"
                )
            # A probe that moves a page leaves its frame to others.
            if any(_in_one_frame(one, other) for other in each[:number]):
                run.faults.append(f"{name}: at {one.hpa:#x} one frame of the host holds two pages")


def _in_one_frame(one: Seen, other: Seen) -> bool:
    """Whether two pages were in one frame of the host from the same time on until both probes were over."""
    pages = [(each.guest, each.gpa) for each in (one, other)]
    together = one.planted <= other.over and other.planted <= one.over
    return (one.host, one.hpa) == (other.host, other.hpa) and pages[0] != pages[1] and together


def _strays(run: Run) -> None:
    """What an attack brought must not be of another claim's private page either."""
    blocks: dict[bytes, str] = {}
    for name, each in run.seen.items():
        for one in each:
            if one.state == "private":
                blocks |= {one.canary[at : at + 8]: name for at in range(0, contracts.PAGE, 8)}
    for name, each in run.seen.items():
        if run.mode != "protected" or run.claims[name].kind != "attack" or run.status[name] == "FAIL":
            continue
        for data in (one.data for one in each if one.role == "subject" and len(set(one.data)) > 1):
            there = {blocks.get(data[at : at + 8], name) for at in range(len(data) - 7)} - {name}
            if there:
                why = f"bytes of a private page leaked, which {min(there)} has planted"
                run.faults.append(f"{name}: it says {run.status[name]}, and the evidence gives FAIL: {why}")
                run.status[name], run.why[name] = "FAIL", why
                break


def _planned(run: Run) -> None:
    """What each claim says in words, and how to try it again, is what the run set out with."""
    for name in run.sentences.keys() - run.claims.keys():
        if f"test_{name} has no entry in the contract" not in run.record["problems"]:
            run.faults.append(f"{PLANNED} names {shown(name, 60)}, which is not in the contract")
    for name, row in run.rows.items():
        if row.get("sentence") not in (run.sentences.get(name), name.replace("_", " ").capitalize() + "."):
            run.faults.append(f"{shown(name, 100)}: it says {shown(row.get('sentence'), 80)!r}, which was not planned")
        if row.get("command") not in ("", f"{run.record['command']} -k test_{name}"):
            run.faults.append(f"{shown(name, 100)}: its command is not that of the run")
    for name, words in run.sentences.items() if run.mode == "protected" else ():
        named = [one.sentence for one in run.claims[name].needs] if name in run.claims else []
        if named and words not in named:
            run.faults.append(f"{PLANNED}: {name} claims {shown(words, 90)!r}, and the contract {named[0]!r}")


def _as_judged(run: Run, claim: Claim, row: dict[str, Any], host: dict[str, str]) -> Claim:
    """The claim with the outcomes by which its line was judged, which must be those for the host.

    What was not tried may have been put down before the host was known.
    """
    told = claim.named(str(row.get("row")))
    due = claim.at(host)
    if told.row != due.row and (row.get("status") in ("PASS", "FAIL") or row.get("runs")):
        due_words, told_words = (f"that for {one.row}" if one.row else "the default" for one in (due, told))
        run.faults.append(f"{claim.id}: its outcome on this host is {due_words}, and it was judged by {told_words}")
        return due
    return told


def chain(run: Run) -> None:
    """Hold journal, lines and evidence against one another; what does not fit is a fault."""
    _lines(run, _journal(run))


def _journal(run: Run) -> list[dict[str, Any]]:
    """The journal's events, in order; what does not fit is a fault."""
    previous, events, clock = "0" * 64, [], 0.0
    content = run.tree.read(JOURNAL)
    for number, (line, event) in enumerate(zip(content.split(b"\n"), lines(content, JOURNAL), strict=False)):
        table(event, f"{JOURNAL}, line {number + 1}", "number", "time", "event", "previous")
        if event["previous"] != previous or event["number"] != number:
            raise UnsoundError(f"{JOURNAL}: line {number + 1} does not follow the line before it")
        if not _is_number(event["time"]) or event["time"] < clock:
            raise UnsoundError(f"{JOURNAL}: line {number + 1} is of an earlier time than the line before it")
        previous, clock = hashlib.sha256(line).hexdigest(), event["time"]
        events.append(event)
    names = [event["event"] for event in events]
    if not events or names[0] != "begin" or names.count("begin") != 1 or "end" in names[:-1]:
        raise UnsoundError(f"{JOURNAL} does not begin and end as a run does")
    first, last = events[0], events[-1]
    if not re.fullmatch(r"[0-9a-f]{32}", str(first.get("nonce"))):
        run.faults.append(f"{JOURNAL} has no nonce of its host")
    if first.get("run") != run.record["run"] or first.get("contract") != run.contract:
        run.faults.append(f"{JOURNAL} is of another run or another contract")
    cut_short = not run.record["ended"] or run.record["interrupted"] or run.record["given_up"]
    run.ended = last["event"] == "end" and not cut_short
    if last["event"] == "end":
        for what, file in (("record", RECORD), ("claims", CLAIMS)):
            if last.get(what) != run.tree.sha256(file):
                run.faults.append(f"{file} is not as it was at the run's end")
    _times(run, first["time"], last["time"])
    run.events = events
    if strange := {str(event["event"]) for event in events} - _EVENTS.keys():
        run.faults.append(f"{JOURNAL} has {shown(min(strange), 40)}, which is no event of a run")
    for event in events:
        if (kind := str(event["event"])) in _EVENTS:
            known(event, f"{JOURNAL}: {kind}", (*_CHAINED, *_EVENTS[kind]))
        if event["event"] == "planted":
            if not _is_planted(event):
                run.faults.append(f"{JOURNAL}: line {event['number'] + 1} plants no page of a claim")
            run.planted.setdefault((str(event.get("claim")), str(event.get("commitment"))), []).append(event)
    return events


def _is_planted(event: dict[str, Any]) -> bool:
    """Whether a page was planted for a claim, where a page can be."""
    claim, mapping = event.get("claim"), event.get("mapping")
    if not isinstance(claim, str) or not _CLAIM.fullmatch(claim) or not isinstance(mapping, list) or len(mapping) != 2:
        return False
    places = [event.get(name) for name in ("gpa", "hva", "hpa")] + mapping
    digits = [(event.get("host"), 32), (event.get("commitment"), 64)]
    return (
        event.get("page") in contracts.PAGES
        and event.get("state") in ("plain", "private", "shared")
        and all(isinstance(one, str) and re.fullmatch(r"0x(?:0|[1-9a-f][0-9a-f]{0,15})", one) for one in places)
        and all(isinstance(one, str) and re.fullmatch(rf"[0-9a-f]{{{size}}}", one) for one, size in digits)
        and bounds.is_guest(event.get("guest"))
    )


def _times(run: Run, first: float, last: float) -> None:
    """The record's times, and the one in the run's name, are those of the journal."""
    for name, there in (("started", first), ("ended", last)):
        told = run.record[name]
        if told == "" and name == "ended":
            continue
        if (moment := moment_of(told)) is None or abs(moment.timestamp() - there) > _SLACK:
            run.faults.append(f"{RECORD}: {name} {shown(told, 40)} is not the time of the journal")
    if last > time.time() + _DAY:
        run.faults.append(f"{JOURNAL} ends on {datetime.fromtimestamp(last, UTC):%Y-%m-%d}, which has not come yet")
    named = datetime.strptime(run.record["run"][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if not (run.tree.sizes.keys() & {"fleet.json"}) and abs(named.timestamp() - first) > _SLACK:
        run.faults.append(f"{RECORD}: the run's name is of another time than its journal")


def moment_of(text: object) -> datetime | None:
    """A time of a report; None if it is none."""
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _lines(run: Run, events: Sequence[dict[str, Any]]) -> None:
    """Each claim's line is the journal's, with the evidence that it had then; and there is no other."""
    content = run.tree.read(CLAIMS)
    texts = content.split(b"\n")[:-1]
    rows = lines(content, CLAIMS)
    ends = [event for event in events if event["event"] == "claim"]
    if len(rows) != len(ends):
        run.faults.append(f"{CLAIMS} has {len(rows)} lines, and the journal {len(ends)} claims")
    kept: set[str] = set()
    for text, row, event in zip(texts, rows, ends, strict=False):
        name = shown(row.get("id"), 100)
        if hashlib.sha256(text).hexdigest() != event.get("line") or row.get("id") != event.get("id"):
            run.faults.append(f"{CLAIMS}: the line of {name} differs from the journal's")
        if name not in run.claims:
            run.faults.append(f"{CLAIMS}: {name} is not in the contract")
        elif name in run.rows:
            run.faults.append(f"{CLAIMS}: {name} stands there twice")
        files = event.get("files")
        if not isinstance(files, dict) or list(files) != row.get("evidence"):
            run.faults.append(f"{name}: its evidence is not what the journal lists")
            files = {}
        for file, wanted in files.items():
            if file not in run.tree or run.tree.sha256(file) != wanted:
                run.faults.append(f"{shown(file)} was changed or taken away after the claim was judged")
            if not file.startswith(run.folders(name)):
                run.faults.append(f"{name}: {shown(file)} is not in the claim's folder")
            if file in kept:
                run.faults.append(f"{shown(file)} is the evidence of two claims")
            kept.add(file)
        known(row, f"{CLAIMS}: {name}", _LINE)
        if not sweeps.are_maps(row.get("maps")):
            raise UnsoundError(f"{CLAIMS}: {name}: its maps are of more pages than any guest has, or are none")
        length = events[-1]["time"] - events[0]["time"] + _SLACK
        if not _is_number(row.get("seconds")) or not 0 <= row["seconds"] <= length:
            run.faults.append(
                f"{CLAIMS}: {name}: it took {shown(row.get('seconds'), 40)} s, of a run of {length:.0f} s"
            )
        run.rows[str(row.get("id"))] = {**row, "_time": event["time"]}
    strange = [file for file in run.tree.names if file.startswith("evidence/") and file not in kept]
    if strange:
        run.faults.append(f"evidence that no claim has: {shown(', '.join(strange[:3]))}")


def _settle(run: Run, claim: Claim, row: dict[str, Any] | None) -> None:
    """The claim's status: what its evidence gives, and nothing better than what the run itself said."""
    if row is None:
        status, why = "MISS", "the run has no line for it"
        if run.ended:
            run.faults.append(f"{CLAIMS}: {claim.id} is missing")
    else:
        said = row.get("status")
        if said not in STATUSES:
            raise UnsoundError(f"{CLAIMS}: {claim.id} has the status {shown(said, 40)}, which is none")
        status, why = _held_against(run, claim, row, str(said))
    run.status[claim.id], run.why[claim.id] = status, why


def _held_against(run: Run, claim: Claim, row: dict[str, Any], said: str) -> tuple[str, str]:
    try:
        table(row, "its line", "sentence", "runs", "checks", "maps", "evidence", "protected", "controlled")
        found, why = _from_evidence(run, claim, row)
        if harm := [name for name in row["evidence"] if _HARM.search(name)]:
            found, why = "FAIL", f"the probe did harm: {harm[0]}"
        fault = "" if found != "PASS" else _beside(run, claim)
        lacking = "" if found != "PASS" or fault else _needed(run, claim, row)
    except UnsoundError as error:
        run.faults.append(f"{claim.id}: {error}")
        return "MISS", str(error)
    if fault or lacking:
        found, why = ("FAIL", fault) if fault else ("MISS", lacking)
    if said == "FAIL" or found == "FAIL":
        if said != found:
            run.faults.append(f"{claim.id}: it says {said}, and the evidence gives {found}{f': {why}' if why else ''}")
        return "FAIL", why or str(row.get("why", ""))
    if said == "PASS" and found != "PASS":
        run.faults.append(f"{claim.id}: it says PASS, and the evidence gives {found}: {why}")
        return found, why
    if said == "SKIP":
        return _skipped(run, claim, row)
    if said == "PASS":
        if row.get("skip"):
            run.faults.append(f"{claim.id}: it is PASS and names a condition for SKIP, {shown(row['skip'], 40)!r}")
        for name, words in _words(run, claim).items():
            if row.get(name) != words:
                run.faults.append(
                    f"{claim.id}: {name} is {shown(row.get(name), 80)!r}, and the evidence gives {words!r}"
                )
    return said, str(row.get("why", ""))


def _needed(run: Run, claim: Claim, row: dict[str, Any]) -> str:
    """How the evidence is not as the contract names it; empty if it is. In mode plain it is another."""
    if run.mode == "plain":
        return ""
    seen = [(one.role, one.state, one.page, one.call) for one in run.seen.get(claim.id, ())]
    checks = [(one.role, one.name, one.expected) for one in run.checks.get(claim.id, ())]
    fault = needs.fault(claim.needs, row, seen, checks)
    return f"its evidence is not what the contract says: {fault}" if fault else ""


def _skipped(run: Run, claim: Claim, row: dict[str, Any]) -> tuple[str, str]:
    if not claim.skip:
        run.faults.append(f"{claim.id}: it says SKIP, which the contract does not allow")
        return "MISS", "SKIP is not allowed by the contract"
    kernel = rows.facts(run.record).get("kernel", "")
    cases = [one for one in claim.skip if contracts.holds(one, run.record["tier"], run.record["host"], kernel)]
    if not cases:
        words = " or ".join(f"'{one}'" for one in claim.skip)
        run.faults.append(f"{claim.id}: it says SKIP for {words}, which is not the case on this host")
        return "MISS", f"the contract allows SKIP for {words}, which is not the case"
    if (row.get("why"), row.get("skip")) != (claim.skip[cases[0]], cases[0]) or row["evidence"]:
        run.faults.append(f"{claim.id}: it says SKIP, and {shown(row.get('why'), 80)!r} or its evidence is of no SKIP")
    of_none: dict[str, Any] = {
        **dict.fromkeys(("observed", "control", "shared"), ""),
        "protected": None,
        "controlled": False,
    }
    of_none |= {"expected": claim.expected(run.mode), "runs": [], "checks": [], "maps": []}
    for name, nothing in of_none.items():
        if not same(row.get(name), nothing):
            run.faults.append(f"{claim.id}: it says SKIP, and its {name} is {shown(row.get(name), 80)!r}")
    return "SKIP", str(row.get("why", ""))


def _from_evidence(run: Run, claim: Claim, row: dict[str, Any]) -> tuple[str, str]:
    folder = f"evidence/{claim.id}"
    if any(not isinstance(one, dict) or one.get("role") not in ("subject", "control") for one in row["runs"]):
        raise UnsoundError("a run in its line is neither the subject's nor the control's")
    if claim.probe:
        seen = [one for role in ("subject", "control") for one in _observations(run, claim, row, role)]
        run.seen[claim.id] = seen
        return judge.probes(claim, run.mode, seen)
    found = [one for role in ("subject", "control") for one in _checks(run, f"{folder}/checks-{role}.jsonl", role)]
    for one in row["checks"]:
        known(table(one, "a check in its line"), "a check in its line", (*_CHECK, "right"))
    told = [(one.role, one.name, one.expected, one.got, one.got == one.expected) for one in found]
    if told != [tuple(one.get(name) for name in ("role", "name", "expected", "got", "right")) for one in row["checks"]]:
        raise UnsoundError("the checks in its line are not those of its evidence")
    run.checks[claim.id] = found
    protected, controlled = row.get("protected"), row.get("controlled")
    if protected not in (True, False, None) or not isinstance(controlled, bool):
        raise UnsoundError("its line does not say whether the guest was protected and a control was there")
    if not controlled and any(one.role == "control" for one in found):
        raise UnsoundError("it has a control, and says that it has none")
    return judge.checks(run.mode, found, protected=protected, controlled=controlled)


def _observations(run: Run, claim: Claim, row: dict[str, Any], role: str) -> Iterator[Seen]:
    """What is kept of a claim's probes, each held against the journal and against its own data."""
    name = f"evidence/{claim.id}/{role}.jsonl"
    kept = lines(run.tree.read(name), name) if name in run.tree else []
    told = [one for one in row["runs"] if isinstance(one, dict) and one.get("role") == role]
    bare = [{key: value for key, value in one.items() if key not in _MADE} for one in kept]
    if bare != told:
        raise UnsoundError(f"the {role}'s runs in its line are not those of {name}")
    for one in kept:
        yield _observation(run, claim, row, one)


def _observation(run: Run, claim: Claim, row: dict[str, Any], one: dict[str, Any]) -> Seen:
    known(table(one, "an observation", *_OBSERVED), "an observation", (*_OBSERVED, *_BESIDE))
    for name, kinds in _KINDS.items():
        if not isinstance(one[name], kinds) or isinstance(one[name], bool):
            raise UnsoundError(f"an observation's {name}, {shown(one[name], 40)!r}, is not of the kind that it must be")
    if len(one["data"]) > 2 * _MOST:
        raise UnsoundError(f"an observation has {len(one['data']) // 2} bytes, which no probe brings")
    try:
        data = bytes.fromhex(one["data"])
        if data.hex() != one["data"]:
            raise ValueError("its bytes are not written as they are kept")
        canary = leaks.canary_of(bytes.fromhex(one["canary_key"])) if "canary_key" in one else bytes.fromhex(
            one["canary_bytes"]
        )  # fmt: skip
        aim = table(one["aim"], "an aim", *_AIM)
        known(aim, "an aim", _AIM)
        words = (aim["gpa"], aim["hva"], aim["hpa"], *aim["mapping"])
        gpa, hva, hpa, first, end = (int(word, 16) for word in words)
        cuts = one["cuts"]
        if any(type(cut) is not int or not 0 <= cut <= len(data) for cut in cuts) or cuts != sorted(cuts):
            raise ValueError("its cuts are none")
        if (at := one.get("si_addr")) is not None and hex(int(at, 16)) != at:
            raise ValueError("si_addr is no address")
        if not all(isinstance(word, str) for name, value in one.get("facts", ()) for word in (name, value)):
            raise ValueError("a fact is no text")
        planted, over = float(aim["planted"]), float(one["seen"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnsoundError(f"an observation is not as it must be: {shown(error, 80)}") from error
    if strange := [word for word in words if hex(int(word, 16)) != word]:
        raise UnsoundError(f"{shown(strange[0], 40)!r} is not written as addresses are")
    place = f"the {shown(one['page'], 20)} page ({shown(one['state'], 20)})"
    if one["page"] not in contracts.PAGES or one["state"] not in ("plain", "private", "shared"):
        raise UnsoundError(f"{place} is of no kind or state that there is")
    if len(canary) != contracts.PAGE or hashlib.sha256(canary).hexdigest()[:16] != one["canary"]:
        raise UnsoundError(f"{place}: what was revealed is not its canary")
    if len(set(canary)) < 64:  # of 4,096 random bytes nearly all 256 values are there
        raise UnsoundError(f"{place}: its canary is not random")
    if any(at % contracts.PAGE for at in (gpa, hva, hpa)) or not hva or not hpa or not first <= hva < end:
        raise UnsoundError(f"{place}: its addresses are not those of a page that QEMU has mapped")
    if not all(any(re.search(rf"{at:#x}(?![0-9a-f])", str(text)) for text in one["reach"]) for at in (gpa, hva)):
        raise UnsoundError(f"{place}: what is said of its place names other addresses")
    bound = (aim["run"], aim["host"], aim["guest"], one["page"], one["state"], hex(gpa))
    commitment = hashlib.sha256("\0".join(map(str, bound)).encode() + b"\0" + canary).hexdigest()
    if aim["run"] != run.record["run"]:
        raise UnsoundError(f"{place}: it is of the run {shown(aim['run'], 40)}, not of this one")
    if commitment != aim["commitment"]:
        raise UnsoundError(f"{place}: its canary, host, guest or address is not what was committed to")
    wanted = {key: aim[key] for key in ("host", "guest", "gpa", "hva", "hpa", "mapping")}
    wanted |= {"page": one["page"], "state": one["state"], "time": planted}
    events = run.planted.get((claim.id, commitment), [])
    if not any(all(event.get(key) == value for key, value in wanted.items()) for event in events):
        raise UnsoundError(f"{place}: the journal does not say that it was planted for this claim before the probe")
    if not planted <= over <= row["_time"] + 1:
        raise UnsoundError(f"{place}: the probe was not over between planting the page and judging the claim")
    if fault := bounds.reach(one):
        raise UnsoundError(f"{place}: {fault}")
    leaked = leaks.counted(canary, data, cuts)
    if (one["got"], one["leaked"], one["head"]) != (len(data), leaked, data[:64].hex() if leaked else ""):
        raise UnsoundError(f"{place}: {len(data)} bytes are kept, {leaked} of the canary's; its line says otherwise")
    return Seen(
        role=one["role"],
        page=one["page"],
        state=one["state"],
        call=str(one["call"]),
        returned=one["returned"],
        errno=one["errno"],
        signal=one["signal"],
        si_code=one["si_code"],
        page_after=one["page_after"],
        data=data,
        leaked=leaked,
        canary=canary,
        host=str(aim["host"]),
        guest=str(aim["guest"]),
        gpa=gpa,
        hpa=hpa,
        planted=planted,
        over=over,
    )


def _checks(run: Run, name: str, role: str) -> Iterator[Checked]:
    for one in lines(run.tree.read(name), name) if name in run.tree else ():
        known(table(one, "a check", *_CHECK), "a check", _CHECK)
        if one["role"] != role or not all(isinstance(one[key], str) for key in ("name", "expected", "got")):
            raise UnsoundError(f"{name} has a check that is none of the {role}'s")
        yield Checked(role, one["name"], one["expected"], one["got"])


def _beside(run: Run, claim: Claim) -> str:
    """What else the evidence of a claim shows: sweeps of all pages, logs of kernels. Empty if all is well."""
    if fault := _sweeps(run, claim) or _moments(run, claim):
        return fault
    if claim.kind != "health":
        return ""
    names = [name for name in run.rows[claim.id]["evidence"] if name.endswith(_LOGS)]
    if not names:
        raise UnsoundError("no log of a kernel is kept with it")
    for name in names:
        log = _MADE_TO_FAIL.sub("", run.tree.read(name).decode("utf-8", "replace"))
        for line in log.splitlines():
            if _SICK.search(line):
                return f"{name}: {shown(line, 120)}"
        _of_the_kernel(run, name, log)
    return ""


def _of_the_kernel(run: Run, name: str, log: str) -> None:
    """The log begins with the kernel that the record names (Linux: init/version-timestamp.c, linux_banner).

    :raises UnsoundError: it does not.
    """
    kernel = run.record["kernel"] or {}
    found = _BANNER.findall(log)
    cut = "machine" not in run.record["host"] and not _BANNER.match(log.lstrip())
    if not found or cut:
        raise UnsoundError(f"{name} does not begin where the kernel does: what came before is not kept")
    for release, compiler in found:
        if kernel and (release != kernel["release"] or not bounds.made_by(kernel["compiler"], compiler)):
            raise UnsoundError(f"{name} is of Linux {shown(release, 40)} by {shown(compiler, 60)}, not the record's")
    if name.endswith(_OF_HOST) and (fault := bounds.log(run.record["host"], log)):
        raise UnsoundError(f"{name}: {fault}")


def _sweeps(run: Run, claim: Claim) -> str:
    """Whether the sweeps that are kept with a claim, and its pictures of memory, show nothing that leaked.

    :raises UnsoundError: they are not those that its checks and its pictures are of.
    """
    row = run.rows[claim.id]
    found: dict[str, Sweep] = {}
    for name in row["evidence"]:
        if name.endswith(".json"):
            guest, _, way = PurePosixPath(name).stem.partition(".")
            if guest in found:
                raise UnsoundError(f"{name} is a second sweep of guest {shown(guest, 40)}")
            found[guest] = sweeps.read(parse(run.tree.read(name), name), name)
            if way and way != found[guest].way:
                raise UnsoundError(f"{name} is a sweep by {shown(found[guest].way, 40)}")
    maps = [table(one, "a map", *_MAP) for one in row.get("maps", ())]
    for one in maps:
        known(one, "a map", _MAP)
    guests = [str(one["guest"]) for one in maps]
    if lacking := set(guests) - set(found):
        raise UnsoundError(f"the sweep of guest {shown(min(lacking), 40)} is not kept")
    if len(set(guests)) != len(guests) or (guests and set(guests) != set(found)):
        raise UnsoundError("its pictures of memory are not one for each sweep that is kept")
    for guest, one in zip(guests, maps, strict=True):
        sweep = found[guest]
        if (sweep.way, sweep.size, sweep.spans) != (one["way"], one["size"], one["spans"]):
            raise UnsoundError(f"the map of guest {shown(guest, 40)} is not what its sweep brought")
    checks = run.checks.get(claim.id, [])
    of_role = {True: "subject", False: "control"} if run.mode == "protected" else {False: "subject"}
    for protected, role in of_role.items():
        swept = any(one.role == role and one.name in sweeps.CHECKS for one in checks)
        if found and swept and protected not in [one.protected for one in found.values()]:
            raise UnsoundError(f"the sweep that the {role}'s checks are of is not kept")
    for guest, sweep in found.items():
        role = of_role.get(sweep.protected, "subject")
        if fault := sweep.fault([one for one in checks if one.role == role]) or _small(run, guest, sweep):
            return fault
    for guest, one in zip(guests, maps, strict=True):
        if not same(found[guest].rate, one["rate"]):
            raise UnsoundError(f"the speed of guest {shown(guest, 40)}'s map is not what its sweep brought")
    return ""


def _small(run: Run, guest: str, sweep: Sweep) -> str:
    """Whether a sweep is of less memory than the record says that the guest has; empty if it is not."""
    told = re.search(rf"(?:^|, ){re.escape(guest)} \((\d+) MiB\)", str(run.record["host"].get("guests", "")))
    pages = int(told[1]) << 8 if told else 0
    if len(sweep.fates) < pages:
        return f"the sweep is of {len(sweep.fates)} pages, and guest {shown(guest, 40)} has {pages}"
    return ""


def _moments(run: Run, claim: Claim) -> str:
    """Whether texts that tell where a protected guest's private content was mapped name anybody but the guest."""
    for name in run.rows[claim.id]["evidence"]:
        if not name.endswith(_TOLD) or run.mode == "plain":
            continue
        mine = True
        for line in run.tree.read(name).decode("utf-8", "replace").splitlines():
            if head := _HOLDERS.match(line):
                mine = head[1] == "private"
            elif ((found := _MAPPED.search(line)) and any(int(number) for number in found.groups())) or (
                mine and _STRANGER.search(line)
            ):
                return f"{name}: {shown(line, 120)}"
    return ""


def _words(run: Run, claim: Claim) -> dict[str, str]:
    """What the report says in a few words of a claim that is PASS."""
    if not claim.probe:
        found = run.checks[claim.id]
        shown_control = judge.words_of_checks([one for one in found if one.role == "control"])
        controlled = run.rows[claim.id]["controlled"]
        return {
            "expected": "right in every check",
            "observed": judge.words_of_checks([one for one in found if one.role == "subject"]),
            "control": shown_control if controlled else "",
            "shared": "",
            "why": "works",
        }
    seen = run.seen[claim.id]
    control = [one for one in seen if one.role == "control"]
    state = "private" if run.mode == "protected" else "plain"
    return {
        "expected": claim.by_state[state].words,
        "observed": judge.words_of([one for one in seen if one.role == "subject"]),
        "control": judge.words_of([one for one in control if one.state != "shared"]),
        "shared": judge.words_of([one for one in control if one.state == "shared"]),
        "why": _WHY[run.mode if run.mode == "plain" else claim.kind],
    }


def problems(run: Run) -> list[str]:
    """What makes a run as a whole no proof, by the run's own word or by what is missing."""
    found = [str(one) for one in run.record["problems"]]
    if not run.ended:
        found.append(KILLED)
    if run.record["kernel"] is None or run.record["tier"] is None:
        found.append(UNKNOWN)
    if not any(claim.kind == "health" for claim in run.claims.values()):
        found.append(NO_HEALTH)
    return list(dict.fromkeys(found))


def word(claims: dict[str, Claim], status: dict[str, str], mode: str, whole: Sequence[str]) -> str:
    """The verdict on all claims.

    :param whole: what makes the run as a whole no proof.
    """
    failed = [claims[name].kind for name, one in status.items() if one == "FAIL"]
    if failed:
        if mode == "plain":
            return "CONTROLS BROKEN"
        return "NOT PROTECTED" if any(kind in contracts.PROTECTION for kind in failed) else "NOT USABLE"
    attacks = [status[name] for name, claim in claims.items() if claim.kind == "attack"]
    open_ = any(
        one in ("ERROR", "MISS") or (one == "SKIP" and claims[name].kind == "health") for name, one in status.items()
    )
    if open_ or whole or "PASS" not in attacks or 2 * attacks.count("SKIP") > len(attacks):
        return "NOT PROVEN"
    return "CONTROLS HOLD" if mode == "plain" else "PROTECTED"

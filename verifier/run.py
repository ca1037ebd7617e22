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

from verifier import beside, bounds, identity, judge, leaks, needs, rows, sweeps
from verifier import contract as contracts
from verifier.contract import Claim
from verifier.judge import CheckResult, Probe
from verifier.sweeps import Sweep
from verifier.text import UnsoundError, check_names, legible, lines, parse, same, table
from verifier.tree import Tree

RECORD, CLAIMS, JOURNAL, CONTRACT = "record.json", "claims.jsonl", "journal.jsonl", "contract"
PLANNED = "planned.json"
STATUSES = ("PASS", "FAIL", "ERROR", "MISS", "SKIP")
KILLED = "the run was killed before its end"
UNKNOWN = "the kernel under test and the tier of its host were not identified"
NO_HEALTH = "the contract has no claim about the whole run, so the health of host and guest was not checked"
_MOST = 1 << 20  # bytes that one probe may bring
_DAY = 86400.0  # seconds: no clock is more wrong, nor farther west
SLACK = 120.0  # seconds between two clocks' readings of one moment
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
_EVIDENCE_ALONE = ("data", "cuts", "canary_key", "canary_bytes")
"""What an observation has in the evidence and not in the journal's line."""
_OBSERVED = (
    *("page", "state", "call", "returned", "errno", "signal", "si_code", "page_after", "data", "cuts", "got", "leaked"),
    *("head", "canary", "reach", "aim", "seen", "role"),
)
_BESIDE = ("si_addr", "facts", *_EVIDENCE_ALONE)
"""What an observation may have besides."""
_KERNEL = (
    *("release", "build_id", "running_build_id", "source", "source_sha256", "config_sha256", "image_sha256"),
    *("vmlinux_sha256", "compiler"),
)
_TRACE = "Call Trace:"
_SICK = re.compile(
    r"Oops:|BUG: |\bkernel BUG at|Kernel panic|general protection fault, |\[ cut here \]|Call Trace:|KASAN: |UBSAN: |"
    r"KCSAN: |kmemleak: \d+ new|list_(?:add|del) corruption|Bad page (?:state|map)|soft lockup|hard LOCKUP|"
    r"INFO: (?:rcu_\w+ (?:self-)?detected|rcu[^\n]* stall)|blocked for more than|refcount_t: |"
    r"possible (?:circular|recursive|irq)[^\n]* lock|(?:^|\] )WARNING: |: [0-9a-fA-F]{4} \[#\d+\]|PANIC: double fault|"
    r"Attempted to kill init|mce: \[Hardware Error\]"
)
"""What a kernel that is not well says on its console."""
_DEAD = re.compile(
    r"Oops: |BUG: unable to handle|BUG: kernel NULL|kernel BUG at|Kernel panic|: [0-9a-fA-F]{4} \[#\d+\]|"
    r"PANIC: double fault|Attempted to kill init"
)
"""What a kernel says that dies (Linux: kernel/panic.c, arch/x86/kernel/dumpstack.c)."""
_CRASHED = "Kernel panic - not syncing: sysrq triggered crash"
"""What a host says that a claim has crash, and a second kernel after it."""
_MADE_TO_FAIL = re.compile(
    r"^[^\n]*\bfail-nth: (?:vmalloc error|page allocation failure)[^\n]*\n(?:[^\n]*\n){0,60}?[^\n]*Mem-Info:[^\n]*$|"
    r"^[^\n]*\bpast-limit invoked oom-killer: [^\n]*\n(?:[^\n]*\n){0,250}?"
    r"[^\n]*Memory cgroup out of memory: Killed process [0-9]+ \(past-limit\)[^\n]*$",
    re.MULTILINE,
)
"""What Linux reports of programs with these names, which are a claim's: an allocation that the claim has fail
(mm/page_alloc.c, warn_alloc()), and a VMM that uses more than its memory cgroup may have (mm/oom_kill.c)."""
_HARM = re.compile(r"/harm-\d+\.txt$")
"""Evidence of what a probe did to a machine under test."""
_OF_HOST = "/console.log"
_LOGS = (_OF_HOST, "-dmesg.log")
_CONSOLE = re.compile(r"hosts/[^/]+/console[^/]*\.log")
_BANNER = re.compile(r"^[^A-Za-z\n]*Linux version (\S+) \(\S+\) \((.*)\) #", re.MULTILINE)
_ACCOUNTS = ("/protected.txt", "/holders.txt")
_TRACER = "# tracer: "  # how a trace of the kernel's begins, which tells of no moment
_ANOTHER = "another-"
"""What the name of a guest begins with that a claim starts beside one of the host's, as large as that one or larger."""
_FIRMWARE = 4 << 20  # bytes at most that a guest has beside its memory (OVMF's, the largest)
_FASTEST = 1e-8  # seconds: no processor tries a page in less, which takes a call of the kernel
_CLOCKS = 60.0  # seconds that a host's clock may gain on this computer's meanwhile
_HOLDERS = re.compile(r"^\w+: \d+ (private|other) pages$")
_MAPPED = re.compile(r"frames hold the content, +(\d+) mapped by the kernel, +(\d+) by a process")
_PAGES_TOLD = re.compile(r"^ *\S+ s: +[1-9]\d* frames hold the content,|^\w+: [1-9]\d* private pages$", re.MULTILINE)
"""That such a text tells of a page."""
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
    probes: dict[str, list[Probe]] = field(default_factory=dict)
    checks: dict[str, list[CheckResult]] = field(default_factory=dict)
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

    :raises UnsoundError: the record is not valid.
    """
    record = table(parse(tree.read(RECORD), RECORD), RECORD, *sorted(_RECORD - {"durations"}))
    if not isinstance(record["run"], str) or not _RUN.fullmatch(record["run"]):
        raise UnsoundError(f"{RECORD}: {legible(record['run'], 60)!r} is not the name of a run")
    if record["mode"] not in ("plain", "protected") or record["tier"] not in ("emulated", "nested", "bare-metal", None):
        raise UnsoundError(f"{RECORD}: its mode or tier is unknown")
    if strange := set(record) - _RECORD:
        raise UnsoundError(f"{RECORD} has {legible(min(strange), 40)}, which a record must not have")
    are_well_formed = [isinstance(record[name], dict) for name in ("host", "made_of")]
    are_well_formed += [isinstance(record["interrupted"], bool), isinstance(record["given_up"], str)]
    are_well_formed += [isinstance(value, str) for name in ("host", "made_of") for value in dict(record[name]).values()]
    if not all(are_well_formed) or not isinstance(record["problems"], list):
        raise UnsoundError(f"{RECORD}: host, problems, its end or made_of are malformed")
    if record["kernel"] is not None:
        kernel = table(record["kernel"], f"{RECORD}: kernel", *_KERNEL, "patches")
        check_names(kernel, f"{RECORD}: kernel", (*_KERNEL, "patches"))
        if not isinstance(kernel["patches"], list) or not all(isinstance(kernel[name], str) for name in _KERNEL):
            raise UnsoundError(f"{RECORD}: the kernel's entry is malformed")
        for patch in kernel["patches"]:
            check_names(table(patch, f"{RECORD}: a patch", "name", "sha256"), f"{RECORD}: a patch", ("name", "sha256"))
    if not all(
        isinstance(record[name], str) for name in ("started", "ended", "command", "commit", "series", "machine")
    ):
        raise UnsoundError(f"{RECORD}: a value that must be text is not")
    if not all(_is_number(seconds) and seconds >= 0 for seconds in table(record.get("durations", {}), RECORD).values()):
        raise UnsoundError(f"{RECORD}: its durations are malformed")
    return record


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def series_of(record: dict[str, Any]) -> str:
    """What names a series: the SHA-256 of its patches' lines, as ``sha256sum`` prints them."""
    kernel = record["kernel"] or {"patches": []}
    lines = "".join(f"{patch.get('sha256')}  {patch.get('name')}\n" for patch in kernel["patches"])
    return hashlib.sha256(lines.encode()).hexdigest()


def open_run(tree: Tree) -> Run:
    """A run with its record and its contract, of which nothing is derived yet.

    :raises UnsoundError: they cannot be read.
    """
    contract = tree.below(CONTRACT)
    sentences = table(parse(tree.read(PLANNED), PLANNED), PLANNED)
    if not all(isinstance(words, str) for words in sentences.values()):
        raise UnsoundError(f"{PLANNED}: a sentence is not text")
    return Run(tree, record_of(tree), contracts.sha256(contract), contracts.load(contract), sentences=sentences)


def derive(tree: Tree) -> Run:
    """Derive a run from its evidence.

    :raises UnsoundError: it cannot be read at all. Smaller faults are in the result.
    """
    run = open_run(tree)
    chain(run)
    run.faults += bounds.record(run.record)
    if run.ended:
        run.faults += [*identity.record_faults(run.record), *identity.list_faults(tree, run.record)]
        emulated, tried = run.record["tier"] == "emulated", any(row["command"] for row in run.rows.values())
        run.faults += beside.host_faults(tree, run.record["host"], emulated=emulated, tried=tried)
    host = rows.facts(run.record)
    for name, claim in run.claims.items():
        row = run.rows.get(name)
        run.claims[name] = claim if row is None else _as_judged(run, claim, row, host)
        _settle(run, run.claims[name], row)
    _strays(run)
    _one_after_the_other(run)
    _once(run)
    _check_planted_pages(run)
    _check_plan(run)
    return run


def _once(run: Run) -> None:
    """Each page was planted for one claim, and two pages at a time are in two frames of the host."""
    of_claim: dict[bytes, str] = {}
    for name, each in run.probes.items():
        for number, row in enumerate(each):
            if of_claim.setdefault(row.canary, name) != name:
                run.faults.append(
                    f"{name}: the {row.page} page ({row.state}) is the page of two claims: {of_claim[row.canary]}"
                )
            # A probe that moves a page leaves its frame to others.
            if any(_in_one_frame(row, other) for other in each[:number]):
                run.faults.append(f"{name}: at {row.hpa:#x} one frame of the host holds two pages")


def _aimed(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The observations in a claim's line that say at what they aimed."""
    return (probe for probe in row["runs"] if isinstance(probe, dict) and isinstance(probe.get("aim"), dict))


def _check_planted_pages(run: Run) -> None:
    """A page that was planted for a probe is told, or another try of it would not be; each process is one guest's."""
    processes: dict[tuple[str, str], str] = {}
    for name, row in run.rows.items():
        told = {str(probe["aim"]["commitment"]): probe for probe in _aimed(row)}
        kinds = {(probe["page"], probe["state"]) for probe in told.values()}
        for (claim, commitment), planted in run.planted.items():
            if claim == name and commitment not in told and (planted[0]["page"], planted[0]["state"]) in kinds:
                page = f"{planted[0]['page']} page ({planted[0]['state']})"
                run.faults.append(f"{name}: a second {page} was planted, and nothing is told of it")
        for probe in told.values():
            for pid in bounds.processes(probe["reach"]):
                at, guest = (str(probe["aim"]["host"]), pid), str(probe["aim"]["guest"])
                if processes.setdefault(at, guest) != guest:
                    run.faults.append(f"{name}: the process {pid} is the QEMU of {processes[at]} and of {guest}")
                    return


def _in_one_frame(probe: Probe, other: Probe) -> bool:
    """Whether two pages were in one frame of the host from the same time on until both probes were over."""
    pages = [(each.guest, each.gpa) for each in (probe, other)]
    together = probe.planted <= other.over and other.planted <= probe.over
    return (probe.host, probe.hpa) == (other.host, other.hpa) and pages[0] != pages[1] and together


def _one_after_the_other(run: Run) -> None:
    """A run tries one claim at a time: its pages are planted behind the line before, and no second is of two."""
    begin, total, done = run.events[0]["time"], 0.0, set[str]()
    pages: list[str] = []
    for event in run.events:
        if event["event"] == "planted":
            pages.append(str(event.get("claim")))
        elif event["event"] == "claim":
            name = str(event.get("id"))
            if strange := sorted({*pages} - {name} | ({*pages} & done)):
                run.faults.append(f"{legible(strange[0], 100)}: its pages were planted while {legible(name, 100)} ran")
            seconds: Any = run.rows.get(name, {}).get("seconds")
            total += seconds if _is_number(seconds) else 0
            if total > (length := event["time"] - begin) + SLACK:
                run.faults.append(
                    f"{legible(name, 100)}: claims took {total:.0f} s until its line, of a run of {length:.0f} s"
                )
                break
            pages = []
            done.add(name)


def _strays(run: Run) -> None:
    """What an attack brought must not be of another claim's private page either."""
    blocks: dict[bytes, str] = {}
    for name, each in run.probes.items():
        for row in each:
            if row.state == "private":
                blocks |= {row.canary[at : at + 8]: name for at in range(0, contracts.PAGE, 8)}
    for name, each in run.probes.items():
        if run.mode != "protected" or run.claims[name].kind != "attack" or run.status[name] == "FAIL":
            continue
        for data in (row.data for row in each if row.role == "subject" and len(set(row.data)) > 1):
            there = {blocks.get(data[at : at + 8], name) for at in range(len(data) - 7)} - {name}
            if there:
                why = f"bytes of a private page leaked, which {min(there)} has planted"
                run.faults.append(f"{name}: it says {run.status[name]}, and the evidence gives FAIL: {why}")
                run.status[name], run.why[name] = "FAIL", why
                break


def _check_plan(run: Run) -> None:
    """What each claim says in words, and how to try it again, is what the run set out with."""
    for name in run.sentences.keys() - run.claims.keys():
        if f"test_{name} has no entry in the contract" not in run.record["problems"]:
            run.faults.append(f"{PLANNED} names {legible(name, 60)}, which is not in the contract")
    for name, row in run.rows.items():
        if row.get("sentence") not in (run.sentences.get(name), name.replace("_", " ").capitalize() + "."):
            run.faults.append(
                f"{legible(name, 100)}: it says {legible(row.get('sentence'), 80)!r}, which was not planned"
            )
        if row.get("command") not in ("", f"{run.record['command']} -k test_{name}"):
            run.faults.append(f"{legible(name, 100)}: its command is not the run's")
    for name, words in run.sentences.items() if run.mode == "protected" else ():
        named = [need.sentence for need in run.claims[name].needs] if name in run.claims else []
        if named and words not in named:
            run.faults.append(f"{PLANNED}: {name} claims {legible(words, 90)!r}, and the contract {named[0]!r}")


def _as_judged(run: Run, claim: Claim, row: dict[str, Any], host: dict[str, str]) -> Claim:
    """The claim with the outcomes by which its line was judged, which must be those for the host.

    What was not tried may have been put down before the host was known.
    """
    row_claim = claim.for_row(str(row.get("row")))
    due = claim.at(host)
    # Of a processor of a vendor that no row names the default holds.
    unknown = {fact for fits, _ in claim.on for fact in fits} - host.keys()
    unknown -= {"vendor"} if run.record["host"].get("processor") else set()
    if unknown and row.get("status") in ("PASS", "FAIL"):
        run.faults.append(f"{claim.id}: its outcome depends on the host's {min(unknown)}, which is not told")
    if row_claim.row != due.row and (row.get("status") in ("PASS", "FAIL") or row.get("runs")):
        due_words, told_words = (f"that for {row.row}" if row.row else "the default" for row in (due, row_claim))
        run.faults.append(f"{claim.id}: its outcome on this host is {due_words}, and it was judged by {told_words}")
        return due
    return row_claim


def chain(run: Run, *, merged: bool = False) -> None:
    """Hold journal, lines and evidence against one another; what does not fit is a fault.

    :param merged: the run is one of many: its times are those of its parts, and its journal begins at the merge.
    """
    events = _journal(run)
    first, last = events[0]["time"], events[-1]["time"]
    if not merged:
        _times(run, first, last)
        if any(event["event"] == "part" for event in events):
            run.faults.append(f"{JOURNAL} has a part, and the report is not merged")
    _named(run, first, last)
    _lines(run, events, merged=merged)


def _journal(run: Run) -> list[dict[str, Any]]:
    """The journal's events, in order; what does not fit is a fault."""
    previous, events, clock = "0" * 64, [], 0.0
    content = run.tree.read(JOURNAL)
    for number, (line, event) in enumerate(zip(content.split(b"\n"), lines(content, JOURNAL), strict=False)):
        table(event, f"{JOURNAL}, line {number + 1}", "number", "time", "event", "previous")
        if event["previous"] != previous or not same(event["number"], number):
            raise UnsoundError(f"{JOURNAL}: line {number + 1} does not follow the line before it")
        if not _is_number(event["time"]) or event["time"] < clock:
            raise UnsoundError(f"{JOURNAL}: line {number + 1} is earlier than the line before it")
        previous, clock = hashlib.sha256(line).hexdigest(), event["time"]
        events.append(event)
    names = [event["event"] for event in events]
    if not events or names[0] != "begin" or names.count("begin") != 1 or "end" in names[:-1]:
        raise UnsoundError(f"{JOURNAL} does not begin and end like a run")
    first, last = events[0], events[-1]
    if not re.fullmatch(r"[0-9a-f]{32}", str(first.get("nonce"))):
        run.faults.append(f"{JOURNAL} has no nonce of its host")
    if first.get("run") != run.record["run"] or first.get("contract") != run.contract:
        run.faults.append(f"{JOURNAL} is of another run or another contract")
    cut_short = not run.record["ended"] or run.record["interrupted"] or run.record["given_up"]
    run.ended = last["event"] == "end" and not cut_short
    if last["event"] == "end":
        for key, file in (("record", RECORD), ("claims", CLAIMS)):
            if last.get(key) != run.tree.sha256(file):
                run.faults.append(f"{file} is not as it was at the run's end")
    run.events = events
    if strange := {str(event["event"]) for event in events} - _EVENTS.keys():
        run.faults.append(f"{JOURNAL} has {legible(min(strange), 40)}, which is no event of a run")
    for event in events:
        if (kind := str(event["event"])) in _EVENTS:
            table(event, f"{JOURNAL}: {kind}", *_EVENTS[kind])
            check_names(event, f"{JOURNAL}: {kind}", (*_CHAINED, *_EVENTS[kind]))
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
        and all(isinstance(text, str) and re.fullmatch(r"0x(?:0|[1-9a-f][0-9a-f]{0,15})", text) for text in places)
        and all(isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{size}}}", text) for text, size in digits)
        and bounds.is_guest(event.get("guest"))
    )


def _times(run: Run, first: float, last: float) -> None:
    """The record's times are those of the journal."""
    for name, there in (("started", first), ("ended", last)):
        times = run.record[name]
        if times == "" and name == "ended":
            continue
        if (moment := moment_of(times)) is None or abs(moment.timestamp() - there) > SLACK:
            run.faults.append(f"{RECORD}: {name} {legible(times, 40)} is not the time of the journal")


def _named(run: Run, first: float, last: float) -> None:
    """The time in the run's name is that of the journal, which ends in the past."""
    named = datetime.strptime(run.record["run"][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(named.timestamp() - first) > SLACK:
        run.faults.append(f"{RECORD}: the run's name is of another time than its journal")
    if last > time.time() + _DAY:
        run.faults.append(f"{JOURNAL} ends on {datetime.fromtimestamp(last, UTC):%Y-%m-%d}, which has not come yet")


def moment_of(text: object) -> datetime | None:
    """A time of a report; None if the text is not a time."""
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _lines(run: Run, events: Sequence[dict[str, Any]], *, merged: bool) -> None:
    """Each claim's line is the journal's, with the evidence that it had then; and there is no other."""
    content = run.tree.read(CLAIMS)
    texts = content.split(b"\n")[:-1]
    rows = lines(content, CLAIMS)
    ends = [event for event in events if event["event"] == "claim"]
    if len(rows) != len(ends):
        run.faults.append(f"{CLAIMS} has {len(rows)} lines, and the journal {len(ends)} claims")
    listed: set[str] = set()
    for text, row, event in zip(texts, rows, ends, strict=False):
        name = legible(row.get("id"), 100)
        summary = (hashlib.sha256(text).hexdigest(), row.get("id"), row.get("status"))
        if summary != (event.get("line"), event.get("id"), event.get("status")):
            run.faults.append(f"{CLAIMS}: the line of {name} differs from the journal's")
        if name not in run.claims:
            run.faults.append(f"{CLAIMS}: {name} is not in the contract")
        elif name in run.rows:
            run.faults.append(f"{CLAIMS}: {name} stands there twice")
        files = event.get("files")
        if not isinstance(files, dict) or list(files) != row.get("evidence"):
            run.faults.append(f"{name}: its evidence is not what the journal lists")
            files = {}
        for file, sha256 in files.items():
            if file not in run.tree or run.tree.sha256(file) != sha256:
                run.faults.append(f"{legible(file)} was changed or taken away after the claim was judged")
            if not file.startswith(run.folders(name)):
                run.faults.append(f"{name}: {legible(file)} is not in the claim's folder")
            if file in listed:
                run.faults.append(f"{legible(file)} is the evidence of two claims")
            listed.add(file)
        check_names(row, f"{CLAIMS}: {name}", _LINE)
        if not sweeps.are_maps(row.get("maps")):
            raise UnsoundError(f"{CLAIMS}: {name}: its maps have more pages than a guest can have, or are not maps")
        length = events[-1]["time"] - events[0]["time"] + SLACK
        if not merged and not (_is_number(row.get("seconds")) and 0 <= row["seconds"] <= length):
            run.faults.append(
                f"{CLAIMS}: {name}: it took {legible(row.get('seconds'), 40)} s, of a run of {length:.0f} s"
            )
        run.rows[str(row.get("id"))] = {**row, "_time": event["time"]}
    strange = [file for file in run.tree.names if file.startswith("evidence/") and file not in listed]
    if strange:
        run.faults.append(f"evidence that no claim has: {legible(', '.join(strange[:3]))}")


def _settle(run: Run, claim: Claim, row: dict[str, Any] | None) -> None:
    """The claim's status: what its evidence gives, and nothing better than what the run itself said."""
    if row is None:
        status, why = "MISS", "the run has no line for it"
        if run.ended:
            run.faults.append(f"{CLAIMS}: {claim.id} is missing")
    else:
        claimed = row.get("status")
        if claimed not in STATUSES:
            raise UnsoundError(f"{CLAIMS}: {claim.id} has the status {legible(claimed, 40)}, which is not a status")
        status, why = _verdict_and_fault(run, claim, row, str(claimed))
    run.status[claim.id], run.why[claim.id] = status, why


def _verdict_and_fault(run: Run, claim: Claim, row: dict[str, Any], claimed: str) -> tuple[str, str]:
    try:
        table(row, "its line", "sentence", "runs", "checks", "maps", "evidence", "protected", "controlled")
        status, why = _from_evidence(run, claim, row)
        if harm := [name for name in row["evidence"] if _HARM.search(name)]:
            status, why = "FAIL", f"the probe did harm: {harm[0]}"
        fault = "" if status != "PASS" else _beside(run, claim)
        lacking = "" if status != "PASS" or fault else _need_fault(run, claim, row)
    except UnsoundError as error:
        run.faults.append(f"{claim.id}: {error}")
        return "MISS", str(error)
    if fault or lacking:
        status, why = ("FAIL", fault) if fault else ("MISS", lacking)
    if claimed == "FAIL" or status == "FAIL":
        if claimed != status:
            run.faults.append(
                f"{claim.id}: it says {claimed}, and the evidence gives {status}{f': {why}' if why else ''}"
            )
        return "FAIL", why or str(row.get("why", ""))
    if claimed == "PASS" and status != "PASS":
        run.faults.append(f"{claim.id}: it says PASS, and the evidence gives {status}: {why}")
        return status, why
    if claimed == "SKIP":
        return _skip_verdict(run, claim, row)
    if claimed == "PASS":
        if row.get("skip"):
            run.faults.append(f"{claim.id}: it is PASS and names a condition for SKIP, {legible(row['skip'], 40)!r}")
        for name, words in _words(run, claim).items():
            if row.get(name) != words:
                run.faults.append(
                    f"{claim.id}: {name} is {legible(row.get(name), 80)!r}, and the evidence gives {words!r}"
                )
    return claimed, str(row.get("why", ""))


def _need_fault(run: Run, claim: Claim, row: dict[str, Any]) -> str:
    """How the evidence is not as the contract names it; empty if it is. In mode plain it is another."""
    if run.mode == "plain":
        return ""
    probes = [(probe.role, probe.state, probe.page, probe.call) for probe in run.probes.get(claim.id, ())]
    checks = [(check.role, check.name, check.expected) for check in run.checks.get(claim.id, ())]
    vendor = rows.facts(run.record).get("vendor", "")
    fault = needs.fault(claim.needs, vendor, row, probes, checks)
    return f"its evidence is not what the contract says: {fault}" if fault else ""


def _skip_verdict(run: Run, claim: Claim, row: dict[str, Any]) -> tuple[str, str]:
    if not claim.skip:
        run.faults.append(f"{claim.id}: it says SKIP, which the contract does not allow")
        return "MISS", "SKIP is not allowed by the contract"
    kernel = rows.facts(run.record).get("kernel", "")
    cases = [case for case in claim.skip if contracts.holds(case, run.record["tier"], run.record["host"], kernel)]
    if not cases:
        words = " or ".join(f"'{case}'" for case in claim.skip)
        run.faults.append(f"{claim.id}: it says SKIP for {words}, which is not the case on this host")
        return "MISS", f"the contract allows SKIP for {words}, which is not the case"
    if (row.get("why"), row.get("skip")) != (claim.skip[cases[0]], cases[0]) or row["evidence"]:
        run.faults.append(
            f"{claim.id}: it says SKIP, and {legible(row.get('why'), 80)!r} or its evidence is of no SKIP"
        )
    of_none: dict[str, Any] = {
        **dict.fromkeys(("observed", "control", "shared"), ""),
        "protected": None,
        "controlled": False,
    }
    of_none |= {"expected": claim.expected(run.mode), "runs": [], "checks": [], "maps": []}
    for name, nothing in of_none.items():
        if not same(row.get(name), nothing):
            run.faults.append(f"{claim.id}: it says SKIP, and its {name} is {legible(row.get(name), 80)!r}")
    return "SKIP", str(row.get("why", ""))


def _from_evidence(run: Run, claim: Claim, row: dict[str, Any]) -> tuple[str, str]:
    folder = f"evidence/{claim.id}"
    if any(
        not isinstance(run_row, dict) or run_row.get("role") not in ("subject", "control") for run_row in row["runs"]
    ):
        raise UnsoundError("a run in its line belongs neither to the subject nor to the control")
    if claim.probe:
        probes = [probe for role in ("subject", "control") for probe in _observations(run, claim, row, role)]
        run.probes[claim.id] = probes
        if len({bounds.kind_met(probe["reach"]) for probe in row["runs"]}) > 1:
            raise UnsoundError("some of its probes say what they met at their pages, and others do not")
        of_checks = row["protected"] is not None or row["controlled"] is not False or row["checks"] or row["maps"]
        if of_checks and row.get("status") != "SKIP":
            raise UnsoundError("it is told by probes, and its line has what a check has")
        return judge.probes(claim, run.mode, probes)
    checks_found = [
        check for role in ("subject", "control") for check in _checks(run, f"{folder}/checks-{role}.jsonl", role)
    ]
    for check in row["checks"]:
        check_names(table(check, "a check in its line"), "a check in its line", (*_CHECK, "right"))
    check_rows = [
        {
            **{name: getattr(check, name) for name in ("role", "name", "expected", "got")},
            "right": check.got == check.expected,
        }
        for check in checks_found
    ]
    if not same(check_rows, row["checks"]):
        raise UnsoundError("its line has other checks than its evidence")
    run.checks[claim.id] = checks_found
    protected, controlled = row.get("protected"), row.get("controlled")
    if not isinstance(protected, bool | None) or not isinstance(controlled, bool):
        raise UnsoundError("its line does not say whether the guest was protected and a control was there")
    if not controlled and any(check.role == "control" for check in checks_found):
        raise UnsoundError("it has a control but says that it has none")
    return judge.checks(run.mode, checks_found, protected=protected, controlled=controlled)


def _observations(run: Run, claim: Claim, row: dict[str, Any], role: str) -> Iterator[Probe]:
    """What is kept of a claim's probes, each held against the journal and against its own data."""
    name = f"evidence/{claim.id}/{role}.jsonl"
    content = lines(run.tree.read(name), name) if name in run.tree else []
    probe_rows = [run_row for run_row in row["runs"] if isinstance(run_row, dict) and run_row.get("role") == role]
    bare = [{key: value for key, value in probe.items() if key not in _EVIDENCE_ALONE} for probe in content]
    if not same(bare, probe_rows):
        raise UnsoundError(f"the {role}'s runs in its line differ from {name}")
    if len({(str(probe.get("canary")), str(probe.get("seen"))) for probe in content}) != len(content):
        raise UnsoundError(f"{name} tells one probe twice")
    for probe in content:
        yield _observation(run, claim, row, probe)


def _observation(run: Run, claim: Claim, row: dict[str, Any], entry: dict[str, Any]) -> Probe:
    check_names(table(entry, "an observation", *_OBSERVED), "an observation", (*_OBSERVED, *_BESIDE))
    for name, kinds in _KINDS.items():
        if not isinstance(entry[name], kinds) or isinstance(entry[name], bool):
            raise UnsoundError(f"an observation's {name}, {legible(entry[name], 40)!r}, has the wrong type")
    if len(entry["data"]) > 2 * _MOST:
        raise UnsoundError(f"an observation has {len(entry['data']) // 2} bytes, which no probe brings")
    try:
        data = bytes.fromhex(entry["data"])
        secrets = [entry[name] for name in ("canary_key", "canary_bytes") if name in entry]
        if data.hex() != entry["data"] or [bytes.fromhex(text).hex() for text in secrets] != secrets:
            raise ValueError("its bytes are not in the form in which a run keeps them")
        canary = leaks.canary_of(bytes.fromhex(entry["canary_key"])) if "canary_key" in entry else bytes.fromhex(
            entry["canary_bytes"]
        )  # fmt: skip
        aim = table(entry["aim"], "an aim", *_AIM)
        check_names(aim, "an aim", _AIM)
        words = (aim["gpa"], aim["hva"], aim["hpa"], *aim["mapping"])
        gpa, hva, hpa, first, end = (int(word, 16) for word in words)
        cuts = entry["cuts"]
        if any(type(cut) is not int or not 0 <= cut <= len(data) for cut in cuts) or cuts != sorted(cuts):
            raise ValueError("its cuts are not offsets into its bytes")
        if (at := entry.get("si_addr")) is not None and hex(int(at, 16)) != at:
            raise ValueError("si_addr is no address")
        if not all(isinstance(word, str) for name, value in entry.get("facts", ()) for word in (name, value)):
            raise ValueError("a fact is not text")
        planted, over = float(aim["planted"]), float(entry["seen"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnsoundError(f"an observation is malformed: {legible(error, 80)}") from error
    if strange := [word for word in words if hex(int(word, 16)) != word]:
        raise UnsoundError(f"{legible(strange[0], 40)!r} is not written like an address")
    place = f"the {legible(entry['page'], 20)} page ({legible(entry['state'], 20)})"
    if entry["page"] not in contracts.PAGES or entry["state"] not in ("plain", "private", "shared"):
        raise UnsoundError(f"{place} is of an unknown kind or state")
    if len(canary) != contracts.PAGE or hashlib.sha256(canary).hexdigest()[:16] != entry["canary"]:
        raise UnsoundError(f"{place}: what was revealed is not its canary")
    if len(set(canary)) < 64:  # of 4,096 random bytes nearly all 256 values are there
        raise UnsoundError(f"{place}: its canary is not random")
    if any(at % contracts.PAGE for at in (gpa, hva, hpa)) or not hva or not hpa or not first <= hva < end:
        raise UnsoundError(f"{place}: its addresses cannot be those of a page that QEMU has mapped")
    if not all(any(re.search(rf"{at:#x}(?![0-9a-f])", str(text)) for text in entry["reach"]) for at in (gpa, hva)):
        raise UnsoundError(f"{place}: the description of its place names other addresses")
    bound = (aim["run"], aim["host"], aim["guest"], entry["page"], entry["state"], hex(gpa))
    commitment = hashlib.sha256("\0".join(map(str, bound)).encode() + b"\0" + canary).hexdigest()
    if aim["run"] != run.record["run"]:
        raise UnsoundError(f"{place}: it is of the run {legible(aim['run'], 40)}, not of this one")
    if commitment != aim["commitment"]:
        raise UnsoundError(f"{place}: its canary, host, guest or address is not what the journal committed to")
    facts = {key: aim[key] for key in ("host", "guest", "gpa", "hva", "hpa", "mapping")}
    facts |= {"page": entry["page"], "state": entry["state"], "time": planted}
    events = run.planted.get((claim.id, commitment), [])
    if not any(all(event.get(key) == value for key, value in facts.items()) for event in events):
        raise UnsoundError(f"{place}: the journal does not say that it was planted for this claim before the probe")
    if not planted <= over <= row["_time"] + 1:
        raise UnsoundError(f"{place}: the probe did not end between planting the page and judging the claim")
    patches = len((run.record["kernel"] or {}).get("patches", ()))
    if fault := bounds.reach(entry, run.mode, patches) or bounds.place(run.record["host"], aim):
        raise UnsoundError(f"{place}: {fault}")
    leaked = leaks.count_leaked(canary, data, cuts)
    if (entry["got"], entry["leaked"], entry["head"]) != (len(data), leaked, data[:64].hex() if leaked else ""):
        raise UnsoundError(f"{place}: {len(data)} bytes are kept, {leaked} of the canary's; its line differs")
    return Probe(
        role=entry["role"],
        page=entry["page"],
        state=entry["state"],
        call=str(entry["call"]),
        returned=entry["returned"],
        errno=entry["errno"],
        signal=entry["signal"],
        si_code=entry["si_code"],
        page_after=entry["page_after"],
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


def _checks(run: Run, name: str, role: str) -> Iterator[CheckResult]:
    for entry in lines(run.tree.read(name), name) if name in run.tree else ():
        check_names(table(entry, "a check", *_CHECK), "a check", _CHECK)
        if entry["role"] != role or not all(isinstance(entry[key], str) for key in ("name", "expected", "got")):
            raise UnsoundError(f"{name} has a check that is not the {role}'s")
        yield CheckResult(role, entry["name"], entry["expected"], entry["got"])


def _beside(run: Run, claim: Claim) -> str:
    """What else the evidence of a claim shows: sweeps of all pages, logs of kernels. Empty if all is well."""
    if fault := _sweeps(run, claim) or _moments(run, claim):
        return fault
    if bare := [name for name in run.rows[claim.id]["evidence"] if not run.tree.read(name)]:
        raise UnsoundError(f"{bare[0]} is empty")
    if claim.kind != "health":
        return ""
    names = [name for name in run.rows[claim.id]["evidence"] if name.endswith(_LOGS)]
    if not names:
        raise UnsoundError("no kernel log is kept with it")
    for name in names:
        log = _log(run, name)
        for line in log.splitlines():
            if _SICK.search(line):
                return f"{name}: {legible(line, 120)}"
        _of_the_kernel(run, name, log)
    return _of_another_host(run) if any(name.endswith(_OF_HOST) for name in names) else ""


def _log(run: Run, name: str) -> str:
    """A kernel's log, without reports of allocations that a claim had fail; what else is told amid them stays."""

    def other(report: re.Match[str]) -> str:
        lines = report[0].splitlines()
        return "\n".join(line for line in lines if _SICK.search(line) and _TRACE not in line)

    return _MADE_TO_FAIL.sub(other, run.tree.read(name).decode("utf-8", "replace"))


def _of_another_host(run: Run) -> str:
    """Whether a console that is kept of a host shows that its kernel is not well; empty if none does.

    A claim that did not hold may say so itself. The console of a real machine has more than one run, and Bochs brings
    about a warning.
    """
    if not {"FAIL", "ERROR"}.isdisjoint(str(row.get("status")) for row in run.rows.values()):
        return ""
    consoles = (
        [name for name in run.tree.names if _CONSOLE.fullmatch(name)] if "machine" not in run.record["host"] else []
    )
    sick = _DEAD if "emulator" in run.record["host"] else _SICK
    for name in consoles:
        log = _log(run, name)
        for line in log.partition(_CRASHED)[0].splitlines():
            if sick.search(line):
                return f"{name}: {legible(line, 120)}"
    return ""


def _of_the_kernel(run: Run, name: str, log: str) -> None:
    """The log begins with the kernel that the record names (Linux: init/version-timestamp.c, linux_banner).

    :raises UnsoundError: it does not.
    """
    kernel = run.record["kernel"] or {}
    banners = _BANNER.findall(log)
    cut = "machine" not in run.record["host"] and not _BANNER.match(log.lstrip())
    if not banners or cut:
        raise UnsoundError(f"{name} does not begin with the kernel's boot: its beginning is missing")
    for release, compiler in banners:
        if kernel and (release != kernel["release"] or not bounds.is_compiler(kernel["compiler"], compiler)):
            raise UnsoundError(
                f"{name} is of Linux {legible(release, 40)} by {legible(compiler, 60)}, not the record's"
            )
    if name.endswith(_OF_HOST) and (fault := bounds.log(run.record["host"], log)):
        raise UnsoundError(f"{name}: {fault}")


def _sweeps(run: Run, claim: Claim) -> str:
    """Whether the sweeps that are kept with a claim, and its pictures of memory, show nothing that leaked.

    :raises UnsoundError: they are not those that its checks and its pictures are of.
    """
    row = run.rows[claim.id]
    by_guest: dict[str, Sweep] = {}
    for name in row["evidence"]:
        if name.endswith(".json"):
            guest, _, way = PurePosixPath(name).stem.partition(".")
            if guest in by_guest:
                raise UnsoundError(f"{name} is a second sweep of guest {legible(guest, 40)}")
            by_guest[guest] = sweeps.read(parse(run.tree.read(name), name), name)
            if way and way != by_guest[guest].way:
                raise UnsoundError(f"{name} is a sweep by {legible(by_guest[guest].way, 40)}")
    maps = [table(guest_map, "a map", *_MAP) for guest_map in row.get("maps", ())]
    for guest_map in maps:
        check_names(guest_map, "a map", _MAP)
    guests = [str(guest_map["guest"]) for guest_map in maps]
    if lacking := set(guests) - set(by_guest):
        raise UnsoundError(f"the sweep of guest {legible(min(lacking), 40)} is not kept")
    if len(set(guests)) != len(guests) or (guests and set(guests) != set(by_guest)):
        raise UnsoundError("its pictures of memory are not one for each sweep that is kept")
    for guest, guest_map in zip(guests, maps, strict=True):
        sweep = by_guest[guest]
        if not same([sweep.way, sweep.size, sweep.spans], [guest_map[name] for name in ("way", "size", "spans")]):
            raise UnsoundError(f"the map of guest {legible(guest, 40)} is not what its sweep brought")
    checks = run.checks.get(claim.id, [])
    of_role = {True: "subject", False: "control"} if run.mode == "protected" else {False: "subject"}
    for protected, role in of_role.items():
        swept = any(check.role == role and check.name in sweeps.CHECKS for check in checks)
        if by_guest and swept and protected not in [sweep.protected for sweep in by_guest.values()]:
            raise UnsoundError(f"the sweep that the {role}'s checks are of is not kept")
    for guest, sweep in by_guest.items():
        role = of_role.get(sweep.protected, "subject")
        if fault := sweep.fault([check for check in checks if check.role == role]) or _small(run, guest, sweep):
            return fault
    for guest, guest_map in zip(guests, maps, strict=True):
        if not same(by_guest[guest].rate, guest_map["rate"]):
            raise UnsoundError(f"the speed of guest {legible(guest, 40)}'s map is not what its sweep brought")
    for guest, sweep in by_guest.items():
        if not _FASTEST * len(sweep.tried) <= sweep.seconds <= run.rows[claim.id]["seconds"] + _CLOCKS:
            raise UnsoundError(f"the sweep of guest {legible(guest, 40)} took {sweep.seconds:.3g} s, as none can")
    return ""


def _small(run: Run, guest: str, sweep: Sweep) -> str:
    """Whether a sweep is of another size than the record says that the guest has; empty if it is not.

    One that a claim starts may have more.
    """
    sizes = bounds.guest_sizes(run.record["host"])
    size = sizes.get(guest.removeprefix(_ANOTHER))
    if size is None:
        return f"the sweep is of guest {legible(guest, 40)}, which the host has not" if sizes else ""
    most = size + _FIRMWARE if guest in sizes else len(sweep.fates) * contracts.PAGE
    if not size <= len(sweep.fates) * contracts.PAGE <= most:
        return f"the sweep is of {len(sweep.fates)} pages, and guest {legible(guest, 40)} has {size // contracts.PAGE}"
    return ""


def _moments(run: Run, claim: Claim) -> str:
    """Whether texts that tell where a protected guest's private content was mapped name anybody but the guest."""
    for name in run.rows[claim.id]["evidence"]:
        if run.mode != "plain" and (fault := beside.text_fault(run.tree, name)):
            raise UnsoundError(fault)
        if not name.endswith(_ACCOUNTS) or run.mode == "plain":
            continue
        mine, text = True, run.tree.read(name).decode("utf-8", "replace")
        if not _PAGES_TOLD.search(text) and not text.startswith(_TRACER):
            return f"{name} tells of no page of the guest's own"
        for line in text.splitlines():
            if head := _HOLDERS.match(line):
                mine = head[1] == "private"
            elif ((match := _MAPPED.search(line)) and any(int(number) for number in match.groups())) or (
                mine and _STRANGER.search(line)
            ):
                return f"{name}: {legible(line, 120)}"
    return ""


def _words(run: Run, claim: Claim) -> dict[str, str]:
    """What the report says in a few words of a claim that is PASS."""
    if not claim.probe:
        checks_found = run.checks[claim.id]
        shown_control = judge.words_of_checks([row for row in checks_found if row.role == "control"])
        controlled = run.rows[claim.id]["controlled"]
        return {
            "expected": "right in every check",
            "observed": judge.words_of_checks([row for row in checks_found if row.role == "subject"]),
            "control": shown_control if controlled else "",
            "shared": "",
            "why": "works",
        }
    probes = run.probes[claim.id]
    control = [row for row in probes if row.role == "control"]
    state = "private" if run.mode == "protected" else "plain"
    return {
        "expected": claim.by_state[state].words,
        "observed": judge.words_of([row for row in probes if row.role == "subject"]),
        "control": judge.words_of([row for row in control if row.state != "shared"]),
        "shared": judge.words_of([row for row in control if row.state == "shared"]),
        "why": _WHY[run.mode if run.mode == "plain" else claim.kind],
    }


def problems(run: Run) -> list[str]:
    """What makes a run as a whole no proof, by the run's own word or by what is missing."""
    complaints = [str(problem) for problem in run.record["problems"]]
    if not run.ended:
        complaints.append(KILLED)
    if run.record["kernel"] is None or run.record["tier"] is None:
        complaints.append(UNKNOWN)
    if not any(claim.kind == "health" for claim in run.claims.values()):
        complaints.append(NO_HEALTH)
    return list(dict.fromkeys(complaints))


def word(claims: dict[str, Claim], status: dict[str, str], mode: str, whole: Sequence[str]) -> str:
    """The verdict on all claims.

    :param whole: what makes the run as a whole no proof.
    """
    failed = [claims[name].kind for name, verdict in status.items() if verdict == "FAIL"]
    if failed:
        if mode == "plain":
            return "CONTROLS BROKEN"
        return "NOT PROTECTED" if any(kind in contracts.PROTECTION for kind in failed) else "NOT USABLE"
    attacks = [status[name] for name, claim in claims.items() if claim.kind == "attack"]
    open_ = any(
        verdict in ("ERROR", "MISS") or (verdict == "SKIP" and claims[name].kind == "health")
        for name, verdict in status.items()
    )
    if open_ or whole or "PASS" not in attacks or 2 * attacks.count("SKIP") > len(attacks):
        return "NOT PROVEN"
    return "CONTROLS HOLD" if mode == "plain" else "PROTECTED"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report says to other programs, held against what was derived: documents, exports, the signed statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from verifier import contract as contracts
from verifier.run import STATUSES, Run, series_of
from verifier.text import UnsoundError, cleaned, parse, shown, table

EXIT = {"PROTECTED": 0, "CONTROLS HOLD": 0, "NOT PROTECTED": 1, "NOT USABLE": 1, "CONTROLS BROKEN": 1, "NOT PROVEN": 2}
SENTENCE = "Every attack was refused exactly as contracted, while the same probe got through in its control."
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {"FAIL": "failure", "ERROR": "error", "MISS": "error", "SKIP": "skipped", "CONTROL": "skipped"}
WHOLE = "the_whole_run"
"""What stands for the whole run where there are only tests; CONTROL: in mode plain, which passes nothing."""


@dataclass(frozen=True, slots=True)
class Derived:
    """What was derived of a report.

    :ivar word: the verdict. :ivar machines: that ran it. :ivar kernels: build IDs. :ivar key: of who signed it.
    """

    run: Run
    word: str
    machines: list[str]
    kernels: list[str]
    key: str

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each status."""
        found = list(self.run.status.values())
        return {status: found.count(status) for status in STATUSES}

    @property
    def whole(self) -> str:
        """The whole run's verdict in a word for a claim."""
        words = {"PROTECTED": "PASS", "CONTROLS HOLD": "CONTROL", "NOT PROVEN": "MISS"}
        return words.get(self.word, "FAIL")

    @property
    def controls(self) -> set[str]:
        """Claims about protection that mode plain tried: their PASS is none of the claim."""
        run = self.run
        return {
            name
            for name, claim in run.claims.items()
            if run.mode == "plain" and claim.kind in contracts.PROTECTION and run.status[name] == "PASS"
        }

    @property
    def said(self) -> dict[str, str]:
        """What an export says of each claim, and of the whole run."""
        run = self.run
        of_claims = {name: "CONTROL" if name in self.controls else run.status[name] for name in run.claims}
        return {**of_claims, WHOLE: self.whole}

    @property
    def contract(self) -> dict[str, Any]:
        """Which contract: how many claims, and its hash."""
        return {"claims": len(self.run.claims), "sha256": self.run.contract}


def document(told: Derived) -> Iterator[str]:
    """Where signoff.json says anything else."""
    run, name = told.run, "signoff.json"
    found = table(
        parse(run.tree.read(name), name), name,
        "schema", "verdict", "exit_code", "summary", "mode", "tier", "contract", "run", "kernel", "host", "made_of",
        "counts", "problems", "claims", "signing_key", "logs",
    )  # fmt: skip
    record = run.record
    kernel = record["kernel"]
    wanted = {
        "schema": "sealproof-signoff-6",
        "verdict": told.word,
        "exit_code": EXIT[told.word],
        "mode": record["mode"],
        "tier": record["tier"],
        "contract": told.contract,
        "kernel": None if kernel is None else {**kernel, "series": record["series"]},
        "host": record["host"],
        "made_of": record["made_of"],
        "counts": told.counts,
        "signing_key": told.key,
        "logs": [
            file
            for file in run.tree.names
            if "/" in file and file.partition("/")[0] not in ("evidence", "parts", "contract")
        ],
    }
    if strange := set(found) - {*wanted, "summary", "run", "problems", "claims", "fleet"}:
        yield f"{name} has {shown(min(strange), 40)}, which no report has"
    for what, value in wanted.items():
        if found[what] != value:
            yield f"{name}: {what} is {shown(found[what], 80)!r}, and it must be {shown(value, 80)!r}"
    if told.word == "PROTECTED" and (found["summary"] != SENTENCE or found["problems"]):
        yield f"{name}: its summary or problems are not those of a report that is PROTECTED"
    if lacking := [one for one in record["problems"] if one not in found["problems"]]:
        yield f"{name}: it leaves a problem out: {shown(lacking[0], 100)}"
    ids = {"id": "run", "started": "started", "ended": "ended", "command": "command", "commit": "commit"}
    for what, key in ids.items():
        if (table(found["run"], f"{name}: run", what)[what] or "") != record[key]:
            yield f"{name}: run.{what} is not the record's"
    if table(found["run"], f"{name}: run", "durations")["durations"] != record.get("durations"):
        yield f"{name}: run.durations are not the record's"
    claims = [table(one, f"{name}: a claim", "id") for one in found["claims"]]
    if [one["id"] for one in claims] != list(run.claims):
        yield f"{name}: its claims are not the contract's, in the contract's order"
        return
    for one in claims:
        yield from _claim(told, one)


def _claim(told: Derived, one: dict[str, Any]) -> Iterator[str]:
    run = told.run
    claim = run.claims[one["id"]]
    if one.get("status") != run.status[claim.id]:
        yield f"signoff.json: {claim.id} is {shown(one.get('status'), 20)}, and it must be {run.status[claim.id]}"
    of_contract = {"kind": claim.kind, "class": claim.threat, "source": claim.source, "reason": claim.why,
                   "mode": run.mode}  # fmt: skip
    row = {key: value for key, value in run.rows.get(claim.id, {}).items() if key != "_time"}
    wanted = {**row, **of_contract}
    if row and (strange := set(one) - set(wanted)):
        yield f"signoff.json: {claim.id} has {shown(min(strange), 40)}, which was not put down"
    for what, value in wanted.items():
        if one.get(what) != value:
            yield f"signoff.json: {claim.id}: {shown(what, 40)} is not what was put down"


def junit(told: Derived) -> Iterator[str]:
    """Where junit.xml says anything else."""
    run, name = told.run, "junit.xml"
    data = run.tree.read(name)
    if b"<!" in data:
        raise UnsoundError(f"{name} declares what no report's does")
    try:
        root = ET.fromstring(data)  # noqa: S314  nothing is declared, so there is nothing to expand
    except ET.ParseError as error:
        raise UnsoundError(f"{name} is not XML: {error}") from error
    suites = root.findall("testsuite")
    if root.tag != "testsuites" or len(suites) != 1:
        yield f"{name} has not one test suite"
        return
    suite = suites[0]
    controls = told.controls
    counts = told.counts
    wanted = {
        "tests": len(run.claims) + 1,
        "failures": counts["FAIL"] + (told.whole == "FAIL"),
        "errors": counts["ERROR"] + counts["MISS"] + (told.whole == "MISS"),
        "skipped": counts["SKIP"] + len(controls) + (told.whole == "CONTROL"),
    }
    for what, number in wanted.items():
        if suite.get(what) != str(number):
            yield f"{name}: {what} is {shown(suite.get(what), 20)}, and it must be {number}"
    said = {one.get("name"): one.get("value") for one in suite.findall("properties/property")}
    for what, value in {"run": run.record["run"], "verdict": told.word, "mode": run.mode}.items():
        if said.get(what) != value:
            yield f"{name}: {what} is {shown(said.get(what), 60)}, and it must be {value}"
    cases = suite.findall("testcase")
    if [one.get("name") for one in cases] != [*run.claims, WHOLE]:
        yield f"{name}: its tests are not the contract's claims"
        return
    for case in cases:
        claim = str(case.get("name"))
        status = told.whole if claim == WHOLE else "CONTROL" if claim in controls else run.status[claim]
        tag = _TAGS.get(status)
        tags = [one.tag for one in case if one.tag in ("failure", "error", "skipped")]
        kind = next((one.get("type") for one in case if one.tag == tag), None)
        if tags != ([tag] if tag else []) or (tag and kind != status):
            yield f"{name}: {claim} is not told as {'a control' if status == 'CONTROL' else status}"
        if claim != WHOLE and case.get("classname") != f"{run.claims[claim].kind}.{run.claims[claim].threat}":
            yield f"{name}: {claim} is in another class than the contract says"


def tap(told: Derived) -> Iterator[str]:
    """Where signoff.tap says anything else."""
    name = "signoff.tap"
    text = told.run.tree.read(name).decode("utf-8", "replace")
    points = [line for line in text.splitlines() if not line.startswith("  ")]
    if points[:2] != ["TAP version 14", f"1..{len(told.said)}"]:
        yield f"{name} does not begin as a report's does"
    if len(points) != len(told.said) + 2:
        yield f"{name} has other points than the contract has claims"
    for number, ((claim, status), line) in enumerate(zip(told.said.items(), points[2:], strict=False), 1):
        skip = status in ("SKIP", "CONTROL")
        begin = f"{'ok' if skip or status == 'PASS' else 'not ok'} {number} - {claim}"
        if not line.startswith(f"{begin} # SKIP ") if skip else line != begin:
            yield f"{name}: {claim} is not told as {'a control' if status == 'CONTROL' else status}"


def sarif(told: Derived) -> Iterator[str]:
    """Where signoff.sarif says anything else."""
    name = "signoff.sarif"
    found = table(parse(told.run.tree.read(name), name), name, "version", "runs")
    (one,) = found["runs"]
    rules = [rule["id"] for rule in one["tool"]["driver"]["rules"]]
    if found["version"] != "2.1.0" or rules != list(told.run.claims):
        yield f"{name}: its rules are not the contract's claims"
    kinds = {"FAIL": ("fail", "error"), "SKIP": ("notApplicable", "none")}
    wanted = [
        (claim, *kinds.get(status, ("open", "none")), status)
        for claim, status in told.said.items()
        if status != "PASS" and claim != WHOLE
    ]
    said = [(each["ruleId"], each["kind"], each["level"], each["properties"]["status"]) for each in one["results"]]
    if said != wanted:
        wrong = sorted(set(said) ^ set(wanted))
        yield f"{name}: its results are not what was derived: {shown(wrong[:2], 160)}"
    invocation = one["invocations"][0]
    if (invocation["exitCodeDescription"], invocation["exitCode"]) != (told.word, EXIT[told.word]):
        yield f"{name}: its verdict is {shown(invocation['exitCodeDescription'], 40)}, and it must be {told.word}"
    if told.run.mode == "plain" and not invocation["toolExecutionNotifications"]:
        yield f"{name} does not say that mode plain is no sign-off"
    if (one["properties"]["verdict"], one["properties"]["mode"]) != (told.word, told.run.mode):
        yield f"{name}: its properties are not the verdict and the mode"


def kcidb(told: Derived) -> Iterator[str]:
    """Where kcidb.json says anything else."""
    run, name = told.run, "kcidb.json"
    found = table(parse(run.tree.read(name), name), name, "version", "checkouts", "builds", "tests")
    node = "sealproof.controls" if run.mode == "plain" else "sealproof.signoff"
    word = {"CONTROL": "DONE"}
    wanted = [
        (node if claim == WHOLE else f"{node}.{run.claims[claim].kind}.{run.claims[claim].threat}.{claim}",
         word.get(status, status))
        for claim, status in [(WHOLE, told.whole), *((c, s) for c, s in told.said.items() if c != WHOLE)]
    ]  # fmt: skip
    said = [(one["path"], one["status"]) for one in found["tests"]]
    if said != wanted:
        wrong = sorted(set(said) ^ set(wanted))
        yield f"{name}: its tests are not what was derived: {shown(wrong[:2], 160)}"
    kernel = run.record["kernel"]
    (build,) = found["builds"]
    of_kernel = ("build_id", "running_build_id", "image_sha256", "vmlinux_sha256", "config_sha256")
    if kernel and build["misc"] != {what: kernel[what] for what in of_kernel}:
        yield f"{name}: its build is not the kernel that the record names"
    if {one["build_id"] for one in found["tests"]} != {build["id"]}:
        yield f"{name}: its tests are of several builds"
    if found["tests"][0]["misc"]["verdict"] != told.word:
        yield f"{name}: its verdict is not {told.word}"


def xml_text(text: str) -> str:
    """A text as junit.xml can hold it."""
    return _NOT_XML.sub("\ufffd", cleaned(text))


def statement(told: Derived, predicate: dict[str, Any]) -> Iterator[str]:
    """Where the signed statement says anything else."""
    run = told.run
    record = run.record
    plain = run.mode == "plain"

    def those(*statuses: str) -> list[str]:
        return [name for status in statuses for name, one in run.status.items() if one == status]

    wanted = {
        "result": "PASSED" if told.word == "PROTECTED" else "WARNED" if told.word == "CONTROLS HOLD" else "FAILED",
        "verdict": told.word,
        "passedTests": [] if plain else those("PASS"),
        "warnedTests": [*(those("PASS") if plain else []), *those("SKIP")],
        "failedTests": those("FAIL", "ERROR", "MISS"),
        "run": record["run"],
        "started": record["started"],
        "ended": record["ended"],
        "mode": record["mode"],
        "tier": record["tier"],
        "commit": record["commit"],
        "series": record["series"],
        "contract": told.contract,
        "kernels": sorted(told.kernels),
        "source": (record["kernel"] or {}).get("source_sha256", ""),
        "patches": series_of(record) if record["kernel"] else "",
        "madeOf": record["made_of"],
        "machines": told.machines,
    }
    kernel = record["kernel"] or {}
    made_of = {"contract": told.contract["sha256"], **record["made_of"]}
    if kernel:
        made_of[f"Linux {kernel['release']} bzImage"] = kernel["image_sha256"]
        made_of[f"Linux {kernel['release']} .config"] = kernel["config_sha256"]
    named = [(one["name"], one["digest"]["sha256"]) for one in predicate["configuration"]]
    for one in made_of.items():
        if one not in named:
            yield f"the statement's configuration does not name {shown(one[0], 60)} as the record does"
    for what, value in wanted.items():
        if predicate.get(what) != value:
            yield f"the statement's {what} is {shown(predicate.get(what), 60)!r}, and it must be {shown(value, 60)!r}"

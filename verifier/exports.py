# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report says for programs, held against what was derived: ``signoff.json`` and the signed statement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verifier import contract as contracts
from verifier.run import STATUSES, Run, series_of
from verifier.text import legible, parse, same, table, unusual
from verifier.verdict import EXIT, problems, sentence

WHOLE = "the_whole_run"
"""What stands for the whole run where there are only tests; CONTROL: in mode plain, which passes nothing."""


@dataclass(frozen=True, slots=True)
class Derived:
    """What was derived of a report.

    :ivar word: the verdict. :ivar machines: that ran it. :ivar kernels: build IDs. :ivar key: of who signed it.
    :ivar images: name and SHA-256 of each kernel's image and configuration.
    :ivar fleet: what the report says of its parts, which was held against them; None: it has none.
    """

    run: Run
    word: str
    machines: list[str]
    kernels: list[str]
    key: str
    images: frozenset[tuple[str, str]] = frozenset()
    fleet: dict[str, Any] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each status."""
        statuses = list(self.run.status.values())
        return {status: statuses.count(status) for status in STATUSES}

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


def document(derived: Derived) -> Iterator[str]:
    """Where signoff.json says anything else."""
    run, name = derived.run, "signoff.json"
    content = table(
        parse(run.tree.read(name), name), name,
        "schema", "verdict", "exit_code", "summary", "mode", "tier", "contract", "run", "kernel", "host", "made_of",
        "counts", "problems", "claims", "signing_key", "logs",
    )  # fmt: skip
    record = run.record
    kernel = record["kernel"]
    wanted = {
        "schema": "sealproof-signoff-6",
        "verdict": derived.word,
        "exit_code": EXIT[derived.word],
        "summary": sentence(run, derived.word),
        "problems": problems(run),
        "mode": record["mode"],
        "tier": record["tier"],
        "contract": derived.contract,
        "kernel": None if kernel is None else {**kernel, "series": record["series"]},
        "host": record["host"],
        "made_of": record["made_of"],
        "counts": derived.counts,
        "signing_key": derived.key,
        "logs": run.logs,
    }
    more = set() if derived.fleet is None else {"fleet"}
    if strange := set(content) - {*wanted, "run", "claims", *more}:
        yield f"{name} has {legible(min(strange), 40)}, which no report has"
    if derived.fleet is not None:
        yield from _fleet(derived.fleet, content["fleet"])
    for what, value in wanted.items():
        if not same(content[what], value):
            yield f"{name}: {what} is {legible(content[what], 80)!r}, and it must be {legible(value, 80)!r}"
    ids = {"id": "run", "started": "started", "ended": "ended", "command": "command", "commit": "commit"}
    for what, key in ids.items():
        if not same(table(content["run"], f"{name}: run", what)[what] or "", record[key]):
            yield f"{name}: run.{what} is not the record's"
    if not same(table(content["run"], f"{name}: run", "durations")["durations"], record.get("durations")):
        yield f"{name}: run.durations are not the record's"
    claims = [table(row, f"{name}: a claim", "id") for row in content["claims"]]
    if [row["id"] for row in claims] != list(run.claims):
        yield f"{name}: its claims are not the contract's, in the contract's order"
        return
    for row in claims:
        yield from _claim(derived, row)
    if fault := unusual(run.tree.read(name), name):
        yield fault


def _fleet(fleet: dict[str, Any], content: Any) -> Iterator[str]:
    """Where signoff.json tells other parts than the list of them."""
    table(content, "signoff.json: fleet", "parts", "words")
    facts = ("run", "machine", "seconds", "cut_short")
    if [[part.get(what) for what in facts] for part in content["parts"]] != [
        [part[what] for what in facts] for part in fleet["parts"]
    ]:
        yield "signoff.json: its parts are not those that are there"
    words_of = {
        claim: [(word["part"], word["status"], word["why"]) for word in words]
        for claim, words in content["words"].items()
    }
    if words_of != {
        claim: [(word["part"], word["status"], word["why"]) for word in words]
        for claim, words in fleet["words"].items()
    }:
        yield "signoff.json: what its parts say is told otherwise"


def _claim(derived: Derived, stated: dict[str, Any]) -> Iterator[str]:
    run = derived.run
    claim = run.claims[stated["id"]]
    if stated.get("status") != run.status[claim.id]:
        yield f"signoff.json: {claim.id} is {legible(stated.get('status'), 20)}, and it must be {run.status[claim.id]}"
    of_contract = {"kind": claim.kind, "class": claim.threat, "source": claim.source, "reason": claim.why,
                   "mode": run.mode}  # fmt: skip
    row = {key: value for key, value in run.rows.get(claim.id, {}).items() if key != "_time"}
    wanted = {**row, **of_contract}
    if row and (strange := set(stated) - set(wanted)):
        yield f"signoff.json: {claim.id} has {legible(min(strange), 40)}, which was not put down"
    for what, value in wanted.items():
        if not same(stated.get(what), value):
            yield f"signoff.json: {claim.id}: {legible(what, 40)} is not what was put down"


def statement(derived: Derived, predicate: dict[str, Any]) -> Iterator[str]:
    """Where the signed statement says anything else."""
    run = derived.run
    record = run.record
    plain = run.mode == "plain"

    def those(*statuses: str) -> list[str]:
        return [name for status in statuses for name, verdict in run.status.items() if verdict == status]

    wanted = {
        "result": "PASSED"
        if derived.word == "PROTECTED"
        else "WARNED"
        if derived.word == "CONTROLS HOLD"
        else "FAILED",
        "verdict": derived.word,
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
        "contract": derived.contract,
        "kernels": sorted(derived.kernels),
        "source": (record["kernel"] or {}).get("source_sha256", ""),
        "patches": series_of(record) if record["kernel"] else "",
        "madeOf": record["made_of"],
        "machines": derived.machines,
    }
    made_of = {("contract", derived.contract["sha256"]), *record["made_of"].items(), *derived.images}
    named = [(entry["name"], entry["digest"]["sha256"]) for entry in predicate["configuration"]]
    for name, sha256 in sorted(made_of - set(named)):
        yield f"the statement's configuration does not name {legible(name, 60)} ({sha256}) as the record does"
    for name, _ in sorted(set(named) - made_of):
        yield f"the statement's configuration names {legible(name, 60)}, which the record does not"
    if strange := set(predicate) - {*wanted, "configuration"}:
        yield f"the statement has {legible(min(strange), 40)}, which no sealproof states"
    for what, value in wanted.items():
        if not same(predicate.get(what), value):
            yield (
                f"the statement's {what} is {legible(predicate.get(what), 60)!r}, and it must be {legible(value, 60)!r}"
            )

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report says for programs, held against what was derived: ``signoff.json`` and the signed statement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verifier import contract as contracts
from verifier import merged
from verifier.run import STATUSES, Run, series_of
from verifier.text import check_names, legible, parse, same, table, unusual
from verifier.verdict import EXIT, problems, row_of, sentence

WHOLE = "the_whole_run"
"""What stands for the whole run where there are only tests; CONTROL: in mode plain, which passes nothing."""


@dataclass(frozen=True, slots=True)
class Derivation:
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
    def export_words(self) -> dict[str, str]:
        """What an export says of each claim, and of the whole run."""
        run = self.run
        of_claims = {name: "CONTROL" if name in self.controls else run.status[name] for name in run.claims}
        return {**of_claims, WHOLE: self.whole}

    @property
    def contract(self) -> dict[str, Any]:
        """Which contract: how many claims, and its hash."""
        return {"claims": len(self.run.claims), "sha256": self.run.contract}


def document(derivation: Derivation) -> Iterator[str]:
    """Where signoff.json says anything else."""
    run, name = derivation.run, "signoff.json"
    content = table(
        parse(run.tree.read(name), name), name,
        "schema", "verdict", "exit_code", "summary", "mode", "tier", "contract", "run", "kernel", "host", "made_of",
        "counts", "problems", "claims", "signing_key", "logs",
    )  # fmt: skip
    record = run.record
    kernel = record["kernel"]
    expected = {
        "schema": "sealproof-signoff-6",
        "verdict": derivation.word,
        "exit_code": EXIT[derivation.word],
        "summary": sentence(run, derivation.word),
        "problems": problems(run),
        "mode": record["mode"],
        "tier": record["tier"],
        "contract": derivation.contract,
        "kernel": None if kernel is None else {**kernel, "series": record["series"]},
        "host": record["host"],
        "made_of": record["made_of"],
        "counts": derivation.counts,
        "signing_key": derivation.key,
        "logs": run.logs,
    }
    more = set() if derivation.fleet is None else {"fleet"}
    if strange := set(content) - {*expected, "run", "claims", *more}:
        yield f"{name} has {legible(min(strange), 40)}, which no report has"
    if derivation.fleet is not None:
        yield from _fleet(derivation.fleet, content["fleet"])
    for key, value in expected.items():
        if not same(content[key], value):
            yield f"{name}: {key} is {legible(content[key], 80)!r}, and it must be {legible(value, 80)!r}"
    of_run = run_of(record)
    check_names(table(content["run"], f"{name}: run", *of_run), f"{name}: run", of_run)
    for key, value in of_run.items():
        if not same(content["run"][key], value):
            yield f"{name}: run.{key} is not the record's"
    claims = [table(row, f"{name}: a claim", "id") for row in content["claims"]]
    if [row["id"] for row in claims] != list(run.claims):
        yield f"{name}: its claims are not the contract's, in the contract's order"
        return
    for row in claims:
        yield from _claim(derivation, row)
    if fault := unusual(run.tree.read(name), name):
        yield fault


def run_of(record: dict[str, Any]) -> dict[str, Any]:
    """What signoff.json says of the run."""
    named = {name: record[name] for name in ("started", "command", "commit")}
    return {"id": record["run"], **named, "ended": record["ended"] or None, "durations": record.get("durations", {})}


def _fleet(fleet: dict[str, Any], content: Any) -> Iterator[str]:
    """Where signoff.json tells other parts than the list of them."""
    expected = merged.document(fleet)
    check_names(table(content, "signoff.json: fleet", *expected), "signoff.json: fleet", expected)
    if not same(content["parts"], expected["parts"]):
        yield "signoff.json: its parts are not those that are there"
    if not same(content["words"], expected["words"]):
        yield "signoff.json: it does not say what its parts say"
    for key in ("differing", "verdicts"):
        if not same(content[key], expected[key]):
            yield f"signoff.json: {key} of its machines is not what the parts give"


def _claim(derivation: Derivation, stated: dict[str, Any]) -> Iterator[str]:
    run = derivation.run
    claim = run.claims[stated["id"]]
    if stated.get("status") != run.status[claim.id]:
        yield f"signoff.json: {claim.id} is {legible(stated.get('status'), 20)}, and it must be {run.status[claim.id]}"
    of_contract = {"kind": claim.kind, "class": claim.threat, "source": claim.source, "reason": claim.why,
                   "mode": run.mode}  # fmt: skip
    row = {key: value for key, value in row_of(run, claim.id).items() if key != "_time"}
    expected = {**row, **of_contract}
    if strange := set(stated) - set(expected):
        yield f"signoff.json: {claim.id} has {legible(min(strange), 40)}, which was not put down"
    for field, value in expected.items():
        if not same(stated.get(field), value):
            yield f"signoff.json: {claim.id}: {legible(field, 40)} is not what was put down"


def statement_content(derivation: Derivation) -> dict[str, Any]:
    """What the signed statement says, but for the order of its configuration."""
    run = derivation.run
    record = run.record
    plain = run.mode == "plain"

    def names_of(*statuses: str) -> list[str]:
        return [name for status in statuses for name, verdict in run.status.items() if verdict == status]

    made_of = [("contract", derivation.contract["sha256"]), *sorted(derivation.images), *record["made_of"].items()]
    return {
        "configuration": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in made_of],
        "result": "PASSED"
        if derivation.word == "PROTECTED"
        else "WARNED"
        if derivation.word == "CONTROLS HOLD"
        else "FAILED",
        "verdict": derivation.word,
        "passedTests": [] if plain else names_of("PASS"),
        "warnedTests": [*(names_of("PASS") if plain else []), *names_of("SKIP")],
        "failedTests": names_of("FAIL", "ERROR", "MISS"),
        "run": record["run"],
        "started": record["started"],
        "ended": record["ended"],
        "mode": record["mode"],
        "tier": record["tier"],
        "commit": record["commit"],
        "series": record["series"],
        "contract": derivation.contract,
        "kernels": sorted(derivation.kernels),
        "source": (record["kernel"] or {}).get("source_sha256", ""),
        "patches": series_of(record) if record["kernel"] else "",
        "madeOf": record["made_of"],
        "machines": derivation.machines,
    }


def statement(derivation: Derivation, predicate: dict[str, Any]) -> Iterator[str]:
    """Where the signed statement says anything else."""
    expected = statement_content(derivation)
    made_of = {(entry["name"], entry["digest"]["sha256"]) for entry in expected.pop("configuration")}
    named = []
    for entry in predicate["configuration"]:
        digest = table(entry, "the statement's configuration", "name", "digest")["digest"]
        check_names(entry, "the statement's configuration", ("name", "digest"))
        check_names(table(digest, "a digest of the statement", "sha256"), "a digest of the statement", ("sha256",))
        named.append((entry["name"], digest["sha256"]))
    for name, sha256 in sorted(made_of - set(named)):
        yield f"the statement's configuration does not name {legible(name, 60)} ({sha256}) as the record does"
    for name, _ in sorted(set(named) - made_of):
        yield f"the statement's configuration names {legible(name, 60)}, which the record does not"
    # Two kernels may have one configuration.
    if any(named.count(entry) > max(1, len(derivation.kernels)) for entry in set(named)):
        yield "the statement's configuration names one thing twice"
    if strange := set(predicate) - {*expected, "configuration"}:
        yield f"the statement has {legible(min(strange), 40)}, which no sealproof states"
    for key, value in expected.items():
        if not same(predicate.get(key), value):
            yield (
                f"the statement's {key} is {legible(predicate.get(key), 60)!r}, and it must be {legible(value, 60)!r}"
            )

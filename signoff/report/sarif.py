# SPDX-License-Identifier: GPL-2.0-or-later
"""``signoff.sarif``: what failed, for viewers of findings (SARIF 2.1.0, OASIS, 2020).

Each claim is a rule, each result carries its claim's id and lies at the claim's line of the contract. FAIL is a
failure; ERROR and MISS are ``open``, SKIP is ``notApplicable``, and PASS is no result. In mode plain each claim about
protection is ``open`` as well, and a notification says that the run is no sign-off. What makes a run as a whole no
proof is a notification, and ``executionSuccessful`` is false then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.text import printable
from signoff.overall import Exit
from signoff.report.data import Report
from signoff.report.terminal import NO_SIGNOFF
from signoff.results import Row
from signoff.verdict import Status

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
BASE, FOLDER = "SEALPROOF", "tests_e2e/contract"
"""Where the contract lies: below the checkout of sealproof."""
_KINDS = {
    Status.FAIL: ("fail", "error"),
    Status.ERROR: ("open", "none"),
    Status.MISS: ("open", "none"),
    Status.SKIP: ("notApplicable", "none"),
}


def to_sarif(report: Report, places: Mapping[str, tuple[str, int]]) -> str:
    """The document as text.

    :param places: file and line of the contract for each claim.
    """
    order = {row.claim.id: number for number, row in enumerate(report.rows)}
    run = {
        "tool": {"driver": {"name": "sealproof", "rules": [_rule(row) for row in report.rows]}},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {BASE: {"description": {"text": "a checkout of sealproof"}}},
        "automationDetails": {"id": f"sealproof/{report.record.mode}/{report.record.run}"},
        "invocations": [_invocation(report)],
        "results": [
            _result(report, row, order[row.claim.id], places.get(row.claim.id, ("", 1)))
            for row in report.rows
            if row.result.status is not Status.PASS or report.is_control(row)
        ],
        "properties": {
            "verdict": report.overall.word,
            "mode": report.record.mode,
            "tier": report.record.tier or "unknown",
            "contract": report.contract_sha256,
            "sealproof": report.record.commit,
        },
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _rule(row: Row) -> dict[str, Any]:
    claim = row.claim
    return {
        "id": claim.id,
        "shortDescription": {"text": printable(row.result.sentence or claim.id)},
        "fullDescription": {"text": printable(claim.why)},
        "help": {"text": printable(f"{claim.why}\nSource: {claim.source}")},
        # SARIF wants tags that differ, and a claim of kind health is of class health.
        "properties": {"tags": list(dict.fromkeys(["security", claim.kind, claim.threat]))},
    }


def _result(report: Report, row: Row, rule: int, place: tuple[str, int]) -> dict[str, Any]:
    result = row.result
    file, line = place
    if report.is_control(row):
        kind, level, words = "open", "none", "the control alone: the probe gets through where nothing protects"
    else:
        (kind, level), words = _KINDS[result.status], f"{result.status}: {result.why}"
    facts = f"expected: {result.expected}\nobserved: {result.observed or 'nothing'}"
    text = f"{result.sentence or result.id}\n{words}\n{facts}"
    return {
        "ruleId": result.id,
        "ruleIndex": rule,
        "kind": kind,
        "level": level,
        "message": {"text": printable(text)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": f"{FOLDER}/{file}", "uriBaseId": BASE},
                    "region": {"startLine": line},
                }
            }
        ],
        "partialFingerprints": {"sealproofClaim/v1": result.id},
        "properties": {"status": "CONTROL" if report.is_control(row) else result.status},
    }


def _invocation(report: Report) -> dict[str, Any]:
    record = report.record
    words = [NO_SIGNOFF] if report.is_plain else []
    problems = [*words, *report.problems]
    return {
        "executionSuccessful": report.overall.exit_code is not Exit.NOT_PROVEN,
        "exitCode": int(report.overall.exit_code),
        "exitCodeDescription": report.overall.word,
        "commandLine": printable(record.command),
        "startTimeUtc": record.started,
        **({"endTimeUtc": record.ended} if record.ended else {}),
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": printable(problem)}} for problem in problems
        ],
    }

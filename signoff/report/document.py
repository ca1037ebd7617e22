# SPDX-License-Identifier: GPL-2.0-or-later
"""``signoff.json``: the verdict for programs. Checked against the schema in ``signoff/schema``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from common.errors import SealproofError
from signoff.fleet import Fleet, matrix
from signoff.record import Record
from signoff.report.data import Report
from signoff.results import Row

SCHEMA = Path(__file__).resolve().parent.parent / "schema" / "signoff-6.schema.json"


def to_json(report: Report) -> str:
    """The document as text.

    :raises SealproofError: if it does not fit the schema: a fault of this project.
    """
    text = json.dumps(_document(report), indent=1)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    fault = next(iter(Draft202012Validator(schema).iter_errors(json.loads(text))), None)
    if fault is not None:
        where = "/".join(str(part) for part in fault.absolute_path)
        raise SealproofError(f"signoff.json does not fit its schema at {where}: {fault.message[:300]}", stage="report")
    return text + "\n"


def _document(report: Report) -> dict[str, Any]:
    record = report.record
    return {
        "schema": "sealproof-signoff-6",
        "verdict": report.overall.word,
        "exit_code": int(report.overall.exit_code),
        "summary": report.overall.sentence,
        "mode": record.mode,
        "tier": record.tier,
        "contract": {"claims": len(report.rows), "sha256": report.contract_sha256},
        "run": {
            "id": record.run,
            "started": record.started,
            "ended": record.ended or None,
            "command": record.command,
            "commit": record.commit,
            "durations": dict(record.durations),
        },
        "kernel": _kernel(record),
        "host": dict(record.host),
        "made_of": dict(record.made_of),
        "counts": {str(status): count for status, count in report.counts.items()},
        "problems": list(report.problems),
        "claims": [_claim(row, record) for row in report.rows],
        "logs": report.logs,
        "signing_key": report.signing_key,
        **({"fleet": _fleet(report.fleet)} if report.fleet else {}),
    }


def _fleet(fleet: Fleet) -> dict[str, Any]:
    machine_matrix = matrix(fleet)
    return {
        "parts": [
            {
                "run": part.run,
                "machine": part.machine,
                "folder": part.folder,
                "seconds": part.seconds,
                "cut_short": part.cut_short,
                "facts": part.facts,
            }
            for part in fleet.parts
        ],
        "words": {
            claim: [
                {"part": word.part, "machine": fleet.machine_of(word.part), "status": word.status, "why": word.why}
                for word in words
            ]
            for claim, words in fleet.words.items()
        },
        "differing": [
            {
                "fact": name,
                "values": [
                    {"machines": list(kind), "value": value}
                    for kind, value in zip(machine_matrix.kinds, values, strict=True)
                ],
            }
            for name, values in machine_matrix.differing
        ],
        "verdicts": [claim for claim, _ in machine_matrix.verdicts],
    }


def _kernel(record: Record) -> dict[str, Any] | None:
    if record.kernel is None:
        return None
    return {**dataclasses.asdict(record.kernel), "series": record.series}


def _claim(row: Row, record: Record) -> dict[str, Any]:
    return {
        **dataclasses.asdict(row.result),
        "kind": row.claim.kind,
        "class": row.claim.threat,
        "mode": record.mode,
        "source": row.claim.source,
        "reason": row.claim.why,
    }

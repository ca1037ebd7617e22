# SPDX-License-Identifier: GPL-2.0-or-later
"""``kcidb.json``: the run for KernelCI's database (KCIDB, I/O schema 5.3), by the words that it has for a test's end.

FAIL, ERROR, MISS and SKIP mean there what they mean here. PASS of the node that stands for the whole run, ``signoff``,
is PROTECTED and nothing else. In mode plain there is no such node: what was tried are ``controls``, whose end is DONE.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from common.text import printable
from signoff.contract import Mode
from signoff.record import Record
from signoff.report.data import Report
from signoff.results import Row
from signoff.verdict import Status

ORIGIN = "sealproof"
VERSION = {"major": 5, "minor": 3}


def to_kcidb(report: Report) -> str:
    """The document as text."""
    record = report.record
    checkout, build = _checkout(record), _build(record)
    document = {
        "version": VERSION,
        "checkouts": [checkout],
        "builds": [build],
        "tests": [_whole(report, build["id"]), *(_test(report, row, build["id"]) for row in report.rows)],
    }
    return json.dumps(document, indent=1) + "\n"


def _checkout(record: Record) -> dict[str, Any]:
    kernel = record.kernel
    if kernel is None:
        return {"id": f"{ORIGIN}:unidentified", "origin": ORIGIN, "comment": "the run did not get that far"}
    # As KCIDB wants it: over the hashes alone, each with a line's end; empty where there is no patch.
    hashes = "".join(f"{patch.sha256}\n" for patch in kernel.patches)
    return {
        "id": f"{ORIGIN}:{kernel.source_sha256}-{kernel.series_sha256}",
        "origin": ORIGIN,
        "comment": _clean(f"{kernel.source}, series {record.series or 'unknown'}"),
        "patchset_hash": hashlib.sha256(hashes.encode()).hexdigest() if hashes else "",
        "valid": True,
        "misc": {
            "source_sha256": kernel.source_sha256,
            "patches": [{"name": _clean(patch.name), "sha256": patch.sha256} for patch in kernel.patches],
        },
    }


def _build(record: Record) -> dict[str, Any]:
    kernel, checkout = record.kernel, _checkout(record)["id"]
    if kernel is None:
        return {"id": f"{ORIGIN}:unidentified", "checkout_id": checkout, "origin": ORIGIN}
    return {
        "id": f"{ORIGIN}:{kernel.build_id}",
        "checkout_id": checkout,
        "origin": ORIGIN,
        "comment": _clean(f"Linux {kernel.release}"),
        "architecture": "x86_64",
        "compiler": _clean(kernel.compiler),
        "status": "PASS",
        "misc": {
            "build_id": kernel.build_id,
            "running_build_id": kernel.running_build_id,
            "image_sha256": kernel.image_sha256,
            "vmlinux_sha256": kernel.vmlinux_sha256,
            "config_sha256": kernel.config_sha256,
        },
    }


def _node(report: Report) -> str:
    return f"{ORIGIN}.controls" if report.record.mode is Mode.PLAIN else f"{ORIGIN}.signoff"


def _whole(report: Report, build: str) -> dict[str, Any]:
    """The node above all claims."""
    record = report.record
    return {
        "id": f"{ORIGIN}:{record.run}",
        "build_id": build,
        "origin": ORIGIN,
        "environment": _environment(report),
        "path": _node(report),
        "comment": _clean(f"{report.overall.word}: {report.overall.sentence}"),
        "status": _word(report.whole),
        "start_time": record.started,
        "misc": {
            "verdict": report.overall.word,
            "mode": record.mode,
            "contract_sha256": report.contract_sha256,
            "sealproof": record.commit,
            "made_of": dict(record.made_of),
            "problems": [_clean(problem) for problem in report.problems],
        },
    }


def _test(report: Report, row: Row, build: str) -> dict[str, Any]:
    result, claim = row.result, row.claim
    return {
        "id": f"{ORIGIN}:{report.record.run}/{result.id}",
        "build_id": build,
        "origin": ORIGIN,
        "environment": _environment(report),
        "path": f"{_node(report)}.{claim.kind}.{claim.threat}.{result.id}",
        "comment": _clean(f"Control of: {result.sentence}" if report.is_control(row) else result.sentence),
        "status": "DONE" if report.is_control(row) else _word(result.status),
        "start_time": report.record.started,
        "duration": result.seconds,
        **({"log_excerpt": _clean(result.why)[:4096]} if result.status is not Status.PASS and result.why else {}),
        "misc": {name: _clean(getattr(result, name)) for name in ("expected", "observed", "control", "shared")},
    }


def _word(status: Status | None) -> str:
    return "DONE" if status is None else str(status)


def _environment(report: Report) -> dict[str, Any]:
    tier = report.record.tier or "unknown"
    return {"comment": f"tier {tier}", "misc": {name: _clean(value) for name, value in report.record.host.items()}}


def _clean(text: str) -> str:
    """Text that KCIDB takes: it refuses NUL, as ``printable`` does."""
    return printable(text)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Small reports that fit the schema of ``signoff.json``, made in an instant: for histories of many runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signoff.report.document import SCHEMA
from signoff.verdict import Status

_SCHEMA = json.loads(SCHEMA.read_text(encoding="utf-8"))
KERNEL = "6.12.117"
END = "Nothing failed, but claims are not proven."


def sha(text: str) -> str:
    """A SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def run_id(number: int, day: int = 1, month: int = 11) -> str:
    """The id of a day's run."""
    return f"2026{month:02}{day:02}T0{number // 60:01}{number % 60:02}00Z-{number:06x}"


def claim(name: str, status: Status = Status.PASS, seconds: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A claim as ``signoff.json`` has it."""
    content: dict[str, Any] = {
        "id": name, "kind": "health" if name.endswith("healthy") else "legitimate",
        "class": "health" if name.endswith("healthy") else "devices", "mode": "protected",
        "sentence": f"{name.replace('_', ' ').capitalize()}.", "status": str(status),
        "why": "right in every check" if status is Status.PASS else f"it is {status}: expected 4, got 5",
        "expected": "right in every check", "observed": "", "control": "", "shared": "", "source": "x.c",
        "reason": "It is.", "seconds": seconds,
        "command": f"pytest tests_e2e -k test_{name}", "evidence": [], "runs": [], "checks": [],
        "maps": [], "protected": True, "controlled": True, "skip": "",
    }  # fmt: skip
    fields = _SCHEMA["$defs"]["claim"]["required"]
    return {**{name: content.get(name, "") for name in fields}, **changes}


def claim_not_tried(name: str) -> dict[str, Any]:
    """A claim that was not tried."""
    return claim(name, Status.MISS, 0.0, command="", why="not run: not among those asked for")


def document(
    run: str,
    claims: list[dict[str, Any]],
    *,
    kernel: str = KERNEL,
    mode: str = "protected",
    series: str = "a-series",
    patches: tuple[tuple[str, str], ...] = (("0001-a.patch", "a"),),
    host: Mapping[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A whole ``signoff.json``.

    :param kernel: names it, and what it is made of. :param changes: of the document's own values.
    """
    started = f"{run[:4]}-{run[4:6]}-{run[6:8]}T{run[9:11]}:{run[11:13]}:{run[13:15]}Z"
    for row in claims:
        row["mode"] = mode
    content: dict[str, Any] = {
        "schema": _SCHEMA["properties"]["schema"]["const"], "verdict": "NOT PROVEN", "exit_code": 2, "summary": END,
        "mode": mode,
        "tier": "emulated", "contract": {"claims": len(claims), "sha256": sha("contract")},
        "run": {"id": run, "started": started, "ended": started, "command": "pytest tests_e2e", "commit": "c" * 40,
                "durations": {}},
        "kernel": {"release": kernel, "build_id": sha(kernel)[:40], "running_build_id": sha(kernel)[:40],
                   "source": "linux", "source_sha256": sha(f"source {kernel}"), "config_sha256": sha("config"),
                   "image_sha256": sha(f"image {kernel}"), "vmlinux_sha256": sha(f"vmlinux {kernel}"),
                   "compiler": "gcc 12.2.0", "series": series,
                   "patches": [{"name": name, "sha256": sha(text)} for name, text in patches]},
        "host": {"cpu": "max", "qemu of the host and the guest": "10.0", "kernel's layers": "none",
                 "started": "restored", **(host or {})},
        "made_of": {"sealproof's files": sha("files"), "emulator": sha("qemu 10.0")},
        "counts": {str(status): sum(row["status"] == status for row in claims) for status in Status},
        "problems": [], "claims": claims, "logs": [], "signing_key": "",
    }  # fmt: skip
    return {**content, **changes}


def kill_run(report: dict[str, Any]) -> dict[str, Any]:
    """The same document, of a run that was killed."""
    return {**report, "run": {**report["run"], "ended": None}, "problems": ["the run was killed before its end"]}


def write(folder: Path, report: Mapping[str, Any]) -> Path:
    """Put a report into a folder below another one; returns it."""
    place = folder / str(report["run"]["id"])
    place.mkdir(parents=True)
    (place / "signoff.json").write_text(json.dumps(report), encoding="utf-8")
    return place

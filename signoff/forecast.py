# SPDX-License-Identifier: GPL-2.0-or-later
"""How long claims may take, by the runs that are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from common.progress import clock
from signoff.contract import Mode

RUNS = 50  # the newest, that are looked at


def last_seconds(reports: Path, mode: Mode) -> dict[str, float]:
    """Claim -> the seconds that it took the last time that it was tried in this mode, by the runs in a folder.

    A run that cannot be read, or was of another mode, is passed over.
    """
    durations: dict[str, float] = {}
    folders = sorted(
        (file.parent for file in reports.glob("*/record.json")), key=lambda folder: folder.name, reverse=True
    )
    for folder in [folder for folder in folders if not folder.is_symlink()][:RUNS]:
        try:
            if json.loads((folder / "record.json").read_text(encoding="utf-8"))["mode"] != mode:
                continue
            whole, _, _ = (folder / "claims.jsonl").read_text(encoding="utf-8").rpartition("\n")
            for line in whole.splitlines():
                result = json.loads(line)
                if result["command"] and result["seconds"]:  # 0 s: the set-up failed before its test began
                    durations.setdefault(result["id"], float(result["seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return durations


def describe(claims: Iterable[str], seconds: dict[str, float]) -> str:
    """How many claims, and how long they may take, in words."""
    names = list(claims)
    times = [seconds[name] for name in names if name in seconds]
    new = len(names) - len(times)
    if not times:
        return f"{len(names)}: how long is not known yet" if names else "none"
    return f"{len(names)}: {clock(sum(times))} last time" + (f", and {new} that never ran here" if new else "")

# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's journal: what was done when, each line bound to all before it.

``journal.jsonl`` has one JSON object a line. Each has ``number`` (from 0), ``time`` (seconds since 1970), ``event``,
and ``previous``, the SHA-256 of the line before it, without its newline; the first has 64 zeros there. Events::

    begin     run, nonce, contract (SHA-256)
    planted   claim, host, guest, page, state, gpa, hva, hpa, mapping, commitment     before the probe
    claim     id, status, line (SHA-256 of the claim's line in claims.jsonl), files (name -> SHA-256)
    part      run, sums (SHA-256 of the part's SHA256SUMS)                            of a merged run alone
    end       record (SHA-256 of record.json), claims (SHA-256 of claims.jsonl)

A commitment is the SHA-256 of run, host, guest, page, state and guest-physical address, each followed by a zero byte,
and the canary. What the guest made the canary of is published with the observation, when the probe is over.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from common.store import REPORTS, disk_errors

JOURNAL = "journal.jsonl"
FIRST = "0" * 64
PLANTED = "planted"
KILLED = "the run was killed before its end"


class Journal:
    """A journal, open for writing; one that is there is continued.

    :param folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        self._previous = hashlib.sha256(lines[-1]).hexdigest() if lines else FIRST
        self._number = len(lines)

    def add(self, event: str, **facts: Any) -> float:
        """Add a line; returns its time. It is on the disk when this returns, but for what was planted.

        A probe needs many of those, and a claim's own line brings them to the disk as well.
        """
        now = round(time.time(), 6)
        line = {"number": self._number, "time": now, "event": event, "previous": self._previous, **facts}
        text = json.dumps(line, separators=(",", ":")).encode()
        with disk_errors(self._path.parent, REPORTS), self._path.open("ab") as out:
            out.write(text + b"\n")
            out.flush()
            if event != PLANTED:
                os.fsync(out.fileno())
        self._previous = hashlib.sha256(text).hexdigest()
        self._number += 1
        return now


def faults(folder: Path) -> list[str]:
    """Where a run's folder is not what its journal says: a broken chain, a changed line, record or evidence."""
    complaints = []
    previous, has_end = FIRST, False
    results = iter((folder / "claims.jsonl").read_bytes().splitlines())
    path = folder / JOURNAL
    for number, text in enumerate(path.read_bytes().splitlines() if path.exists() else ()):
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:
            break  # the last line of a run that was killed
        if (line.get("previous"), line.get("number")) != (previous, number) or has_end:
            complaints.append(f"{JOURNAL} is not one chain: line {number + 1} does not follow the line before it")
            break
        previous = hashlib.sha256(text).hexdigest()
        if line["event"] == "claim":
            if hashlib.sha256(next(results, b"")).hexdigest() != line["line"]:
                complaints.append(f"claims.jsonl: the line of {line['id']} differs from the journal's")
            complaints += _differing(folder, line["files"])
        elif line["event"] == "end":
            has_end = True
            complaints += _differing(folder, {"record.json": line["record"], "claims.jsonl": line["claims"]})
    if next(results, None) is not None and not complaints:
        complaints.append("claims.jsonl has lines that are not in the journal")
    if not has_end and not any("not one chain" in words for words in complaints):
        return [KILLED]  # whatever else: it is no proof
    return list(dict.fromkeys(complaints))


def _differing(folder: Path, files: dict[str, str]) -> list[str]:
    complaints = []
    for name, sha256 in files.items():
        path = folder / name
        if not path.is_file():
            complaints.append(f"{name} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            complaints.append(f"{name} was changed")
    return complaints

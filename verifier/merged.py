# SPDX-License-Identifier: GPL-2.0-or-later
"""What a merged report says of its parts, made anew from them: record, plan, list of parts, lines, ``signoff.json``.

Parts stand in the order in which the merger lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from verifier import machines
from verifier.run import Run

_MEASURED = 86400.0  # seconds: an order may wait for so long until its part begins


def words_on(parts: Sequence[Run], claim: str, *, health: bool) -> list[Run]:
    """The parts that have a word on a claim, the one that counts first."""
    speakers = [part for part in parts if _counts(part, claim, health=health)]
    return sorted(speakers, key=lambda part: machines.WORST_FIRST.index(part.status[claim]))


def _counts(part: Run, claim: str, *, health: bool) -> bool:
    """Whether a part has a word on a claim: it tried it; or, if it tried anything, it should have looked at health."""
    row = part.rows.get(claim)
    if row is None or part.status[claim] == "FAIL" or not part.ended:
        return row is not None and part.status[claim] == "FAIL"
    tried = any(row.get("command") for row in part.rows.values())
    return bool(row.get("command") or (health and tried))


def record(parts: Sequence[Run]) -> dict[str, Any]:
    """What the parts' records come to, in one."""
    records = [part.record for part in parts]
    tested = [entry for entry in records if entry["kernel"] is not None] or records
    first = tested[0]

    def common(field: str, without: str = "") -> dict[str, Any]:
        return {
            name: value
            for name, value in first[field].items()
            if name != without and all(entry[field].get(name) == value for entry in tested)
        }

    names = dict.fromkeys(_machine(part) for part in parts)
    return {
        "started": min(entry["started"] for entry in records),
        "ended": max(entry["ended"] or entry["started"] for entry in records),
        **{name: first[name] for name in ("mode", "commit", "tier", "series", "kernel")},
        "host": {"machines": ", ".join(names), **common("host", machines.OF_THE_START)},
        "made_of": common("made_of"),
        "machine": "",
        "interrupted": False,
        "given_up": "",
    }


def sentences(parts: Sequence[Run]) -> dict[str, str]:
    """What the parts set out to claim."""
    return {name: words for part in parts for name, words in part.sentences.items()}


def part_entries(parts: Sequence[Run], seconds: Sequence[Any]) -> list[dict[str, Any]]:
    """The list of the parts.

    :param seconds: that each took, as who gave the order measured it.
    """
    cpus: dict[str, set[str]] = {}
    for part in parts:
        if cpu := part.record["host"].get("cpu"):
            cpus.setdefault(_machine(part), set()).add(cpu)
    entries = []
    for part, took in zip(parts, seconds, strict=True):
        record, machine, cpu = part.record, _machine(part), part.record["host"].get("cpu")
        # Machines of one name whose processors differ are called by both.
        named = machine if not cpu or len(cpus[machine]) == 1 else f"{machine}, {cpu}"
        facts = {name: record[name] for name in ("run", "started", "ended", "tier", "kernel", "host")}
        entries.append({**facts, "machine": named, "seconds": took, "cut_short": _cut_short(record)})
    return entries


def measured(part: Run, seconds: Any) -> bool:
    """Whether a part can have taken so long, in the eyes of who gave the order; 0: it was not measured."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return False
    events = part.events
    length = float(events[-1]["time"] - events[0]["time"]) if events else 0.0
    return seconds == 0 or 0 < seconds <= length + _MEASURED


def part_words(chosen: dict[str, list[Run]]) -> dict[str, list[dict[str, str]]]:
    """The parts' words on each claim.

    :param chosen: the parts that have one, the one that counts first.
    """
    return {
        claim: [
            {"part": part.record["run"], "status": part.status[claim], "why": part.rows[claim]["why"]} for part in parts
        ]
        for claim, parts in chosen.items()
        if parts
    }


def line(speakers: Sequence[Run], claim: str) -> dict[str, Any]:
    """A claim's line: that of the part that counts, with the evidence and the checks of all that say the same."""
    first = speakers[0].rows[claim]
    alike = [(part, part.rows[claim]) for part in speakers if part.status[claim] == speakers[0].status[claim]]
    merged_row = {name: value for name, value in first.items() if name != "_time"}
    merged_row["evidence"] = [f"parts/{part.record['run']}/{name}" for part, row in alike for name in row["evidence"]]
    merged_row["seconds"] = round(sum(row["seconds"] for _, row in alike), 3)
    if len(alike) > 1:
        merged_row["checks"] = [
            {**check, "name": f"{_machine(part)}, {part.record['run'][-6:]}: {check['name']}"}
            for part, row in alike
            for check in row["checks"]
        ]
        if first["observed"]:
            merged_row["observed"] = f"{first['observed']} (the first of {len(alike)} parts that say {first['status']})"
    return merged_row


def document(content: dict[str, Any]) -> dict[str, Any]:
    """What ``signoff.json`` says of the parts.

    :param content: the list of them.
    """
    fleet = machines.fleet(content)
    of = {entry["run"]: entry["machine"] for entry in content["parts"]}
    return {
        "parts": [
            {
                **{name: entry[name] for name in ("run", "machine", "seconds", "cut_short")},
                "folder": f"parts/{entry['run']}",
                "facts": machines.facts_of_part(entry),
            }
            for entry in content["parts"]
        ],
        "words": {
            claim: [{**entry, "machine": of[entry["part"]]} for entry in words]
            for claim, words in content["words"].items()
        },
        "differing": [{"fact": name, "values": list(_values(fleet.kinds, values))} for name, values in fleet.differing],
        "verdicts": [claim for claim, _ in fleet.verdicts],
    }


def _values(kinds: Sequence[list[str]], values: Sequence[str]) -> Iterator[dict[str, Any]]:
    for names, value in zip(kinds, values, strict=True):
        yield {"machines": names, "value": value}


def _machine(part: Run) -> str:
    return str(part.record["machine"] or "unknown")


def _cut_short(record: dict[str, Any]) -> str:
    """Why a run did not come to its end; empty if it did."""
    if record["given_up"]:
        return str(record["given_up"])
    return "interrupted" if record["interrupted"] else "" if record["ended"] else "killed"

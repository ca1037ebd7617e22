# SPDX-License-Identifier: GPL-2.0-or-later
"""A report that was merged from parts: each part is a run's folder, derived for itself; the worst word counts.

Nothing that the merger says of a part is taken over. A part that came to its end is signed by whoever ran it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from verifier import bounds, identity, signature
from verifier import run as runs
from verifier.run import Run
from verifier.text import UnsoundError, legible, parse, table
from verifier.tree import Tree

FLEET, SUMS = "fleet.json", "SHA256SUMS"
_PART_FACTS = ("run", "started", "ended", "tier", "kernel", "host")
_WORST_FIRST = ("FAIL", "ERROR", "MISS", "PASS", "SKIP")
_PART = re.compile(r"parts/([^/]+)/")


@dataclass(slots=True)
class Merged:
    """A merged report, derived.

    :ivar whole: the merged folder's own record, contract and lines. :ivar parts: each part, derived.
    :ivar told: what the merger says of the parts.
    :ivar signers: fingerprints of the keys of the parts. :ivar chosen: the part whose word counts, for each claim.
    """

    whole: Run
    parts: list[Run]
    told: dict[str, Any]
    signers: list[str] = field(default_factory=list)
    chosen: dict[str, Run] = field(default_factory=dict)


def derive(tree: Tree) -> Merged:
    """Derive a merged report.

    :raises UnsoundError: it cannot be read at all. Smaller faults are in ``whole.faults``.
    """
    whole = runs.open_run(tree)
    runs.chain(whole)
    whole.faults += bounds.record(whole.record)
    content = table(parse(tree.read(FLEET), FLEET), FLEET, "parts", "words")
    names = sorted({match[1] for name in tree.names if (match := _PART.match(name))})
    if sorted(str(table(part, "a part", "run")["run"]) for part in content["parts"]) != names:
        raise UnsoundError(f"{FLEET} does not name the parts that are there")
    merged = Merged(whole, [], content)
    for name in names:
        merged.parts.append(_part(whole, tree, name, merged.signers))
    _same(merged)
    _once(merged)
    for name, claim in list(whole.claims.items()):
        parts_with_word = [part for part in merged.parts if _counts(part, name, health=claim.kind == "health")]
        parts_with_word.sort(key=lambda part: _WORST_FIRST.index(part.status[name]))
        whole.status[name], whole.why[name] = ("MISS", "no part has a word on it")
        if parts_with_word:
            merged.chosen[name] = parts_with_word[0]
            whole.status[name], whole.why[name] = parts_with_word[0].status[name], parts_with_word[0].why[name]
        _line(whole, name, parts_with_word)
        _words(merged, name, parts_with_word)
    if strange := set(content["words"]) - set(whole.claims):
        whole.faults.append(f"{FLEET} has words on {legible(min(strange), 60)}, which is not in the contract")
    _check_parts(merged)
    return merged


def _check_parts(merged: Merged) -> None:
    """What the merger says of each part is the part's own record, and the journal has the part as it is."""
    whole, part_of = merged.whole, {str(part["run"]): part for part in merged.told["parts"]}
    for part in merged.parts:
        name, record = part.record["run"], part.record
        entry = table(part_of[name], "a part", "machine", "seconds", "cut_short", *_PART_FACTS)
        if wrong := [what for what in _PART_FACTS if entry[what] != record[what]]:
            whole.faults.append(f"{FLEET}: {wrong[0]} of part {name} is not what its record says")
        # Machines of one name whose processors differ are called by both.
        named = record["machine"] or "unknown"
        if entry["machine"] not in (named, f"{named}, {record['host'].get('cpu')}"):
            whole.faults.append(
                f"{FLEET}: part {name} is of {legible(entry['machine'], 40)}, and its record says {named}"
            )
        if bool(entry["cut_short"]) == part.ended:
            whole.faults.append(f"{FLEET}: whether part {name} came to its end is told otherwise")
    machines = ", ".join(dict.fromkeys(str(part["machine"]) for part in merged.told["parts"]))
    if whole.record["host"].get("machines", machines) != machines:
        whole.faults.append(f"record.json: its machines are not those of {FLEET}")
    events = [(event.get("run"), event.get("sums")) for event in whole.events if event["event"] == "part"]
    sums = [(part.record["run"], part.tree.sha256(SUMS) if SUMS in part.tree else "") for part in merged.parts]
    if sorted(map(str, events)) != sorted(map(str, sums)):
        whole.faults.append("the journal has other parts than those that are there")


def _words(merged: Merged, name: str, parts_with_word: list[Run]) -> None:
    """What the merger says that each part says of a claim is what it says."""
    there = [(part.record["run"], part.status[name], part.rows[name].get("why")) for part in parts_with_word]
    words_of = [(word.get("part"), word.get("status"), word.get("why")) for word in merged.told["words"].get(name, ())]
    if sorted(map(str, words_of)) != sorted(map(str, there)):
        merged.whole.faults.append(f"{FLEET}: what the parts say of {name} is told otherwise")


def _part(whole: Run, tree: Tree, name: str, signers: list[str]) -> Run:
    """One part; what is wrong in it is a fault of the whole."""
    below = tree.below(f"parts/{name}")
    part = runs.derive(below)
    label = f"part {legible(name, 60)}"
    whole.faults += [f"{label}: {fault}" for fault in part.faults]
    if part.record["run"] != name:
        whole.faults.append(f"{label} is the run {legible(part.record['run'], 60)}")
    if not part.ended:
        return part
    try:
        signed = signature.check(below)
        signers.append(signed.key)
        if signed.predicate.get("run") != name:
            whole.faults.append(f"{label}: its signature is of another run")
    except UnsoundError as error:
        whole.faults.append(f"{label}: {error}")
    return part


def _once(merged: Merged) -> None:
    """No page and no run stands for two: each part has a nonce and canaries of its own."""
    of_nonce: dict[str, str] = {}
    of_canary: dict[bytes, str] = {}
    for part in merged.parts:
        name = part.record["run"]
        if (before := of_nonce.setdefault(str(part.events[0].get("nonce")), name)) != name:
            merged.whole.faults.append(f"part {name} has the nonce of part {before}")
        others = {of_canary.setdefault(row.canary, name) for each in part.seen.values() for row in each} - {name}
        if others:
            merged.whole.faults.append(f"part {name} has a page of part {min(others)}")


def _same(merged: Merged) -> None:
    """All parts are of one contract, mode, commit, series and patches: the whole's."""
    whole = merged.whole
    for part in merged.parts:
        name = f"part {part.record['run']}"
        if part.contract != whole.contract:
            whole.faults.append(f"{name} is of another contract")
        for what in ("mode", "commit"):
            if part.record[what] != whole.record[what]:
                whole.faults.append(f"{name}: its {what} is {legible(part.record[what], 60)}, not the report's")
        if part.record["kernel"] is None or whole.record["kernel"] is None:
            continue
        if part.record["series"] != whole.record["series"] or runs.series_of(part.record) != runs.series_of(
            whole.record
        ):
            whole.faults.append(f"{name}: its series is another")
    parts = [part.record["made_of"] for part in merged.parts]
    for name, value in whole.record["made_of"].items():
        if any(
            part_row.get(name) != value
            for part_row, part in zip(parts, merged.parts, strict=True)
            if part.record["kernel"]
        ):
            whole.faults.append(f"not all parts have the {legible(name, 40)} that the report names")
    if whole.record["kernel"] and whole.record["kernel"] not in [part.record["kernel"] for part in merged.parts]:
        whole.faults.append("no part has the kernel that the report names")
    if len({part.get(identity.SEALPROOF) for part in parts}) > 1:
        whole.faults.append("parts are of different files of sealproof")
    if any(part.record["tier"] != whole.record["tier"] for part in merged.parts if part.record["tier"]):
        whole.faults.append("parts are of different tiers")


def _counts(part: Run, name: str, *, health: bool) -> bool:
    """Whether a part has a word on a claim: it tried it; or, if it tried anything, it should have looked at health."""
    row = part.rows.get(name)
    if row is None or part.status[name] == "FAIL" or not part.ended:
        return row is not None and part.status[name] == "FAIL"
    tried = any(row.get("command") for row in part.rows.values())
    return bool(row.get("command") or (health and tried))


def _line(whole: Run, name: str, parts_with_word: list[Run]) -> None:
    """The merged report's own line is the word that counts, with that part's probes."""
    row = whole.rows.get(name)
    if row is None:
        if parts_with_word:
            whole.faults.append(f"{runs.CLAIMS}: {name} is missing, and a part has a word on it")
        return
    if not parts_with_word:
        whole.faults.append(f"{runs.CLAIMS}: {name} is there, and no part has a word on it")
        return
    first = parts_with_word[0].rows[name]
    whole.claims[name] = whole.claims[name].for_row(str(row.get("row")))
    if row.get("status") != whole.status[name]:
        whole.faults.append(
            f"{name}: it says {legible(row.get('status'), 20)}, and its parts give {whole.status[name]}"
        )
    alike = [part.rows[name] for part in parts_with_word if part.status[name] == whole.status[name]]
    for what in ("runs", "maps", "sentence", "expected", "protected", "controlled", "skip", "row"):
        if not any(row.get(what) == alike_row.get(what) for alike_row in alike):
            whole.faults.append(f"{name}: its {what} are not those of a part that says {first.get('status')}")
    together = ("runs", "expected", "row")
    if not any(all(row.get(what) == alike_row.get(what) for what in together) for alike_row in alike):
        whole.faults.append(f"{name}: its runs and the outcome that they are held against are of different parts")
    bare = [(check["expected"], check["got"], check["right"]) for check in row["checks"]]
    every = [(check["expected"], check["got"], check["right"]) for each in alike for check in each["checks"]]
    if bare not in (every, [(check["expected"], check["got"], check["right"]) for check in alike[0]["checks"]]):
        whole.faults.append(f"{name}: its checks are not those of its parts")

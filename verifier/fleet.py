# SPDX-License-Identifier: GPL-2.0-or-later
"""A report that was merged from parts: each part is a run's folder, derived for itself; the worst word counts.

Nothing that the merger says of a part is taken over. A part that came to its end is signed by whoever ran it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from verifier import identity, signature
from verifier import run as runs
from verifier.run import Run
from verifier.text import UnsoundError, parse, shown, table
from verifier.tree import Tree

FLEET = "fleet.json"
_WORST_FIRST = ("FAIL", "ERROR", "MISS", "PASS", "SKIP")
_PART = re.compile(r"parts/([^/]+)/")


@dataclass(slots=True)
class Merged:
    """A merged report, derived.

    :ivar whole: the merged folder's own record, contract and lines. :ivar parts: each part, derived.
    :ivar signers: fingerprints of the keys of the parts. :ivar chosen: the part whose word counts, for each claim.
    """

    whole: Run
    parts: list[Run]
    signers: list[str] = field(default_factory=list)
    chosen: dict[str, Run] = field(default_factory=dict)


def derive(tree: Tree) -> Merged:
    """Derive a merged report.

    :raises UnsoundError: it cannot be read at all. Smaller faults are in ``whole.faults``.
    """
    whole = runs.opened(tree)
    runs.chain(whole)
    told = table(parse(tree.read(FLEET), FLEET), FLEET, "parts", "words")
    names = sorted({found[1] for name in tree.names if (found := _PART.match(name))})
    if sorted(str(table(one, "a part", "run")["run"]) for one in told["parts"]) != names:
        raise UnsoundError(f"{FLEET} does not name the parts that are there")
    merged = Merged(whole, [])
    for name in names:
        merged.parts.append(_part(whole, tree, name, merged.signers))
    _same(merged)
    for name, claim in list(whole.claims.items()):
        said = [part for part in merged.parts if _counts(part, name, health=claim.kind == "health")]
        said.sort(key=lambda part: _WORST_FIRST.index(part.status[name]))
        whole.status[name], whole.why[name] = ("MISS", "no part has a word on it")
        if said:
            merged.chosen[name] = said[0]
            whole.status[name], whole.why[name] = said[0].status[name], said[0].why[name]
        _line(whole, name, said)
    return merged


def _part(whole: Run, tree: Tree, name: str, signers: list[str]) -> Run:
    """One part; what is wrong in it is a fault of the whole."""
    below = tree.below(f"parts/{name}")
    part = runs.derive(below)
    label = f"part {shown(name, 60)}"
    whole.faults += [f"{label}: {fault}" for fault in part.faults]
    if part.record["run"] != name:
        whole.faults.append(f"{label} is the run {shown(part.record['run'], 60)}")
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


def _same(merged: Merged) -> None:
    """All parts are of one contract, mode, commit, series and patches: the whole's."""
    whole = merged.whole
    for part in merged.parts:
        name = f"part {part.record['run']}"
        if part.contract != whole.contract:
            whole.faults.append(f"{name} is of another contract")
        for what in ("mode", "commit"):
            if part.record[what] != whole.record[what]:
                whole.faults.append(f"{name}: its {what} is {shown(part.record[what], 60)}, not the report's")
        if part.record["kernel"] is None or whole.record["kernel"] is None:
            continue
        if part.record["series"] != whole.record["series"] or runs.series_of(part.record) != runs.series_of(
            whole.record
        ):
            whole.faults.append(f"{name}: its series is another")
    parts = [part.record["made_of"] for part in merged.parts]
    for name, value in whole.record["made_of"].items():
        if any(one.get(name) != value for one, part in zip(parts, merged.parts, strict=True) if part.record["kernel"]):
            whole.faults.append(f"not all parts have the {shown(name, 40)} that the report names")
    if whole.record["kernel"] and whole.record["kernel"] not in [part.record["kernel"] for part in merged.parts]:
        whole.faults.append("no part has the kernel that the report names")
    if len({one.get(identity.SEALPROOF) for one in parts}) > 1:
        whole.faults.append("parts are of different files of sealproof")
    if any(part.record["tier"] != whole.record["tier"] for part in merged.parts if part.record["tier"]):
        whole.faults.append("parts are of different tiers")


def _counts(part: Run, name: str, *, health: bool) -> bool:
    """Whether a part has a word on a claim: it tried it; or, if it tried anything, it should have looked at health."""
    row = part.rows.get(name)
    if not part.ended:
        return row is not None and part.status[name] == "FAIL"
    tried = any(one.get("command") for one in part.rows.values())
    return row is not None and bool(row.get("command") or (health and tried))


def _line(whole: Run, name: str, said: list[Run]) -> None:
    """The merged report's own line is the word that counts, with that part's probes."""
    row = whole.rows.get(name)
    if row is None:
        if said:
            whole.faults.append(f"{runs.CLAIMS}: {name} is missing, and a part has a word on it")
        return
    if not said:
        whole.faults.append(f"{runs.CLAIMS}: {name} is there, and no part has a word on it")
        return
    first = said[0].rows[name]
    whole.claims[name] = whole.claims[name].named(str(row.get("row")))
    if row.get("status") != whole.status[name]:
        whole.faults.append(f"{name}: it says {shown(row.get('status'), 20)}, and its parts give {whole.status[name]}")
    alike = [part.rows[name] for part in said if part.status[name] == whole.status[name]]
    for what in ("runs", "maps", "sentence", "expected", "protected", "controlled", "skip", "row"):
        if not any(row.get(what) == one.get(what) for one in alike):
            whole.faults.append(f"{name}: its {what} are not those of a part that says {first.get('status')}")
    together = ("runs", "expected", "row")
    if not any(all(row.get(what) == one.get(what) for what in together) for one in alike):
        whole.faults.append(f"{name}: its runs and the outcome that they are held against are of different parts")
    bare = [(one["expected"], one["got"], one["right"]) for one in row["checks"]]
    every = [(one["expected"], one["got"], one["right"]) for each in alike for one in each["checks"]]
    if bare not in (every, [(one["expected"], one["got"], one["right"]) for one in alike[0]["checks"]]):
        whole.faults.append(f"{name}: its checks are not those of its parts")

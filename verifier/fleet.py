# SPDX-License-Identifier: GPL-2.0-or-later
"""A report that was merged from parts: each part is a run's folder, derived for itself; the worst word counts.

Nothing that the merger says of a part is taken over. A part that came to its end is signed by whoever ran it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from verifier import bounds, identity, signature, ssh
from verifier import merged as remade
from verifier import run as runs
from verifier.run import Run
from verifier.signature import Signature
from verifier.text import UnsoundError, check_names, legible, parse, same, table
from verifier.tree import Tree

FLEET, SUMS = "fleet.json", "SHA256SUMS"
_PART = re.compile(r"parts/([^/]+)/")
_TOGETHER = ("runs", "expected", "row")
"""What of a claim's line must be of one part."""
_OF_PARTS = "parts of different tiers"


@dataclass(slots=True)
class MergedReport:
    """A merged report, derived.

    :ivar whole: the merged folder's own record, contract and lines.
    :ivar parts: each part, derived, in the order in which the merger lists them.
    :ivar content: what the merger says of the parts. :ivar signed: the signature of each part that has one, by its run.
    """

    whole: Run
    parts: list[Run]
    content: dict[str, Any]
    signed: dict[str, Signature] = field(default_factory=dict)


def signer(machine: str, machines: Collection[str]) -> str:
    """The machine, of those that are known, whose key signs a part; empty if none does.

    :param machine: as the part calls it: a name, where SSH reached it, and of a real machine who drove it.
    """
    whole = machine.rpartition(", from ")[2]
    return next((name for name in (whole, whole.partition(" (")[0]) if name in machines), "")


def derive(tree: Tree) -> MergedReport:
    """Derive a merged report.

    :raises UnsoundError: it cannot be read at all. Smaller faults are in ``whole.faults``.
    """
    whole = runs.open_run(tree)
    runs.chain(whole, merged=True)
    whole.faults += bounds.record(whole.record)
    content = table(parse(tree.read(FLEET), FLEET), FLEET, "parts", "words")
    check_names(content, FLEET, ("parts", "words"))
    names = [str(table(part, "a part", "run", "seconds")["run"]) for part in content["parts"]]
    if sorted(names) != sorted({match[1] for name in tree.names if (match := _PART.match(name))}):
        raise UnsoundError(f"{FLEET} does not name the parts that are there")
    merged = MergedReport(whole, [], content)
    for name in names:
        merged.parts.append(_part(merged, tree.below(f"parts/{name}"), name))
    _same(merged)
    _once(merged)
    chosen: dict[str, list[Run]] = {}
    for name, claim in list(whole.claims.items()):
        speakers = chosen[name] = remade.words_on(merged.parts, name, health=claim.kind == "health")
        whole.status[name], whole.why[name] = ("MISS", "no part has a word on it")
        if speakers:
            whole.status[name], whole.why[name] = speakers[0].status[name], speakers[0].why[name]
        _line(whole, name, speakers)
    _check_fleet(merged, chosen)
    return merged


def _check_fleet(merged: MergedReport, chosen: dict[str, list[Run]]) -> None:
    """What the merger says of the parts is what they say themselves, and the journal has each part as it is."""
    whole, parts = merged.whole, merged.parts
    seconds = [part["seconds"] for part in merged.content["parts"]]
    for expected, entry in zip(remade.part_entries(parts, seconds), merged.content["parts"], strict=True):
        name = expected["run"]
        for key in sorted(expected.keys() | entry.keys()):
            if key not in entry or key not in expected or not same(entry[key], expected[key]):
                whole.faults.append(f"{FLEET}: {legible(key, 40)} of part {name} is not what its record says")
    for part, took in zip(parts, seconds, strict=True):
        if not remade.measured(part, took):
            whole.faults.append(f"{FLEET}: part {part.record['run']} cannot have taken {legible(took, 40)} s")
    words = remade.part_words(chosen)
    for name in sorted(words.keys() | merged.content["words"].keys()):
        if name not in whole.claims:
            whole.faults.append(f"{FLEET} has words on {legible(name, 60)}, which is not in the contract")
        elif not same(words.get(name), merged.content["words"].get(name)):
            whole.faults.append(f"{FLEET}: it does not say of {name} what the parts say")
    if list(words) != list(merged.content["words"]):
        whole.faults.append(f"{FLEET}: its words are not in the contract's order")
    for key, value in remade.record(parts).items():
        if not same(whole.record[key], value):
            whole.faults.append(
                f"{runs.RECORD}: its {key} is {legible(whole.record[key], 80)!r}, "
                f"and the parts give {legible(value, 80)!r}"
            )
    if not same(whole.sentences, remade.sentences(parts)):
        whole.faults.append(f"{runs.PLANNED} is not what the parts set out to claim")
    events = [(event.get("run"), event.get("sums")) for event in whole.events if event["event"] == "part"]
    if events != [(part.record["run"], part.tree.sha256(SUMS) if SUMS in part.tree else "") for part in parts]:
        whole.faults.append("the journal has other parts than those that are there")
    for part in parts:
        end = runs.moment_of(part.record["ended"])
        if end is not None and end.timestamp() > whole.events[0]["time"] + runs.SLACK:
            whole.faults.append(f"part {part.record['run']} ended after the parts were merged")
    if whole.planted:
        whole.faults.append(f"{runs.JOURNAL} of a merged report plants pages")


def _part(merged: MergedReport, tree: Tree, name: str) -> Run:
    """One part; what is wrong in it is a fault of the whole."""
    part, faults = runs.derive(tree), merged.whole.faults
    label = f"part {legible(name, 60)}"
    faults += [f"{label}: {fault}" for fault in part.faults]
    if part.record["run"] != name:
        faults.append(f"{label} is the run {legible(part.record['run'], 60)}")
    if FLEET in tree:
        faults.append(f"{label} is a merged report itself")
    if not part.record["ended"]:
        # Nobody vouches for reports that were made of it later.
        if files := sorted({*signature.NAMED, signature.ATTESTATION, signature.BUNDLE, ssh.SIGNATURE} & set(tree.names)
                          - {runs.JOURNAL}):  # fmt: skip
            faults.append(f"{label} was killed before its end, and has {files[0]}")
        return part
    try:
        signed = merged.signed[name] = signature.check(tree)
        if signed.predicate.get("run") != name:
            faults.append(f"{label}: its signature is of another run")
    except UnsoundError as error:
        faults.append(f"{label}: {error}")
    return part


def _once(merged: MergedReport) -> None:
    """No page and no run stands for two: each part has a nonce and canaries of its own."""
    of_nonce: dict[str, str] = {}
    of_canary: dict[bytes, str] = {}
    for part in merged.parts:
        name = part.record["run"]
        if (before := of_nonce.setdefault(str(part.events[0].get("nonce")), name)) != name:
            merged.whole.faults.append(f"part {name} has the nonce of part {before}")
        others = {of_canary.setdefault(row.canary, name) for each in part.probes.values() for row in each} - {name}
        if others:
            merged.whole.faults.append(f"part {name} has a page of part {min(others)}")


def _same(merged: MergedReport) -> None:
    """All parts are of one contract, mode, commit, series, patches and tier: the whole's."""
    whole = merged.whole
    for part in merged.parts:
        name = f"part {part.record['run']}"
        if part.contract != whole.contract:
            whole.faults.append(f"{name} is of another contract")
        for key in ("mode", "commit"):
            if part.record[key] != whole.record[key]:
                whole.faults.append(f"{name}: its {key} is {legible(part.record[key], 60)}, not the report's")
        if part.record["kernel"] is None or whole.record["kernel"] is None:
            continue
        if part.record["series"] != whole.record["series"] or runs.series_of(part.record) != runs.series_of(
            whole.record
        ):
            whole.faults.append(f"{name}: its series is another")
    if len({part.record["made_of"].get(identity.SEALPROOF) for part in merged.parts}) > 1:
        whole.faults.append("parts are of different files of sealproof")
    tiers = {part.record["tier"] for part in merged.parts if part.record["tier"]}
    if len(tiers) > 1 and not any(str(problem).startswith(_OF_PARTS) for problem in whole.record["problems"]):
        whole.faults.append("parts are of different tiers")


def _line(whole: Run, name: str, speakers: list[Run]) -> None:
    """The merged report's own line is the word that counts, with the evidence of all parts that say the same."""
    row = whole.rows.get(name)
    if row is None:
        if speakers:
            whole.faults.append(f"{runs.CLAIMS}: {name} is missing, and a part has a word on it")
        return
    if not speakers:
        whole.faults.append(f"{runs.CLAIMS}: {name} is there, and no part has a word on it")
        return
    whole.claims[name] = whole.claims[name].for_row(str(row.get("row")))
    if row.get("status") != whole.status[name]:
        whole.faults.append(
            f"{name}: it says {legible(row.get('status'), 20)}, and its parts give {whole.status[name]}"
        )
    expected = remade.line(speakers, name)
    differing = [key for key, value in expected.items() if not same(row.get(key), value)]
    alike = [part.rows[name] for part in speakers if part.status[name] == whole.status[name]]
    if not any(all(same(row.get(key), alike_row.get(key)) for key in _TOGETHER) for alike_row in alike):
        whole.faults.append(f"{name}: its runs and the outcome that they are held against are of different parts")
    for key in differing:
        whole.faults.append(f"{name}: its parts with {whole.status[name]} have another value of {key}")

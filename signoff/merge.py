# SPDX-License-Identifier: GPL-2.0-or-later
"""Many runs, each of a part of the contract and perhaps on another machine, become one.

What must be the same in all parts: the contract to the byte, the mode, the series with its patches, the commit of this
project. Kernels may differ beyond that (a machine may need another configuration): the report lists them.

Parts come from other machines: no link in them is followed, and none counts whose own words, reports or signature are
not what its evidence gives.

Which word on a claim counts:

- Only what was tried. That a part did not run a claim says nothing, as long as another did.
- A part that was cut short proves nothing, as nobody has looked whether its host was well: only a FAIL of it counts.
  Its other claims are lost, and to be tried again.
- The worst that any other part said: FAIL, ERROR, MISS, PASS, SKIP. SKIP is last, as what one machine cannot try
  another can.
- Claims about the health of the host are of every part: each part that tried anything must have looked.

The merged run's folder is one like any other, with the parts in it as they came::

    reports/<run id>/
        record.json  contract/  planned.json  claims.jsonl
        fleet.json                which part ran where, and what each said on each claim
        parts/<run id>/           each part, byte for byte
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserInputError
from common.store import REPORTS, disk_errors
from signoff.contract import Kind
from signoff.evidence import CONTRACT, EXPORTS, SIGNATURES, SUMS, Evidence, RunContents, file_sha256, read
from signoff.fleet import WORST_FIRST, Fleet, Part, PartVerdict
from signoff.keys import PUBLIC_KEY, signer_of
from signoff.record import SEALPROOF, Record, new_run_id
from signoff.results import CheckRun, Result, was_tried
from signoff.verdict import Status
from verifier.fleet import signer
from verifier.report import TrustAnchors, verify
from verifier.run import derive, record_of
from verifier.text import UnsoundError
from verifier.tree import load

DERIVED_FILES = ("signoff.html", "signoff.css", "signoff.json", *EXPORTS, SUMS, *SIGNATURES, PUBLIC_KEY)
"""What is made of a part's evidence at its end."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A part and where it was found."""

    folder: Path
    contents: RunContents
    part: Part


def merge(
    parts: Mapping[Path, float],
    reports: Path,
    *,
    command: str,
    problems: Sequence[str] = (),
    durations: Mapping[str, float] | None = None,
    keys: Mapping[str, str] | None = None,
) -> Path:
    """Make one run of many.

    :param parts: their folders, and how long each took in seconds (0: not known).
    :param reports: where runs are kept. :param command: repeats all of it.
    :param problems: what makes the whole no proof, beside what the parts say. :param durations: seconds, by what.
    :param keys: by which machines sign, fingerprints by the machines' names; a part by another key is refused.
    :returns: the merged run's folder; its reports are not written yet.
    :raises UserInputError: if the parts cannot be merged, or one is damaged or given twice.
    """
    sources = [_source(folder, seconds) for folder, seconds in parts.items()]
    _go_together(sources)
    _no_page_twice(sources)
    for source in sources:
        _as_its_evidence(source.folder, signed=bool(source.contents.record.ended))
        if source.contents.record.ended:
            _by_its_machine(source, keys or {})
    contract = sources[0].contents.contract
    record = dataclasses.replace(_record(sources, command, problems), durations=durations or {})
    evidence = Evidence.create(reports, record.run, sources[0].folder / CONTRACT)
    with disk_errors(reports, REPORTS):
        for source in sources:
            # Of a part that was killed nobody vouches for the reports: whoever came later has made them.
            names = () if source.contents.record.ended else DERIVED_FILES
            place = evidence.folder / source.part.folder
            shutil.copytree(source.folder, place, ignore=shutil.ignore_patterns(*names))
            evidence.journal.add("part", run=source.part.run, sums=_sums(place))
    chosen = {claim.id: _choose(claim.id, claim.kind, sources) for claim in contract.claims}
    evidence.write_planned({name: words for source in sources for name, words in source.contents.planned.items()})
    words = {name: tuple(_word(*entry) for entry in rivals) for name, rivals in chosen.items() if rivals}
    evidence.write_fleet(Fleet.of([source.part for source in sources], words))
    for rivals in chosen.values():
        if rivals:
            evidence.append(_merge_results(rivals))
    evidence.write_record(record)
    evidence.end()
    return evidence.folder


def _sums(folder: Path) -> str:
    """SHA-256 of a part's checksums; empty if it was killed before it had any."""
    return file_sha256(folder / SUMS) if (folder / SUMS).is_file() else ""


def lost_claims(parts: Collection[Path], claims: Collection[str]) -> list[str]:
    """Of the claims that were asked for, those that no part has a word on that counts, in the order asked for."""
    runs = [read(folder) for folder in parts]
    counted = {result.id for part in runs for result in part.results if _counts(part, result)}
    return [name for name in claims if name not in counted]


def _source(folder: Path, seconds: float) -> _Source:
    _plain(folder)
    contents = read(folder)
    if contents.fleet is not None:
        raise UserInputError(
            f"{folder} is already a merged report", stage="merge", hint="name the parts that it was merged from"
        )
    if contents.record.ended:
        _intact(folder)
    return _Source(folder, contents, Part.of(contents.record, seconds))


def _plain(folder: Path) -> None:
    """A part comes from another machine: its files and its name lead nowhere.

    :raises UserInputError: if they do.
    """
    try:
        record_of(load(folder))
    except (UnsoundError, OSError) as error:
        raise UserInputError(f"{folder} is not a part: {error}", stage="merge", hint="run its group again") from error


def _as_its_evidence(folder: Path, *, signed: bool) -> None:
    """What a part says is what its evidence gives, and what was signed at its end.

    :raises UserInputError: if not.
    """
    try:
        tree = load(folder)
        faults = verify(tree, TrustAnchors()).faults if signed else derive(tree).faults
    except UnsoundError as error:
        faults = [str(error)]
    if faults:
        hint = "discard it, and run its group again"
        raise UserInputError(f"{folder} does not match its evidence: {faults[0]}", stage="merge", hint=hint)


def _by_its_machine(source: _Source, keys: Mapping[str, str]) -> None:
    """A part is signed by the key that its machine is known by.

    :param keys: fingerprints by the machines' names; empty: none is known.
    :raises UserInputError: by another one, or it is of another machine than those that are known.
    """
    if not keys:
        return
    machine, made_by = source.contents.record.machine, signer_of(source.folder)
    name = signer(machine, keys)
    if not name or keys[name] != made_by:
        why = f"{name}'s is {keys[name]}" if name else "the inventory names no key of that machine"
        raise UserInputError(
            f"{source.folder} of {machine} is signed by the key {made_by}: {why}",
            stage="merge",
            hint="discard it; or set signs_with = KEY in [machine.NAME] of the inventory, if this is the machine's key",
        )


def _intact(folder: Path) -> None:
    """A part that came to its end has checksums, and they hold.

    :raises UserInputError: if not.
    """
    try:
        listed = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        wrong = [
            name for sum_, _, name in (line.partition("  ") for line in listed) if sum_ != file_sha256(folder / name)
        ]
    except OSError as error:
        raise UserInputError(f"{folder} is damaged: {error}", stage="merge", hint="fetch this part again") from error
    if wrong:
        raise UserInputError(
            f"{folder} is damaged: these files do not match {SUMS}: {', '.join(wrong)}",
            stage="merge",
            hint="fetch this part again",
        )


def _go_together(sources: Sequence[_Source]) -> None:
    if not sources:
        raise UserInputError(
            "there is no part to merge", stage="merge", hint="no machine has delivered anything: look at the job's logs"
        )
    if len({source.part.run for source in sources}) != len(sources):
        raise UserInputError("a part is named twice", stage="merge", hint="name each run's folder once")
    of_kernels = [source for source in sources if source.contents.record.kernel is not None]
    _same("contract", [(source, source.contents.contract_sha256) for source in sources])
    _same("mode", [(source, source.contents.record.mode) for source in sources])
    _same("commit of sealproof", [(source, source.contents.record.commit) for source in sources])
    files = [(source, source.contents.record.made_of.get(SEALPROOF, "")) for source in sources]
    _same("files of sealproof", [(source, sha256) for source, sha256 in files if sha256])
    _same("series", [(source, source.contents.record.series) for source in of_kernels])
    _same("patches of the series", [(source, _patches(source.contents.record)) for source in of_kernels])


def _no_page_twice(sources: Sequence[_Source]) -> None:
    """No part tells again what another one tried.

    :raises UserInputError: two parts have a canary in common, which is random in each run.
    """
    first_with: dict[str, _Source] = {}
    for source in sources:
        for canary in {run.canary for result in source.contents.results for run in result.runs}:
            if (before := first_with.setdefault(canary, source)) is not source:
                raise UserInputError(
                    f"{before.folder} and {source.folder} have a canary in common: {canary}",
                    stage="merge",
                    hint="one is a copy of the other: discard it, and run its group again",
                )


def _same(noun: str, values: Sequence[tuple[_Source, str]]) -> None:
    """:raises UserInputError: if the values differ; names a part of each."""
    part_with = {value: source for source, value in reversed(values)}
    if len(part_with) > 1:
        listing = "; ".join(
            f"{value or 'none'} in {part.folder} ({part.part.machine})" for value, part in part_with.items()
        )
        raise UserInputError(
            f"the parts cannot be merged: they differ in the {noun}: {listing}",
            stage="merge",
            hint="only parts of one sign-off can be merged: the same checkout, contract, mode and series everywhere",
        )


def _patches(record: Record) -> str:
    patches = record.kernel.patches if record.kernel else ()
    return hashlib.sha256("".join(f"{patch.sha256} {patch.name}\n" for patch in patches).encode()).hexdigest()


def _record(sources: Sequence[_Source], command: str, problems: Sequence[str]) -> Record:
    """The merged run's identity: what the parts have in common."""
    records = [source.contents.record for source in sources]
    typical = next((record for record in records if record.kernel is not None), records[0])
    of_parts = [
        f"{source.part.machine}: {words}"
        for source in sources
        if not source.part.cut_short
        for words in _problems(source)
    ]
    if not re.fullmatch(r"[0-9a-f]{40}", typical.commit):
        of_parts.append(
            f"sealproof was {typical.commit} in each part, so it is unknown whether all parts ran the same probes"
        )
    tiers = {record.tier for record in records if record.tier is not None}
    if len(tiers) > 1:
        of_parts.append(f"parts of different tiers ({', '.join(sorted(tiers))}): sign each tier off on its own")
    facts = [source.part.facts for source in sources if source.part.facts]
    common = {name: value for name, value in typical.host.items() if all(fact.get(name) == value for fact in facts)}
    tested = [record for record in records if record.kernel is not None] or records
    made_of = {
        name: value
        for name, value in typical.made_of.items()
        if all(record.made_of.get(name) == value for record in tested)
    }
    return Record(
        run=new_run_id(),
        started=min(record.started for record in records),
        ended=max(record.ended or record.started for record in records),
        mode=typical.mode,
        command=command,
        commit=typical.commit,  # what ran is what the parts are of: they may be merged from another checkout
        tier=typical.tier,
        series=typical.series,
        kernel=typical.kernel,
        host={"machines": ", ".join(dict.fromkeys(source.part.machine for source in sources)), **common},
        problems=tuple(dict.fromkeys([*problems, *of_parts])),
        made_of=made_of,
    )


def _problems(source: _Source) -> tuple[str, ...]:
    return source.contents.record.problems


def _counts(contents: RunContents, result: Result) -> bool:
    """Whether a part's result is a word on the claim."""
    if contents.record.cut_short:
        return result.status is Status.FAIL
    return was_tried(result)


def _choose(name: str, kind: Kind, sources: Sequence[_Source]) -> list[tuple[_Source, Result]]:
    """What the parts said of a claim, the one that counts first."""
    chosen = []
    for source in sources:
        results = source.contents.results
        counted = [result for result in results if _counts(source.contents, result)]
        own = [entry for entry in counted if entry.id == name]
        if kind is Kind.HEALTH and counted and not own and not source.part.cut_short:
            # It tried something, and did not look whether its host was well afterwards.
            own = [result for result in results if result.id == name]
        chosen += [(source, entry) for entry in own]
    return sorted(chosen, key=lambda entry: WORST_FIRST.index(entry[1].status))


def _word(source: _Source, result: Result) -> PartVerdict:
    return PartVerdict(source.part.run, result.status, result.why)


def _merge_results(words: Sequence[tuple[_Source, Result]]) -> Result:
    """One result of many, with the evidence of all that say the same."""
    first = words[0][1]
    same = [(source, row) for source, row in words if row.status is first.status]
    files = [f"{source.part.folder}/{name}" for source, row in same for name in row.evidence]
    checks: list[CheckRun] = list(first.checks)
    observed = first.observed
    if len(same) > 1:
        checks = [
            dataclasses.replace(check, name=f"{source.part.machine}, {source.part.run[-6:]}: {check.name}")
            for source, row in same
            for check in row.checks
        ]
        observed = f"{observed} (the first of {len(same)} parts that say {first.status})" if observed else ""
    seconds = round(sum(row.seconds for _, row in same), 3)
    return dataclasses.replace(first, evidence=tuple(files), checks=tuple(checks), observed=observed, seconds=seconds)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole report: signature, derivation, all forms of it, and what the reader trusts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from verifier import exports, fleet, forms, identity, page, signature, ssh
from verifier import run as runs
from verifier.exports import Derivation
from verifier.run import Run
from verifier.text import UnsoundError, legible
from verifier.tree import Tree

PROTECTED, NOT_PROTECTED, NOT_PROVEN, UNSOUND = range(4)
"""Exit status."""
_FILES = {
    *(
        *signature.NAMED,
        signature.ATTESTATION,
        signature.BUNDLE,
        ssh.SIGNATURE,
        fleet.FLEET,
        runs.RECORD,
        runs.CLAIMS,
        runs.PLANNED,
    ),
}
_FOLDERS = {"contract", "evidence", "hosts", "identity"}
_OF_HOSTS = re.compile(
    r"hosts/(?:host-[1-9][0-9]{0,5}/(?:console\.(?:log|times)|qmp\.jsonl|(?:qemu|bochs)\.log|bochsrc|debugger\.rc"
    r"|slirp\.conf)|console\.log(?:\.stderr)?|kept\.json|traceback\.txt)"
)
"""What hosts leave: emulated ones a folder each, a real machine its console, hosts that are kept a list of them.

A set-up that fails leaves its traceback there."""
_PART = re.compile(r"^parts/[^/]+/")
_PLAIN = re.compile(r"(?:/bochsrc|\.(?:rc|conf|log|txt|times|stderr|jsonl?|toml|sha256|config|diff|patch))$")
"""Files in folders: texts, which no browser takes for a page, a picture or a program."""
_OLD = "contract.toml"
"""The contract of version 1, in reports of an older sealproof."""


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """What the reader knows from elsewhere. What is None is not held against anything.

    :ivar keys: fingerprints of who may sign. :ivar contract: the SHA-256 that names it. :ivar commit: of sealproof.
    :ivar source: hash of the kernel's source, as the report names it. :ivar series: SHA-256 of its patches' lines.
    :ivar oldest: the first day that the report may be of. :ivar youngest: the last.
    :ivar tree: SHA-256 of the list of sealproof's files, or a folder with the same. :ivar build_id: of the kernel.
    :ivar named: what else the report is made of, each by name and SHA-256. :ivar ssh_keys: fingerprints of SSH keys.
    :ivar part_keys: the key by which a machine signs its parts, each by the machine's name and the fingerprint.
    """

    keys: tuple[str, ...] = ()
    contract: str | None = None
    commit: str | None = None
    source: str | None = None
    series: str | None = None
    oldest: date | None = None
    youngest: date | None = None
    tree: str | Path | None = None
    build_id: str | None = None
    named: tuple[tuple[str, str], ...] = ()
    ssh_keys: tuple[str, ...] = ()
    part_keys: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Verification:
    """What became of a report.

    :ivar faults: why it is not what it must be. :ivar open: why it proves nothing, or not all. :ivar unchecked: facts
        for which the reader has named nothing, so that they stand on the report's own word. :ivar compared: facts that
        are as the reader has named them. :ivar signer: the key's fingerprint. :ivar ssh: the SSH key's, or empty.
    """

    derivation: Derivation | None = None
    faults: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    signer: str = ""
    ssh: str = ""

    @property
    def exit_code(self) -> int:
        """The program's exit status."""
        if self.faults:
            return UNSOUND
        if self.derivation is None:
            return NOT_PROVEN if self.open else UNSOUND
        if self.derivation.word in ("NOT PROTECTED", "NOT USABLE"):
            return NOT_PROTECTED
        return PROTECTED if self.derivation.word == "PROTECTED" and not self.open else NOT_PROVEN


def verify(tree: Tree, anchors: TrustAnchors) -> Verification:
    """Check a report against its evidence, its signature and what the reader trusts."""
    outcome = Verification()
    try:
        _verify(outcome, tree, anchors)
    except Exception as error:  # noqa: BLE001  a stranger's report: whatever it brings about, it is not sound
        outcome.faults.append(_error_text(error))
    return outcome


def _verify(outcome: Verification, tree: Tree, anchors: TrustAnchors) -> None:
    signed = signature.check(tree)
    outcome.signer, outcome.ssh = signed.key, signed.ssh
    if _OLD in tree and not tree.below(runs.CONTRACT).names:
        commit = legible(runs.record_of(tree)["commit"], 60)
        outcome.open.append(
            f"it is of an older sealproof (its contract is one file, {_OLD}), and its signature alone was checked: "
            f"the verifier of commit {commit} reads it"
        )
        return
    outcome.faults += _strangers(tree)
    run, merged, whole = _read(tree)
    parts = merged.parts if merged else [run]
    outcome.derivation = _derive(run, signed.key, whole, merged)
    outcome.faults += run.faults
    outcome.faults += _forms(outcome.derivation, signed)
    for part in merged.parts if merged else ():
        if its := merged.signed.get(part.record["run"]) if merged else None:
            label = f"part {part.record['run']}"
            outcome.faults += [
                f"{label}: {fault}" for fault in _forms(_derive(part, its.key, runs.problems(part)), its)
            ]
    word = outcome.derivation.word
    if run.mode == "plain":
        outcome.open.append("mode plain is no sign-off: it only checks that the probes get through")
    outcome.open += [fault for fault in whole if word != "PROTECTED" or fault not in run.record["problems"]]
    signers = {name: signed.key for name, signed in merged.signed.items()} if merged else {}
    of_parts = [(part, signers[part.record["run"]]) for part in parts if part.record["run"] in signers]
    _trust(outcome, run, parts, anchors, [signed.key, *_of_no_machine(outcome, of_parts, anchors)])


def _of_no_machine(outcome: Verification, keys: Sequence[tuple[Run, str]], anchors: TrustAnchors) -> list[str]:
    """Hold the keys of parts against those of their machines; returns those of machines that the reader did not name.

    :param keys: the signed parts, each with its key.
    """
    of_machine = dict(anchors.part_keys)
    others = []
    for part, key in keys:
        name = fleet.signer(str(part.record["machine"]), of_machine)
        if not name:
            others.append(key)
        elif of_machine[name] != key:
            outcome.faults.append(
                f"part {part.record['run']} of {legible(name, 60)} is signed by the key {key}, not by the machine's"
            )
    if of_machine and not others:
        outcome.compared.append("keys of parts")
    return others


def derive(tree: Tree, key: str) -> Derivation:
    """What a report's evidence gives, whatever its forms say.

    :param key: of who signed it. :raises UnsoundError: it cannot be read.
    """
    run, merged, whole = _read(tree)
    return _derive(run, key, whole, merged)


def _read(tree: Tree) -> tuple[Run, fleet.MergedReport | None, list[str]]:
    """A report's run, what it is merged from, and what makes it as a whole no proof.

    :raises UnsoundError: it cannot be read.
    """
    merged = fleet.derive(tree) if fleet.FLEET in tree else None
    run = merged.whole if merged else runs.derive(tree)
    return run, merged, [*runs.problems(run), *_of_parts(merged)]


def _derive(run: Run, key: str, whole: Sequence[str], merged: fleet.MergedReport | None = None) -> Derivation:
    """A run with its verdict.

    :param whole: what makes the run as a whole no proof.
    """
    parts = merged.parts if merged else [run]
    word = "NOT PROVEN" if run.record["interrupted"] else runs.word(run.claims, run.status, run.mode, whole)
    kernels = {member.record["kernel"]["build_id"] for member in [run, *parts] if member.record["kernel"]}
    machines = [str(part["machine"]) for part in merged.content["parts"]] if merged else [run.record["machine"]]
    images = frozenset(image for each in [run, *parts] for image in _images(each))
    content = merged.content if merged else None
    return Derivation(run, word, list(dict.fromkeys(machines)), sorted(kernels), key, images, content)


def _forms(derivation: Derivation, signed: signature.Signature) -> list[str]:
    """Where the forms of a report, or its statement, say anything else."""
    checks = (exports.document, forms.junit, forms.tap, forms.sarif, forms.kcidb, page.page)
    faults = [fault for check in checks for fault in _fault_lines(check(derivation))]
    return [*faults, *_fault_lines(exports.statement(derivation, signed.predicate))]


def _tree(outcome: Verification, run: Run, parts: Sequence[Run], anchors: TrustAnchors) -> None:
    """Hold the files of sealproof that ran against those that the reader has."""
    have = run.record["made_of"].get(identity.SEALPROOF, "")
    if anchors.tree is None:
        outcome.unchecked.append(f"sealproof's files ({legible(have, 64)})")
        return
    if isinstance(anchors.tree, str):
        wrong = [] if have == anchors.tree else [f"their list has the SHA-256 {legible(have, 64)}"]
    else:
        # A merged report has no list of its own: each part has, and all are the same.
        file = identity.LISTS[identity.SEALPROOF]
        trees = [part.tree for part in parts if file in part.tree and part.tree.sha256(file) == have]
        wrong = list(identity.differs(trees[0], anchors.tree)) if trees else ["their list is not there"]
    if wrong:
        outcome.faults.append(f"sealproof's files are not those that you trust: {legible(', '.join(wrong[:3]), 200)}")
    else:
        outcome.compared.append("sealproof's files")


def _strangers(tree: Tree) -> Iterator[str]:
    """Files that no report has: what is signed along with it is read along with it."""
    for name in tree.names:
        own = _PART.sub("", name)
        top, _, rest = own.partition("/")
        is_usual = top in _FOLDERS if rest else top in _FILES
        is_usual = is_usual and (top != "identity" or own in (identity.CONFIG, *identity.LISTS.values()))
        is_usual = is_usual and (top != "hosts" or _OF_HOSTS.fullmatch(own) is not None)
        if not is_usual or (rest and not _PLAIN.search(name)):
            yield f"{legible(name, 100)} is a file that no report has"


def _images(run: Run) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of a kernel's image and configuration, as a statement names them."""
    if kernel := run.record["kernel"]:
        yield f"Linux {kernel['release']} bzImage", kernel["image_sha256"]
        yield f"Linux {kernel['release']} .config", kernel["config_sha256"]


def _of_parts(merged: fleet.MergedReport | None) -> list[str]:
    """What makes a merged report no proof, by the word of a part that came to its end."""
    complaints = [
        f"{legible(part.record['machine'], 40)}: {words}"
        for part in (merged.parts if merged else ())
        if part.ended
        for words in runs.problems(part)
    ]
    return list(dict.fromkeys(complaints))


def _fault_lines(faults: Iterator[str]) -> list[str]:
    fault_lines = []
    try:
        fault_lines += list(faults)
    except Exception as error:  # noqa: BLE001  as above
        fault_lines.append(_error_text(error))
    return fault_lines


def _error_text(error: Exception) -> str:
    if isinstance(error, UnsoundError):
        return str(error)
    return f"a part of the report is not of the form that it must have ({type(error).__name__}: {legible(error, 100)})"


def _trust(
    outcome: Verification, run: Run, parts: Sequence[Run], anchors: TrustAnchors, signers: Sequence[str]
) -> None:
    """Hold the report against what the reader trusts.

    :param parts: the run, or those that it is merged from. :param signers: the keys of the report and of its parts.
    """
    record, key = run.record, signers[0]
    kernels = [member.record["kernel"] for member in [run, *parts] if member.record["kernel"]] or [{}]
    if anchors.ssh_keys and outcome.ssh not in anchors.ssh_keys:
        outcome.faults.append(f"it is signed by {outcome.ssh or 'no SSH key'}, not by the SSH key that you named")
    elif anchors.ssh_keys:
        outcome.compared.append("signer's SSH key")
    keys = (*anchors.keys, *([key] if anchors.ssh_keys and outcome.ssh in anchors.ssh_keys else []))
    if not keys:
        outcome.open.append("no key was named: anybody can sign a report (--key FINGERPRINT, from the signer)")
    elif key not in keys:
        outcome.faults.append(f"it is signed by the key {key}, which you did not name")
    elif others := sorted(set(signers) - set(keys)):
        outcome.open.append(f"a part is signed by the key {others[0]}, which you did not name (--key, again)")
    elif anchors.keys:
        outcome.compared.append("signer's key")
    if not anchors.contract:
        outcome.open.append("no contract was named: a weak one proves little (--contract FOLDER or its SHA-256)")
    elif anchors.contract != run.contract:
        outcome.faults.append(f"the contract has the SHA-256 {run.contract}, not the one that you trust")
    else:
        outcome.compared.append("contract")

    def of_kernels(key: str) -> list[str]:
        return list(dict.fromkeys(str(kernel.get(key, "")) for kernel in kernels))

    of_image = {"image": "image_sha256", "configuration": "config_sha256"}
    for name, expected, values in (
        ("sealproof's commit", anchors.commit, [record["commit"]]),
        ("kernel source", anchors.source, of_kernels("source_sha256")),
        ("series", anchors.series, [runs.series_of(record)]),
        ("build ID", anchors.build_id, of_kernels("running_build_id")),
        *(
            (name, sha256, of_kernels(of_image[name]) if name in of_image else [record["made_of"].get(name, "")])
            for name, sha256 in anchors.named
        ),
    ):
        # Of several kernels each must be the one that is trusted.
        others = [has for has in values if has != expected]
        if not expected:
            outcome.unchecked.append(f"{name} ({legible(', '.join(values), 100) or 'not told'})")
        elif others:
            outcome.faults.append(f"{name} is {legible(others[0], 100) or 'not told'}, not {legible(expected, 80)}")
        else:
            outcome.compared.append(name)
    _tree(outcome, run, parts, anchors)
    for status, phrase in {"PASS": "what the evidence of {} claims holds", "SKIP": "what {} claims say"}.items():
        if unneeded := [name for name, claim in run.claims.items() if run.status[name] == status and not claim.needs]:
            named = f"{', '.join(unneeded[:3])}{', ...' if unneeded[3:] else ''}"
            outcome.unchecked.append(f"{phrase.format(len(unneeded))}, which the contract does not name ({named})")
    if "guests" not in record["host"]:
        outcome.unchecked.append("how large its guests are (not told)")
    if not anchors.series and any(identity.another_series(part.tree, part.record) for part in parts):
        outcome.open.append(
            f"series {legible(record['series'], 40)} is not sealproof's of that name: name it (--series)"
        )
    if not anchors.commit and not anchors.tree and not re.fullmatch(r"[0-9a-f]{40}", str(record["commit"])):
        outcome.open.append(f"sealproof was {legible(record['commit'], 60)}: which probes ran nobody can look up")
    day = runs.moment_of(record["started"])
    last = runs.moment_of(record["ended"])
    if day is None or (anchors.oldest and day.date() < anchors.oldest):
        outcome.faults.append(f"it was begun on {legible(record['started'], 40)}, which is too long ago for you")
    elif last is not None and anchors.youngest and last.date() > anchors.youngest:
        outcome.faults.append(f"it ended on {legible(record['ended'], 40)}, which is after the last day that you name")
    elif last is not None and last < day:
        outcome.faults.append("it ended before it began")
    elif not anchors.oldest:
        outcome.unchecked.append(f"its day ({day.date()})")
    else:
        outcome.compared.append("day")

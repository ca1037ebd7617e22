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
from verifier.exports import Derived
from verifier.run import Run
from verifier.text import UnsoundError, shown
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
_FOLDERS = {"contract", "evidence", "hosts", "identity", "logs"}
_PART = re.compile(r"^parts/[^/]+/")
_SHOWN_BY_BROWSERS = re.compile(r"\.(?:[xs]?html?|xht|svgz?|x[ms]l|m?js|css|pdf|m?html?|swf)$", re.IGNORECASE)
_OLD = "contract.toml"
"""The contract of version 1, in reports of an older sealproof."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """What the reader knows from elsewhere. What is None is not held against anything.

    :ivar keys: fingerprints of who may sign. :ivar contract: the SHA-256 that names it. :ivar commit: of sealproof.
    :ivar source: hash of the kernel's source, as the report names it. :ivar series: SHA-256 of its patches' lines.
    :ivar oldest: the first day that the report may be of. :ivar youngest: the last.
    :ivar tree: SHA-256 of the list of sealproof's files, or a folder with the same. :ivar build_id: of the kernel.
    :ivar named: what else the report is made of, each by name and SHA-256. :ivar ssh_keys: fingerprints of SSH keys.
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


@dataclass(slots=True)
class Found:
    """What became of a report.

    :ivar faults: why it is not what it must be. :ivar open: why it proves nothing, or not all. :ivar taken: what the
        reader has named nothing for, so that it stands on the report's own word.
    """

    derived: Derived | None = None
    faults: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    signer: str = ""
    ssh: str = ""

    @property
    def exit_code(self) -> int:
        """The program's exit status."""
        if self.faults:
            return UNSOUND
        if self.derived is None:
            return NOT_PROVEN if self.open else UNSOUND
        if self.derived.word in ("NOT PROTECTED", "NOT USABLE"):
            return NOT_PROTECTED
        return PROTECTED if self.derived.word == "PROTECTED" and not self.open else NOT_PROVEN


def verify(tree: Tree, trusted: Trusted) -> Found:
    """Check a report against its evidence, its signature and what the reader trusts."""
    found = Found()
    try:
        _verify(found, tree, trusted)
    except Exception as error:  # noqa: BLE001  a stranger's report: whatever it brings about, it is not sound
        found.faults.append(_told(error))
    return found


def _verify(found: Found, tree: Tree, trusted: Trusted) -> None:
    signed = signature.check(tree)
    found.signer, found.ssh = signed.key, signed.ssh
    if _OLD in tree and not tree.below(runs.CONTRACT).names:
        commit = shown(runs.record_of(tree)["commit"], 60)
        found.open.append(
            f"it is of an older sealproof (its contract is one file, {_OLD}), and its signature alone was checked: "
            f"the verifier of commit {commit} reads it"
        )
        return
    found.faults += _strangers(tree)
    merged = fleet.derive(tree) if fleet.FLEET in tree else None
    run = merged.whole if merged else runs.derive(tree)
    parts = merged.parts if merged else [run]
    whole = [*runs.problems(run), *_of_parts(parts, merged)]
    word = runs.word(run.claims, run.status, run.mode, whole)
    if run.record["interrupted"]:
        word = "NOT PROVEN"
    kernels = {one.record["kernel"]["build_id"] for one in [run, *parts] if one.record["kernel"]}
    machines = (
        list(dict.fromkeys(str(one["machine"]) for one in merged.told["parts"])) if merged else [run.record["machine"]]
    )
    images = {one for each in [run, *parts] for one in _images(each)}
    told = merged.told if merged else None
    found.derived = Derived(run, word, machines, sorted(kernels), signed.key, frozenset(images), told)
    found.faults += run.faults
    for check in (exports.document, forms.junit, forms.tap, forms.sarif, forms.kcidb, page.page):
        found.faults += _caught(check(found.derived))
    found.faults += _caught(exports.statement(found.derived, signed.predicate))
    if run.mode == "plain":
        found.open.append("mode plain is no sign-off: it only checks that the probes get through")
    found.open += [one for one in whole if word != "PROTECTED" or one not in run.record["problems"]]
    _trust(found, run, trusted, signed.key, merged.signers if merged else [])


def _tree(found: Found, run: Run, trusted: Trusted) -> None:
    """Hold the files of sealproof that ran against those that the reader has."""
    have = run.record["made_of"].get(identity.SEALPROOF)
    if trusted.tree is None:
        found.taken.append(f"sealproof's files ({shown(have, 64)})")
        return
    if isinstance(trusted.tree, str):
        wrong = [] if have == trusted.tree else [f"their list has the SHA-256 {shown(have, 64)}"]
    else:
        # A merged report has no list of its own: each part has, and all are the same.
        tree = run.tree if identity.LISTS[identity.SEALPROOF] in run.tree else run.tree.below(_first_part(run.tree))
        wrong = list(identity.differs(tree, trusted.tree))
    if wrong:
        found.faults.append(f"sealproof's files are not those that you trust: {shown(', '.join(wrong[:3]), 200)}")
    else:
        found.held.append("sealproof's files")


def _first_part(tree: Tree) -> str:
    return next("/".join(name.split("/")[:2]) for name in tree.names if name.startswith("parts/"))


def _strangers(tree: Tree) -> Iterator[str]:
    """Files that no report has: what is signed along with it is read along with it."""
    for name in tree.names:
        own = _PART.sub("", name)
        top, _, rest = own.partition("/")
        known = top in _FOLDERS if rest else top in _FILES
        known = known and (top != "identity" or own in (identity.CONFIG, *identity.LISTS.values()))
        if not known or (rest and _SHOWN_BY_BROWSERS.search(name)):
            yield f"{shown(name, 100)} is a file that no report has"


def _images(run: Run) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of a kernel's image and configuration, as a statement names them."""
    if kernel := run.record["kernel"]:
        yield f"Linux {kernel['release']} bzImage", kernel["image_sha256"]
        yield f"Linux {kernel['release']} .config", kernel["config_sha256"]


def _of_parts(parts: Sequence[Run], merged: fleet.Merged | None) -> list[str]:
    """What makes a merged report no proof, by the word of a part that came to its end."""
    if merged is None:
        return []
    told = [
        f"{shown(one.record['machine'], 40)}: {words}" for one in parts if one.ended for words in runs.problems(one)
    ]
    return list(dict.fromkeys(told))


def _caught(faults: Iterator[str]) -> list[str]:
    found = []
    try:
        found += list(faults)
    except Exception as error:  # noqa: BLE001  as above
        found.append(_told(error))
    return found


def _told(error: Exception) -> str:
    if isinstance(error, UnsoundError):
        return str(error)
    return f"a part of the report is not of the form that it must have ({type(error).__name__}: {shown(error, 100)})"


def _trust(found: Found, run: Run, trusted: Trusted, key: str, signers: Sequence[str]) -> None:
    """Hold the report against what the reader trusts."""
    record = run.record
    kernel = record["kernel"] or {}
    if trusted.ssh_keys and found.ssh not in trusted.ssh_keys:
        found.faults.append(f"it is signed by {found.ssh or 'no SSH key'}, not by the SSH key that you named")
    elif trusted.ssh_keys:
        found.held.append("signer's SSH key")
    keys = (*trusted.keys, *([key] if trusted.ssh_keys and found.ssh in trusted.ssh_keys else []))
    if not keys:
        found.open.append("no key was named: anybody can sign a report (--key FINGERPRINT, from the signer)")
    elif key not in keys:
        found.faults.append(f"it is signed by the key {key}, which you did not name")
    elif others := sorted(set(signers) - set(keys)):
        found.open.append(f"a part is signed by the key {others[0]}, which you did not name (--key, again)")
    elif trusted.keys:
        found.held.append("signer's key")
    if not trusted.contract:
        found.open.append("no contract was named: a weak one proves little (--contract FOLDER or its SHA-256)")
    elif trusted.contract != run.contract:
        found.faults.append(f"the contract has the SHA-256 {run.contract}, not the one that you trust")
    else:
        found.held.append("contract")
    made_of = {"image": kernel.get("image_sha256"), "configuration": kernel.get("config_sha256"), **record["made_of"]}
    for name, wanted, has in (
        ("sealproof's commit", trusted.commit, record["commit"]),
        ("kernel source", trusted.source, kernel.get("source_sha256", "")),
        ("series", trusted.series, runs.series_of(record)),
        ("build ID", trusted.build_id, kernel.get("running_build_id", "")),
        *((name, sha256, made_of.get(name, "")) for name, sha256 in trusted.named),
    ):
        if not wanted:
            found.taken.append(f"{name} ({shown(has, 100) or 'not told'})")
        elif has == wanted:
            found.held.append(name)
        else:
            found.faults.append(f"{name} is {shown(has, 100) or 'not told'}, not {shown(wanted, 80)}")
    _tree(found, run, trusted)
    for status, what in {"PASS": "what the evidence of {} claims holds", "SKIP": "what {} claims say"}.items():
        if told := [name for name, claim in run.claims.items() if run.status[name] == status and not claim.needs]:
            named = f"{', '.join(told[:3])}{', ...' if told[3:] else ''}"
            found.taken.append(f"{what.format(len(told))}, which the contract does not name ({named})")
    if "guests" not in record["host"]:
        found.taken.append("how large its guests are (not told)")
    if not trusted.series and identity.another_series(run.tree, record):
        found.open.append(f"series {shown(record['series'], 40)} is not sealproof's of that name: name it (--series)")
    if not trusted.commit and not trusted.tree and not re.fullmatch(r"[0-9a-f]{40}", str(record["commit"])):
        found.open.append(f"sealproof was {shown(record['commit'], 60)}: which probes ran nobody can look up")
    day = runs.moment_of(record["started"])
    last = runs.moment_of(record["ended"])
    if day is None or (trusted.oldest and day.date() < trusted.oldest):
        found.faults.append(f"it was begun on {shown(record['started'], 40)}, which is too long ago for you")
    elif last is not None and trusted.youngest and last.date() > trusted.youngest:
        found.faults.append(f"it ended on {shown(record['ended'], 40)}, which is after the last day that you name")
    elif last is not None and last < day:
        found.faults.append("it ended before it began")
    elif not trusted.oldest:
        found.taken.append(f"its day ({day.date()})")
    else:
        found.held.append("day")

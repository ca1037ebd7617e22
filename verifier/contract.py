# SPDX-License-Identifier: GPL-2.0-or-later
"""What is claimed, and what each claim must be: the folder ``contract``, read with rules of its own.

A contract cannot call a leak a success, nor let a refusal stand that no control vouches for. It is named by the SHA-256
of the list of its files, as ``sha256sum`` prints one, in the order of their names.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from verifier import needs, rows
from verifier.text import UnsoundError, legible
from verifier.tree import Tree
from verifier.tree import load as load_tree

PAGE = 4096
PAGES = ("user", "kernel", "page cache")
KINDS = ("attack", "boundary", "legitimate", "oracle", "health")
PROTECTION = ("attack", "boundary", "oracle")
_OUTCOME = {"returned", "errno", "signal", "si_code", "leak", "page_after"}
_CLAIM = {
    "id", "kind", "class", "source", "reason", "skip", "pages", "narrowed", "plain", "protected", "shared", "on",
}  # fmt: skip
_OF_PROBES = {"pages", "narrowed", "plain", "protected", "shared", "on"}
_ON = {*rows.FACTS, "source", "reason", "plain", "protected", "shared"}
_FILE = re.compile(r"[a-z0-9][a-z0-9-]*\.toml")
_HEAD = {"version", "kind", "class"}
_LEAST = 4  # bytes that a control must leak
_REASON = 3  # words
_SKIPS = ({"when"}, {"kernel", "reason"}, {"when", "kernel", "reason"})
_LISTS = {
    "no-vfio": ("devices", "vfio/vfio"),
    "no-protection-keys": ("features", "pku"),
    "no-avx": ("features", "avx"),
    "no-avx2": ("features", "avx2"),
    "no-smap": ("features", "smap"),
    "no-svm": ("features", "svm"),
    "no-vmx": ("features", "vmx"),
    "no-selftests": ("kernel's layers", "selftests"),
}
_KERNEL = "kernel "  # what a condition begins with that is a range of releases
_RUN_BY = {"real-machine": "none", "no-task-switch-exits": "tcg", "by-bochs": rows.BOCHS}
"""What runs the host's instructions where a condition holds."""
_ALONE = "one-processor"
SKIPPED = {
    "no-vfio": "the host has no VFIO (/dev/vfio/vfio)",
    "no-protection-keys": "the host's processor has no protection keys",
    "no-avx": "the host's processor has no AVX",
    "no-avx2": "the host's processor has no AVX2",
    "no-smap": "the host's processor has no SMAP",
    "no-svm": "the host's processor has no SVM, by which the claim's hypervisor runs its guest",
    "no-vmx": "the host's processor has no VMX, by which the claim's hypervisor runs its guest",
    "one-processor": "the host has one processor, and the claim is about what another one does meanwhile",
    "no-selftests": "the kernel is built without the layer of its own selftests (--selftests)",
    "no-task-switch-exits": "QEMU's emulation of SVM carries out task switches by itself",
    "real-machine": "the host is a real machine: nobody can look at its memory or its devices from outside",
    "by-bochs": "Bochs emulates the host, and has no monitor by which its memory or its devices are seen",
}
"""What a claim says that is SKIP, by the condition."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe must come to. What is None must be absent."""

    returned: int | None
    errno: str | None
    signal: str | None
    si_code: str | None
    leaked: int
    page_after: str | None

    @property
    def end(self) -> tuple[int | None, str | None, str | None, str | None]:
        """How it ends, its bytes apart."""
        return self.returned, self.errno, self.signal, self.si_code

    @property
    def words(self) -> str:
        """In a few words."""
        return outcome_words(*self.end, self.leaked, self.page_after)


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the contract.

    :ivar pages: kinds that a probe must be tried on; none: it is told by checks.
    :ivar by_state: outcome on a page of each state.
    :ivar why: the reason, as reports print it.
    :ivar skip: the conditions for which it may be SKIP, by name, and what it says then.
    :ivar on: for which hosts the outcome differs, and the claim as it is there. :ivar row: for which it is, in words.
    :ivar needs: what its evidence must hold; none: the contract does not say.
    """

    id: str
    kind: str
    threat: str
    source: str
    why: str
    skip: Mapping[str, str]
    pages: tuple[str, ...]
    by_state: dict[str, Outcome]
    on: tuple[tuple[dict[str, str], Claim], ...] = ()
    row: str = ""
    needs: tuple[needs.Variant, ...] = ()

    def at(self, host: dict[str, str]) -> Claim:
        """The claim as it is for a host.

        :param host: facts of it, see :func:`verifier.rows.facts`.
        """
        return next((claim for row, claim in self.on if rows.fits(row, host)), self)

    def for_row(self, row: str) -> Claim:
        """The claim as the row of these words has it.

        :raises UnsoundError: there is none.
        """
        if row == self.row:
            return self
        for _, claim in self.on:
            if claim.row == row:
                return claim
        raise UnsoundError(f"{self.id} has no outcome for {legible(row, 80)!r}")

    def expected(self, mode: str) -> str:
        """What it must come to in a mode, in a few words."""
        if not self.probe:
            return "right in every check"
        return self.by_state["private" if mode == "protected" else "plain"].words

    @property
    def probe(self) -> bool:
        """Whether it is told by observations; else by checks."""
        return bool(self.pages)


def outcome_words(
    returned: int | None, errno: str | None, signal: str | None, si_code: str | None, leaked: int, after: str | None
) -> str:
    """How a probe ended, in a few words."""
    words = []
    if returned is not None or errno is not None:
        words.append("returned nothing" if returned is None else f"returned {returned}")
        if errno:
            words[-1] += f" {errno}"
    if signal is not None or si_code is not None:
        words.append(f"{signal or 'no signal'} {si_code or ''}".strip())
    words.append({0: "nothing leaked", PAGE: "the whole page leaked"}.get(leaked, f"{leaked} bytes leaked"))
    if after is not None:
        words.append(f"page {after}")
    return ", ".join(words)


def holds(condition: str, tier: str | None, host: dict[str, Any], kernel: str = "") -> bool:
    """Whether a condition for a SKIP is the case on a host.

    :param kernel: the release of the host's kernel; empty: not known, so that no condition of kernels holds.
    """
    if condition.startswith(_KERNEL):
        return rows.lies_in(kernel, condition.removeprefix(_KERNEL))
    if condition in _RUN_BY:
        return rows.accelerator(tier, host) == _RUN_BY[condition]
    if condition == _ALONE:
        return host.get("cpus") == "1"
    name, word = _LISTS[condition]
    return name in host and word not in str(host[name]).split(", ")


def at(path: Path) -> Tree:
    """The files of the contract at a path: those in a folder that end in ``.toml``, or one file.

    :raises UnsoundError: a contract may not have such files. :raises OSError: there is no such file or folder.
    """
    if not path.is_dir():
        return Tree(None, {path.name: path.read_bytes()}, {path.name: path.stat().st_size})
    tree = load_tree(path)
    sizes = {name: size for name, size in tree.sizes.items() if "/" not in name and name.endswith(".toml")}
    return Tree(tree.folder, {}, sizes)


def sha256(tree: Tree) -> str:
    """What names a contract.

    :param tree: its files.
    """
    return hashlib.sha256("".join(f"{tree.sha256(name)}  {name}\n" for name in tree.names).encode()).hexdigest()


def load(tree: Tree) -> dict[str, Claim]:
    """The claims, by their ids.

    :param tree: the contract's files.
    :raises UnsoundError: it is no contract that can be kept.
    """
    claims: dict[str, Claim] = {}
    for name in tree.names:
        if not _FILE.fullmatch(name):
            raise UnsoundError(f"the contract has {legible(name, 60)}, which is not a contract file")
        if name == needs.FILE:
            continue
        for entry in _entries(name, tree.read(name)):
            claim = _claim(entry)
            if claim.id in claims:
                raise UnsoundError(f"the contract claims {claim.id} twice")
            claims[claim.id] = claim
    if not claims:
        raise UnsoundError("there is no contract")
    return _with_needs(claims, needs.load(tree.read(needs.FILE))) if needs.FILE in tree else claims


def _with_needs(claims: dict[str, Claim], named: dict[str, tuple[needs.Variant, ...]]) -> dict[str, Claim]:
    """The claims, each with what its evidence must hold.

    :raises UnsoundError: it is said of what is no claim, or is not told in the claim's way.
    """
    for name, variants in named.items():
        if name not in claims:
            raise UnsoundError(f"{needs.FILE} names {legible(name, 80)}, which is not in the contract")
        if any(bool(variant.call) is not claims[name].probe for variant in variants):
            raise UnsoundError(f"{needs.FILE}: a probe has a call, and a claim judged by checks has none: {name}")
    completed = {}
    for name, claim in claims.items():
        variants = named.get(name, ())
        on = tuple((row, replace(variant, needs=variants)) for row, variant in claim.on)
        completed[name] = replace(claim, needs=variants, on=on)
    return completed


def _entries(name: str, data: bytes) -> Iterator[dict[str, Any]]:
    """The claims of a file, each with what the file's head states, and each of those that differ by name alone."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnsoundError(f"{name} is not TOML: {legible(error, 80)}") from error
    entries = table.pop("claim", None)
    if table.get("version") != 2 or not set(table) <= _HEAD or not isinstance(entries, list) or not entries:
        raise UnsoundError(f"{name} is not a contract of version 2")
    head = {key: table[key] for key in table if key != "version"}
    for entry in entries:
        if not isinstance(entry, dict) or not head.keys().isdisjoint(entry):
            raise UnsoundError(f"{name}: a claim repeats what the file's head states, or states nothing")
        ids = entry.pop("ids", None)
        if ids is None:
            yield {**head, **entry}
        elif isinstance(ids, list) and len(ids) > 1 and "id" not in entry:
            yield from ({"id": name, **head, **entry} for name in ids)
        else:
            raise UnsoundError(f"{name}: a claim's ids are malformed")


def _claim(entry: dict[str, Any]) -> Claim:
    name = entry.get("id")
    if not isinstance(name, str) or not name.replace("_", "").isalnum() or name != name.lower():
        raise UnsoundError(f"the contract has a claim without a plain id: {legible(name)}")
    need = partial(_need, name)
    need(set(entry) <= _CLAIM, "it has fields that no claim has")
    kind = entry.get("kind", "")
    need(kind in KINDS, "it has an unknown kind")
    need(
        all(isinstance(entry.get(key), str) and entry[key].strip() for key in ("class", "source", "reason")),
        "no reason",
    )
    skip = _skip(name, entry["skip"]) if "skip" in entry else {}
    need(not skip or kind != "health", "it looks at the health of host and guest, and is never SKIP")
    states = not _OF_PROBES.isdisjoint(entry)
    if kind != "attack" and not (kind == "boundary" and states):
        need(not states, "it may be right and nothing else")
        return Claim(name, kind, entry["class"], entry["source"], entry["reason"], skip, (), {})
    pages = tuple(entry.get("pages", PAGES))
    narrowed = entry.get("narrowed", "")
    need(
        bool(pages) and set(pages) <= set(PAGES) and len(set(pages)) == len(pages),
        "its pages are missing, unknown or named twice",
    )
    need((set(pages) != set(PAGES)) == bool(narrowed.strip()), "it must say why it is not tried on each kind of page")
    need(not narrowed or len(narrowed.split()) >= _REASON, f"{narrowed!r} is no reason to leave kinds of page out")
    why = entry["reason"] + (f" Tried on the {' and '.join(pages)} page alone: {narrowed}." if narrowed else "")
    by_state = _outcomes(name, kind, entry)
    on = tuple(_rows(name, entry.get("on", [])))
    claim = Claim(name, kind, entry["class"], entry["source"], why, skip, pages, by_state)
    return replace(claim, on=tuple((row, _at(claim, entry, row, stated)) for row, stated in on))


def _skip(name: str, entry: Any) -> dict[str, str]:
    """The conditions of which each alone allows a SKIP, and what the claim says then.

    :raises UnsoundError: it allows none that can be looked at.
    """
    need = partial(_need, name)
    need(isinstance(entry, dict) and set(entry) in _SKIPS, "its skip names no condition")
    cases: dict[str, str] = {}
    if "when" in entry:
        several = entry["when"] if isinstance(entry["when"], list) else [entry["when"]]
        right = bool(several) and all(isinstance(condition, str) and condition in SKIPPED for condition in several)
        need(right, "its skip cannot be allowed")
        cases |= {condition: SKIPPED[condition] for condition in several}
    if "kernel" in entry:
        try:
            right = isinstance(entry["kernel"], str) and rows.meet(entry["kernel"])
        except ValueError as error:
            raise UnsoundError(f"the contract, {name}: {legible(error, 80)}") from error
        need(right, "its skip is for no kernel that there can be")
        reason = entry["reason"]
        need(isinstance(reason, str) and len(reason.split()) >= _REASON, "its skip says not what these kernels lack")
        releases = "".join(entry["kernel"].split())
        cases[_KERNEL + releases] = f"the host's kernel is {releases}: {reason}"
    return cases


def _need(claim: str, right: bool, words: str) -> None:  # noqa: FBT001
    if not right:
        raise UnsoundError(f"the contract, {claim}: {words}")


def _outcomes(name: str, kind: str, entry: dict[str, Any]) -> dict[str, Outcome]:
    """What a probe must come to on a page of each state.

    :raises UnsoundError: it proves nothing.
    """
    plain, private = (_outcome(name, mode, entry.get(mode)) for mode in ("plain", "protected"))
    shared = _outcome(name, "shared", entry["shared"]) if "shared" in entry else plain
    need = partial(_need, name)
    for control in (plain, shared):
        need(control.leaked > 0 or control.page_after == "overwritten", "a control that reaches no page proves nothing")
        need(control.leaked == 0 or control.leaked >= _LEAST, f"a control must leak {_LEAST} bytes or more")
    if kind == "attack":
        need(private.leaked == 0 and private.page_after in (None, "intact"), "an attack must leak and change nothing")
        need(
            plain.page_after != "overwritten" or private.page_after == "intact", "the guest must look at its page again"
        )
        need((private.returned, private.signal) != (None, None), "it does not say how the attack ends")
        for control in (plain, shared):
            least = min(private.returned or 0, PAGE)
            same = control.end == private.end and control.page_after is None
            need(not same or control.leaked >= least, f"it ends as its control, which leaks {control.leaked} bytes")
    return {"plain": plain, "shared": shared, "private": private}


def _rows(name: str, entries: Any) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """For which hosts the outcome differs, and what is stated for them.

    :raises UnsoundError: two entries are for the same host, or an entry is not valid.
    """
    earlier_rows: list[dict[str, str]] = []
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or not set(entry) <= _ON:
            raise UnsoundError(f"the contract, {name}: a row of outcomes for some hosts is malformed")
        row = {fact: entry[fact] for fact in rows.FACTS if fact in entry}
        stated = {key: value for key, value in entry.items() if key not in row}
        try:
            right = all(isinstance(value, str) for value in row.values()) and rows.exist(row)
            twice = [earlier for earlier in earlier_rows if rows.overlap(earlier, row)] if right else []
        except ValueError as error:
            raise UnsoundError(f"the contract, {name}: {legible(error, 80)}") from error
        texts = [entry.get(key) for key in ("source", "reason")]
        if not right or not all(isinstance(text, str) and text.strip() for text in texts) or len(stated) == len(texts):
            raise UnsoundError(f"the contract, {name}: a row of outcomes lacks its hosts, its outcome or its reason")
        if twice:
            raise UnsoundError(f"the contract, {name}: {rows.words(twice[0])} and {rows.words(row)} overlap")
        earlier_rows.append(row)
        yield row, stated


def _at(claim: Claim, entry: dict[str, Any], row: dict[str, str], stated: dict[str, Any]) -> Claim:
    """A claim as it is for the hosts of a row."""
    words = rows.words(row)
    why = f"{stated['reason']} This is the outcome for {words}.{claim.why.removeprefix(entry['reason'])}"
    by_state = _outcomes(f"{claim.id}, {words}", claim.kind, {**entry, **stated})
    return replace(claim, source=stated["source"], why=why, by_state=by_state, row=words)


def _outcome(claim: str, name: str, entry: Any) -> Outcome:
    if not isinstance(entry, dict) or not set(entry) <= _OUTCOME or "leak" not in entry:
        raise UnsoundError(f"the contract, {claim}: {name} is not an outcome")
    leak = {"none": 0, "page": PAGE}.get(entry["leak"], entry["leak"]) if entry["leak"] else -1
    returned, errno = entry.get("returned"), entry.get("errno")
    if not isinstance(leak, int) or not 0 <= leak <= PAGE or (errno is None) != (returned != -1):
        raise UnsoundError(f"the contract, {claim}: {name} is an impossible outcome")
    return Outcome(returned, errno, entry.get("signal"), entry.get("si_code"), leak, entry.get("page_after"))

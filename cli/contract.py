# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof contract REPORT``: record in the contract what the evidence of each claim holds, taken from a run.

The entry of a claim is rewritten if the run proved the claim and its evidence differs from the contract. All other
entries stay. Look at the difference (git diff) before you keep it: a check that the run lacks leaves the contract.

It changes nothing for a report that is not sound, or that another key has signed than yours or a named one.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import UserInputError
from common.paths import PROJECT, config_root, parse_path
from fleet.groups import CONTRACT
from signoff import contract_files, evidence, needs, results
from signoff.contract import Mode
from signoff.host_facts import HostFacts
from signoff.keys import PRIVATE_KEY
from signoff.needs import ANY, ROLES, Need, Needs
from signoff.verdict import Status
from verifier import __main__ as verifier
from verifier.report import TrustAnchors, verify
from verifier.text import UnsoundError
from verifier.tree import load

_VARIES = re.compile(r"0x(?!f{13}[0-9a-f]{3}\b)[0-9a-f]{5,}\b|\b\d{6,}\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b")
"""Addresses, seeds, digests: they are others in each run. Numbers of errors are not (Linux: include/linux/err.h), nor
are the numbers that stand in the programs and the claims."""
_NUMBER = re.compile(r"\b0x[0-9a-f]{5,}", re.IGNORECASE)
_SOURCES = (("guest_images", "*.[ch]"), ("tests_e2e", "*.py"))
_PAGES = re.compile(r"\d+ pages: 0x[^()]*\(sha256 [0-9a-f]+\)")
"""Pages by their addresses, as sweeps name them: the verifier makes these anew from the sweep."""
_TOKEN = re.compile(r"\w+|\W")
_WIDTH = 120
_FEW = 6


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof contract", description=__doc__)
    parser.add_argument(
        "report", type=parse_path, metavar="REPORT", help="folder of a run of this checkout, or of a part of it"
    )
    parser.add_argument(
        "--also", nargs="+", default=[], type=parse_path, metavar="REPORT",
        help="runs in which the same checks were right: an expectation that differs between them is left open",
    )  # fmt: skip
    parser.add_argument(
        "--variant", nargs="+", default=[], type=parse_path, metavar="REPORT",
        help="runs on hosts of another kind: a check that only one of them makes is kept as an alternative",
    )  # fmt: skip
    parser.add_argument(
        "--vendor", nargs="+", default=[], type=parse_path, metavar="REPORT",
        help="runs on processors of another vendor: what differs there is written down for that vendor alone",
    )  # fmt: skip
    parser.add_argument(
        "--contract",
        type=parse_path,
        default=CONTRACT,
        metavar="FOLDER",
        help="the contract to change (default: this checkout's)",
    )
    parser.add_argument(
        "--key", action="append", default=[], metavar="FINGERPRINT|FILE",
        help="who else than you may have signed the reports; may be repeated",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str]) -> int:
    """Write the file, and say of which claims it says something else than before."""
    options = options_parser().parse_args(argv)
    contract = contract_files.load(options.contract)
    order = [claim.id for claim in contract.claims]
    table = {name: variants for name, variants in contract.needs.items() if name in order}
    for report in (options.report, *options.also, *options.variant, *options.vendor):
        _require_sound(report, options.key)
    changes = (_anew, [options.report]), (_also, options.also), (_more, options.variant), (_of_vendor, options.vendor)
    for change, reports in changes:
        for name, need in (need for each in reports for need in _proven_needs(each) if need[0] in order):
            entries = table.get(name, ())
            if not entries or needs.gap(needs.at(entries, need.vendor), need):
                table[name] = change(name, entries, need)
    (options.contract / needs.FILE).write_text(contract_text(table, order), encoding="utf-8")
    changed = [name for name in order if table.get(name) != contract.needs.get(name)]
    sys.stdout.write("".join(f"{name}\n" for name in changed))
    open_ = [claim.id for claim in contract.claims if claim.id not in table]
    sys.stdout.write(f"{len(changed)} claims changed; {len(open_)} without a word: {_few(open_)}\n")
    return 0


def _few(names: Sequence[str]) -> str:
    """Some names in a line."""
    return ", ".join([*names[:_FEW], *(["..."] if names[_FEW:] else [])]) or "none"


def _require_sound(report: Path, keys: Sequence[str]) -> None:
    """See that a report is what somebody known has signed: the contract would take over what a stranger made up.

    :raises UserInputError: it is not.
    """
    own = config_root() / PRIVATE_KEY
    trusted = (*((str(own),) if own.is_file() else ()), *keys)
    words = [str(report), *(word for key in trusted for word in ("--key", key))]
    key_options = verifier.parser("sealproof contract").parse_args(words)
    try:
        faults = verify(load(report), TrustAnchors(keys=tuple(key_options.key))).faults
    except (OSError, UnsoundError) as error:
        faults = [str(error)]
    if faults:
        raise UserInputError(
            f"{report} is not sound: {faults[0]}",
            stage="contract",
            hint=f"./sealproof verify {shlex.quote(str(report))} tells all of it; --key names another signer",
        )


def _proven_needs(report: Path) -> Iterator[tuple[str, Need]]:
    """What the evidence of each claim holds that a run has proven, without what differs in each run.

    :raises UserInputError: it is no run's folder, or one of mode plain.
    """
    run = evidence.read(report)
    kernel = run.record.kernel
    facts = HostFacts.of(kernel.release if kernel else None, run.record.tier, run.record.host)
    if run.record.mode is not Mode.PROTECTED:
        raise UserInputError(f"{report} is of mode {run.record.mode}", stage="contract", hint="name a sign-off")
    for result in run.results:
        lacking = result.status is Status.MISS and result.why.startswith(needs.GAP)
        if result.status is Status.PASS or lacking:
            yield result.id, replace(_without_numbers(results.need_of(result)), vendor=facts.vendor)


def _without_numbers(need: Need) -> Need:
    subject, control = (tuple((_open(name), _open(value)) for name, value in need.of(role)) for role in ROLES)
    return replace(need, call=_open(need.call), subject=subject, control=control)


def _open(text: str) -> str:
    return _VARIES.sub(_open_number, _PAGES.sub(f"{ANY} pages: {ANY}", text))


def _open_number(number: re.Match[str]) -> str:
    is_constant = number[0].startswith("0x") and int(number[0], 16) in _constants()
    return number[0] if is_constant else ANY


@functools.cache
def _constants() -> frozenset[int]:
    """The numbers of more than 16 bits in the sources of programs and claims: they are the same in each run."""
    files = (file for folder, names in _SOURCES for file in (PROJECT / folder).rglob(names))
    texts = (file.read_text(encoding="utf-8") for file in files)
    return frozenset(int(number, 16) for text in texts for number in _NUMBER.findall(text))


def _anew(name: str, entries: tuple[Need, ...], need: Need) -> tuple[Need, ...]:
    """In the place of the variants that were for that host; those for another vendor's processors stay."""
    del name
    before = needs.at(entries, need.vendor)
    return (_like(before, need), *(entry for entry in entries if entry not in before))


def _like(entries: Sequence[Need], need: Need) -> Need:
    """For the hosts that the known variants are for; for any if there is none."""
    return replace(need, vendor=entries[0].vendor if entries else None)


def _also(name: str, entries: tuple[Need, ...], old_need: Need) -> tuple[Need, ...]:
    for_host = needs.at(entries, old_need.vendor)
    tried = (_wider(entry, _like(for_host, old_need)) if entry in for_host else None for entry in entries)
    wider = [new if new and not needs.gap((new,), old_need) else None for new in tried]
    if not any(wider):
        sys.stdout.write(f"{name}: other checks than in the first run, which are not put down\n")
    return tuple(new or old for new, old in zip(wider, entries, strict=True)) if any(wider) else entries


def _more(name: str, entries: tuple[Need, ...], need: Need) -> tuple[Need, ...]:
    del name
    return (*entries, _like(needs.at(entries, need.vendor), need))


def _of_vendor(name: str, entries: tuple[Need, ...], need: Need) -> tuple[Need, ...]:
    """In the place of what was for that vendor.

    :raises UserInputError: the report does not say whose processor it is of.
    """
    if need.vendor is None:
        raise UserInputError(f"{name}: the report names no vendor", stage="contract", hint="name one with --variant")
    return (*(entry for entry in entries if entry.vendor is not need.vendor), need)


def _wider(need: Need, old_need: Need) -> Need | None:
    """A variant that fits what was found, too: what its checks expect differs; None: they are other checks."""
    if replace(need, subject=(), control=()) != replace(old_need, subject=(), control=()):
        return None
    roles = []
    for role in ROLES:
        lacks, more = needs.apart(need.of(role), old_need.of(role))
        if Counter(name for name, _ in lacks) != Counter(name for name, _ in more):
            return None
        alike = Counter(need.of(role)) - Counter(lacks)
        pairs = zip(sorted(lacks), sorted(more), strict=True)
        roles.append((*alike.elements(), *((variant[0], _between(variant[1], other[1])) for variant, other in pairs)))
    return replace(need, subject=roles[0], control=roles[1])


def _between(claim: str, other: str) -> str:
    """What fits two texts: tokens that differ are left open; of texts of different shapes all is."""
    tokens = [_TOKEN.findall(text) for text in (claim, other)]
    if len(tokens[0]) != len(tokens[1]):
        return ANY
    return "".join(first if first == second else ANY for first, second in zip(*tokens, strict=True))


def contract_text(table: Needs, order: Sequence[str]) -> str:
    """The file.

    :param order: of the claims.
    """
    lines = [
        "# SPDX-License-Identifier: GPL-2.0-or-later",
        "# What the evidence of each claim holds in mode protected. Made by `sealproof contract`; see README.md.",
        "version = 1",
    ]
    for name in (name for name in order if name in table):
        for need in table[name]:
            lines += ["", f"[[claim.{name}]]", *_variant(name, need)]
    return "\n".join([*lines, ""])


def _variant(name: str, need: Need) -> Iterator[str]:
    yield f"sentence = {_text(need.sentence)}"
    if need.vendor is not None:
        yield f"vendor = {_text(need.vendor)}"
    if need.call:
        yield f"call = {_text(need.call)}"
    if need.met:
        yield f"met = {_text(need.met)}"
    if need.protected is not None:
        yield f"protected = {_text(need.protected)}"
    if need.files:
        yield from _list("files", need.files)
    both = Counter(need.subject) & Counter(need.control)
    for role, entries in (
        ("both", both),
        *((role, Counter(need.of(role)) - both) for role in ROLES),
    ):
        if not entries:
            continue
        yield f"[claim.{name}.{role}]"
        for expected in sorted({value for _, value in entries}):
            names = sorted((variant, count) for (variant, value), count in entries.items() if value == expected)
            yield from _list(_text(expected), [check if count == 1 else f"{check} *{count}" for check, count in names])


def _list(key: str, values: Sequence[str]) -> Iterator[str]:
    line = f"{key} = [{', '.join(map(_text, values))}]"
    if len(line) <= _WIDTH:
        yield line
    else:
        yield from (f"{key} = [", *(f"  {_text(value)}," for value in values), "]")


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

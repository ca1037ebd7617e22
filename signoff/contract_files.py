# SPDX-License-Identifier: GPL-2.0-or-later
"""A contract's files: a folder with a file for each kind and class, or a single file.

The head of a file states what holds for all of its claims; a claim states the rest. A claim with ``ids`` instead of
``id`` stands for several that differ in nothing but their names. The order of the report is that of the files' names,
and of the claims in each. Other files in the folder than ``*.toml`` do not count. One file holds no claims:
``evidence.toml`` names what the evidence of each must hold, see :mod:`signoff.needs`.

A contract is named by a SHA-256: that of the list of its files, as ``sha256sum`` prints one, in the order of their
names: ``cd FOLDER && LC_ALL=C sha256sum *.toml | sha256sum``. A single file counts as a folder with that file alone.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import UserInputError
from signoff import needs
from signoff.contract import CLAIM, PROBE, WORK, Claim, Contract, ProbeClaim

VERSION = 2
"""Of the form; version 1 was a single file, with ``right = true`` for outcomes."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.toml")
_CLAIM = re.compile(r"\s*\[\[\s*claim\s*\]\]")
_QUOTED = re.compile(r"""["']([a-z][a-z0-9_]+)["']""")


class _File(BaseModel):
    """What a file holds; its claims are looked at one by one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[2]
    kind: str | None = None
    threat: Annotated[str | None, Field(alias="class")] = None
    claim: Annotated[list[dict[str, Any]], Field(min_length=1)]


def files(path: Path) -> dict[str, bytes]:
    """The files of the contract at a path, by their names and in the order of these.

    :raises UserInputError: there is none, one cannot be read, or has a name that no file of a contract has.
    """
    try:
        contents = {file.name: file.read_bytes() for file in (path.glob("*.toml") if path.is_dir() else [path])}
    except OSError as error:
        raise UserInputError(f"the contract cannot be read: {error}", stage="contract") from error
    if not contents:
        raise UserInputError(f"the contract cannot be read: {path} holds no file *.toml", stage="contract")
    if strange := [name for name in contents if not _NAME.fullmatch(name)]:
        raise UserInputError(
            f"{strange[0]} is not a valid name for a contract file",
            stage="contract",
            hint="use small letters, digits and hyphens: attack-kvm.toml",
            artefact=path,
        )
    return dict(sorted(contents.items()))


def sha256(contents: Mapping[str, bytes]) -> str:
    """What names a contract.

    :param contents: its files.
    """
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(contents.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load(path: Path) -> Contract:
    """Read the contract at a path.

    :raises UserInputError: if it cannot be read or is not right; names file, line, claim and field of each fault.
    """
    faults: list[str] = []
    claims: dict[str, Claim] = {}
    contents = files(path)
    for name, content in contents.items():
        for claim in _claims(name, content, faults) if name != needs.FILE else ():
            if claim.id in claims:
                faults.append(f"{name}: claimed twice: {claim.id}")
            claims[claim.id] = claim
    table = _needs(contents, claims, faults)
    if faults:
        raise UserInputError("\n".join(faults), stage="contract", hint="correct these lines", artefact=path)
    return Contract(tuple(claims.values()), table)


def places(contents: Mapping[str, bytes]) -> dict[str, tuple[str, int]]:
    """The file that names each claim first, and the line in it from 1 on; other words in quotation marks as well.

    :param contents: the contract's files.
    """
    named: dict[str, tuple[str, int]] = {}
    for name, content in contents.items():
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1) if name != needs.FILE else ():
            for word in _QUOTED.findall(line):
                named.setdefault(word, (name, number))
    return named


def _needs(contents: Mapping[str, bytes], claims: Mapping[str, Claim], faults: list[str]) -> needs.Needs:
    """What the evidence must hold, if a file says it; what is wrong with it is added to the faults."""
    if needs.FILE not in contents:
        return {}
    try:
        table = needs.read(contents[needs.FILE])
    except ValueError as error:
        faults.append(f"{needs.FILE}: {error}")
        return {}
    for name, variants in table.items():
        claim = claims.get(name)
        if claim is None:
            faults.append(f"{needs.FILE}: no claim is called {name}")
        elif not all(bool(variant.call) is isinstance(claim, ProbeClaim) for variant in variants):
            faults.append(f"{needs.FILE}: {name}: a probe has a call, and what is told by checks has none")
    return table


def _claims(name: str, content: bytes, faults: list[str]) -> Iterator[Claim]:
    """The claims of a file; what is wrong with it is added to the faults."""
    try:
        text = content.decode("utf-8")
        file = _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        faults += [f"{name}: {word}" for word in _words(error)]
        return
    except (ValueError, RecursionError) as error:
        faults.append(f"{name}: not TOML: {error}")
        return
    head = {"kind": file.kind, "class": file.threat}
    lines = [number for number, line in enumerate(text.splitlines(), 1) if _CLAIM.match(line)]
    for number, entry in enumerate(file.claim):
        place = f"{name}:{lines[number]}" if number < len(lines) else name
        try:
            each = list(_each(head, entry))
        except ValueError as error:
            faults.append(f"{place}: claim number {number + 1}: {error}")
            continue
        for fields in each:
            try:
                yield CLAIM.validate_python(fields)
            except ValidationError as error:
                called = fields.get("id", f"claim number {number + 1}")
                faults += [f"{place}: {called}: {words}" for words in _words(error)]


def _each(head: Mapping[str, str | None], entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The claims that an entry stands for, each with what the head of its file states.

    :raises ValueError: head and claim state the same, or ``ids`` are none.
    """
    stated = {key: value for key, value in head.items() if value is not None}
    if twice := [key for key in stated if key in entry]:
        raise ValueError(f"{twice[0]}: the head of the file states it for all claims")
    whole = {**stated, **entry}
    if "ids" not in entry:
        yield whole
        return
    ids = whole.pop("ids")
    if "id" in entry or not isinstance(ids, list) or len(ids) < 2:
        raise ValueError("ids: name at least two claims, and no id beside them")
    for name in ids:
        yield {"id": name, **whole}


def _words(error: ValidationError) -> Iterator[str]:
    """The faults that pydantic found, each as ``field: what``."""
    for fault in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in fault["loc"] if part not in (PROBE, WORK))
        message = str(fault["msg"]).removeprefix("Value error, ")
        yield f"{field}: {message}" if field else message

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the history keeps of a run, as it is read from ``signoff.json`` and as it is exported.

A report, or an export, may come from a stranger: everything is validated before it is used.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from common.errors import UserInputError
from common.names import path_text
from signoff.contract import Kind, Mode
from signoff.overall import INTERRUPTED, RunVerdict
from signoff.record import KernelIdentity, PatchIdentity, Tier
from signoff.report.document import SCHEMA
from signoff.verdict import Status

STAGE = "history"
REPORT = "signoff.json"
LARGEST = 256 << 20
"""Bytes of a ``signoff.json`` that is read; one of 424 claims has 4 MB."""
_LONGEST = 2000  # characters of a text that is kept
_OF_ONE_START = ("started",)  # facts of a host that differ from start to start
_MEASURED = re.compile(r" ?\btsc_early_khz=\d+")  # a word of the host's command line that each boot measures anew
_GIVEN_UP = ("the set-up failed", "the run's folder is no longer writable")  # host_setup.plugin, signoff.plugin
SEALPROOF = "sealproof"
BUILD_ID = "kernel build ID"

Text = Annotated[str, StringConstraints(max_length=4 * _LONGEST)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500)]
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$")]
ClaimId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,300}$")]
Time = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_MODEL = ConfigDict(extra="forbid", frozen=True)


class Claim(BaseModel):
    """How a claim ended in one run.

    :ivar tried: its test began. :ivar seconds: that its test took. :ivar why: the reason, if it is not PASS.
    :ivar command: repeats it, if it is not PASS.
    """

    model_config = _MODEL

    id: ClaimId
    kind: Kind
    status: Status
    tried: bool
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    sentence: Text = ""
    why: Text = ""
    command: Text = ""


class Place(BaseModel):
    """Where a run belongs among the nights.

    :ivar cell: of the matrix. :ivar number: 1: the whole cell; more: claims that failed were run again.
    """

    model_config = _MODEL

    night: RunId
    cell: Name
    number: Annotated[int, Field(ge=1, le=1000)]


class Run(BaseModel):
    """A run.

    :ivar ended: None: it was killed. :ivar inputs: all that may change a result, by name; a SHA-256 where there is one.
    :ivar folder: of the report, where it lay. :ivar sha256: of its ``signoff.json``. :ivar place: of a night's run.
    """

    model_config = _MODEL

    id: RunId
    started: Time
    ended: Time | None
    mode: Mode
    tier: Tier | None
    verdict: RunVerdict
    summary: Text
    command: Text
    commit: Name
    series: Text
    inputs: Annotated[dict[Name, Text], Field(max_length=200)]
    patches: Annotated[tuple[tuple[Name, Name], ...], Field(max_length=5000)] = ()
    problems: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    claims: Annotated[tuple[Claim, ...], Field(min_length=1, max_length=20000)]
    folder: Text
    sha256: Sha256
    place: Place | None = None

    @model_validator(mode="after")
    def _names_each_claim_once(self) -> Run:
        if len({claim.id for claim in self.claims}) != len(self.claims):
            raise ValueError("it holds a claim twice")
        return self

    @property
    def given_up(self) -> str:
        """Why it was given up, as the run said it; empty if it was not."""
        return next((words for words in self.problems if words.startswith(_GIVEN_UP)), "")

    @property
    def cut_short(self) -> bool:
        """Whether it did not come to its end: then the health of its machines was not judged."""
        return self.ended is None or self.summary.startswith(INTERRUPTED) or bool(self.given_up)

    @property
    def counted(self) -> dict[str, Claim]:
        """The claims whose status counts, by id: those that were tried; if the run was cut short only a FAIL."""
        return {
            claim.id: claim
            for claim in self.claims
            if claim.tried and (not self.cut_short or claim.status is Status.FAIL)
        }

    @property
    def identity(self) -> str:
        """What names its inputs: the same for runs whose inputs are the same. Empty: not all inputs are known."""
        if BUILD_ID not in self.inputs or self.tier is None:
            return ""
        inputs = {
            name: value for name, value in self.inputs.items() if name != SEALPROOF
        }  # its files have their own line
        text = json.dumps([self.mode, self.tier, sorted(inputs.items())])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def track(self) -> str:
        """The line of runs that it belongs to: the cell of a matrix; else what its user chose."""
        if self.place:
            return self.place.cell
        layers = self.inputs.get("host: kernel's layers", "none")
        chosen = [self.series or "no series", f"mode {self.mode}", self.tier or "no host"]
        return ", ".join([*chosen, *([f"layers {layers}"] if layers != "none" else [])])


def read_report(folder: Path, place: Place | None = None) -> Run:
    """What is kept of the run in a folder.

    :raises UserInputError: it is no report, or not of a version that is understood.
    """
    return read(folder, place)[0]


def read(folder: Path, place: Place | None = None) -> tuple[Run, Mapping[str, Any]]:
    """The same, and the whole document, which fits its schema.

    :raises UserInputError: it is no report, or not of a version that is understood.
    """
    file = folder / REPORT
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST >> 20} MiB")
        content = file.read_bytes()
        document = json.loads(content)
        _require_schema(document)
        return _run(document, folder, hashlib.sha256(content).hexdigest(), place), document
    except FileNotFoundError as error:
        killed = (folder / "record.json").is_file()
        hint = f"a run that was killed has none until './sealproof report {path_text(folder)}'" if killed else ""
        raise UserInputError(f"{path_text(folder)} has no {REPORT}", stage=STAGE, hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:  # pydantic's errors are ValueErrors, too
        raise UserInputError(f"{path_text(file)} is not a report: {_first_line(error)}", stage=STAGE) from error


def _require_schema(document: Any) -> None:
    schema = _validator().schema["properties"]["schema"]["const"]
    if not isinstance(document, dict) or "schema" not in document:
        raise ValueError("it does not name its schema")
    if document["schema"] != schema:
        raise ValueError(f"it is of schema {str(document['schema'])[:60]!r}, and this sealproof reads {schema}")
    fault = next(iter(_validator().iter_errors(document)), None)
    if fault is not None:
        where = "/".join(str(part) for part in fault.absolute_path)
        raise ValueError(f"it does not fit its schema at {where or 'the top'}: {fault.message[:200]}")


@functools.cache
def _validator() -> Any:
    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _run(document: Mapping[str, Any], folder: Path, sha256: str, place: Place | None) -> Run:
    run, kernel = document["run"], document["kernel"]
    return Run(
        id=run["id"],
        started=run["started"],
        ended=run["ended"],
        mode=document["mode"],
        tier=document["tier"],
        verdict=document["verdict"],
        summary=_short(document["summary"]),
        command=_short(run["command"]),
        commit=run["commit"] or "unknown",
        series=kernel["series"] if kernel else "",
        inputs=_inputs(document),
        patches=tuple((patch["name"], patch["sha256"]) for patch in kernel["patches"]) if kernel else (),
        problems=tuple(_short(words) for words in document["problems"][:100]),
        claims=tuple(_claim(claim) for claim in document["claims"]),
        folder=path_text(folder.resolve()),
        sha256=sha256,
        place=place,
    )


def _claim(claim: Mapping[str, Any]) -> Claim:
    passed = claim["status"] == Status.PASS
    return Claim(
        id=claim["id"],
        kind=claim["kind"],
        status=claim["status"],
        tried=bool(claim["command"]),
        seconds=claim["seconds"],
        sentence=_short(claim["sentence"]),
        why="" if passed else _short(claim["why"]),
        command="" if passed else _short(claim["command"]),
    )


def _inputs(document: Mapping[str, Any]) -> dict[str, str]:
    """All that may change a result, by name, in the order in which a reader looks for it."""
    kernel = document["kernel"]
    inputs = {"contract": document["contract"]["sha256"], SEALPROOF: document["run"]["commit"]}
    if kernel:
        patches = tuple(PatchIdentity(**patch) for patch in kernel["patches"])
        inputs |= {
            "kernel": kernel["release"],
            BUILD_ID: kernel["build_id"],
            "kernel source": kernel["source_sha256"],
            "series": kernel["series"],
            "patches": KernelIdentity("", "", "", "", patches).series_sha256,
            "configuration": kernel["config_sha256"],
            "compiler": kernel["compiler"],
            "kernel image": kernel["image_sha256"],
        }
    inputs |= document["made_of"]
    for name, value in document["host"].items():
        if name not in _OF_ONE_START:
            inputs[f"host: {name}"] = _MEASURED.sub("", value)
    return {name: _short(value) for name, value in inputs.items() if value}


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300]

# SPDX-License-Identifier: GPL-2.0-or-later
"""The run's folder. Everything that the report says is read back from it, so a run that was killed has one, too.

::

    reports/<run id>/
        record.json      the run's identity; rewritten whenever more is known
        contract/        the contract as it was: see signoff.contract_files
        planned.json     claim -> sentence, for every claim whose test was found
        claims.jsonl     one line a claim, as they end
        journal.jsonl    what was done when, a hash chain: see signoff.journal
        evidence/<claim>/  subject.jsonl, control.jsonl, checks.jsonl and what the test attached
        hosts/           console and QMP transcript of each host
        identity/        the kernel's configuration, and lists of the files that the run is made of
        fleet.json  parts/   of a merged run alone: see signoff.merge
        signoff.html  signoff.json  junit.xml  signoff.tap  signoff.sarif  kcidb.json
        SHA256SUMS       of all of it, for 'sha256sum -c'
        attestation.json   of a signed run alone: see signoff.attestation
        attestation.sigstore.json   the same as a bundle of sigstore's
        attestation.json.sig   if an SSH key signed it as well: see signoff.ssh
    reports/latest -> <run id>
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common.errors import UserInputError
from common.store import REPORTS, disk_errors, file_sha256
from signoff import contract_files
from signoff.contract import Contract
from signoff.fleet import Fleet
from signoff.journal import Journal
from signoff.keys import signer_of
from signoff.observation import Check, Observation
from signoff.record import Record
from signoff.results import Result, to_run

__all__ = [
    "ATTESTATION", "BUNDLE", "CONTRACT", "EXPORTS", "SIGNATURES", "SSH_SIGNATURE", "SUMS", "Evidence", "RunContents",
    "file_sha256", "read",
]  # fmt: skip

SUMS = "SHA256SUMS"
ATTESTATION = "attestation.json"
CONTRACT = "contract"
"""The folder of the contract, in a run's folder."""
SSH_SIGNATURE = f"{ATTESTATION}.sig"
BUNDLE = "attestation.sigstore.json"
SIGNATURES = (ATTESTATION, BUNDLE, SSH_SIGNATURE)
EXPORTS = ("junit.xml", "signoff.tap", "signoff.sarif", "kcidb.json")
"""The verdict for other programs."""
NO_LOGS = ("evidence", "parts", CONTRACT)
"""Folders of a run that hold no logs."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RECORD = TypeAdapter(Record)
_RESULT = TypeAdapter(Result)
_PLANNED = TypeAdapter(dict[str, str])
_FLEET = TypeAdapter(Fleet)


class Evidence:
    """A run's folder, open for writing.

    :param folder: must exist. Use :meth:`create` for a new run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """What was done when."""
        if self._journal is None:
            self._journal = Journal(self.folder)
        return self._journal

    @classmethod
    def create(cls, reports: Path, run: str, contract: Path) -> Evidence:
        """Make the folder of a new run.

        :param contract: its folder or its file. :raises UserInputError: if that cannot be read.
        :raises NoSpaceError: if the disk is full. :raises FileExistsError: if there is a run of that name.
        """
        folder = reports / run
        contents = contract_files.files(contract)
        with disk_errors(reports, REPORTS):
            reports.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            try:
                for name in ("evidence", CONTRACT):
                    (folder / name).mkdir()
                for name, content in contents.items():
                    (folder / CONTRACT / name).write_bytes(content)
                (folder / "claims.jsonl").touch()
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)  # half a run is none
                raise
        evidence = cls(folder)
        evidence.journal.add("begin", run=run, nonce=secrets.token_hex(16), contract=contract_files.sha256(contents))
        return evidence

    def write_record(self, record: Record) -> None:
        """Put the identity down, replacing what was known before."""
        self._replace("record.json", _RECORD.dump_json(record, indent=1))

    def write_planned(self, planned: dict[str, str]) -> None:
        """Put down which claims have a test."""
        self._replace("planned.json", json.dumps(planned, indent=1).encode())

    def write_fleet(self, fleet: Fleet) -> None:
        """Put down which machines a merged run is of."""
        self._replace("fleet.json", _FLEET.dump_json(fleet, indent=1))

    def append(self, result: Result) -> None:
        """Add a claim's line; it is on the disk when this returns."""
        line = _RESULT.dump_json(result)
        with disk_errors(self.folder, REPORTS), (self.folder / "claims.jsonl").open("ab") as out:
            out.write(line + b"\n")
            out.flush()
            os.fsync(out.fileno())
        files = {name: file_sha256(self.folder / name) for name in result.evidence}
        line_sha256 = hashlib.sha256(line).hexdigest()
        self.journal.add("claim", id=result.id, status=result.status, line=line_sha256, files=files)

    def end(self) -> None:
        """Put down that the run is over, and what it came to. Nothing is added to the journal afterwards."""
        names = {"record": "record.json", "claims": "claims.jsonl"}
        self.journal.add("end", **{key: file_sha256(self.folder / name) for key, name in names.items()})

    def observations(self, claim: str, role: str, observations: Sequence[Observation]) -> str:
        """Keep the runs of a probe with all the data that the attacker got.

        :returns: the file's name, relative to the run's folder.
        """
        lines = [
            {
                **dataclasses.asdict(to_run(role, observation)),
                "data": observation.data.hex(),
                "cuts": list(observation.cuts),
                **observation.canary.reveal(),
            }
            for observation in observations
        ]
        return self._lines(claim, f"{role}.jsonl", lines)

    def checks(self, claim: str, role: str, checks: Sequence[Check]) -> str:
        """Keep checks; returns the file's name, relative to the run's folder."""
        lines = [{"role": role, **dataclasses.asdict(check)} for check in checks]
        return self._lines(claim, f"checks-{role}.jsonl", lines)

    def attach(self, claim: str, name: str, content: str | bytes) -> str:
        """Keep a file with a claim; a second one of that name gets a number.

        :returns: its name, relative to the run's folder. :raises ValueError: if the name is not a plain file name.
        """
        return self._write(Path("evidence", _plain(claim)), name, content)

    def identify(self, name: str, content: str | bytes) -> None:
        """Keep what something is made of; of several contents the last.

        :param name: relative to the run's folder, below ``identity/``.
        """
        with disk_errors(self.folder, REPORTS):
            (self.folder / "identity").mkdir(exist_ok=True)
            (self.folder / name).write_bytes(
                content.encode(errors="surrogateescape") if isinstance(content, str) else content
            )

    def seal(self) -> None:
        """Write the checksums of all files; the last thing that is written into the folder, a signature apart."""
        apart = [self.folder / name for name in (SUMS, *SIGNATURES)]
        paths = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and path not in apart]
        lines = [f"{file_sha256(path)}  {path.relative_to(self.folder)}" for path in paths]
        self._replace(SUMS, ("\n".join(lines) + "\n").encode())

    def publish(self) -> str:
        """Let ``latest`` beside the folder point to it; there is no moment at which it points nowhere.

        :returns: why it does not, in one line; empty if it does. What was found stands all the same. A folder or a file
            in its place stays: a store that keeps no links may have made one of an earlier run, evidence and all.
        """
        latest = self.folder.parent / "latest"
        fresh = self.folder.parent / f".latest-{secrets.token_hex(4)}"
        try:
            if latest.exists() and not latest.is_symlink():
                kind = "folder" if latest.is_dir() else "file"
                return (
                    f"{latest} is a {kind}, not a link: it stays as it is, and does not point to this run; move it away"
                )
            fresh.symlink_to(self.folder.name)
            fresh.replace(latest)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            return f"{latest} does not point to this run: {error.strerror}"
        return ""

    def _write(self, below: Path, name: str, content: str | bytes) -> str:
        stem, dot, suffix = _plain(name).partition(".")
        folder = self.folder / below
        number = 1
        while (folder / name).exists():
            number += 1
            name = f"{stem}-{number}{dot}{suffix}"
        with disk_errors(self.folder, REPORTS):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode(errors="replace") if isinstance(content, str) else content)
        return str(below / name)

    def _lines(self, claim: str, name: str, lines: Iterable[object]) -> str:
        return self.attach(claim, name, "".join(f"{json.dumps(line)}\n" for line in lines))

    def _replace(self, name: str, content: bytes) -> None:
        fresh = self.folder / f".{name}.new"
        with disk_errors(self.folder, REPORTS):
            fresh.write_bytes(content)
            fresh.replace(self.folder / name)


@dataclasses.dataclass(frozen=True, slots=True)
class RunContents:
    """What a run's folder holds.

    :ivar planned: claim -> sentence. :ivar logs: names relative to the folder. :ivar fleet: of a merged run alone.
    :ivar signing_key: fingerprint of the public key that lies in the folder; empty if there is none.
    :ivar contract_sha256: what names the contract: see :func:`signoff.contract_files.sha256`.
    """

    record: Record
    contract: Contract
    planned: dict[str, str]
    results: list[Result]
    logs: list[str]
    fleet: Fleet | None = None
    signing_key: str = ""
    contract_sha256: str = ""


def read(folder: Path) -> RunContents:
    """Read a run's folder back, finished or not.

    A last line cut short by a crash is no result: its claim counts as not reached.

    :raises UserInputError: if this is not a run's folder, or it is damaged.
    """
    try:
        record = _RECORD.validate_json((folder / "record.json").read_bytes())
        planned_file = folder / "planned.json"
        planned = _PLANNED.validate_json(planned_file.read_bytes()) if planned_file.exists() else {}
        signing_key = signer_of(folder)
        fleet_file = folder / "fleet.json"
        fleet = _FLEET.validate_json(fleet_file.read_bytes()) if fleet_file.exists() else None
        whole, _, _ = (folder / "claims.jsonl").read_bytes().rpartition(b"\n")
        results = [_RESULT.validate_json(line) for line in whole.splitlines()]
    except (OSError, ValueError) as error:  # pydantic's errors are ValueErrors, too
        raise UserInputError(
            f"{folder} is not the folder of a run: {_why(error)}",
            stage="report",
            hint="name a folder that a run has left, for instance reports/latest",
        ) from error
    if (folder / "contract.toml").is_file():
        raise UserInputError(
            f"{folder} is the folder of an older sealproof's run: its contract is the one file contract.toml",
            stage="report",
            hint=f"read it with sealproof {record.commit}",
        )
    # Whatever else has its own folder here is a log, too: the harness may write where we only know the place.
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    logs = sorted(str(path) for path in below if len(path.parts) > 1 and path.parts[0] not in NO_LOGS)
    contract = contract_files.load(folder / CONTRACT)
    sha256 = contract_files.sha256(contract_files.files(folder / CONTRACT))
    return RunContents(record, contract, planned, results, logs, fleet, signing_key, sha256)


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _why(error: OSError | ValueError) -> str:
    """Why a run's folder cannot be read, in a line."""
    if isinstance(error, OSError):
        return f"{Path(error.filename or '').name}: {error.strerror}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{error.title}: {'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return str(error)

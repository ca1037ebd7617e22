# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's folder signed, and the signature checked.

``attestation.json`` is a DSSE envelope around an in-toto statement (https://in-toto.io/Statement/v1) with the
predicate test-result (https://in-toto.io/attestation/test-result/v0.1). Its subjects are the reports and ``SHA256SUMS``
of the run, and the ``SHA256SUMS`` of each part; the run's own in turn names every other file of the folder.
``signing-key.pub`` beside it is the public key. ``attestation.sigstore.json`` is the same envelope as a bundle of
sigstore's (https://docs.sigstore.dev/about/bundle, version 0.3) by a key: without a certificate or a log's entry, which
need their makers' servers.

Each user has an own key, made when it is first needed. A key that comes with a report vouches for nothing: whoever
changes the report can change the key. A signature is good only by a key that the reader knows from elsewhere.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from common.errors import SealproofError, UserInputError
from common.store import REPORTS, disk_errors
from signoff.contract import Mode
from signoff.evidence import ATTESTATION, BUNDLE, CONTRACT, EXPORTS, SIGNATURES, SUMS, Evidence, file_sha256
from signoff.journal import JOURNAL
from signoff.keys import PUBLIC_KEY, fingerprint
from signoff.overall import RunVerdict
from signoff.report.data import Report, assemble
from signoff.verdict import Status

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_REPORTS = ("signoff.html", "signoff.css", "signoff.json", *EXPORTS, JOURNAL)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class ForgedError(SealproofError):
    """A signed folder is not what was signed."""

    stage = "verify"


def sign(folder: Path, key: Ed25519PrivateKey) -> Path:
    """Sign a run whose reports are written and whose key is laid in; returns the attestation's path.

    :raises UserInputError: if it is no run's folder.
    """
    Evidence(folder).seal()
    payload = json.dumps(_statement(folder, assemble(folder)), sort_keys=True, separators=(",", ":")).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    public = key.public_key()
    envelope.sign(CryptoSigner(key, SSlibKey.from_crypto(public, keyid=fingerprint(public))))
    path = folder / ATTESTATION
    with disk_errors(folder, REPORTS):
        path.write_bytes(_text(envelope.to_dict()))
        (folder / BUNDLE).write_bytes(_text(_bundle(envelope, fingerprint(public))))
    return path


def verify(folder: Path, key: str) -> dict[str, Any]:
    """Check a signed folder: the signature, and every byte of every file.

    :param key: fingerprint of the key that must have signed it.
    :returns: the statement. :raises ForgedError: if anything was changed, added or taken away, or another key signed.
    :raises UserInputError: if there is nothing to check, or ``key`` is no fingerprint.
    """
    if not _FINGERPRINT.fullmatch(key):
        raise UserInputError(f"{key!r} is not a fingerprint: 64 hexadecimal digits", stage="verify")
    path = folder / ATTESTATION
    if not path.is_file():
        raise UserInputError(f"{folder} is not signed: there is no {ATTESTATION}", stage="verify")
    statement = _load_signed(path, _public_key(folder / PUBLIC_KEY, key))
    for subject in statement["subject"]:
        _is(folder / subject["name"], subject["digest"]["sha256"])
    _every_file(folder)
    bundle, envelope = folder / BUNDLE, Envelope.from_dict(json.loads(path.read_bytes()))
    if bundle.is_file() and bundle.read_bytes() != _text(_bundle(envelope, key)):
        raise ForgedError(f"{bundle} was changed after it was made")
    return statement


def _statement(folder: Path, report: Report) -> dict[str, Any]:
    parts = [part.folder for part in report.fleet.parts] if report.fleet else []
    names = [*_REPORTS, PUBLIC_KEY, SUMS, *(f"{part}/{SUMS}" for part in parts if (folder / part / SUMS).is_file())]
    protected = report.overall.word is RunVerdict.PROTECTED
    plain = report.record.mode is Mode.PLAIN
    by_status = {status: [row.claim.id for row in report.rows if row.result.status is status] for status in Status}
    kernels = {kernel.build_id: kernel for kernel in ([report.record.kernel] if report.record.kernel else [])}
    if report.fleet:
        kernels |= {part.kernel.build_id: part.kernel for part in report.fleet.parts if part.kernel}
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": file_sha256(folder / name)}} for name in names],
        "predicateType": PREDICATE,
        "predicate": {
            # PASSED means PROTECTED and nothing else. Controls that hold are no pass of any claim about protection.
            "result": "PASSED" if protected else "WARNED" if plain and report.overall.exit_code == 0 else "FAILED",
            "configuration": [
                {"name": CONTRACT, "digest": {"sha256": report.contract_sha256}},
                *(
                    {"name": f"Linux {kernel.release} {product}", "digest": {"sha256": sha256}}
                    for kernel in kernels.values()
                    for product, sha256 in (("bzImage", kernel.image_sha256), (".config", kernel.config_sha256))
                ),
                *({"name": name, "digest": {"sha256": sha256}} for name, sha256 in report.record.made_of.items()),
            ],
            "passedTests": [] if plain else by_status[Status.PASS],
            "warnedTests": (by_status[Status.PASS] if plain else []) + by_status[Status.SKIP],
            "failedTests": by_status[Status.FAIL] + by_status[Status.ERROR] + by_status[Status.MISS],
            # Beyond the predicate's own fields, as its rules allow.
            "verdict": report.overall.word,
            "run": report.record.run,
            "started": report.record.started,
            "ended": report.record.ended,
            "tier": report.record.tier,
            "commit": report.record.commit,
            "contract": {"claims": len(report.rows), "sha256": report.contract_sha256},
            "mode": report.record.mode,
            "series": report.record.series,
            "kernels": sorted(kernels),
            "source": report.record.kernel.source_sha256 if report.record.kernel else "",
            "patches": report.record.kernel.series_sha256 if report.record.kernel else "",
            "madeOf": dict(report.record.made_of),
            "machines": list(dict.fromkeys(part.machine for part in report.fleet.parts))
            if report.fleet
            else [report.record.machine],
        },
    }


def _bundle(envelope: Envelope, key: str) -> dict[str, Any]:
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": key}},
        "dsseEnvelope": envelope.to_dict(),
    }


def _text(statement: dict[str, Any]) -> bytes:
    """The one way in which an envelope is written, so that a changed byte shows even where it means nothing."""
    return (json.dumps(statement, sort_keys=True, indent=1) + "\n").encode()


def _public_key(path: Path, key: str) -> SSlibKey:
    try:
        public = load_pem_public_key(path.read_bytes())
        actual = fingerprint(public)
    except (OSError, ValueError) as error:
        raise ForgedError(f"the key {path} cannot be read: {error}") from error
    if actual != key:
        raise ForgedError(
            f"it is signed by the key {actual}, not by {key}",
            hint="if you have that fingerprint from the signer, and not from the report: --key FINGERPRINT",
        )
    return SSlibKey.from_crypto(public, keyid=actual)


def _load_signed(path: Path, public: SSlibKey) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        envelope = Envelope.from_dict(json.loads(content))
        envelope.verify([public], 1)
        statement: dict[str, Any] = json.loads(envelope.payload)
        kind = (envelope.payload_type, statement["_type"], statement["predicateType"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VerificationError) as error:
        raise ForgedError(f"the signature in {path} is not valid: {error}") from error
    if kind != (PAYLOAD_TYPE, STATEMENT, PREDICATE) or content != _text(envelope.to_dict()):
        raise ForgedError(f"{path} is not written as sealproof writes it")
    return statement


def _every_file(folder: Path) -> None:
    """The signed checksums name every file but themselves and the signature, and all are as they say."""
    lines = [line.partition("  ") for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
    listed = {name: sha256 for sha256, _, name in lines}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    if strange := sorted(there - set(listed) - {SUMS, *SIGNATURES}):
        raise ForgedError(f"files that were not there when it was signed: {', '.join(strange)}")
    for name, sha256 in listed.items():
        _is(folder / name, sha256)


def _is(path: Path, sha256: str) -> None:
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise ForgedError(f"{path} cannot be read: {error}") from error
    if digest != sha256:
        raise ForgedError(f"{path} was changed after it was signed")

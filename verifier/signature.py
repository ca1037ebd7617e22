# SPDX-License-Identifier: GPL-2.0-or-later
"""Who signed which bytes: ``attestation.json`` is a DSSE envelope around an in-toto statement, signed with Ed25519.

The statement names the reports and ``SHA256SUMS``, which names every other file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from verifier import ssh
from verifier.text import UnsoundError, check_names, legible, parse, table
from verifier.tree import Tree

ATTESTATION, SUMS, KEY = "attestation.json", "SHA256SUMS", "signing-key.pub"
BUNDLE = "attestation.sigstore.json"
"""The same envelope for sigstore's readers. It holds nothing else, so it need not be there."""
NAMED = (
    "signoff.html", "signoff.css", "signoff.json", "junit.xml", "signoff.tap", "signoff.sarif", "kcidb.json",
    "journal.jsonl", KEY, SUMS,
)  # fmt: skip
"""Files that the statement names itself."""
_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_SUMS_OF_PART = re.compile(rf"parts/[^/]+/{SUMS}")
_SUM = re.compile(r"([0-9a-f]{64})  (\S(?:.*\S)?)")


@dataclass(frozen=True, slots=True)
class Signature:
    """A good signature.

    :ivar key: fingerprint of the key. :ivar predicate: what the signer says of the report.
    :ivar ssh: fingerprint of the SSH key that signed it as well; empty if none did.
    """

    key: str
    predicate: dict[str, Any]
    ssh: str = ""


def fingerprint(public: Ed25519PublicKey) -> str:
    """The SHA-256 of a public key (DER, SubjectPublicKeyInfo), in hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def key_in(path: Path) -> str:
    """The fingerprint of the key in a PEM file, public or private.

    :raises ValueError: there is no Ed25519 key. :raises OSError: there is no such file.
    """
    data = path.read_bytes()
    try:
        key: Any = load_pem_private_key(data, None) if b"PRIVATE KEY" in data else load_pem_public_key(data)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} holds no readable key: {error}") from error
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError(f"{path} holds no Ed25519 key")
    return fingerprint(public)


def check(tree: Tree) -> Signature:
    """The signature on a report, and that every byte of every file is as it was signed.

    :raises UnsoundError: it is not.
    """
    if ATTESTATION not in tree:
        raise UnsoundError(f"nobody signed it: there is no {ATTESTATION}")
    public = _public(tree)
    envelope = table(parse(tree.read(ATTESTATION), ATTESTATION), ATTESTATION, "payload", "payloadType", "signatures")
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        marks = [base64.b64decode(mark["sig"], validate=True) for mark in envelope["signatures"]]
        names = [mark["keyid"] for mark in envelope["signatures"] if len(mark) == 2]
        kind = envelope["payloadType"].encode()
    except (binascii.Error, TypeError, KeyError, AttributeError, ValueError) as error:
        raise UnsoundError(f"{ATTESTATION} is not a DSSE envelope: {legible(error, 80)}") from error
    if len(marks) != 1 or len(envelope) != 3:
        raise UnsoundError(f"{ATTESTATION} must hold one signature and nothing else")
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    try:
        public.verify(marks[0], signed)
    except InvalidSignature as error:
        raise UnsoundError(
            f"the signature is not valid: {ATTESTATION} was changed, or {KEY} did not make it"
        ) from error
    if names != [fingerprint(public)]:
        raise UnsoundError(f"{ATTESTATION} names another key than {KEY}, which made it")
    canonical = (json.dumps(envelope, indent=1, sort_keys=True) + "\n").encode()
    digits = [envelope["payload"], *(mark["sig"] for mark in envelope["signatures"])]
    if tree.read(ATTESTATION) != canonical or digits != [base64.b64encode(text).decode() for text in (payload, *marks)]:
        raise UnsoundError(f"{ATTESTATION} is not written as sealproof writes it")
    _check_bundle(tree, envelope, names[0])
    statement = table(
        parse(payload, "the statement"), "the statement", "_type", "predicateType", "subject", "predicate"
    )
    if strange := set(statement) - {"_type", "predicateType", "subject", "predicate"}:
        raise UnsoundError(f"the statement has {legible(min(strange), 40)}, which a statement must not have")
    if (kind.decode(), statement["_type"], statement["predicateType"]) != (_TYPE, _STATEMENT, _PREDICATE):
        raise UnsoundError("the statement is not about a test result")
    if payload != json.dumps(statement, sort_keys=True, separators=(",", ":")).encode():
        raise UnsoundError("the statement is not written as sealproof writes it")
    _subjects(tree, statement["subject"])
    _sums(tree)
    predicate = table(statement["predicate"], "the statement's predicate")
    return Signature(fingerprint(public), predicate, ssh.check(tree))


def _check_bundle(tree: Tree, envelope: dict[str, Any], key: str) -> None:
    """The bundle, if there is one, is the envelope with the name of its key, to the byte."""
    bundle = {
        "dsseEnvelope": envelope,
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": key}},
    }
    if BUNDLE in tree and tree.read(BUNDLE) != (json.dumps(bundle, indent=1, sort_keys=True) + "\n").encode():
        raise UnsoundError(f"{BUNDLE} is not what {ATTESTATION} holds")


def _public(tree: Tree) -> Ed25519PublicKey:
    try:
        public = load_pem_public_key(tree.read(KEY))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnsoundError(f"{KEY} is not a public key") from error
    if not isinstance(public, Ed25519PublicKey):
        raise UnsoundError(f"{KEY} is not an Ed25519 key")
    if tree.read(KEY) != public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo):
        raise UnsoundError(f"{KEY} is not written as sealproof writes it: it holds more than the key")
    return public


def _subjects(tree: Tree, subjects: Any) -> None:
    """The files that the statement names are as it says, and it names all that it must."""
    if not isinstance(subjects, list):
        raise UnsoundError("the statement names no files")
    named = set()
    for subject in subjects:
        digest = table(table(subject, "a subject", "name", "digest")["digest"], "a subject's digest", "sha256")
        check_names(subject, "a subject", ("name", "digest"))
        check_names(digest, "a subject's digest", ("sha256",))
        name = subject["name"]
        if not isinstance(name, str) or name not in tree or tree.sha256(name) != digest["sha256"]:
            raise UnsoundError(f"{legible(name)} was changed after it was signed, or is missing")
        if name in named or (name not in NAMED and not _SUMS_OF_PART.fullmatch(name)):
            raise UnsoundError(f"the statement names {legible(name)} once more, or it needs no name")
        named.add(name)
    if [subject["name"] for subject in subjects if subject["name"] in NAMED] != [
        name for name in NAMED if name in named
    ]:
        raise UnsoundError("the statement names its files in another order")
    if lacking := [name for name in NAMED if name not in named]:
        raise UnsoundError(f"the statement does not name {lacking[0]}")


def _sums(tree: Tree) -> None:
    """``SHA256SUMS`` names every file but itself and the signature, each once, and all are as it says."""
    listed: dict[str, str] = {}
    for line in tree.read(SUMS).decode("utf-8", "replace").removesuffix("\n").split("\n"):
        match = _SUM.fullmatch(line)
        if match is None or match[2] in listed:
            raise UnsoundError(f"{SUMS} has a malformed line: {legible(line, 80)}")
        listed[match[2]] = match[1]
    there = set(tree.names) - {SUMS, ATTESTATION, BUNDLE, ssh.SIGNATURE}
    if strange := sorted(there - set(listed)):
        raise UnsoundError(f"files that were not there when it was signed: {legible(', '.join(strange[:5]))}")
    for name, sha256 in listed.items():
        if name not in tree:
            raise UnsoundError(f"{legible(name)} was taken away after it was signed")
        if tree.sha256(name) != sha256:
            raise UnsoundError(f"{legible(name)} was changed after it was signed")

# SPDX-License-Identifier: GPL-2.0-or-later
"""The keys that sign reports: each user has one Ed25519 key, and each signed report carries its public half."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from common.errors import SetupError
from common.store import disk_errors

PRIVATE_KEY = "signing-key.pem"
PUBLIC_KEY = "signing-key.pub"
"""The public key's name in a run's folder."""


def own_key(folder: Path) -> Ed25519PrivateKey:
    """The user's signing key, Ed25519, made when there is none.

    :param folder: where it is kept, for its owner alone.
    :raises SetupError: if there is something else in its place.
    """
    path = folder / PRIVATE_KEY
    if not path.exists():
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = folder / f".key-{secrets.token_hex(4)}"
            fresh.touch(mode=0o600)
            fresh.write_bytes(
                Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
            try:
                os.link(fresh, path)  # two that make one at the same time end with the same
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError("it is not an Ed25519 key")
    except (OSError, ValueError) as error:
        hint = "move it away: the next run makes a new key, and old signatures stay bound to the old one"
        raise SetupError(f"the signing key {path} cannot be used: {error}", hint=hint) from error
    return private


def fingerprint(public: Any) -> str:
    """The SHA-256 of a public key (DER, SubjectPublicKeyInfo), in hexadecimal."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def put_key(folder: Path, key: Ed25519PrivateKey) -> None:
    """Lay the public key into a run's folder; the reports that are written next name it."""
    with disk_errors(folder):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / PUBLIC_KEY).write_bytes(pem)


def signer_of(folder: Path) -> str:
    """Fingerprint of the key that lies in a run's folder, whoever laid it there; empty if there is none."""
    path = folder / PUBLIC_KEY
    return fingerprint(load_pem_public_key(path.read_bytes())) if path.is_file() else ""

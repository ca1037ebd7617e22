# SPDX-License-Identifier: GPL-2.0-or-later
"""The SSH keys of one cache: made once, used by nobody else, never committed."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from common.store import Store

_RAW = serialization.Encoding.Raw
_OPENSSH = serialization.Encoding.OpenSSH
_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class Keys:
    """The files of a cache's keys: ``client``, ``host``, ``guest`` in OpenSSH form, ``guest_dropbear`` in its own."""

    folder: Path

    @property
    def client(self) -> Path:
        """The private key that opens host and guest."""
        return self.folder / "client"

    def public(self, name: str) -> str:
        """A public key as one line, for instance ``ssh-ed25519 AAAA...``."""
        return (self.folder / f"{name}.pub").read_text(encoding="ascii").strip()


def _string(data: bytes) -> bytes:
    """A string as SSH packs it (RFC 4251, section 5)."""
    return struct.pack(">I", len(data)) + data


def _make(folder: Path) -> None:
    folder.chmod(0o700)
    # The emulated machines sign with their own key and check the client's signature. The cheapest for them: Ed25519 to
    # sign, RSA to check.
    _write(folder, "client", generate_private_key(public_exponent=65537, key_size=_RSA_BITS))
    for name in ("host", "guest"):
        _write(folder, name, Ed25519PrivateKey.generate())


def _write(folder: Path, name: str, key: RSAPrivateKey | Ed25519PrivateKey) -> None:
    public = key.public_key().public_bytes(_OPENSSH, serialization.PublicFormat.OpenSSH)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    (folder / name).touch(mode=0o600)
    (folder / name).write_bytes(private)
    (folder / f"{name}.pub").write_bytes(public + b"\n")
    if isinstance(key, Ed25519PrivateKey):
        # dropbear's own format: the type, then seed and public point as one string (its buf_put_ed25519_priv_key).
        seed = key.private_bytes(_RAW, serialization.PrivateFormat.Raw, serialization.NoEncryption())
        point = base64.b64decode(public.split()[1])[-32:]
        (folder / f"{name}_dropbear").touch(mode=0o600)
        (folder / f"{name}_dropbear").write_bytes(_string(b"ssh-ed25519") + _string(seed + point))


def keys(store: Store) -> Keys:
    """The keys of this cache, made on first use."""
    return Keys(store.get_or_make("keys", "rsa-and-ed25519", _make))

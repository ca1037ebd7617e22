# SPDX-License-Identifier: GPL-2.0-or-later
"""A second signature on a report, by an SSH key: ``attestation.json.sig``, as ``ssh-keygen -Y sign`` writes it.

Its form is OpenSSH's (PROTOCOL.sshsig). It is over the bytes of ``attestation.json``, which names every other file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from verifier.text import UnsoundError, legible
from verifier.tree import Tree

SIGNED, SIGNATURE = "attestation.json", "attestation.json.sig"
NAMESPACE = b"sealproof"
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_ARMOUR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\s([A-Za-z0-9+/=\s]+)-----END SSH SIGNATURE-----\s*")
_MAGIC = b"SSHSIG"
_CURVES: dict[str, type[Any]] = {
    "ecdsa-sha2-nistp256": hashes.SHA256,
    "ecdsa-sha2-nistp384": hashes.SHA384,
    "ecdsa-sha2-nistp521": hashes.SHA512,
}
_RSA: dict[str, type[Any]] = {"rsa-sha2-256": hashes.SHA256, "rsa-sha2-512": hashes.SHA512}


def check(tree: Tree) -> str:
    """The fingerprint, as OpenSSH writes it, of the SSH key that signed a report; empty if none did.

    :raises UnsoundError: there is such a signature, and it is not good.
    """
    if SIGNATURE not in tree:
        return ""
    match = _ARMOUR.fullmatch(tree.read(SIGNATURE))
    try:
        blob = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
        key, algorithm = _parts(blob, tree.read(SIGNED))
    except (ValueError, KeyError, TypeError, binascii.Error, InvalidSignature, UnsupportedAlgorithm) as error:
        why = legible(error, 80) or type(error).__name__
        raise UnsoundError(f"the SSH signature {SIGNATURE} is not valid: {why}") from error
    if not algorithm:
        raise UnsoundError(f"the SSH signature {SIGNATURE} is not valid: sealproof does not know its kind")
    return fingerprint(key)


def fingerprint(key: bytes) -> str:
    """A public key's fingerprint, as ``ssh-keygen -l`` shows it.

    :param key: in the wire's form.
    """
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).rstrip(b"=").decode()


def key_in(path: Path) -> str:
    """The fingerprint of the key in an OpenSSH public key file.

    :raises ValueError: there is none. :raises OSError: there is no such file.
    """
    words = path.read_text(encoding="utf-8", errors="replace").split()
    load_ssh_public_key(" ".join(words[:2]).encode())
    return fingerprint(base64.b64decode(words[1], validate=True))


def _parts(blob: bytes, message: bytes) -> tuple[bytes, str]:
    """The key, and the signature's algorithm, of a signature that is good.

    :raises ValueError: it is of another form. :raises InvalidSignature: it is not good.
    """
    if blob[:6] != _MAGIC or blob[6:10] != b"\0\0\0\1":
        raise ValueError("it is not an SSH signature")
    fields, rest = _strings(blob[10:], 5)
    key, namespace, reserved, digest, signature = fields
    if rest or namespace != NAMESPACE or digest not in (b"sha256", b"sha512"):
        raise ValueError(f"it is for {legible(namespace.decode(errors='replace'), 40)}, not for sealproof")
    hashed = hashlib.new(digest.decode(), message).digest()
    text = _MAGIC + b"".join(_string(part) for part in (namespace, reserved, digest, hashed))
    (kind, mark), more = _strings(signature, 2)
    if more:
        raise ValueError("something follows the signature")
    (name,), _ = _strings(key, 1)
    public = load_ssh_public_key(name + b" " + base64.b64encode(key))
    return key, kind.decode() if _holds(public, kind.decode(), mark, text) else ""


def _holds(public: Any, kind: str, mark: bytes, text: bytes) -> bool:
    """Whether it is a kind of signature that is known; whether it is good is told by an exception.

    :raises InvalidSignature: it is not good.
    """
    if isinstance(public, ed25519.Ed25519PublicKey) and kind == "ssh-ed25519":
        public.verify(mark, text)
        return True
    if isinstance(public, rsa.RSAPublicKey) and kind in _RSA:
        public.verify(mark, text, padding.PKCS1v15(), _RSA[kind]())
        return True
    if isinstance(public, ec.EllipticCurvePublicKey) and kind in _CURVES:
        (r, s), _ = _strings(mark, 2)
        whole = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        public.verify(whole, text, ec.ECDSA(_CURVES[kind]()))
        return True
    return False


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """So many strings of the wire's form, and what follows them.

    :raises ValueError: there are fewer.
    """
    strings = []
    for _ in range(count):
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 + size or len(data) < 4:
            raise ValueError("it is cut short")
        strings.append(data[4 : 4 + size])
        data = data[4 + size :]
    return strings, data

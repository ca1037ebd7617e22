# SPDX-License-Identifier: GPL-2.0-or-later
"""Identities in SSH: the host key that a machine must have, and the keys that sign for us.

A user names the file of a private key. Where the file is encrypted, or only the public half, the agent signs, as for
``ssh``. A certificate for the key is offered first.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import AgentKey, AgentSSH
from paramiko.pkey import UnknownKeyType

from common.errors import UserInputError

STAGE = "login"
AGENT = 10.0  # seconds for an answer of the agent; a person may have to confirm or touch something
NEW_KEY = "make a key for the machines: ssh-keygen -t ed25519"
_MAGIC = b"openssh-key-v1\0"
_ARMOUR = re.compile(rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)(?:-----END OPENSSH PRIVATE KEY-----|\Z)", re.DOTALL)
_PUBLIC = re.compile(rb"\s*((?:ssh|ecdsa|sk)-[a-z0-9@.-]+) +([A-Za-z0-9+/=]+)(?:\s|\Z)")
_CERTIFICATE = "-cert-v01@openssh.com"
_RSA = "ssh-rsa"
# The RSA key of a machine has one name, and signs by one of these: RFC 8332.
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
_HOST_KEYS = ("ssh-ed25519", _RSA, "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


@dataclass(frozen=True, slots=True)
class HostKey:
    """A machine's public key.

    :ivar kind: for instance ``ssh-ed25519``. :ivar blob: as RFC 4253 encodes it.
    """

    kind: str
    blob: bytes

    @classmethod
    def parse(cls, text: str) -> HostKey:
        """Read what ``/etc/ssh/ssh_host_*_key.pub`` has.

        :raises UserInputError: it is damaged, or of a kind that we cannot check.
        """
        kind, *rest = text.split()
        if kind not in _HOST_KEYS:
            raise UserInputError(
                f"a host key of type {kind} cannot be checked",
                stage=STAGE,
                hint=f"name another key of that machine as host_key: one of {', '.join(_HOST_KEYS)}",
            )
        blob = _decode_base64(rest[0].encode()) if rest else b""
        if _kind(blob) != kind:
            raise UserInputError(
                f"the host key is damaged: the text after {kind} is not such a key",
                stage=STAGE,
                hint="copy the whole line again from the machine's /etc/ssh/ssh_host_*_key.pub",
            )
        return cls(kind, blob)

    @property
    def signatures(self) -> tuple[str, ...]:
        """The algorithms by which it may sign."""
        return _RSA_SIGNATURES if self.kind == _RSA else (self.kind,)

    def is_key(self, key: paramiko.PKey) -> bool:
        """Whether it is that one."""
        return key.asbytes() == self.blob


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in: user, file of our key, and the only host key accepted (``ssh-ed25519 AAAA...``).

    :ivar agent: socket of the agent that signs where the file does not do; empty: ``SSH_AUTH_SOCK``.
    :ivar certificates: files of certificates that may be for our key, beside the one that bears its name.
    """

    user: str
    key: Path
    host_key: str
    agent: str = ""
    certificates: tuple[Path, ...] = field(default=())


@contextlib.contextmanager
def signers(login: Login) -> Iterator[list[paramiko.PKey]]:
    """What may sign for us, best first: the key with a certificate, then the key itself.

    :raises UserInputError: the file is no key that we could use; says why, and what to do.
    """
    public, usable = _look(login.key)
    if usable:
        yield _with_certificates(_private_key(login.key), login)
        return
    agent = _Agent()
    try:
        agent_keys = agent.open(login.agent or os.environ.get("SSH_AUTH_SOCK", ""))
        for key in agent_keys:
            if public and key.asbytes() == public:
                yield _with_certificates(key, login)
                return
        raise _not_held(login.key, public)
    finally:
        agent.close()


class _Agent(AgentSSH):
    """An agent with a deadline for each answer; paramiko's own knows only SSH_AUTH_SOCK and waits forever."""

    def open(self, path: str) -> Sequence[AgentKey]:
        """The keys that it holds; none if there is no agent."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(AGENT)
        try:
            sock.connect(path)
            self._connect(sock)  # type: ignore[attr-defined]  # of its base class, whose types leave it out
        except (OSError, paramiko.SSHException, struct.error):
            sock.close()
            return ()
        return self.get_keys()

    def close(self) -> None:
        """Part from it."""
        self._close()  # type: ignore[attr-defined]  # as above


def _look(path: Path) -> tuple[bytes, bool]:
    """The public half of what is in a key's file, as far as it is known, and whether the file itself can sign.

    :raises UserInputError: it is no key.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(f"cannot be read: {error.strerror}", path, "check its permissions and its name") from error
    if not content.strip():
        raise _unusable("is empty", path, NEW_KEY)
    if content.startswith(b"PuTTY-User-Key-File"):
        raise _unusable("is a PuTTY key", path, f"puttygen {path} -O private-openssh -o NEW_FILE")
    if half := _PUBLIC.match(content):
        if half[1].decode().endswith(_CERTIFICATE):
            raise _unusable(
                "is a certificate",
                path,
                "name the private key that it belongs to; the certificate is found beside the key",
            )
        return _decode_base64(half[2]), False
    if armoured := _ARMOUR.search(content):
        return _open_openssh(path, _decode_base64(b"".join(armoured[1].split())))
    if b"PRIVATE KEY-----" not in content:
        raise _unusable("is not a private key", path, "name the file that ssh-keygen made, not the one with .pub")
    if b"BEGIN DSA" in content:
        raise _unusable("is a DSA key, which SSH no longer supports", path, NEW_KEY)
    return _beside(path), b"ENCRYPTED" not in content


def _open_openssh(path: Path, container: bytes) -> tuple[bytes, bool]:
    """Of OpenSSH's own format the public half and the cipher are never encrypted (its PROTOCOL.key)."""
    try:
        if not container.startswith(_MAGIC):
            raise ValueError("no such container")
        cipher, rest = _string(container[len(_MAGIC) :])
        _, rest = _string(rest)  # how the key for the cipher is derived
        _, rest = _string(rest)  # with which options
        public, _ = _string(rest[4:])  # after the number of keys
    except (ValueError, struct.error):
        raise _unusable("is damaged", path, "copy the whole file again") from None
    kind = _kind(public)
    if kind == "ssh-dss":
        raise _unusable("is a DSA key, which SSH no longer supports", path, NEW_KEY)
    # The key proper of a FIDO key is in a token, which only the agent asks.
    return public, cipher == b"none" and not kind.startswith("sk-")


def _beside(path: Path) -> bytes:
    """The public half out of the file beside a private key; empty if there is none."""
    try:
        half = _PUBLIC.match(path.with_name(f"{path.name}.pub").read_bytes())
    except OSError:
        return b""
    return _decode_base64(half[2]) if half else b""


@cache
def _private_key(path: Path) -> paramiko.PKey:
    """A private key, read and checked once: the check takes longer than its use."""
    try:
        key = paramiko.PKey.from_path(path)
    except (paramiko.SSHException, UnknownKeyType, UnsupportedAlgorithm, ValueError, TypeError, OSError) as error:
        detail = (str(error) or type(error).__name__).splitlines()[0]
        raise _unusable(f"cannot be used: {detail}", path, f"is the file complete? if not, {NEW_KEY}") from error
    key.public_blob = None  # its certificate is a matter of its own
    return key


def _with_certificates(key: paramiko.PKey, login: Login) -> list[paramiko.PKey]:
    """The key with each certificate that is for it, then the key alone, which a stale certificate does not hinder."""
    with_certificates: list[paramiko.PKey] = []
    name = login.key.name.removesuffix(".pub")
    for path in (login.key.with_name(f"{name}-cert.pub"), *login.certificates):
        with contextlib.suppress(OSError, ValueError, struct.error, paramiko.SSHException):
            half = _PUBLIC.match(path.read_bytes())
            if half and _is_for(_decode_base64(half[2]), key.asbytes()):
                offered = AgentKey(key.agent, key.blob) if isinstance(key, AgentKey) else copy.copy(key)
                offered.load_certificate(str(path))
                with_certificates.append(offered)
    return [*with_certificates, key]


def _is_for(certificate: bytes, public: bytes) -> bool:
    """Whether a certificate (its type, a nonce, the key's own fields, more: PROTOCOL.certkeys) is for a key."""
    _, fields = _string(public)
    _, rest = _string(certificate)
    _, rest = _string(rest)
    return rest.startswith(fields)


def _not_held(path: Path, public: bytes) -> UserInputError:
    private = path.with_name(path.name.removesuffix(".pub"))
    if not public:
        beside = f"put its public half beside it, as {path.name}.pub, and: ssh-add {path}"
        return _unusable("is encrypted", path, beside)
    if private != path and private.is_file():
        return _unusable("is the public half of a key", path, f"name the private half: {private}")
    if _kind(public).startswith("sk-"):
        return _unusable("needs its token, but no agent (SSH_AUTH_SOCK) has it", path, f"ssh-add {path}")
    if _PUBLIC.match(path.read_bytes()):
        return _unusable(
            "is the public half of a key, but no agent (SSH_AUTH_SOCK) has the private half", path, "ssh-add KEY"
        )
    return _unusable("is encrypted, but no agent (SSH_AUTH_SOCK) has it", path, f"ssh-add {path}")


def _unusable(fault: str, path: Path, hint: str) -> UserInputError:
    return UserInputError(f"the key {path} {fault}", stage=STAGE, hint=hint)


def _string(data: bytes) -> tuple[bytes, bytes]:
    """A string of the SSH protocols (RFC 4251, 5), and what follows it.

    :raises ValueError: it is cut short. :raises struct.error: so is its length.
    """
    (length,) = struct.unpack_from(">I", data)
    if len(data) < 4 + length:
        raise ValueError("cut short")
    return data[4 : 4 + length], data[4 + length :]


def _kind(blob: bytes) -> str:
    """The type of a public key; empty if the bytes are no key."""
    try:
        return _string(blob)[0].decode("ascii")
    except (ValueError, struct.error):
        return ""


def _decode_base64(text: bytes) -> bytes:
    """The bytes of a text in Base64; empty if the text is not Base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.store import Store
from guest_images.keys import Keys, keys

NAMES = ("client", "host", "guest")


@pytest.fixture
def careless() -> Iterator[None]:
    """A user whose files are open to all."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def own_keys(tmp_path: Path, careless: None) -> Keys:  # noqa: ARG001  the umask must be set before
    return keys(Store(tmp_path))


def test_private_keys_are_the_owners_alone(own_keys: Keys) -> None:
    assert stat.S_IMODE(own_keys.folder.stat().st_mode) == 0o700
    private = [p for p in own_keys.folder.iterdir() if p.suffix != ".pub" and p.name not in (".sums", ".used")]
    assert sorted(p.name for p in private) == ["client", "guest", "guest_dropbear", "host", "host_dropbear"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in private} == {0o600}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_openssh_takes_the_key_and_derives_its_public_half(own_keys: Keys, name: str) -> None:
    done = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", own_keys.folder / name], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[:2] == own_keys.public(name).split()[:2]
    assert own_keys.public(name).startswith("ssh-rsa " if name == "client" else "ssh-ed25519 ")
    assert "\n" not in own_keys.public(name)


def test_the_three_keys_differ(own_keys: Keys) -> None:
    assert len({own_keys.public(name) for name in NAMES}) == 3


@pytest.mark.parametrize("name", ["host", "guest"])
def test_dropbear_form_is_type_and_seed_with_point(own_keys: Keys, name: str) -> None:
    data = (own_keys.folder / f"{name}_dropbear").read_bytes()
    fields = []
    while data:
        (length,) = struct.unpack_from(">I", data)
        fields.append(data[4 : 4 + length])
        data = data[4 + length :]
    kind, key = fields
    assert (kind, len(key)) == (b"ssh-ed25519", 64)
    public = Ed25519PrivateKey.from_private_bytes(key[:32]).public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert raw == key[32:]
    openssh = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert openssh.decode() == own_keys.public(name)


def test_a_cache_keeps_its_keys_and_another_has_others(tmp_path: Path) -> None:
    first, again = keys(Store(tmp_path / "a")), keys(Store(tmp_path / "a"))
    assert first.client.read_bytes() == again.client.read_bytes()
    assert keys(Store(tmp_path / "b")).public("client") != first.public("client")

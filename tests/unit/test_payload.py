# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.errors import ImageError
from common.store import Store
from guest_images.archive import File, newc
from guest_images.keys import Keys, keys
from guest_images.payload import LIST, MODULES_LIST, Payload, payload
from guest_images.programs import Programs
from guest_images.rootfs import RootFs

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("mkfs.erofs", "fsck.erofs", "cpio"))), reason="erofs-utils or cpio is not installed"
)


@dataclass
class Parts:
    """What a payload is made of, in one folder."""

    folder: Path
    store: Store
    root: RootFs
    programs: Programs
    keys: Keys

    def payload(self) -> Payload:
        return payload(
            self.store, self.root, self.programs, self.folder / "modules", self.folder / "bzImage", self.keys
        )


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    for name, content in {
        "modules/host_attack.ko": b"attack",
        "modules/host_bochs.ko": b"bochs",
        "modules/host_exits.ko": b"exits",
        "modules/host_older.ko": b"older",
        "modules/host_oracle.ko": b"oracle",
        "modules/host_tcg.ko": b"tcg",
        "modules/guest_canary.ko": b"canary",
        "modules/guest_emulation.ko": b"emulation",
        "programs/sealproof": b"all of them",
        "programs/.used": b"",
        "root/guest-base.cpio": newc({"bin/busybox": File(b"busybox", 0o755)}),
        "bzImage": b"kernel",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "programs" / "nonce").symlink_to("sealproof")
    store = Store(tmp_path / "store")
    programs = Programs(tmp_path / "programs", "programs-key")
    return Parts(tmp_path, store, RootFs(tmp_path / "root", "root-key"), programs, keys(store))


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), stat.S_IMODE(path.lstat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_host_finds_programs_module_keys_and_its_guest(parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "out"
    subprocess.run(["fsck.erofs", f"--extract={out}", parts.payload().image], check=True, capture_output=True)
    result = tree(out)
    assert result["programs/sealproof"] == (b"all of them", 0o755)
    assert (out / "programs" / "nonce").readlink() == Path("sealproof")
    assert "programs/.used" not in result
    assert result["modules/host_attack.ko"][0] == b"attack"
    assert result["modules/host_exits.ko"][0] == b"exits"
    assert result["modules/host_oracle.ko"][0] == b"oracle"
    assert result["guest/bzImage"][0] == b"kernel"
    assert result["keys/host_key"] == ((parts.keys.folder / "host").read_bytes(), 0o600)
    assert result["keys/client_key.pub"][0].decode().strip() == parts.keys.public("client")
    assert result["host/init"][1] == 0o755
    assert result["host/sshd_config"][1] == 0o600
    private = parts.keys.client.read_bytes()
    assert all(private not in content for content, _ in result.values()), "the key that opens the host stays here"


def test_guests_initramfs_is_debians_part_and_ours_behind_it(parts: Parts, tmp_path: Path) -> None:
    out, guest = tmp_path / "out", tmp_path / "guest"
    subprocess.run(["fsck.erofs", f"--extract={out}", parts.payload().image], check=True, capture_output=True)
    initramfs = (out / "guest/initramfs").read_bytes()
    base = parts.root.guest_base.read_bytes()
    assert initramfs.startswith(base)
    guest.mkdir()
    subprocess.run(["cpio", "--quiet", "-idm"], input=initramfs[len(base) :], cwd=guest, check=True)
    result = tree(guest)
    assert result["sealproof/sealproof"] == (b"all of them", 0o755)
    assert (guest / "sealproof" / "nonce").readlink() == Path("sealproof")
    assert result["sealproof/guest_canary.ko"][0] == b"canary"
    assert result["sealproof/guest_emulation.ko"][0] == b"emulation"
    assert result["init"][1] == 0o755
    assert result["etc/dropbear/host_key"] == ((parts.keys.folder / "guest_dropbear").read_bytes(), 0o600)
    assert result["root/.ssh/authorized_keys"] == (f"{parts.keys.public('client')}\n".encode(), 0o600)


def other_module(parts: Parts) -> None:
    (parts.folder / "modules" / "host_attack.ko").write_bytes(b"another")


def other_kernel(parts: Parts) -> None:
    (parts.folder / "bzImage").write_bytes(b"another")


def other_root(parts: Parts) -> None:
    parts.root = RootFs(parts.root.folder, "another")


def other_programs(parts: Parts) -> None:
    parts.programs = Programs(parts.programs.folder, "another")


def other_keys(parts: Parts) -> None:
    parts.keys = keys(Store(parts.folder / "another"))


@pytest.mark.parametrize("change", [other_module, other_kernel, other_root, other_programs, other_keys])
def test_any_other_part_makes_another_payload(parts: Parts, change: Callable[[Parts], None]) -> None:
    before, again = parts.payload(), parts.payload()
    assert before == again
    change(parts)
    assert parts.payload().key != before.key


def test_same_parts_make_the_same_bytes(parts: Parts) -> None:
    first = parts.payload().image.read_bytes()
    parts.store.discard("payload", parts.payload().key)
    assert parts.payload().image.read_bytes() == first


def test_failed_mkfs_is_told_and_leaves_nothing(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mkfs.erofs").write_text("#!/bin/sh\necho 'out of magic' >&2\nexit 1\n")
    (tmp_path / "mkfs.erofs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ImageError, match="out of magic"):
        parts.payload()
    assert [entry.kind for entry in parts.store.entries()] == ["keys"]


def test_program_that_is_not_there_is_told(parts: Parts) -> None:
    with pytest.raises(ImageError, match=r"no program puppeteer"):
        parts.programs.read("puppeteer")


def test_what_it_holds_is_listed_beside_it(parts: Parts) -> None:
    payload = parts.payload()
    listed = (payload.image.parent / LIST).read_text()
    assert f"{hashlib.sha256(b'kernel').hexdigest()}  guest/bzImage\n" in listed
    assert f"{hashlib.sha256(b'all of them').hexdigest()}  programs/sealproof\n" in listed
    assert "  programs/nonce\n" in listed
    modules = (payload.image.parent / MODULES_LIST).read_text().splitlines()
    assert f"{hashlib.sha256(b'canary').hexdigest()}  guest_canary.ko" in modules
    assert len(modules) == 8

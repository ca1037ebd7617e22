# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot disk of an emulated PC, read as a BIOS, GRUB and Linux read it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.errors import ImageError
from host_setup.emulated import boot_disk as module
from host_setup.emulated.boot_disk import CYLINDER, FIRST, SECTOR, assemble, boot_disk

BOOT = bytes(range(256)) + bytes(254) + b"\x55\xaa"
KERNEL, PAYLOAD = b"kernel" * 1000, b"payload" * 10000


def test_parts_lie_where_each_reader_looks() -> None:
    disk = assemble(BOOT, b"core" * 1000, KERNEL, PAYLOAD)
    content = disk.content
    assert len(content) == disk.cylinders * CYLINDER
    assert content[: module.TABLE] == BOOT[: module.TABLE]
    assert content[SECTOR - 2 : SECTOR] == b"\x55\xaa"
    assert content[SECTOR:].startswith(b"core" * 1000 + b"\0")
    assert content[FIRST * SECTOR :].startswith(KERNEL + b"\0")
    entries = [content[module.TABLE + 16 * n :][:16] for n in range(4)]
    active, kind, begin, count = struct.unpack("<B3xB3xII", entries[0])
    assert (active, kind, entries[1:]) == (0, 0x83, [bytes(16)] * 3)
    partition = content[begin * SECTOR : (begin + count) * SECTOR]
    assert partition[: len(PAYLOAD)] == PAYLOAD
    assert not any(partition[len(PAYLOAD) :])
    assert begin * SECTOR >= FIRST * SECTOR + len(KERNEL)
    assert (begin + count) * SECTOR <= len(content)


@pytest.mark.parametrize("size", [1, SECTOR, CYLINDER - FIRST * SECTOR % CYLINDER, 10 * CYLINDER])
def test_kernel_of_any_size_ends_before_the_payload(size: int) -> None:
    content = assemble(BOOT, b"core", b"k" * size, PAYLOAD).content
    begin = struct.unpack("<I", content[module.TABLE + 8 :][:4])[0] * SECTOR
    assert content[begin:].startswith(PAYLOAD)
    assert content[:begin].rstrip(b"\0").endswith(b"k" * min(size, 9))
    assert content[FIRST * SECTOR : begin].count(b"k") == size


@pytest.mark.parametrize("boot", [BOOT[:-1], bytes(512), b""])
def test_what_is_no_boot_sector_is_refused(boot: bytes) -> None:
    with pytest.raises(ImageError, match="no boot sector"):
        assemble(boot, b"core", KERNEL, PAYLOAD)


def test_core_that_would_run_into_the_kernel_is_refused() -> None:
    assert assemble(BOOT, bytes((FIRST - 1) * SECTOR), KERNEL, PAYLOAD)
    with pytest.raises(ImageError, match="does not fit"):
        assemble(BOOT, bytes((FIRST - 1) * SECTOR + 1), KERNEL, PAYLOAD)


@pytest.fixture
def grub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A grub-mkimage whose core is its command file; returns the scripts that it got."""
    scripts: list[str] = []
    (tmp_path / "boot.img").write_bytes(BOOT)
    monkeypatch.setattr(module, "GRUB", tmp_path)

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        script = Path(argv[argv.index("--config") + 1]).read_bytes()
        Path(argv[argv.index("--output") + 1]).write_bytes(script)
        scripts.append(script.decode())
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return scripts


@pytest.mark.parametrize(("size", "sectors"), [(1, 1), (512, 1), (513, 2)])
def test_grub_reads_the_whole_kernel(grub: list[str], size: int, sectors: int) -> None:
    boot_disk(b"k" * size, PAYLOAD, "ro")
    assert grub == [f"linux (hd0){FIRST}+{sectors} ro\nboot\n"]


def test_a_word_with_blanks_stays_one(grub: list[str]) -> None:
    boot_disk(KERNEL, PAYLOAD, 'ro init=/sh -- -c "mount a && exec b"')
    assert grub[0].splitlines()[0].endswith(" ro init=/sh -- -c 'mount a && exec b'")


@pytest.mark.parametrize("words", ["a 'b'", 'a "b', "a\nb"])
def test_words_that_grub_cannot_be_given_are_refused(grub: list[str], words: str) -> None:
    with pytest.raises(ImageError, match="cannot be given"):
        boot_disk(KERNEL, PAYLOAD, words)
    assert not grub


def test_grub_that_fails_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "cannot open `moddep.lst'\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ImageError, match=r"moddep\.lst"):
        boot_disk(KERNEL, PAYLOAD, "ro")


def test_grub_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **_: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", argv[0])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ImageError, match="grub-mkimage"):
        boot_disk(KERNEL, PAYLOAD, "ro")

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from guest_images.archive import File, newc

pytestmark = pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")

# Lengths around the format's padding of 4, of contents and of names.
FILES = {
    **{f"sizes/of{size}": File(os.urandom(size)) for size in (0, 1, 2, 3, 4, 5, 4095, 4096, 70000)},
    **{f"n{'a' * length}": File(b"name") for length in range(6)},
    "init": File(b"#!/bin/sh\n", 0o755),
    "etc/dropbear/host_key": File(b"secret", 0o600),
    "etc/dropbear-other": File(b"sorts between a folder and what is in it"),
    "a name with ümlaut": File(b"utf-8"),
}


def unpack(archive: bytes, folder: Path) -> dict[str, File]:
    subprocess.run(["cpio", "--quiet", "-idm", "--no-absolute-filenames"], input=archive, cwd=folder, check=True)
    return {
        str(path.relative_to(folder)): File(path.read_bytes(), stat.S_IMODE(path.lstat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_cpio_unpacks_names_contents_and_modes(tmp_path: Path) -> None:
    assert unpack(newc(FILES), tmp_path) == FILES
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o755


def test_each_folder_comes_once_and_before_what_is_in_it() -> None:
    listed = subprocess.run(["cpio", "--quiet", "-t"], input=newc(FILES), capture_output=True, check=True)
    names = listed.stdout.decode().splitlines()
    assert len(names) == len(set(names)) == len(FILES) + 3
    for name in names:
        folder = name.rpartition("/")[0]
        assert not folder or names.index(folder) < names.index(name)


def test_same_content_makes_the_same_bytes_in_any_order() -> None:
    assert newc(FILES) == newc(dict(reversed(FILES.items())))


def test_any_difference_makes_other_bytes() -> None:
    assert (
        len({newc({"a": file}) for file in (File(b"1"), File(b"2"), File(b"1", 0o600))} | {newc({"b": File(b"1")})})
        == 4
    )


def test_archive_ends_aligned_so_that_another_may_follow() -> None:
    for size in range(5):
        assert len(newc({"a": File(b"x" * size)})) % 4 == 0


def test_empty_archive_is_one(tmp_path: Path) -> None:
    assert unpack(newc({}), tmp_path) == {}

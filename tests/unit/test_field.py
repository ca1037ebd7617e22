# SPDX-License-Identifier: GPL-2.0-or-later
"""A field in a host's memory: what is found of it, in which encoding, and what becomes of that."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from common.errors import MachineError
from host_setup.channels.puppets import Done
from tests_e2e.support import cores, field
from tests_e2e.support.field import Field, fields_in, name_frames, plant_field
from tests_e2e.support.frames import Frame
from tests_e2e.support.residue import AS_IT_IS

PAGE = 4096
LINE = b"sSFAPKPKWWT7mUCLc4PzGhjEWHZKLFATjUR9BuIIiX8Sc3xhXbR2ckp0vSe3gNq\n"
WHOLE = LINE * (PAGE // len(LINE))


def frames_found(memory: bytes) -> dict[str, list[int]]:
    field = Field(LINE, 1)
    return {name: sorted(frames) for name, frames in fields_in(memory, [field])[field].items() if frames}


def test_field_is_found_in_every_page_and_encoding_that_has_a_piece_of_it() -> None:
    empty = bytes(PAGE)
    half = WHOLE[: PAGE // 2] + bytes(PAGE // 2)
    inverted = bytes(0xFF - byte for byte in WHOLE)
    memory = empty + WHOLE + half + empty[:100] + LINE[:24] + empty[124:] + WHOLE[::-1] + inverted
    assert frames_found(memory) == {AS_IT_IS: [1, 2, 3], "reversed": [4], "inverted": [5]}


def test_field_is_not_found_where_it_is_not_and_appears_in_no_log() -> None:
    assert frames_found(bytes(4 * PAGE)) == {}
    assert LINE.decode().strip() not in repr(Field(LINE, 1))


@pytest.mark.parametrize(("frames", "words"), [([], "none"), ([2, 1], "2: 0x1000, 0x2000")])
def test_pages_are_named_in_a_few_words(frames: list[int], words: str) -> None:
    assert name_frames(frames) == words
    assert name_frames(range(9)).startswith("9: 0x0, ")
    assert name_frames(frames, {2: "a slab"}) == words.replace("0x2000", "0x2000 (a slab)")


@pytest.mark.parametrize(
    ("private", "copies", "right"),
    [(True, 0, True), (True, 1, False), (False, 4, True), (False, 2, False)],
)
def test_of_a_private_field_nothing_may_be_left_and_a_plain_one_must_be_found(
    private: bool,  # noqa: FBT001
    copies: int,
    right: bool,  # noqa: FBT001
) -> None:
    planted = Field(LINE, 8)
    checks = field._checks(planted, fields_in(WHOLE * copies, [planted])[planted], {0: "free memory"}, private=private)
    assert checks[0].right is right
    assert ("free memory" in checks[0].got) is (not right)
    assert all(check.right for check in checks[1:])


def test_guest_that_did_not_fill_its_field_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter(["", str(1 << 20), "", "4096"])
    monkeypatch.setattr(field, "shell", lambda *_: next(sizes))

    class Named:
        class spec:  # noqa: N801
            name = "plain"

    guest: Any = Named()
    planted = plant_field(guest, 1)
    assert (planted.pages, len(planted.line)) == (256, 64)
    with pytest.raises(MachineError, match="filled 4096 bytes of 1048576"):
        plant_field(guest, 1)


# --- what shows that something was read


@pytest.mark.parametrize(("errno", "met"), [(None, "its bytes"), ("EFAULT", "EFAULT"), ("ENXIO", ""), ("EINVAL", "")])
def test_frame_was_met_if_it_was_read_or_the_read_faulted(errno: str | None, met: str) -> None:
    words = Frame(0x5000, Done(returned=-1 if errno else 0, errno=errno), b"").met
    assert words.endswith(met)
    assert bool(words) is bool(met)


def test_core_dump_tells_a_page_that_it_leaves_out_from_one_that_was_not_mapped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    segments = [(0x10000, PAGE, PAGE), (0x20000, 0, PAGE)]  # address, bytes in the file, bytes in memory
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    table = b"".join(struct.pack("<IIQQQQQQ", 1, 4, PAGE, at, 0, size, length, 0) for at, size, length in segments)
    core = tmp_path / "core"
    core.write_bytes((head + table).ljust(PAGE, b"\0") + WHOLE)
    monkeypatch.setattr(cores, "_part", lambda _, path, at, size: Path(path).read_bytes()[at : at + size])
    ssh: Any = None
    assert cores.page_in_core(ssh, str(core), 0x10000) == WHOLE
    assert cores.page_in_core(ssh, str(core), 0x20000) == b""
    assert cores.page_in_core(ssh, str(core), 0x30000) is None

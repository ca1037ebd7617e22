# SPDX-License-Identifier: GPL-2.0-or-later
"""The search for what is left of a secret, in memory made by hand, and whose that memory is."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests_e2e.support import decoy, frame_owners
from tests_e2e.support.decoy import Decoy, pages_in_each_encoding
from tests_e2e.support.field import Field, fields_in, fresh_line
from tests_e2e.support.frame_owners import owner, owners_of
from tests_e2e.support.pagemap import Place
from tests_e2e.support.residue import AS_IT_IS, encodings, search, words_of

PAGE = 4096
SECRET = bytes.fromhex(
    "c3a94c1d70e2958bf6370248ad5e91bb0fd8274a63e19c55b2487d06ee31fa89"
    "1452c7689fd03be57a26f1840d9bc25e37a8604fe51392dc70bd2a964813f7e6"
)
WORDS = words_of(SECRET)
NAMES = sorted({name for name, _ in encodings(SECRET)})


def at(offset: int, content: bytes) -> bytes:
    """A page of zeros with something in it."""
    return (bytes(offset) + content).ljust(PAGE, b"\0")


@pytest.mark.parametrize("name", NAMES)
def test_each_encoding_is_found_by_one_word_of_it(name: str) -> None:
    for kind, content in encodings(SECRET):
        if kind == name:
            (result,) = search(at(24, content[:8]), WORDS).values()
            assert sum(result.values()) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (AS_IT_IS, SECRET),
        ("reversed", SECRET[::-1]),
        ("inverted", bytes(0xFF ^ number for number in SECRET)),
        ("with its bytes swapped in each 2", bytes(SECRET[number ^ 1] for number in range(64))),
        ("with its bytes swapped in each 4", bytes(SECRET[number ^ 3] for number in range(64))),
        ("1 of each 2 bytes", SECRET[1::2]),
        ("1 of each 8 bytes", SECRET[3::8]),
        ("2 of each 4 bytes", b"".join(SECRET[number : number + 2] for number in range(2, 64, 4))),
    ],
)
def test_encoding_is_what_its_name_says(name: str, content: bytes) -> None:
    (result,) = search(at(512, content), WORDS).values()
    assert set(result) == {name}


@pytest.mark.parametrize("offset", range(8))
def test_fifteen_bytes_are_found_wherever_they_are(offset: int) -> None:
    memory = bytes(PAGE) + at(1000 + offset, SECRET[13:28])
    (result,) = search(memory, WORDS).items()
    assert result[0] == 1
    assert result[1][AS_IT_IS] >= 1


def test_nothing_is_found_where_nothing_is() -> None:
    others = base64.b85encode(SECRET * 60)[:PAGE]
    assert search(bytes(3 * PAGE) + others, WORDS) == {}


def test_frames_that_are_the_guests_own_are_passed_over() -> None:
    page = at(0, SECRET)
    assert list(search(page * 3, WORDS, skip={1})) == [0, 2]


def test_words_that_anybody_has_are_no_secret() -> None:
    with pytest.raises(ValueError, match="a secret is random"):
        words_of(bytes(64))


def test_a_line_is_found_in_each_page_of_each_encoding() -> None:
    line, other = Field(fresh_line(), 1), Field(fresh_line(), 1)
    pages = pages_in_each_encoding(line.line)
    result = fields_in(b"".join(pages.values()), [line, other])
    assert not any(result[other].values())
    for number, name in enumerate(pages):
        assert number in result[line][name], name


# --- whose a frame is


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (1 << 10, "free memory"),
        (1 << 7, "a slab"),
        (1 << 26 | 1 << 11, "a page table"),
        (1 << 5 | 1 << 12 | 1 << 11, "anonymous memory of a process"),
        (1 << 5 | 1 << 3, "the page cache"),
        (0, "other memory of the kernel's"),
    ],
)
def test_owner_is_named_by_the_kernels_flags(flags: int, words: str) -> None:
    assert owner(flags) == words


class Told:
    """A host that gives the flags of the frames that it is asked about."""

    def __init__(self, flags: dict[int, int]) -> None:
        self.flags = flags
        self.asked: list[int] = []

    def run(self, argv: list[str], *, seconds: float) -> Any:
        assert seconds
        self.asked = [int(part.rpartition("skip=")[2]) for part in argv[2].split("; ")]
        self.stdout = b"".join(self.flags[frame].to_bytes(8, "little") for frame in self.asked)
        return self

    def require(self) -> Told:
        return self


def test_owners_are_asked_for_few_frames() -> None:
    host: Any = Told(dict.fromkeys(range(1000), 1 << 10))
    assert owners_of(host, b"", []) == {}
    assert owners_of(host, b"", range(1000)) == dict.fromkeys(range(frame_owners.FEW), "free memory")


class Process:
    pid = 7

    def memory(self, content: bytes) -> int:
        self.content = content
        return 0x1000


def make_decoy(monkeypatch: pytest.MonkeyPatch, flags: int = 1 << 12) -> tuple[Decoy, bytes]:
    process: Any = Process()
    monkeypatch.setattr(decoy, "places", lambda _, __, ___, count: [Place(frame) for frame in range(count)])
    host: Any = Told(dict.fromkeys(range(100), flags))
    return Decoy(host, process), process.content


def test_decoy_is_right_where_the_search_found_it_in_each_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    decoy, content = make_decoy(monkeypatch)
    assert all(check.right for check in decoy.checks(content, fields_in(content, [decoy.field])[decoy.field]))


def test_decoy_tells_which_encoding_the_search_is_blind_to(monkeypatch: pytest.MonkeyPatch) -> None:
    decoy, content = make_decoy(monkeypatch)
    result = fields_in(content, [decoy.field])[decoy.field]
    wrong = decoy.checks(content, {**result, "inverted": frozenset()})
    assert [check.got for check in wrong if not check.right] == ["inverted"]


def test_decoy_in_other_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    decoy, content = make_decoy(monkeypatch, flags=1 << 10)
    wrong = decoy.checks(content, fields_in(content, [decoy.field])[decoy.field])
    assert [check.got for check in wrong if not check.right] == ["free memory"]

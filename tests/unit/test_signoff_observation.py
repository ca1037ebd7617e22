# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signoff.observation import Canary, Observation, Page, State
from tests.unit.signoff_samples import secret

BYTES = secret(1)
CANARY = Canary(BYTES)


def test_the_whole_page_counts_as_4096() -> None:
    assert CANARY.count_leaked(BYTES) == 4096


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 4096, secret(2), BYTES[:3], BYTES[100:107] + bytes([BYTES[107] ^ 1])], ids=len
)
def test_what_is_not_the_canary_counts_as_nothing(data: bytes) -> None:
    assert CANARY.count_leaked(data) == 0


def test_eight_bytes_at_an_odd_offset_count() -> None:
    assert CANARY.count_leaked(b"\0" * 13 + BYTES[77:85] + b"\0" * 500) == 8


def test_a_piece_found_twice_counts_once_and_pieces_add_up() -> None:
    piece, other = BYTES[100:140], BYTES[2000:2010]
    assert CANARY.count_leaked(piece + b"-" + other + b"-" + piece) == 50


def test_four_bytes_and_no_more_count_when_all_are_the_canarys() -> None:
    assert CANARY.count_leaked(BYTES[9:13]) == 4
    assert CANARY.count_leaked(bytes([BYTES[9] ^ 1]) + BYTES[10:13]) == 0


@given(st.integers(0, 4088), st.integers(8, 4096), st.binary(max_size=40), st.binary(max_size=40))
def test_any_window_is_found_wherever_it_is(start: int, length: int, before: bytes, after: bytes) -> None:
    window = BYTES[start : start + length]
    assert CANARY.count_leaked(before + window + after) >= len(window)


@given(st.binary(max_size=3000))
def test_other_data_is_no_leak(data: bytes) -> None:
    assert CANARY.count_leaked(data) == 0 or data in BYTES or any(data[i : i + 8] in BYTES for i in range(len(data)))


def test_what_happens_to_stand_behind_a_cut_is_no_leak() -> None:
    by_chance = BYTES[:16] + BYTES[16:17] + b"\0" * 47
    assert (CANARY.count_leaked(by_chance), CANARY.count_leaked(by_chance, [16])) == (17, 16)


@pytest.mark.parametrize("data", [b"", BYTES[:4095], b"\0" * 4096, BYTES[:2048] * 2])
def test_a_canary_must_be_a_page_of_random_bytes(data: bytes) -> None:
    with pytest.raises(ValueError, match="canary"):
        Canary(data)


def test_a_canary_is_never_shown() -> None:
    observation = Observation(Page.USER, State.PLAIN, "load", CANARY, ("gpa 0",))
    for text in (repr(CANARY), str(CANARY), f"{CANARY}", repr(observation), repr(dataclasses.astuple(observation)[:4])):
        assert repr(BYTES[:4])[2:-1] not in text
        assert BYTES[:4].hex() not in text
    assert CANARY.fingerprint in repr(CANARY)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Moments of chance, without a machine."""

from __future__ import annotations

from signoff.observation import PAGE_SIZE
from tests_e2e.support.field import LINE
from tests_e2e.support.moments import MOMENTS, Moment, checks, frames_with

CONTENT = bytes(range(1, LINE + 1)) * (PAGE_SIZE // LINE)
NOBODY: frozenset[int] = frozenset()


def wrong_checks(moments: list[Moment], *, private: bool) -> list[str]:
    return [check.name for check in checks(moments, private=private) if not check.right]


def test_a_page_that_is_cleared_from_its_start_still_holds_the_content() -> None:
    half = PAGE_SIZE // 2
    cleared = bytes(half) + CONTENT[half:]
    nearly = bytes(PAGE_SIZE - LINE) + CONTENT[-LINE:]
    memory = bytes(PAGE_SIZE) + CONTENT + cleared + nearly + bytes(PAGE_SIZE)
    assert frames_with(memory, CONTENT[:8]) == {1, 2, 3}


def test_private_content_that_is_mapped_at_one_moment_is_wrong() -> None:
    quiet = Moment(0.1, frozenset({7, 8}), NOBODY, NOBODY)
    for loud in (
        Moment(0.2, frozenset({7}), frozenset({7}), NOBODY),
        Moment(0.2, frozenset({7}), NOBODY, frozenset({7})),
    ):
        moments = [quiet] * (MOMENTS - 1) + [loud]
        assert wrong_checks(moments, private=True) == ["of these the kernel or a process mapped"]
        assert checks(moments, private=True)[-1].got == "1: 0x7000"
        assert wrong_checks(moments, private=False) == []
    assert wrong_checks([quiet] * MOMENTS, private=True) == []
    assert wrong_checks([quiet] * MOMENTS, private=False) == ["of these the kernel or a process mapped"]


def test_content_that_was_never_found_proves_nothing() -> None:
    moments = [Moment(0.1, NOBODY, NOBODY, NOBODY)] * MOMENTS
    assert wrong_checks(moments, private=True) == ["frames with the content, at one moment or another"]
    assert wrong_checks(moments[1:], private=True) == [
        "moments at which the host stood still",
        "frames with the content, at one moment or another",
    ]


def test_a_moment_in_a_line() -> None:
    moment = Moment(1.5, frozenset({1, 2}), frozenset({1}), NOBODY)
    assert str(moment) == "  1.500 s:      2 frames hold the content,      1 mapped by the kernel,      0 by a process"

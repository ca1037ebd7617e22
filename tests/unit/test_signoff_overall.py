# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from signoff.contract import Kind, Mode
from signoff.overall import Exit, RunVerdict, of_interrupted, overall
from signoff.verdict import Status

ROWS = st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from(Status), st.sampled_from(["", "a reason"])))


def words(*rows: tuple[Kind, Status], mode: Mode = Mode.PROTECTED, problems: Sequence[str] = ()) -> tuple[str, int]:
    result = overall([(kind, status, "a reason") for kind, status in rows], mode, problems)
    return result.word, result.exit_code


ATTACK = (Kind.ATTACK, Status.PASS)
WORKS = (Kind.LEGITIMATE, Status.PASS)


def test_all_pass_is_protected() -> None:
    assert words(ATTACK, WORKS, (Kind.ATTACK, Status.SKIP)) == (RunVerdict.PROTECTED, Exit.PROVEN)


def test_a_leak_beats_everything() -> None:
    assert words(ATTACK, (Kind.ATTACK, Status.FAIL), (Kind.ATTACK, Status.ERROR)) == (
        RunVerdict.NOT_PROTECTED,
        Exit.FAILED,
    )


def test_a_broken_guest_has_its_own_word() -> None:
    assert words(ATTACK, (Kind.LEGITIMATE, Status.FAIL)) == (RunVerdict.NOT_USABLE, Exit.FAILED)
    assert words(ATTACK, (Kind.HEALTH, Status.FAIL)) == (RunVerdict.NOT_USABLE, Exit.FAILED)


def test_what_is_open_is_not_proven() -> None:
    for status in (Status.ERROR, Status.MISS):
        assert words(ATTACK, (Kind.LEGITIMATE, status)) == (RunVerdict.NOT_PROVEN, Exit.NOT_PROVEN)
    assert words() == (RunVerdict.NOT_PROVEN, Exit.NOT_PROVEN)
    assert words(WORKS) == (RunVerdict.NOT_PROVEN, Exit.NOT_PROVEN)
    assert words((Kind.ATTACK, Status.SKIP)) == (RunVerdict.NOT_PROVEN, Exit.NOT_PROVEN)
    assert words(ATTACK, problems=["the kernel is unknown"]) == (RunVerdict.NOT_PROVEN, Exit.NOT_PROVEN)


def test_mode_plain_has_its_own_words() -> None:
    assert words(ATTACK, mode=Mode.PLAIN) == (RunVerdict.CONTROLS_HOLD, Exit.PROVEN)
    assert words((Kind.ATTACK, Status.FAIL), mode=Mode.PLAIN) == (RunVerdict.CONTROLS_BROKEN, Exit.FAILED)


@given(ROWS, st.sampled_from(Mode), st.lists(st.just("a problem")))
def test_the_exit_code_is_zero_only_if_nothing_is_open(
    rows: list[tuple[Kind, Status, str]], mode: Mode, problems: list[str]
) -> None:
    result = overall(rows, mode, problems)
    skipped = [kind is not Kind.HEALTH and why for kind, status, why in rows if status is Status.SKIP]
    clean = all(skipped) and all(status in (Status.PASS, Status.SKIP) for _, status, _ in rows)
    attacks = [status for kind, status, _ in rows if kind is Kind.ATTACK]
    clean = clean and 2 * attacks.count(Status.SKIP) <= len(attacks)
    proven = clean and not problems and any(kind is Kind.ATTACK and s is Status.PASS for kind, s, _ in rows)
    assert (result.exit_code == Exit.PROVEN) == proven
    assert (result.exit_code == Exit.FAILED) == any(status is Status.FAIL for _, status, _ in rows)
    assert (result.word is RunVerdict.PROTECTED) == (proven and mode is Mode.PROTECTED)
    assert of_interrupted(result).exit_code == Exit.NOT_PROVEN

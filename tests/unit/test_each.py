# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose fault it is that a look breaks off: with the guest under test alone, with both, with the control alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from common.errors import ChannelError, DeadlineError, HarmError, MachineLostError, SealproofError
from host_setup.channels.vitals import Vitals
from signoff.observation import Check
from tests_e2e.support.each import attempt, on_each, on_each_at_once, opted_in, result_of

On = Callable[..., list[Any]]


class FakeGuest:
    """A guest, and what a look at it raises."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.vitals, self.error = Vitals(f"guest {name}"), error

    def look(self) -> str:
        if self.error is not None:
            raise self.error
        return self.vitals.name


def guests(subject: Exception | None = None, control: Exception | None = None) -> Any:
    return FakeGuest("protected", subject), FakeGuest("plain", control)


both = pytest.mark.parametrize("on", [on_each, on_each_at_once])


@both
def test_each_guest_is_looked_at_in_its_turn(on: On) -> None:
    assert on(guests(), FakeGuest.look) == ["guest protected", "guest plain"]


@both
@pytest.mark.parametrize("error", [ChannelError("open: EFAULT"), MachineLostError("its QEMU ended")])
def test_step_that_fails_with_the_guest_under_test_alone_is_its_kernels_fault(on: On, error: SealproofError) -> None:
    with pytest.raises(HarmError, match=f"what works in the control fails with guest protected: {error.message}"):
        on(guests(error), FakeGuest.look)


@both
def test_step_that_fails_with_both_is_no_result(on: On) -> None:
    with pytest.raises(ChannelError, match="first"):
        on(guests(ChannelError("first"), ChannelError("second")), FakeGuest.look)


@both
def test_step_that_fails_in_the_control_alone_is_no_result(on: On) -> None:
    with pytest.raises(ChannelError, match="second"):
        on(guests(None, ChannelError("second")), FakeGuest.look)


@both
def test_step_that_fails_where_there_is_no_control_is_no_result(on: On) -> None:
    with pytest.raises(ChannelError):
        on(guests(ChannelError("open: EFAULT"))[:1], FakeGuest.look)


@both
@pytest.mark.parametrize(("in_time", "raised"), [(False, DeadlineError), (True, HarmError)])
def test_wait_that_runs_out_counts_only_where_it_is_asked_to(on: On, in_time: bool, raised: type[Exception]) -> None:  # noqa: FBT001
    with pytest.raises(raised):
        on(guests(DeadlineError("waited 60 s")), FakeGuest.look, in_time=in_time)


@pytest.mark.parametrize("error", [KeyError("typo"), OSError("no space"), HarmError("the kernel died")])
def test_what_is_no_machines_fault_or_known_already_goes_on(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error.args[0])):
        on_each(guests(error), FakeGuest.look)


@pytest.mark.parametrize("controls", [[], [attempt(FakeGuest("plain", ChannelError("no")).look)]])
def test_nobody_is_blamed_without_a_control_that_came_to_its_end(controls: Sequence[object]) -> None:
    with pytest.raises(ChannelError, match="EFAULT"):
        result_of(attempt(FakeGuest("protected", ChannelError("EFAULT")).look), "private pages", controls)


class Deaf:
    """A guest that does not answer any more."""

    @property
    def protected(self) -> bool:
        raise MachineLostError("its QEMU ended")


RIGHT, WRONG = [Check("a", "1", "1")], [Check("a", "1", "2")]


def test_guest_whose_claim_has_failed_already_is_not_asked_whether_it_opted_in() -> None:
    deaf: Any = Deaf()
    assert opted_in(deaf, [WRONG, RIGHT]) is None
    assert opted_in(deaf, [RIGHT]) is None, "there is no other one that did not"
    with pytest.raises(MachineLostError):
        opted_in(deaf, [RIGHT, RIGHT])

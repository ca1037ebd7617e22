# SPDX-License-Identifier: GPL-2.0-or-later
"""One look at each guest of a host, and whose fault it is that a look breaks off.

The guest under test and the plain one have the same host, the same harness and the same look. A step that works with
the plain guest, and not with the one under test, is refused by the kernel under test: the claim is FAIL and not ERROR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from common.errors import DeadlineError, HarmError, MachineError, SealproofError
from common.threads import workers
from host_setup.hosts.guest import Guest
from signoff.observation import Check

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Broke:
    """A look that came to no end."""

    error: SealproofError


def on_each(guests: Sequence[Guest], look: Callable[[Guest], _T], *, in_time: bool = False) -> list[_T]:
    """What a look at each guest gives, the one under test first.

    :param in_time: that a wait runs out with the guest under test alone is that guest's fault as well.
    :raises HarmError: the look breaks off with the guest under test alone. :raises SealproofError: with both.
    """
    return _settle_all(guests, [attempt(partial(look, guest), in_time=in_time) for guest in guests])


def on_each_at_once(guests: Sequence[Guest], look: Callable[[Guest], _T], *, in_time: bool = False) -> list[_T]:
    """As ``on_each``, at all guests at the same time."""
    with workers(len(guests)) as side_by_side:
        tried = list(side_by_side.map(lambda guest: attempt(partial(look, guest), in_time=in_time), guests))
    return _settle_all(guests, tried)


def attempt(look: Callable[[], _T], *, in_time: bool = False) -> _T | Broke:
    """What a look gives, or that it broke off.

    :param in_time: as for ``on_each``.
    """
    try:
        return look()
    except HarmError:
        raise
    except MachineError as error:
        return Broke(error)
    except DeadlineError as error:
        if not in_time:
            raise
        return Broke(error)


def result_of(tried: _T | Broke, whose: str, controls: Sequence[object]) -> _T:
    """What a look under test gave.

    :param whose: under test, in words. :param controls: what the same look gave where nothing is protected.
    :raises HarmError: it broke off, and no control did. :raises SealproofError: a control did as well.
    """
    if not isinstance(tried, Broke):
        return tried
    if not controls or any(isinstance(control, Broke) for control in controls):
        raise tried.error
    raise HarmError(f"what works in the control fails with {whose}: {tried.error.message}") from tried.error


def opted_in(guest: Guest, results: Sequence[Sequence[Check]]) -> bool | None:
    """Whether the guest under test opted in; None if there is no other one, or if it does not matter.

    A guest with a wrong check may not answer any more, and the claim is FAIL already.

    :param results: checks of each guest, of this one first.
    """
    if len(results) < 2 or not all(check.right for check in results[0]):
        return None
    return guest.protected


def _settle_all(guests: Sequence[Guest], tried: Sequence[_T | Broke]) -> list[_T]:
    first, *others = tried
    return [result_of(first, guests[0].vitals.name, others), *(result_of(other, "", ()) for other in others)]

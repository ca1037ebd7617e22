# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest works with in its CPU's registers, while somebody outside tries to learn it, or to change it.

Whether registers are private is no matter of a page: so the control is the plain guest, in which the same way works.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import wait

from common.errors import DeadlineError
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import Canary, Check, State
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Aimed, Attack
from tests_e2e.support.each import opted_in

GENERAL, VECTORS = slice(0, 64), slice(64, 320)  # bytes of the canary: in r8 to r15, in xmm0 to xmm15
HOLDS = 2.0  # seconds at a time, of the guest's time
PAUSE = 0.1  # seconds between two looks
LOOKS = 5
SEARCH = 50  # looks at a CPU that tells: on a busy machine its kernel may have it at most of them
TRIES = 5

Look = Callable[[Guest], bytes]


def user_canary(guest: Guest) -> Aimed:
    """A fresh canary in memory of the guest's program, of which it may put some into registers."""
    (aimed,) = (aim for aim in Attack.aim(guest, [UNDER_TEST]) if aim.planted.kind == "user")
    return aimed


def judge_each(trial: Trial, host: Host, results: list[list[Check]]) -> None:
    """Have it judged what was found in the guest under test and, if there is one, in the plain guest."""
    trial.legitimate(*results, protected=opted_in(host.guest, results))


def look_checks(guest: Guest, look: Look, span: slice) -> list[Check]:
    """Whether a look at the CPU tells the part ``span`` of a canary while the guest's program has it in registers.

    :param look: what it brings home; it stops the guest for that long, or not.
    :raises DeadlineError: the program was never seen at it.
    """
    aimed = user_canary(guest)
    private, size = aimed.planted.state == State.PRIVATE, span.stop - span.start
    # Of the rest of the page nothing counts.
    canary = Canary(aimed.planted.content)
    most = looks = 0
    enough = LOOKS if private else SEARCH
    for _ in range(TRIES):
        with guest.canaries.holding(aimed.planted, seconds=HOLDS) as holding:
            while not holding.done() and looks < enough and most < size:
                content = look(guest)
                if not holding.done():  # its program was at it all along
                    looks += 1
                    most = max(most, canary.count_leaked(content))
                wait([holding], timeout=PAUSE)  # the guest's turn
        if looks >= enough or most >= size:
            break
    if not looks:
        raise DeadlineError(f"the guest's program was never seen at work in {TRIES * HOLDS} s")
    return [
        Check("bytes of the registers that it tells", "0" if private else str(size), str(most)),
        Check("the program's registers stayed as they were", "True", str(holding.result()["kept"])),
    ]


AtWork = Callable[[bytes], bool]


def change_checks(guest: Guest, change: Callable[[Guest, AtWork], bool]) -> list[Check]:
    """Whether a change to the CPU meets what the guest's program has in registers: it looks at them itself.

    :param change: changes them if r8 to r15, as it is told them, say that the program has the CPU, and says whether it
        did: the guest's kernel would not survive it. Of a CPU whose registers are private nobody can tell, and nothing
        changes.
    :raises DeadlineError: the change was never made while the program was at work.
    """
    aimed = user_canary(guest)
    private = aimed.planted.state == State.PRIVATE
    canary = Canary(aimed.planted.content)
    count = 0
    unchanged = True

    def at_work(registers: bytes) -> bool:
        return private or canary.count_leaked(registers) == GENERAL.stop

    for _ in range(TRIES):
        with guest.canaries.holding(aimed.planted, seconds=HOLDS) as holding:
            while not holding.done() and count < LOOKS:
                count += change(guest, at_work) and not holding.done()
                wait([holding], timeout=PAUSE)
        unchanged = unchanged and bool(holding.result()["kept"])
        if count >= LOOKS:
            break
    if not count:
        raise DeadlineError(f"the guest's program was never seen at work in {TRIES * HOLDS} s")
    return [Check("the program's registers stayed as they were", str(private), str(unchanged))]

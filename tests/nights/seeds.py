# SPDX-License-Identifier: GPL-2.0-or-later
"""What is seeded in each of the twenty nights, and what the nights must say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from history.compare import Change
from history.review import NightExit

FAULT = "core-dump-looks-in"
NAMED = ("host_cannot_read_private_page_in_core_dump_of_qemu", "qemu_cannot_have_private_page_dumped")
"""The claims that name the fault."""
FIRST_BAD = "0102-b.patch"
SHAKES, READS, BOOTS, SLEEPS, COMES = (
    f"guest_{claim}_as_seeded" for claim in ("shakes", "reads", "boots", "sleeps", "comes")
)
HEALTH = "host_kernel_stays_healthy"
FAULTY, PLAIN = "faulty", "plain"
SLOWER = 5.0  # seconds
SPLAT = "WARNING: CPU: 0 PID: 1 at mm/seeded.c:1 seeded+0x1/0x2"
GOES_ON, KILLED, FULL = 8, 12, 15
"""The night that is killed and goes on; the one that is killed for good; the one whose disk for reports is full."""
BROKE = "broke"
"""Stands among the changes for a cell that comes to no claim any more."""
NEWER = "7.3"

WELL, WORSE, FLAKY, FAILS, CUT, LOST, DOWN = (
    "every claim PASS or SKIP", "{} regressed", "{} flaky", "{} not PASS, as before",
    "killed, or ended as the time was up", "could not be tried", "comes to no claim any more",
)  # fmt: skip
"""What the trend page says of a cell in a night."""


@dataclass(frozen=True, slots=True)
class Night:
    """What must come of a night.

    :ivar changes: what becomes of which claims. :ivar exit: the night's status.
    :ivar squares: what the trend page says of the two cells.
    """

    changes: Mapping[str, set[str]] = field(default_factory=dict)
    exit: NightExit = NightExit.WELL
    squares: tuple[str, str] = (WELL, WELL)


def of(cell: str, *claims: str) -> set[str]:
    """Claims of a cell."""
    return {f"{cell} {claim}" for claim in claims}


_SHAKEN: dict[str, set[str]] = {Change.FLAKY: of(FAULTY, SHAKES)}
_NAMED_FAULTS = of(FAULTY, *NAMED)
NIGHTS: dict[int, Night] = {
    1: Night(),
    2: Night(),
    3: Night(_SHAKEN, squares=(FLAKY.format(1), WELL)),
    4: Night(),
    5: Night({Change.REGRESSED: _NAMED_FAULTS}, NightExit.WORSE, (WORSE.format(2), WELL)),
    6: Night(squares=(FAILS.format(2), WELL)),
    7: Night({Change.FLAKY: of(PLAIN, SHAKES)}, squares=(FAILS.format(2), FLAKY.format(1))),
    8: Night(squares=(FAILS.format(2), WELL)),
    9: Night({Change.FIXED: _NAMED_FAULTS}),
    10: Night(
        {Change.REGRESSED: of(PLAIN, READS), **_SHAKEN}, NightExit.WORSE, (FLAKY.format(1), WORSE.format(1))
    ),
    11: Night(squares=(WELL, FAILS.format(1))),
    12: Night(squares=(CUT, CUT)),
    13: Night({Change.SLOWER: of(PLAIN, BOOTS)}, squares=(WELL, FAILS.format(1))),
    14: Night(squares=(WELL, FAILS.format(1))),
    15: Night(exit=NightExit.NOT_TRIED, squares=(LOST, LOST)),
    16: Night(
        {Change.REGRESSED: of(FAULTY, HEALTH)}, NightExit.WORSE, (WORSE.format(1), FAILS.format(1)),
    ),
    17: Night(
        {BROKE: {PLAIN}, Change.FIXED: of(FAULTY, HEALTH)}, NightExit.WORSE, (WELL, DOWN),
    ),
    18: Night(squares=(WELL, FAILS.format(1))),
    19: Night(
        {
            Change.NEW: of(FAULTY, COMES) | of(PLAIN, COMES), Change.GONE: of(FAULTY, SLEEPS) | of(PLAIN, SLEEPS),
        },
        squares=(WELL, FAILS.format(1)),
    ),
    20: Night(
        {Change.FIXED: of(PLAIN, READS), Change.FLAKY: of(FAULTY, BOOTS)}, squares=(FLAKY.format(1), WELL),
    ),
}  # fmt: skip

# With the same inputs these ended in several ways, from that night on; by cell and inputs.
_SEVERAL_WAYS = {
    (FAULTY, "without the fault"): {SHAKES: 3, HEALTH: 16}, (FAULTY, "a later contract"): {BOOTS: 20},
    (PLAIN, "the old kernel"): {SHAKES: 7}, (PLAIN, "a later contract"): {READS: 20},
}  # fmt: skip


def comparison_of(night: int, cell: str) -> dict[str, set[str]]:
    """What ``history compare`` says of a cell's run and the one before, when the night is over: claims by change.

    It also asks the history whether a claim ended otherwise with the same inputs, which makes it flaky.
    """
    inputs = "the newer kernel" if is_newer(night) else "the old kernel"
    if cell == FAULTY:
        inputs = "with the fault" if has_fault(night) else "without the fault"
    if has_come(night):
        inputs = "a later contract"
    flaky = {claim for claim, since in _SEVERAL_WAYS.get((cell, inputs), {}).items() if since <= night}
    changes = {Change.FLAKY: flaky}
    for change, entries in NIGHTS[night].changes.items():
        if change not in (BROKE, Change.FLAKY):
            changes[Change(change)] = {
                entry.removeprefix(f"{cell} ") for entry in entries if entry.startswith(f"{cell} ")
            } - flaky
    return {str(change): entries for change, entries in changes.items() if entries}


def statuses(claim: str, cell: str) -> list[str]:
    """What ``history claim`` says of the nights in which a claim was tried: each status once."""
    words = []
    for night in range(1, 21):
        failing = {
            (READS, PLAIN): 10 <= night < 20, (HEALTH, FAULTY): night == 16,
            **{(claim, FAULTY): has_fault(night) for claim in NAMED},
        }.get((claim, cell), False)  # fmt: skip
        was_tried = night not in (KILLED, FULL) and not (cell == PLAIN and panics(night))
        is_there = has_come(night) if claim == COMES else not (claim == SLEEPS and has_come(night))
        if was_tried and is_there:
            word = "FAIL/PASS" if CHANCE.get(night) == (cell, claim) else "FAIL" if failing else "PASS"
            words.append(word)
    return words


CHANCE = {3: (FAULTY, SHAKES), 7: (PLAIN, SHAKES), 10: (FAULTY, SHAKES), 20: (FAULTY, BOOTS)}
"""Which claim is flaky in which night."""


def seeds(night: int) -> dict[str, dict[str, object]]:
    """What the seeded claims find, by cell: results and seconds of a claim; ``splat``: what the host's kernel says."""
    seeds_of: dict[str, dict[str, object]] = {FAULTY: {}, PLAIN: {}}
    if night in CHANCE:
        cell, claim = CHANCE[night]
        seeds_of[cell][claim] = [["FAIL", "PASS"], 0.0]
    if night >= 13:
        seeds_of[PLAIN][BOOTS] = [["PASS"], SLOWER]
    if 10 <= night < 20:
        seeds_of[PLAIN][READS] = [["FAIL"], 0.0]
    if night == 16:
        seeds_of[FAULTY]["splat"] = SPLAT
    return seeds_of


def has_fault(night: int) -> bool:
    """Whether the series of the cell ``faulty`` has three more patches."""
    return 5 <= night < 9


def panics(night: int) -> bool:
    """Whether the kernel of the cell ``plain`` panics when it boots."""
    return night == 17


def is_newer(night: int) -> bool:
    """Whether the kernel of the cell ``plain`` is the newer one."""
    return night >= 10


def has_come(night: int) -> bool:
    """Whether one claim has gone, and another has come."""
    return night >= 19

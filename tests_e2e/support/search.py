# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequences of operations by guest and VMM, tried on a host as checks of a claim (``host_setup/search``)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_setup.hosts.base import Host
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from host_setup.search import sequence_file
from host_setup.search.machine import search
from host_setup.search.model import ARENA, NUMBERS, Model
from host_setup.search.trial import TIMEOUT, Disagreement, OnHost, Tally, differing, disagreement, offers_protection
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support import each
from tests_e2e.support.field import name_frames
from tests_e2e.support.live_memory import live_memory_of
from tests_e2e.support.outside import outside, standing_still
from tests_e2e.support.translations import root_of, walk
from tests_e2e.support.watch import host_kernel

SEQUENCE_FOLDER = Path(__file__).with_name("sequences")
SEED = 2
SEQUENCES = {True: 16, False: 6}  # of about 40 operations each: with protection, and without
LEAST_TRIED = 5  # at least: none is tried twice
MANY, SOME = 1000, 20  # looks at pages
STANDING = 4  # VMs at a time
MADE_UP = 60  # sequences, of which the longest leave VMs to stand
MEANT = 6  # private pages that such a VM has
A_FEW = 20  # frames
# Then the guest writes all that it can, and the VMM: there is content for the walk to find.
FILLED = (f"fill {NUMBERS.start:#x} {len(NUMBERS)} 70000 native", f"store 0 {ARENA} 80000")
START = 20.0  # seconds for a program to start

Agrees = Callable[[Sequence[str]], Disagreement | None]
Failed = tuple[Sequence[str], str]  # a sequence, and what is wrong
Try = Callable[[Agrees, bool], Failed | None]


def try_generated(check: Agrees, protects: bool) -> Failed | None:  # noqa: FBT001
    """Try sequences that a seed determines; returns the first that fails."""
    failure = search(check, number=SEED, sequences=SEQUENCES[protects], protects=protects)
    return (failure[0], f"{failure[1]}: {'; '.join(failure[0])}") if failure else None


def kept_sequences(check: Agrees, protects: bool) -> Failed | None:  # noqa: FBT001
    """Try the sequences that are kept in files; returns the first that fails."""
    for file in sorted(SEQUENCE_FOLDER.glob("*.txt")):
        operations = sequence_file.read(file) if protects else without_protection(sequence_file.read(file))
        if failure := check(operations):
            return operations, f"{file.name}: {failure}"
    return None


def without_protection(operations: Sequence[str]) -> tuple[str, ...]:
    """A sequence of a guest that does not ask for protection, and of a second VM that does not either."""
    return tuple(line for line in operations if line not in ("enable", "second_enables"))


def sequences_agree(trial: Trial, host: Host, attempt: Try, most: int, many: int) -> None:
    """Have it judged whether every answer is the model's, where the guest asks for protection and where it does not.

    :param most: how many sequences there are at least. :param many: how many looks at pages of each kind.
    """
    since = len(host.kernel_log())
    plain = _checks(trial, host, attempt, most, many, protects=False)
    if host.plain_guest is None:
        trial.legitimate([*plain, host_kernel(host, since)])
    else:
        tried = each.attempt(lambda: _checks(trial, host, attempt, most, many, protects=True))
        results = each.result_of(tried, "guests that are protected", [plain])
        trial.legitimate([*results, host_kernel(host, since)], plain)


def _checks(trial: Trial, host: Host, attempt: Try, most: int, many: int, *, protects: bool) -> list[Check]:
    tally, run, guest = Tally(), OnHost(lambda: host), "protected" if protects else "plain"
    offered = offers_protection(run)
    failed = attempt(lambda operations: disagreement(operations, run, tally, offered=offered), protects)
    trial.attach(f"tried-{guest}.txt", f"{tally}\n")
    if failed:  # for sealproof search --replay
        trial.attach(f"failed-{guest}.txt", sequence_file.sequence_text(failed[0], [f"Seen: {failed[1]}"]))
    return [
        Check("the first answer that is not the model's", "none", failed[1] if failed else "none"),
        Check("sequences that were tried", _at_least(most, most), _at_least(most, tally.sequences)),
        Check("pages that the VMM was kept out of", "many" if protects else "none", _how_many(tally.private, many)),
        Check("pages of which the VMM read what is there", "many", _how_many(tally.read, many)),
        Check("frames of VMMs that ended, which were read", "many", _how_many(tally.left, SOME)),
    ]


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of the host that VMs have at one moment.

    :ivar private: of pages that the VMM is kept out of. :ivar others: of all others that it can load.
    :ivar wrong: the first answer that is not the model's; empty if there is none.
    """

    private: frozenset[int]
    others: frozenset[int]
    wrong: str


def judge_private_mappings(trial: Trial, host: Host) -> None:
    """Have it judged whether page tables of the host lead to private frames of VMs that sequences left standing."""
    plain = _from_outside(host, protects=False)
    if host.plain_guest is None:
        trial.legitimate(plain)
    else:
        tried = each.attempt(lambda: _from_outside(host, protects=True))
        trial.legitimate(each.result_of(tried, "guests that are protected", [plain]), plain)


def _from_outside(host: Host, *, protects: bool) -> list[Check]:
    outside(host)
    root, offered = root_of(host.ssh), offers_protection(OnHost(lambda: host))
    with contextlib.ExitStack() as ends:
        frames = [_standing(host, operations, ends, offered=offered) for operations in _some(protects)]
        private = frozenset().union(*(frame.private for frame in frames))
        others = frozenset().union(*(frame.others for frame in frames)) - private
        with live_memory_of(host) as live, standing_still(host):
            memory = live.all()
        walked = walk(memory, root, private | others, not_roots=private | others)
    wrong = next((frame.wrong for frame in frames if frame.wrong), "none")
    kernel, processes = walked.kernel.at.keys(), walked.processes.at.keys()
    return [
        Check("VMs that stand where a sequence has left them", str(STANDING), str(len(frames))),
        Check("the first answer that is not the model's", "none", wrong),
        Check("private frames of theirs", "many" if protects else "none", _how_many(len(private), A_FEW)),
        Check("private frames that the kernel or a process maps", "none", name_frames(private & (kernel | processes))),
        Check("other frames of theirs", "many", _how_many(len(others), A_FEW)),
        Check(
            "other frames that the kernel does not map, or no process",
            "none",
            name_frames(others - (kernel & processes)),
        ),
    ]


def _some(protects: bool) -> list[tuple[str, ...]]:  # noqa: FBT001
    """Sequences that a seed determines, without an end, and without a pin that stays: the host has room for one."""
    sequences: list[tuple[str, ...]] = []

    def note(made_up: Sequence[str]) -> None:
        operations = [*(line for line in made_up if line != "destroy"), *FILLED]
        model = Model()
        for line in operations:
            model.do(line)
        if model.private_places() >= MEANT or not protects:
            sequences.append((*operations, "unpin") if model.pins else tuple(operations))

    search(note, number=SEED, sequences=MADE_UP, protects=protects)
    return sorted(sequences, key=len)[-STANDING:]


def _standing(host: Host, operations: Sequence[str], ends: contextlib.ExitStack, *, offered: bool) -> Frames:
    """Have a VM come to where a sequence leads, and stay there until ``ends`` ends; returns its frames."""
    model = Model(offered=offered)
    program = host.ssh.converse([f"{HOST_PROGRAMS}/driven_vm"], seconds=START)
    ends.callback(program.close)
    lines = [*operations, "sweep"]
    *replies, frame_line = program.ask(*lines, "frames", seconds=TIMEOUT)
    answers = [(line, differing(model.do(line), reply)) for line, reply in zip(lines, replies, strict=True)]
    wrong = next(
        (f"'{line}' answers {answer[1]}; it must answer {answer[0]}" for line, answer in answers if answer), ""
    )
    frames = json.loads(frame_line)
    pages = [(page, frame) for page, frame in zip(model.arena, frames, strict=True) if page is not None and frame]
    return Frames(
        frozenset(frame for page, frame in pages if page.is_protected),
        # What there is nothing of but zeros may be the kernel's page of zeros, which is everybody's.
        frozenset(
            frame
            for page, frame in pages
            if not page.is_protected and page.rights != "none" and page.frame and page.frame.mark
        ),
        wrong,
    )


def _at_least(most: int, count: int) -> str:
    return f"at least {most}" if count >= most else str(count)


def _how_many(count: int, many: int) -> str:
    return "many" if count >= many else str(count) if count else "none"

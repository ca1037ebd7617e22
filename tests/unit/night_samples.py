# SPDX-License-Identifier: GPL-2.0-or-later
"""A world in which nights pass: a clock, a project with tests, and a runner that stands in for pytest and its hosts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from history.causes import BisectAnswer
from history.database import History
from history.matrix import Cell, Matrix
from history.nightly import Ground, Nightly
from history.review import Review, review
from signoff.verdict import Status
from tests.unit.history_samples import claim, claim_not_tried, document, sha

HEALTH = "host_stays_healthy"
CLAIMS = ("guest_works", "guest_sleeps", "guest_shakes", "guest_boots", "host_cannot_read", "host_cannot_write", HEALTH)
RUN_TAKES = 20  # minutes
SET_UP = {
    "no host": "disk: no space left for /var/cache: 0.0 GiB free",
    "no boot": "machine: the kernel panicked",
}
"""What a run says whose set-up failed."""


class Killed(BaseException):
    """The night is killed with SIGKILL: nothing is tidied."""


@dataclass
class World:
    """What the runs of one night find.

    :ivar statuses: of (cell, claim), one for each time that it is tried; the last one stays. PASS where there is none.
    :ivar seconds: of (cell, claim); 10 where there is none. :ivar kernel: under test. :ivar claims: of the contract.
    :ivar breaks: of a cell, what its runs do instead of trying claims: one of ``SET_UP``,
        ``no report`` or ``killed``.
    """

    statuses: dict[tuple[str, str], Sequence[Status]] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    kernel: str = "6.12.117"
    claims: Sequence[str] = CLAIMS
    patches: tuple[tuple[str, str], ...] = (("0001-a.patch", "a"),)
    breaks: dict[str, str] = field(default_factory=dict)
    busy: float = 1.0


def matrix(*names: str, **changes: Any) -> Matrix:
    """A matrix of cells that differ in their series."""
    cells = tuple(Cell(f"series={name}", (f"--series={name}",)) for name in names)
    return Matrix(**{"cells": cells, "minutes": 300.0, **changes})


class Nights:
    """Runs nights in a folder."""

    def __init__(self, folder: Path, plan: Matrix, history: History) -> None:
        self.folder = folder
        self.plan = plan
        self.history = history
        self.clock = datetime(2026, 11, 1, 1, 0, tzinfo=UTC)
        self.world = World()
        self.said: list[str] = []
        self.ran: list[tuple[str, ...]] = []
        self.before_end: Callable[[], None] = lambda: None
        self.searched: list[tuple[str, ...]] = []
        self.search: Callable[[], BisectAnswer] = lambda: BisectAnswer("2 of 2 patches: 0002-b.patch", "/answer.txt")
        self._tried: dict[tuple[str, str], int] = {}
        self._runs = 0
        self.project = folder / "project"
        for name in CLAIMS:
            kind = "health" if name == HEALTH else "legitimate"
            tests = self.project / f"tests_e2e/{kind}"
            tests.mkdir(parents=True, exist_ok=True)
            (tests / f"test_{name}.py").write_text(f"def test_{name}(trial: Trial) -> None: ...\n")

    def night(self, world: World | None = None, *, fresh: bool = False) -> Review:
        """Run a night, or what is left of one."""
        if world is not None:
            self.world = world
            self._tried = {}
        ground = Ground(
            self.history, self.folder / "nights", self._run, self.said.append, lambda: self.clock, self.project,
            self._search,
        )  # fmt: skip
        return review(self.history, Nightly(self.plan, ground).run(fresh=fresh))

    def failed_last(self, cell: str) -> bool:
        """Whether the next night takes a cell for one that failed last."""
        ground = Ground(self.history, self.folder, self._run, self.said.append, lambda: self.clock, self.project)
        return Nightly(self.plan, ground)._last(cell).failed

    def next_day(self) -> None:
        """Let it be one in the morning of the day after."""
        self.clock = datetime.combine(self.clock.date() + timedelta(days=1), datetime.min.time(), UTC).replace(hour=1)

    def _search(self, words: Sequence[str], folder: Path, seconds: float) -> BisectAnswer:
        """Stands in for ``sealproof bisect``."""
        assert folder.parent.parent == self.folder / "nights"
        assert seconds > 0
        self.searched.append(tuple(words))
        return self.search()

    def _run(self, words: Sequence[str], reports: Path, log: Path, limit: float) -> str:
        """Stands in for pytest."""
        cell = next(word.removeprefix("--") for word in words if word.startswith("--series="))
        nodes = [word.rpartition("::test_")[2] for word in words if "::" in word]
        self.ran.append((cell, *nodes))
        self._runs += 1
        run = f"{self.clock:%Y%m%dT%H%M%SZ}-{self._runs:06x}"
        reports.mkdir(parents=True, exist_ok=True)
        how = self.world.breaks.get(cell, "")
        begun = self.clock
        took = timedelta(minutes=RUN_TAKES if not nodes else 2)
        self.clock += min(took, timedelta(seconds=limit))
        if how == "no report":
            log.write_text("...\nsealproof: PYTHONPATH is set\n")
            return ""
        (reports / run).mkdir()
        if how != "no host":
            (reports / run / "hosts/host-1").mkdir(parents=True)
        if how == "killed":
            raise Killed
        report = self._document(run, cell, nodes, how)
        report["run"]["started"], report["run"]["ended"] = (
            f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (begun, self.clock)
        )
        late = took > timedelta(seconds=limit)
        if late:
            report["summary"] = "The run was interrupted."
        (reports / run / "signoff.json").write_text(json.dumps(report), encoding="utf-8")
        self.before_end()
        return f"the claims were not done within {limit:.0f} s" if late else ""

    def _document(self, run: str, cell: str, nodes: Sequence[str], how: str) -> dict[str, Any]:
        world = self.world
        claims = [
            claim_not_tried(name) if nodes and name not in nodes else self._claim(cell, name) for name in world.claims
        ]
        report = document(run, claims, kernel=world.kernel, series=cell, patches=world.patches)
        report["contract"]["sha256"] = sha(" ".join(world.claims))
        if how in SET_UP:  # as a real run says it: the claim that came first is ERROR
            why = f"the set-up failed: {SET_UP[how]}"
            report |= {"problems": [why], "kernel": None, "tier": None}
            report["claims"] = [claim(world.claims[0], Status.ERROR, why=why), *map(claim_not_tried, world.claims[1:])]
        return report

    def _claim(self, cell: str, name: str) -> dict[str, Any]:
        statuses = self.world.statuses.get((cell, name), (Status.PASS,))
        number = self._tried.get((cell, name), 0)
        self._tried[cell, name] = number + 1
        status = statuses[min(number, len(statuses) - 1)]
        return claim(name, status, self.world.seconds.get((cell, name), 10.0) * self.world.busy)


def twenty(nights: Nights, more: Sequence[str] = ()) -> dict[int, Review]:
    """Twenty nights of the cells ``one`` and ``two``, with faults; returns what came of each that was not killed.

    Night 5 to 8: a patch breaks a claim. 10: the kernel is updated, and from then to 19 a claim fails by it. 12: the
    night is killed, for good. 13: a claim gets slower. 15: the disk is full. 16: the host's kernel complains. 17: a
    host does not boot. 19: the contract has another claim, and one less. 3, 7, 10, 20: a claim is flaky. 6 and 14: the
    machine is busy.

    :param more: further claims, which are always PASS.
    """
    first, second, fail = "series=one", "series=two", (Status.FAIL,)
    claims = (*CLAIMS, *more)
    later = (*(name for name in claims if name != "guest_sleeps"), "guest_comes")
    flaky = {
        3: (first, "guest_shakes"),
        7: (second, "guest_shakes"),
        10: (first, "guest_shakes"),
        20: (first, "guest_works"),
    }
    results = {}
    for number in range(1, 21):
        statuses: dict[tuple[str, str], Sequence[Status]] = {}
        if number in flaky:
            statuses[flaky[number]] = (Status.ERROR if number == 7 else Status.FAIL, Status.PASS)
        if 5 <= number < 9:
            statuses[first, "guest_works"] = fail
        if 10 <= number < 20:
            statuses[second, "host_cannot_read"] = fail
        if number == 16:
            statuses[first, HEALTH] = fail
        world = World(
            statuses=statuses,
            kernel="6.12.118" if number >= 10 else "6.12.117",
            patches=(("0001-a.patch", "a second version" if 5 <= number < 9 else "a"),),
            seconds={(second, "guest_boots"): 40.0} if number >= 13 else {},
            claims=later if number >= 19 else claims,
            breaks={12: {first: "killed"}, 15: {first: "no host", second: "no host"}, 17: {second: "no boot"}}.get(
                number, {}
            ),
            busy=2.5 if number in (6, 14) else 1.0,
        )
        with contextlib.suppress(Killed):  # and nobody takes it up again
            results[number] = nights.night(world)
        nights.next_day()
    return results

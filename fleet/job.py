# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs Avocado jobs over the groups of a sign-off until no claim is lost, and extracts the parts from their results."""

from __future__ import annotations

import contextlib
import json
import lzma
import re
import socket
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from common.environment import search_path
from common.errors import CommandError, SealproofError, UserInputError
from common.processes import run_tree
from common.store import disk_errors
from fleet.groups import Group, claims_of
from fleet.machines import Access, SshTarget, StatusPorts, problem, write_configuration
from fleet.resolver import runnable
from fleet.runner import PART
from signoff.merge import lost_claims

JOB_FAIL, FAIL = 2, 4
"""Bits of Avocado's exit status (avocado.core.exit_codes): it could not do its work. A test that failed is none."""
_TEST_LINE = re.compile(r"^ \(\S+\) ")  # of Avocado's own output: a test that ended


@dataclass(frozen=True, slots=True)
class Workers:
    """Where groups run.

    :ivar local: how many at a time on this machine, by the process spawner; used if ``machines`` is empty.
    :ivar machines: one group at a time on each, by the remote spawner.
    """

    local: int = 1
    machines: tuple[SshTarget, ...] = ()
    access: Access | None = None


@dataclass(slots=True)
class JobsOutcome:
    """The result of the jobs.

    :ivar parts: their folders, and the seconds each took. :ivar jobs: Avocado's own results.
    :ivar seconds: that the jobs took. :ivar lost: claims that no part has a word on.
    :ivar absent: machines that could not be used, and why.
    """

    parts: dict[Path, float] = field(default_factory=dict)
    jobs: list[Path] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def run(
    groups: Sequence[Group], workers: Workers, folder: Path, *, tries: int, say: Callable[[str], None]
) -> JobsOutcome:
    """Run the groups; those whose claims are lost (their machine went away, or their run was cut short) again.

    :param folder: a new one, for Avocado's results and the parts. :param tries: jobs at most.
    :raises UserInputError: no machine can be used. :raises SealproofError: Avocado itself failed.
    """
    outcome = JobsOutcome(lost=claims_of(groups))
    for number in range(1, tries + 1):
        todo = [group for group in groups if set(group.claims) & set(outcome.lost)]
        if not todo:
            break
        if number > 1:
            say(f"{len(outcome.lost)} claims are lost: trying {len(todo)} groups again")
        usable = _usable(workers, outcome, say)
        try:
            results = _avocado(todo, usable, folder / f"job-{number}", say)
        except CommandError as error:
            # A machine that goes away while the spawner logs in ends the whole job.
            if not usable.machines or number == tries:
                raise
            say(f"job {number} failed: see {error.artefact}")
            continue
        outcome.jobs.append(results.parent)
        outcome.seconds.append(float(json.loads(results.read_text(encoding="utf-8"))["time"]))
        outcome.parts |= collect(results.parent, folder / "parts")
        outcome.lost = lost_claims(outcome.parts, claims_of(groups))
    return outcome


def collect(job: Path, into: Path) -> dict[Path, float]:
    """The parts that the tests of a job delivered, unpacked, and the seconds that each took.

    :param job: a folder of Avocado's results.
    :raises UserInputError: the folder is not a job's, or a part is damaged.
    """
    try:
        written = json.loads((job / "results.json").read_text(encoding="utf-8"))["tests"]
        tests = [(Path(test["logdir"]), float(test["time_elapsed"])) for test in written]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        hint = "name a job's folder, which has results.json; for instance ~/avocado/job-results/latest"
        why = error.strerror if isinstance(error, OSError) else error
        raise UserInputError(f"{job} has no Avocado results: {why}", stage="merge", hint=hint) from error
    results = {}
    for log, seconds in tests:
        packed = log / PART
        if not packed.is_file():
            packed = job / "test-results" / log.name / PART  # the job was moved
        if packed.is_file():
            results[unpack(packed, into)] = round(seconds, 3)
    return results


def unpack(packed: Path, into: Path) -> Path:
    """Unpack one part; returns its folder.

    Only plain files and folders below one folder are taken: it comes from another machine.

    :raises UserInputError: if it is damaged or holds anything else.
    """
    top: set[str] = set()
    try:
        with disk_errors(into), tarfile.open(packed) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                is_usual = member.isfile() or member.isdir()
                if not name.parts or name.is_absolute() or ".." in name.parts or not is_usual:
                    raise UserInputError(
                        f"{packed} holds {member.name}, which does not belong in a part", stage="merge"
                    )
                top.add(name.parts[0])
                place = into / name
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                elif (data := archive.extractfile(member)) is not None:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(data.read())
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise UserInputError(f"{packed} is damaged: {error}", stage="merge", hint="run its group again") from error
    if len(top) != 1:
        raise UserInputError(f"{packed} holds {len(top)} folders, but a part is a single folder", stage="merge")
    part = into / top.pop()
    if not part.is_dir():
        raise UserInputError(f"{packed} holds a file, but a part is a single folder", stage="merge")
    return part


def _usable(workers: Workers, outcome: JobsOutcome, say: Callable[[str], None]) -> Workers:
    """The workers without the machines that do not answer."""
    if not workers.machines or workers.access is None:
        return workers
    access = workers.access
    alive = []
    for machine in workers.machines:
        if why := problem(machine, access):
            outcome.absent[str(machine)] = why
            say(f"{machine} is left out: {why}")
        else:
            alive.append(machine)
    if not alive:
        words = "\n".join(f"{name}: {why}" for name, why in outcome.absent.items())
        raise UserInputError(
            f"no machine can be used\n{words}", stage="fleet", hint="try to reach one of them with ssh"
        )
    return Workers(workers.local, tuple(alive), access)


def _avocado(groups: Sequence[Group], workers: Workers, folder: Path, say: Callable[[str], None]) -> Path:
    """One job, to its end; returns its results.json.

    :raises SealproofError: if there is none.
    """
    folder.mkdir(parents=True)
    recipe, settings = folder / "groups.json", folder / "avocado.conf"
    recipe.write_text(json.dumps([runnable(group).get_dict() for group in groups], indent=1), encoding="utf-8")
    if workers.machines and workers.access is not None:
        write_configuration(settings, workers.machines, workers.access, StatusPorts(*_free_ports(2)))
    else:
        settings.write_text("[run]\nspawner = process\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "avocado", "--config", str(settings), "run", str(recipe), "--disable-sysinfo"),
        *("--job-results-dir", str(folder), "--max-parallel-tasks", str(len(workers.machines) or workers.local)),
    ]
    # The remote spawner looks for a helper program of its own, which lies beside our Python, and leaves its files.
    path = f"{Path(sys.executable).parent}:{search_path()}"
    with tempfile.TemporaryDirectory(prefix="sealproof-fleet-") as scratch:
        environment = {"PATH": path, "TMPDIR": scratch}
        _run_avocado(command, folder / "output", environment, say)
    results = sorted(folder.glob("job-*/results.json"))
    if not results:
        raise SealproofError("Avocado left no results", stage="avocado", artefact=folder / "output")
    return results[-1]


def _run_avocado(command: list[str], log: Path, environment: dict[str, str], say: Callable[[str], None]) -> None:
    """:raises CommandError: if it could not do its work."""
    try:
        run_tree(command, log=log, stage="avocado", env=environment, on_line=lambda line: _show(line, say))
    except CommandError as error:
        if error.returncode & (JOB_FAIL | FAIL):
            raise


def _show(line: str, say: Callable[[str], None]) -> None:
    if _TEST_LINE.match(line) and "STARTED" not in line:
        say(line.strip())


def _free_ports(number: int) -> list[int]:
    """Ports of the loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]

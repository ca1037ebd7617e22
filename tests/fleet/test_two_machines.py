# SPDX-License-Identifier: GPL-2.0-or-later
"""A sign-off by Avocado over two machines comes to what one machine says, also when one of them goes away.

Each machine runs an emulated host. The process spawner has two at a time; for the remote spawner two sshds stand in for
machines. Options choose series and mode, as for a sign-off.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.paths import PROJECT
from common.waiting import Deadline, poll_until
from signoff.report import assemble
from signoff.report.data import Report
from tests.fleet.ssh_machines import SshMachines, two_machines

FEW = (
    "(cannot and (by_process_vm_readv or peekdata or getrandom_into or core_dump_of_qemu or kcore))"
    " or kernel_stays or does_not_stall"
)
"""Some claims of at least three files, and those about the health of the host."""
TIMEOUT = 900
MISS = "MISS"
PYTHON = ("setpriv", "--pdeathsig", "TERM", "--", sys.executable)
"""A program of ours that is told to end when these tests are killed: its machines end with it."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is run, by one machine or by many."""

    words: list[str]

    def alone(self, reports: Path) -> Report:
        """One pytest run on this machine."""
        _run(["-m", "pytest", *self.words, "--reports", str(reports)])
        return assemble((reports / "latest").resolve())

    def spread(self, reports: Path, *options: str) -> tuple[Report, str]:
        """Avocado jobs; the report, and what was shown."""
        shown = _run(["-m", "fleet", "run", *options, "--reports", str(reports), "--", *self.words])
        return assemble((reports / "latest").resolve()), shown


@pytest.fixture(scope="module")
def words(request: pytest.FixtureRequest) -> Words:
    option = request.config.option
    return Words(["tests_e2e", "-k", FEW, "--mode", option.mode, "--series", option.series])


@pytest.fixture(scope="module")
def alone(words: Words, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a single machine; something in it is proved."""
    report = words.alone(tmp_path_factory.mktemp("alone"))
    assert sum(status != MISS for status in statuses(report).values()) >= 6
    return report


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[SshMachines]:
    with two_machines(tmp_path) as started:
        yield started


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signing key of these tests is not the user's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_two_at_a_time_say_what_one_says(words: Words, alone: Report, tmp_path: Path) -> None:
    report, _ = words.spread(tmp_path / "reports", "--workers", "2")
    assert statuses(report) == statuses(alone)
    assert report.overall == alone.overall
    assert report.fleet is not None
    assert len(report.fleet.parts) >= 3
    verifies(tmp_path / "reports")


def test_two_machines_by_ssh_say_what_one_says(
    words: Words, alone: Report, machines: SshMachines, tmp_path: Path
) -> None:
    report, _ = words.spread(tmp_path / "reports", *machines.options)
    assert statuses(report) == statuses(alone)
    assert report.fleet is not None
    # Which took how many is a matter of time; each took one at least.
    assert {part.machine for part in report.fleet.parts} == {machines.first.name, machines.second.name}
    for row in report.rows:
        if row.result.status != MISS:
            assert report.fleet.machines_behind(row.claim.id)
    verifies(tmp_path / "reports")


def test_claims_lost_with_a_machine_are_proved_by_another(
    words: Words, alone: Report, machines: SshMachines, tmp_path: Path
) -> None:
    command = ["-m", "fleet", "run", *machines.options, "--reports", str(tmp_path / "reports"), "--", *words.words]
    with (tmp_path / "shown").open("w+b") as shown:
        running = subprocess.Popen([*PYTHON, *command], cwd=PROJECT, stdout=shown, stderr=shown)
        try:
            poll_until(machines.second.runs_a_group, Deadline(TIMEOUT), "a group on the second machine", interval=0.1)
            machines.second.vanish()
            running.wait(TIMEOUT)
        finally:
            running.kill()
            running.wait()
    output = (tmp_path / "shown").read_text()
    report = assemble((tmp_path / "reports" / "latest").resolve())
    assert statuses(report) == statuses(alone), output
    assert report.fleet is not None
    assert {part.machine for part in report.fleet.parts} == {machines.first.name}
    assert "claims are lost: trying" in output
    assert f"{machines.second.target} is left out" in output
    verifies(tmp_path / "reports")


def test_avocado_itself_runs_a_reference_and_its_parts_are_merged_by_hand(words: Words, tmp_path: Path) -> None:
    few = [*words.words[:2], "peekdata", *words.words[3:]]
    reference = f"sealproof:{' '.join(few)}"
    results = tmp_path / "results"
    _run(["-m", "avocado", "run", reference, "--disable-sysinfo", "--job-results-dir", str(results)])
    (job,) = results.glob("job-*")
    tests: list[dict[str, Any]] = json.loads((job / "results.json").read_text())["tests"]
    assert [test["status"] for test in tests] == ["PASS"]
    _run(["-m", "fleet", "merge", str(job), "--reports", str(tmp_path / "reports")])
    report = assemble((tmp_path / "reports" / "latest").resolve())
    assert {name for name, status in statuses(report).items() if status == "PASS"} == {
        "host_cannot_read_private_page_by_ptrace_peekdata"
    }


def statuses(report: Report) -> dict[str, str]:
    """Claim -> status."""
    return {row.claim.id: str(row.result.status) for row in report.rows}


def verifies(reports: Path) -> None:
    """The report is sound, and is not when a byte of a part was changed."""
    run = (reports / "latest").resolve()
    verify = [sys.executable, "-m", "cli", "verify", str(run)]
    done = subprocess.run(verify, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    # Each machine signs its parts by a key of its own, which nobody has named here: not proven, and yet sound.
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    journal = next((run / "parts").glob("*/claims.jsonl"))
    journal.write_bytes(journal.read_bytes().replace(b"PASS", b"FAIL", 1))
    assert subprocess.run(verify, cwd=PROJECT, capture_output=True, timeout=60, check=False).returncode == 3


def _run(words: list[str]) -> str:
    """Run a program of the project; its status says what its claims came to, which is looked at in the report."""
    done = subprocess.run([*PYTHON, *words], cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return done.stdout + done.stderr

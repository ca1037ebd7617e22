# SPDX-License-Identifier: GPL-2.0-or-later
"""Selftests run on hosts that are none: what a hang, a dead host and an upset kernel make of a test and of the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import ChannelError, DeadlineError, MachineError, MachineLostError
from host_setup.channels.ssh import Completed
from host_setup.selftests import run as module
from host_setup.selftests.ktap import KtapOutcome
from host_setup.selftests.run import FOLDER, MEMORY, SelftestResult, host_spec, run
from host_setup.selftests.suites import DEADLINE, MM_PROGRAMS, Selftest, catalogue
from tests.unit.machine_samples import spec

Answer = tuple[int, str] | Exception


class Host:
    """A host whose tests end as the test says; ``log`` is what its kernel says."""

    def __init__(self, answer: Callable[[str], Answer], splats: Sequence[str] = ()) -> None:
        self.ssh = self
        self.answer = answer
        self.splats = splats
        self.log = "[    1.000000] WARNING: something at boot that is no test's fault\n"
        self.ran: list[tuple[list[str], float]] = []
        self.closed = False

    def run(self, argv: Sequence[str], *, seconds: float) -> Completed:
        self.ran.append((list(argv), seconds))
        program = next(word for word in argv if word.startswith("./")).removeprefix("./")
        if program in self.splats:
            self.log += f"[    2.000000] BUG: bad thing in {program}\n"
        result = self.answer(program)
        if isinstance(result, Exception):
            raise result
        return Completed(tuple(argv), result[0], result[1].encode(), b"")

    def kernel_log(self) -> str:
        return self.log

    def close(self) -> None:
        self.closed = True


def go(answers: dict[str, Answer], splats: Sequence[str] = ()) -> tuple[list[SelftestResult], list[Any]]:
    hosts: list[Host] = []

    def start() -> Host:
        hosts.append(Host(lambda program: answers[program], splats))
        return hosts[-1]

    results = run(start, [Selftest("kvm", name, deadline=10) for name in answers], lambda _: None)
    assert all(host.closed for host in hosts)
    return results, hosts


def test_tests_share_a_host_as_long_as_it_is_fit() -> None:
    results, hosts = go({"a": (0, ""), "b": (4, "1..0 # SKIP no"), "c": (254, ""), "d": (0, "")})
    assert [result.outcome for result in results] == [
        KtapOutcome.PASS,
        KtapOutcome.SKIP,
        KtapOutcome.FAIL,
        KtapOutcome.PASS,
    ]
    assert len(hosts) == 1


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        ((124, ""), KtapOutcome.TIMEOUT),
        (MachineLostError("the host is lost: kernel died: Oops\nits trace"), KtapOutcome.LOST),
        (DeadlineError("waited 40 s for it"), KtapOutcome.LOST),
        (ChannelError("the session broke"), KtapOutcome.LOST),
    ],
)
def test_a_test_that_hangs_or_kills_its_host_is_a_result_and_the_next_gets_a_fresh_host(
    ending: Any, outcome: KtapOutcome
) -> None:
    results, hosts = go({"a": (0, ""), "bad": ending, "c": (0, "")})
    assert [result.outcome for result in results] == [KtapOutcome.PASS, outcome, KtapOutcome.PASS]
    assert results[1].reason
    assert "\n" not in results[1].reason
    assert [len(host.ran) for host in hosts] == [2, 1]


def test_what_the_kernel_complains_of_fails_the_test_that_it_happened_in_and_spoils_the_host() -> None:
    results, hosts = go({"a": (0, ""), "bad": (0, ""), "skips": (4, ""), "d": (0, "")}, splats=("bad", "skips"))
    assert [result.outcome for result in results] == [
        KtapOutcome.PASS,
        KtapOutcome.FAIL,
        KtapOutcome.FAIL,
        KtapOutcome.PASS,
    ]
    assert "BUG: bad thing in bad" in results[1].reason
    assert results[0].splats == ()  # the warning was there before
    assert len(hosts) == 3


def test_a_host_that_does_not_come_up_ends_the_run() -> None:
    def start() -> Host:
        raise MachineError("no boot")

    with pytest.raises(MachineError, match="no boot"):
        run(start, [Selftest("kvm", "a")], lambda _: None)


def test_each_test_has_its_deadline_on_the_host_and_the_host_a_longer_one() -> None:
    _, (host,) = go({"a": (0, "")})
    ((argv, seconds),) = host.ran
    assert argv[:2] == ["sh", "-c"]
    assert argv[3:] == ["sh", f"{FOLDER}/kvm", "--kill-after=5", "10", "./a"]
    assert seconds > 10 + 5


def test_the_shell_hands_on_status_and_output_in_order(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415  here alone

    (tmp_path / "test").write_text("#!/bin/sh\necho one; echo two >&2; [ $1 = die ] && kill -SEGV $$; exit $1\n")
    (tmp_path / "test").chmod(0o755)

    def shell(*arguments: str) -> tuple[int, str]:
        argv = ["sh", "-c", module._RUN, "sh", str(tmp_path), "--kill-after=5", "10", "./test", *arguments]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stdout

    assert shell("4") == (4, "one\ntwo\n")
    status, output = shell("die")
    assert status == 139
    assert output.startswith("one\ntwo\n")  # the shell may have a word about it too


def test_a_host_that_cannot_be_prepared_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Unfit(Host):
        def __init__(self, *_: object) -> None:
            super().__init__(lambda _: (0, ""))
            hosts.append(self)

        def boot_alone(self) -> None:
            pass

        def run(self, argv: Sequence[str], *, seconds: float) -> Completed:  # noqa: ARG002
            return Completed(tuple(argv), 32, b"", b"mount: no such device")

    hosts: list[Unfit] = []
    monkeypatch.setattr(module, "EmulatedHost", Unfit)
    with pytest.raises(ChannelError, match="no such device"):
        module.boot(spec(), tmp_path)
    assert hosts[0].closed


def test_the_hosts_have_the_disk_third_and_memory_enough() -> None:
    shaped = host_spec(spec(), Path("/cache/selftests.erofs"))
    drives = [word for word in shaped.argv() if word.startswith("file=")]
    assert "selftests.erofs" in drives[2]
    assert "readonly=on" in drives[2]
    assert shaped.memory == MEMORY
    assert replace(shaped, disks=(), memory=spec().memory) == spec()


# --- which tests


def test_gup_test_has_all_variants_of_its_script_and_each_name_is_there_once() -> None:
    result = catalogue(["x86_64/state_test", "steal_time"])
    names = [test.name for test in result]
    assert len(set(names)) == len(names)
    assert sum(test.program == "gup_test" for test in result) == 3 * 5 * 2 * 2 * 3 + 1
    assert {test.program for test in result if test.suite == "mm"} == set(MM_PROGRAMS)
    assert names[-2:] == ["kvm/x86_64/state_test", "kvm/steal_time"]


def test_tests_can_be_chosen_and_given_another_deadline() -> None:
    chosen = catalogue(["steal_time", "rseq_test"], only="steal", deadline=7)
    assert [(test.name, test.deadline) for test in chosen] == [("kvm/steal_time", 7)]
    assert {test.deadline for test in catalogue([])} == {DEADLINE}
    (slow,) = catalogue(["set_memory_region_test"], only="kvm")
    assert slow.deadline > DEADLINE

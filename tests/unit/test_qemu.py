# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that dies is noticed at once, with the reason. In QEMU's place runs fake_qemu.py."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import ChannelError, DeadlineError, MachineLostError, SetupError
from common.waiting import Deadline, poll_until
from host_setup.channels import vitals as vitals_module
from host_setup.channels.vitals import Vitals
from host_setup.emulated import emulator
from host_setup.emulated import qemu as module
from host_setup.emulated.qemu import Qemu
from host_setup.hosts import kernel_log

AT_ONCE = 60.0  # seconds, on a busy machine
FAKE = Path(__file__).with_name("fake_qemu.py")
BOOT = ["[    0.0] Linux version 6.12.117", "[    1.0] Run /sbin/init as init process"]
OOPS = [
    "[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000010",
    "[    9.1] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI",
    "[    9.1] RIP: 0010:protect_page+0x12/0x80",
    "[    9.1] Call Trace:",
    "[    9.1]  kvm_vcpu_ioctl+0x1a3/0x5c0",
    "[    9.1] ---[ end trace 0000000000000000 ]---",
]
PANIC = "[    9.2] Kernel panic - not syncing: Fatal exception"

Start = Callable[..., Qemu]


@pytest.fixture
def vitals() -> Vitals:
    return Vitals("the host")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is: a broken QMP is told as the death that it comes from."""
    monkeypatch.setattr(vitals_module, "SETTLE", AT_ONCE)


@pytest.fixture
def beats() -> list[str]:
    return []


@pytest.fixture
def start(tmp_path: Path, vitals: Vitals, beats: list[str]) -> Iterator[Start]:
    """Starts a fake QEMU that follows a script; one test's first has the test's vitals."""
    started: list[Qemu] = []

    def run(**script: Any) -> Qemu:
        argv = [sys.executable, "-S", str(FAKE), json.dumps(script)]
        mine = vitals if vitals.reason is None else Vitals("another host")
        started.append(Qemu(argv, vitals=mine, folder=tmp_path / f"host-{len(started)}", on_beat=beats.append))
        return started[-1]

    yield run
    for qemu in started:
        qemu.qmp.close()
        qemu.kill()


def reason(vitals: Vitals) -> str:
    return poll_until(lambda: vitals.reason, Deadline(AT_ONCE), "the death to be noticed")


def test_running_machine_answers_beats_and_speaks(
    start: Start, vitals: Vitals, beats: list[str], tmp_path: Path
) -> None:
    qemu = start(console=BOOT, beats=["host=1 guest=-1", "host=2 guest=1"])
    qemu.wait_status("running", seconds=AT_ONCE)
    poll_until(lambda: len(beats) == 2, Deadline(AT_ONCE), "heartbeats")
    assert [line.strip() for line in beats] == ["host=1 guest=-1", "host=2 guest=1"]
    poll_until(lambda: "init process" in qemu.console(), Deadline(AT_ONCE), "the console")
    assert (tmp_path / "host-0" / "console.log").read_bytes() == "".join(f"{line}\r\n" for line in BOOT).encode()
    assert "query-status" in (tmp_path / "host-0" / "qmp.jsonl").read_text()
    assert qemu.tail().splitlines() == BOOT
    vitals.check()


def test_oops_of_a_machine_that_lingers_is_noticed_with_its_trace(
    start: Start, vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator, "AFTER_OOPS", 0.3)
    start(console=[*BOOT, *OOPS])
    output = reason(vitals)
    assert output.splitlines()[0] == f"kernel died: {OOPS[0]}"
    assert all(line in output for line in OOPS)
    with pytest.raises(MachineLostError, match="kvm_vcpu_ioctl"):
        vitals.check()


def test_panic_of_a_machine_that_exits_is_noticed_without_waiting(
    start: Start, vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator, "AFTER_OOPS", 600.0)
    with pytest.raises(MachineLostError):  # while it waits for the greeting, or after it
        start(console=[*BOOT, *OOPS, PANIC], then="exit 0").wait_status("never", seconds=AT_ONCE)
    output = reason(vitals)
    assert output.splitlines()[0] == f"kernel died: {OOPS[0]}"
    assert all(line in output for line in [*OOPS, PANIC])


def test_first_sign_of_death_is_told_however_much_follows(
    start: Start, vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator, "AFTER_OOPS", 600.0)
    after = [f"[    9.3]  line {n} of another processor" for n in range(500)]
    with pytest.raises(MachineLostError):
        start(console=[*OOPS, *after], then="exit 0").wait_status("never", seconds=AT_ONCE)
    assert reason(vitals).startswith(f"kernel died: {OOPS[0]}\n")


@pytest.mark.parametrize(("then", "how"), [("exit 1", "status 1"), ("signal 9", "signal 9"), ("exit 0", "status 0")])
def test_end_of_qemu_is_told_with_its_status_and_what_it_said(
    start: Start, vitals: Vitals, then: str, how: str
) -> None:
    message = "qemu-system-x86_64: -drive file=root: Could not open 'root': No such file or directory"
    with pytest.raises(MachineLostError):
        start(stderr=f"{message}\n", console=BOOT, then=then, qmp=False)
    assert reason(vitals).splitlines() == [f"its QEMU ended with {how}", message, *BOOT]


def test_qemu_that_never_greets_meets_the_deadline_and_is_ended(
    start: Start, vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.Qmp
    monkeypatch.setattr(module, "Qmp", lambda *args, **named: real(*args, **{**named, "seconds": 0.3}))
    with pytest.raises(DeadlineError):
        start(qmp=False)
    assert vitals.reason == "it was ended by the run"


def test_warning_is_no_death(start: Start, vitals: Vitals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "AFTER_OOPS", 0.0)
    qemu = start(console=["[    9.1] WARNING: CPU: 1 PID: 7 at mm/gup.c:1", "[    9.1] Call Trace:", "end"])
    poll_until(lambda: "end" in qemu.console(), Deadline(AT_ONCE), "the console")
    vitals.check()


def test_killed_machine_is_gone_and_was_ended_by_the_run(start: Start, vitals: Vitals) -> None:
    qemu = start(console=BOOT)
    pid = qemu.pid
    qemu.kill()
    assert not Path(f"/proc/{pid}").exists()
    assert vitals.reason == "it was ended by the run"
    qemu.kill()


def test_console_is_whole_once_the_machine_is_ended(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    real, behind = kernel_log.fatal, threading.Event()

    def slow(line: str) -> bool:
        behind.set()
        time.sleep(0.002)
        return real(line)

    monkeypatch.setattr(kernel_log, "fatal", slow)
    qemu = start(console=["x"] * 200)
    assert behind.wait(AT_ONCE)
    poll_until(lambda: qemu.qmp.execute("query-status"), Deadline(AT_ONCE), "it to have said all")
    qemu.kill()  # while much of that stands in a pipe, unread
    assert qemu.console().count("x") == 200


def test_console_of_strange_bytes_and_without_an_end_of_line_is_kept(start: Start, vitals: Vitals) -> None:
    with pytest.raises(MachineLostError):
        start(console=["\x00\x1b[2J\xff", "Kernel panic - not syncing: \udcff"], then="exit 0", end="").wait_status(
            "never", seconds=AT_ONCE
        )
    assert reason(vitals).startswith("kernel died: ")
    assert "Kernel panic - not syncing" in reason(vitals)


def test_wait_that_runs_out_tells_status_registers_and_console(start: Start) -> None:
    qemu = start(console=BOOT)
    poll_until(lambda: "init process" in qemu.console(), Deadline(AT_ONCE), "the console")
    with pytest.raises(DeadlineError) as caught:
        qemu.wait_status("paused", seconds=0.1)
    message = caught.value.message
    assert "the host to be 'paused'" in message
    assert "status running; CPU#0 RIP=ffffffff81000000" in message
    assert BOOT[1] in message


def test_explanation_does_not_replace_the_failure(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals_module, "SETTLE", 0.0)
    qemu = start(console=BOOT)
    poll_until(lambda: "init process" in qemu.console(), Deadline(AT_ONCE), "the console")
    qemu.qmp.close()
    output = qemu.explain()
    assert output.startswith("QMP does not answer")
    assert BOOT[1] in output


def test_missing_qemu_is_a_matter_of_set_up(tmp_path: Path, vitals: Vitals) -> None:
    with pytest.raises(SetupError, match="no-such-qemu is not installed"):
        Qemu(["no-such-qemu"], vitals=vitals, folder=tmp_path, on_beat=print)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_open(start: Start) -> None:
    first = start(console=BOOT)
    first.qmp.close()
    first.kill()
    before = descriptors()
    for _ in range(3):
        qemu = start(console=BOOT)
        qemu.qmp.close()
        qemu.kill()
    poll_until(lambda: descriptors() <= before, Deadline(AT_ONCE), "descriptors to be closed")


def test_channel_of_an_ended_machine_is_no_use(start: Start) -> None:
    qemu = start(console=BOOT)
    qemu.kill()
    with pytest.raises((MachineLostError, ChannelError)):
        qemu.qmp.execute("query-status")


def test_time_that_it_waits_for_a_processor_only_grows_and_is_told_after_its_end(start: Start) -> None:
    qemu = start()
    before = qemu.seconds_without_cpu()
    assert before >= 0.0
    qemu.kill()
    assert qemu.seconds_without_cpu() >= before

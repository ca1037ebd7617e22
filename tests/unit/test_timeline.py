# SPDX-License-Identifier: GPL-2.0-or-later
"""One page of what happened when, and how it gets into the evidence of a claim that does not hold."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import ChannelError, HarmError
from host_setup.hosts import timeline as lines_of
from host_setup.hosts.pool import EXPLAINED, HostPool
from host_setup.hosts.timeline import Event, console, timeline
from signoff import contract_files
from signoff.contract import Mode
from signoff.evidence import Evidence
from signoff.observation import Check
from signoff.trial import Trial
from signoff.verdict import Status
from tests.unit.test_oops import NULL_POINTER

T = 1_795_943_000.0


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder, with a host that dies of a NULL pointer two seconds after T."""
    host = tmp_path / "hosts/host-1"
    host.mkdir(parents=True)
    lines = ["[   10.0] before\r\n", *(f"{line}\r\n" for line in NULL_POINTER.splitlines())]
    times = [T - 5, *(T + 2 + number / 1000 for number in range(len(lines) - 1))]
    (host / "console.log").write_text("".join(lines))
    (host / "console.times").write_text(
        "".join(f"{at:.3f} {len(line)}\n" for at, line in zip(times, lines, strict=True))
    )
    commands = [
        {
            "time": T + 1,
            "execute": "human-monitor-command",
            "arguments": {"command-line": "info registers"},
            "reply": "",
        },
        {"time": T + 3, "execute": "stop", "arguments": {}, "reply": {"error": "it is gone"}},
        {"time": T + 99, "execute": "quit", "arguments": {}, "reply": {}},
    ]
    (host / "qmp.jsonl").write_text("".join(f"{json.dumps(command)}\n" for command in commands) + '{"time": 1')
    planted = {"time": T + 0.5, "event": "planted", "page": "user", "state": "private", "gpa": "0x4000"}
    journal = [{"time": T, "event": "begin"}, {**planted, "guest": "protected", "host": "host-1"}]
    (tmp_path / "journal.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in journal))
    return tmp_path


def test_all_that_happened_is_in_one_order(run: Path) -> None:
    notes = [
        Event(T, "harness", "the test begins"),
        Event(T + 1.5, "probe", "subject: read"),
        Event(T + 50, "harness", "x"),
    ]
    text = timeline(run, T, T + 10, notes, [("the host", "status running\nRIP=1")])
    head, _, rest = text.partition("\n\n")
    assert head.startswith("host-1: NULL pointer dereference, read in kvm_mem_protect < ")
    body, _, last = rest.partition("\n\n")
    lines = body.splitlines()
    words = ["the test begins", "planted a canary: user page, private, at 0x4000 in protected, on host-1"]
    words += ["human-monitor-command info registers", "subject: read", "BUG: kernel NULL pointer"]
    places = [next(at for at, line in enumerate(lines) if word in line) for word in words]
    assert places == [0, 1, 2, 3, 4]
    assert lines[-1].endswith("stop: refused: it is gone")
    assert "before" not in body and "quit" not in body and " x" not in body
    assert lines[0].split()[1:3] == ["+0.000", "harness"]
    assert last == "the host:\n  status running\n  RIP=1\n"


def test_a_console_without_times_and_a_run_without_hosts_are_no_error(run: Path, tmp_path: Path) -> None:
    (run / "hosts/host-1/console.times").unlink()
    assert "NULL pointer" not in timeline(run, T, T + 10, [])
    assert timeline(tmp_path / "nothing", T, T + 10, []) == ""


def test_a_line_keeps_its_time_though_a_kernel_prints_what_it_likes(tmp_path: Path) -> None:
    lines = [b"one\n", b"\xff\x1b[2J\x00two\r\n", b"\n", b"half"]
    (tmp_path / "console.log").write_bytes(b"".join(lines))
    (tmp_path / "console.times").write_text("".join(f"{T + at:.3f} {len(line)}\n" for at, line in enumerate(lines)))
    assert [event.time - T for event in console(tmp_path)] == [0, 1, 2, 3]
    run = tmp_path / "run/hosts"
    run.mkdir(parents=True)
    tmp_path.joinpath("console.log").rename(run / "console.log")
    tmp_path.joinpath("console.times").rename(run / "console.times")
    message = timeline(tmp_path / "run", T - 1, T + 10, [], [("the host", "\x1b[2J")])
    assert "\x1b" not in message and "\x00" not in message


def test_of_very_many_lines_the_middle_is_left_out(tmp_path: Path) -> None:
    message = timeline(tmp_path, 0, 10**6, [Event(float(at), "probe", f"event {at}") for at in range(5000)])
    lines = message.splitlines()
    assert len(lines) == lines_of.MOST + 1
    assert lines[0].endswith("event 0") and lines[-1].endswith("event 4999")
    assert "... 3000 lines are left out ..." in message


# --- in a claim's evidence --------------------------------------------------------------------------------------------

CONTRACT = """\
version = 2
kind = "health"
class = "health"

[[claim]]
id = "guest_lives"
source = "the guest"
reason = "It does not die."
"""


@pytest.fixture
def own_trial(tmp_path: Path) -> Trial:
    (tmp_path / "contract.toml").write_text(CONTRACT)
    evidence = Evidence.create(tmp_path / "reports", "run", tmp_path / "contract.toml")
    contract = contract_files.load(tmp_path / "contract.toml")
    return Trial(contract.claims[0], Mode.PROTECTED, "It lives.", "pytest -k x", evidence)


def folder(own_trial: Trial) -> Path:
    return own_trial._evidence.folder / "evidence/guest_lives"


def test_a_claim_that_does_not_hold_keeps_its_timeline_and_the_oops_with_its_fingerprint(own_trial: Trial) -> None:
    own_trial.note_error("call", HarmError(f"the host: kernel died\n{NULL_POINTER}"), "")
    own_trial.add_seconds(1.5, "call")
    records: list[Any] = []

    def record_words(begun: float, ended: float, notes: Any) -> str:
        records.extend((begun <= ended, [words for _, _, words in notes]))
        return "what happened\n"

    own_trial.explain(record_words, lambda text: text.replace("kvm_mem_protect", "KVM_MEM_PROTECT"))
    result = own_trial.result()
    assert result.status is Status.FAIL
    assert {"evidence/guest_lives/timeline.txt", "evidence/guest_lives/oops.txt"} <= {*result.evidence}
    assert (folder(own_trial) / "timeline.txt").read_text() == "what happened\n"
    oops = (folder(own_trial) / "oops.txt").read_text()
    assert oops.startswith("NULL pointer dereference, read in kvm_mem_protect < ")
    assert "KVM_MEM_PROTECT" in oops
    assert records[0] and any(words.startswith("harm: the host") for words in records[1])
    assert "call has ended after 1.500 s" in records[1]


def test_a_claim_that_holds_needs_no_explanation(own_trial: Trial) -> None:
    own_trial.health([Check("alive", "yes", "yes")])
    own_trial.explain(lambda *_: pytest.fail("asked"), lambda _: pytest.fail("asked"))
    assert not (folder(own_trial) / "timeline.txt").exists()
    assert own_trial.result().status is Status.PASS


def test_what_cannot_be_explained_changes_no_result(own_trial: Trial) -> None:
    own_trial.note_error("call", HarmError(f"the host: kernel died\n{NULL_POINTER}"), "")

    def fail(*_: object) -> str:
        raise ChannelError("no answer")

    own_trial.explain(fail, fail)
    assert own_trial.result().status is Status.FAIL
    assert "ChannelError" in (folder(own_trial) / "not-explained.txt").read_text()
    assert not (folder(own_trial) / "timeline.txt").exists()


class Vitals:
    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name, self.reason = name, reason


class Machine:
    """A host, or a guest of it; its own QEMU, with its QMP, and its SSH."""

    def __init__(self, reason: str | None = None, guests: tuple[Any, ...] = (), *, asleep: bool = False) -> None:
        self.vitals, self.all_guests, self.qemu = Vitals("guest plain", reason), guests, self
        self.qmp = self.ssh = self
        self.stopped = asleep
        self.stops = SimpleNamespace(runs=asleep)
        self.asked: list[str] = []

    def explain(self) -> str:
        return "status running"

    def console_tail(self) -> str:
        if self.vitals.reason:
            raise ChannelError("no answer")
        return "login:"

    def execute(self, command: str, *, seconds: float) -> Any:
        assert seconds < 10
        self.asked.append(command)
        return {"status": "paused"}

    def monitor(self, line: str, *, seconds: float) -> str:
        assert seconds < 10
        self.asked.append(line)
        return "CPU#0\nRAX=0"

    def run(self, argv: list[str], *, seconds: float) -> Any:
        """Run it here, with a process that waits as blocked ones do in the place of all."""
        assert seconds < 10
        self.asked.append("ssh")
        if "dmesg" in argv[-1]:
            return SimpleNamespace(text=LOG)
        folder = self.proc
        text = argv[-1].replace("/proc/", f"{folder}/")
        done = subprocess.run([*argv[:-1], text], capture_output=True, text=True, check=False)
        return SimpleNamespace(text=done.stdout.rstrip("\n"))  # as Completed has it

    proc: Path


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tasks: one that runs, one that is blocked, one that is gone before it is read."""
    for pid, name, state in ((1, "init", "S"), (7, "a) D (b", "D"), (8, "D) x", "R")):
        task = tmp_path / f"proc/{pid}/task/{pid}"
        task.mkdir(parents=True)
        (task / "stat").write_text(f"{pid} ({name}) {state} 0 1 1\n")
        (task / "stack").write_text(f"[<0>] wait_{pid}+0x1/0x2\n")
    (tmp_path / "proc/9/task/9").mkdir(parents=True)
    monkeypatch.setattr(Machine, "proc", tmp_path / "proc", raising=False)
    return tmp_path / "proc"


BLOCKED = "7 (a) D (b)\n[<0>] wait_7+0x1/0x2"
LOG = "traps: qemu-system-x86[7] trap invalid opcode"


def test_the_pool_tells_what_its_machines_do(proc: Path) -> None:
    assert proc.is_dir()
    pool = HostPool(None)
    assert pool.last_words() == []
    pool._shared = Machine(guests=(Machine(), Machine("gone")))  # type: ignore[assignment]
    assert pool.last_words() == [
        ("the host", "status running"),
        ("registers of the host", "CPU#0\nRAX=0"),
        ("last lines of the host's kernel", LOG),
        ("blocked tasks of the host", BLOCKED),
        *(
            ("last lines of guest plain", "login:"),
            ("QMP status of guest plain", "paused"),
            ("registers of guest plain, as QEMU has them", "CPU#0\nRAX=0"),
            ("blocked tasks of guest plain", BLOCKED),
        ),
        *(
            ("last lines of guest plain", "no answer: channel: no answer"),
            ("QMP status of guest plain", "paused"),
            ("registers of guest plain, as QEMU has them", "CPU#0\nRAX=0"),
        ),
    ]
    for pid in ("7", "8"):
        shutil.rmtree(proc / pid)
    assert dict(pool.last_words())["blocked tasks of the host"] == "none"


def test_of_a_host_that_is_lost_the_registers_are_told_and_of_one_that_sleeps_nothing_is_asked(proc: Path) -> None:
    assert proc.is_dir()
    pool = HostPool(None)
    pool._shared = Machine("kernel died", guests=(Machine(),))  # type: ignore[assignment]
    assert pool.last_words() == [
        ("the host is lost", "kernel died"),
        ("the host", "status running"),
        ("registers of the host", "CPU#0\nRAX=0"),
    ]
    pool._shared = Machine(asleep=True, guests=(Machine(),))  # type: ignore[assignment]
    assert [title for title, _ in pool.last_words()] == ["the host", "registers of the host"]
    pool._shared = Machine(guests=(Machine(asleep=True),))  # type: ignore[assignment]
    assert not [title for title, _ in pool.last_words() if "plain" in title]


def test_where_each_attack_fails_the_state_is_told_for_the_first_of_them_and_for_each_that_kills(proc: Path) -> None:
    assert proc.is_dir()
    pool = HostPool(None)
    pool._shared = Machine(guests=(Machine(),))  # type: ignore[assignment]
    lines = [len(pool.last_words()) for _ in range(EXPLAINED + 1)]
    assert lines == [*[8] * EXPLAINED, 3]
    pool._shared = Machine("kernel died")  # type: ignore[assignment]
    assert len(pool.last_words()) == 3


def test_a_host_that_one_probe_had_is_told_of_though_it_has_ended(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proc.is_dir()
    monkeypatch.setattr("host_setup.hosts.pool.harm_to", lambda *_, **__: [])
    lent: Any = Machine(guests=(Machine(),))
    lent.close, lent.kernel_log = lambda: shutil.rmtree(tmp_path / "proc"), lambda: ""
    pool = HostPool(SimpleNamespace(start=lambda: lent, one_at_a_time=False))
    begun = time.time()
    with pytest.raises(ChannelError), pool.fresh():
        raise ChannelError("it broke")
    pool._shared = Machine()  # type: ignore[assignment]
    titles = dict(pool.last_words(begun))
    assert titles["blocked tasks of the host, as the claim's own host ended"] == BLOCKED
    assert titles["QMP status of guest plain, as the claim's own host ended"] == "paused"
    assert "the host" in titles
    assert "QMP status of guest plain, as the claim's own host ended" not in dict(pool.last_words(begun)), "once"


def test_a_host_of_an_earlier_probe_is_no_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_setup.hosts.pool.harm_to", lambda *_, **__: [])
    lent: Any = Machine("kernel died")
    lent.close = lent.kernel_log = lambda: ""
    pool = HostPool(SimpleNamespace(start=lambda: lent, one_at_a_time=False))
    with pytest.raises(ChannelError), pool.fresh():
        raise ChannelError("it broke")
    assert pool.last_words(time.time() + 1) == []


def test_a_claim_that_does_not_hold_has_the_command_that_repeats_it(own_trial: Trial) -> None:
    own_trial.note_error("call", ChannelError("it broke"), "")
    own_trial.explain(lambda *_: "", lambda text: text)
    assert (folder(own_trial) / "repeat.txt").read_text() == f"{own_trial.result().command}\n"
    assert own_trial.result().command

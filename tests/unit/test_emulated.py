# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated host without its QEMU: what it is started with, how its death is noticed, how it is saved and ended."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from common.errors import DeadlineError, HarmError, MachineError, MachineLostError
from common.waiting import Deadline, Stopwatch, poll_until
from guest_images.keys import Keys
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup.channels.vitals import Vitals
from host_setup.emulated import host as module
from host_setup.emulated import local_host
from host_setup.emulated.host import EmulatedHost, EmulatedSpec
from host_setup.hosts import running
from host_setup.hosts.guest_spec import PLAIN, PROTECTED, GuestSpec
from host_setup.hosts.running import Beats
from tests.unit.machine_samples import FakeSsh, spec
from tests_e2e.support.outside import standing_still

AT_ONCE = 60.0  # seconds, on a busy machine
USERNET = """\
Hub -1 (net):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[ESTABLISHED]   14       127.0.0.1 39999       10.0.2.15  2022     0     0\r
  TCP[HOST_FORWARD]  12       127.0.0.1 40213       10.0.2.15  2022     0     0\r
  TCP[HOST_FORWARD]  13       127.0.0.1 40214       10.0.2.15    22     0     0\r
  UDP[236 sec]       15       10.0.2.15    22        10.0.2.3    53     0     0"""


class FakeQmp:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.migration = ["setup", "active", "completed"]
        self.given: list[bytes] = []
        self.stops = Stopwatch()

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        if command == "stop":
            self.stops.begin()
        elif command == "cont":
            self.stops.end()
        self.done.append(" ".join([command, *(f"{k}={v}" for k, v in (arguments or {}).items())]))
        return {"status": self.migration.pop(0)} if command == "query-migrate" else {}

    def monitor(self, line: str) -> str:
        assert line == "info usernet"
        return USERNET

    def send_fd(self, name: str, fd: int) -> None:
        self.done.append(f"getfd {name}")
        file = Path(f"/proc/self/fd/{fd}")
        self.given.append(file.read_bytes())
        if not self.given[-1]:
            file.write_bytes(b"the state")

    def close(self) -> None:
        self.done.append("close")


class FakeQemu:
    """What EmulatedHost uses of a Qemu."""

    made: ClassVar[list[FakeQemu]] = []
    wrong: BaseException | None = None

    def __init__(self, argv: list[str], *, vitals: Vitals, **_: Any) -> None:
        self.argv, self.vitals, self.killed = argv, vitals, 0
        self.qmp = FakeQmp()
        self.made.append(self)

    def wait_status(self, expected: str, *, seconds: float) -> None:
        assert seconds > 0
        self.qmp.done.append(f"wait {expected}")
        if self.wrong is not None:
            raise self.wrong

    def console(self) -> str:
        return "Linux version"

    def explain(self) -> str:
        return "status running"

    def seconds_without_cpu(self) -> float:
        return 0.0

    def stop(self) -> None:
        self.qmp.execute("stop")

    def go_on(self) -> None:
        self.qmp.execute("cont")

    def seconds_stopped(self) -> float:
        return self.qmp.stops.seconds()

    def kill(self) -> None:
        self.vitals.note_loss("it was ended by the run")
        self.killed += 1


@pytest.fixture(autouse=True)
def qemu(monkeypatch: pytest.MonkeyPatch) -> type[FakeQemu]:
    monkeypatch.setattr(FakeQemu, "made", [])
    monkeypatch.setattr(module, "Qemu", FakeQemu)
    return FakeQemu


# --- what it is started with


def test_disks_are_read_only_and_ports_are_chosen_by_the_system() -> None:
    words = spec().argv()
    drives = [word for word in words if word.startswith("file=")]
    assert len(drives) == 2
    assert all("readonly=on" in drive for drive in drives)
    (network,) = [word for word in words if word.startswith("user,")]
    forwards = [word for word in network.split(",") if word.startswith("hostfwd=")]
    assert forwards
    assert all(word.startswith("hostfwd=tcp:127.0.0.1:0-:") for word in forwards)


CHANGES: dict[str, Callable[[EmulatedSpec], EmulatedSpec]] = {
    "kernel": lambda s: replace(s, kernel_key="other"),
    "root": lambda s: replace(s, rootfs=RootFs(s.rootfs.folder, "other")),
    "payload": lambda s: replace(s, payload=Payload(s.payload.image, "other")),
    "memory": lambda s: replace(s, memory=s.memory + 1),
    "cpus": lambda s: replace(s, cpus=s.cpus + 1),
    "command line": lambda s: replace(s, command_line=s.command_line + " quiet"),
    "guest memory": lambda s: replace(s, guests=(GuestSpec(memory=193),)),
    "guest name": lambda s: replace(s, guests=(GuestSpec(name="other"),)),
    "guest that opts in": lambda s: replace(s, guests=(GuestSpec(opts_in=True),)),
    "another guest": lambda s: replace(s, guests=(PROTECTED, *s.guests)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_saved_state_of_another_host_has_another_key(change: Callable[[EmulatedSpec], EmulatedSpec]) -> None:
    assert spec().key == spec().key
    assert change(spec()).key != spec().key


def test_measured_rate_of_the_clock_is_told_and_is_no_part_of_the_key(tmp_path: Path) -> None:
    measured = replace(spec(), tsc_khz=2445431)
    assert measured.key == spec().key
    EmulatedHost(measured, tmp_path)
    (qemu,) = FakeQemu.made
    assert qemu.argv[qemu.argv.index("-append") + 1].endswith(" tsc_early_khz=2445431")
    assert "tsc_early_khz" not in spec().cmdline


def test_kernel_does_not_count_ticks_by_a_clock_that_goes_on_while_a_busy_computer_does_not_tick() -> None:
    assert "no_timer_check" in spec().cmdline.split()


def test_qemu_is_the_one_of_the_root_file_system() -> None:
    here = spec()
    there = replace(here, rootfs=RootFs(here.rootfs.folder / "elsewhere", here.rootfs.key))
    assert here.argv()[0] == str(here.rootfs.qemu) != there.argv()[0]


# --- its life


def test_restored_host_gets_the_state_and_runs_once_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"saved")
    host = EmulatedHost(spec(), tmp_path, memory=tmp_path / "memory", state=tmp_path / "state")
    (qemu,) = FakeQemu.made
    assert qemu.argv[-2:] == ["-incoming", "defer"]
    assert qemu.qmp.given == [b"saved"]
    assert [line.partition(" ")[0] for line in qemu.qmp.done] == [
        *("migrate-set-capabilities", "migrate-set-parameters", "getfd", "migrate-incoming", "wait", "cont")
    ]
    assert host.started == "restored"
    host.close()


def test_host_sleeps_until_it_or_a_guest_of_it_is_used(tmp_path: Path) -> None:
    host = EmulatedHost(spec(), tmp_path)
    (qemu,) = FakeQemu.made
    for vitals in (host.vitals, *host.guest_vitals.values()):
        qemu.qmp.done.clear()
        host.sleep()
        host.sleep()
        assert qemu.qmp.done == ["stop"]
        vitals.check()
        vitals.check()
        assert qemu.qmp.done == ["stop", "cont"]
    host.close()
    qemu.qmp.done.clear()
    host.sleep()
    assert qemu.qmp.done == []


def test_host_that_did_not_wake_is_woken_by_its_next_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = EmulatedHost(spec(), tmp_path)
    (qemu,) = FakeQemu.made
    host.sleep()

    def refuse(command: str, _: object = None) -> None:
        raise DeadlineError(f"waited 10 s for QMP {command}")

    with monkeypatch.context() as patched, pytest.raises(DeadlineError):
        patched.setattr(qemu.qmp, "execute", refuse)
        host.vitals.check()
    qemu.qmp.done.clear()
    host.vitals.check()
    host.vitals.check()
    assert qemu.qmp.done == ["cont"]
    host.close()


def test_time_asleep_is_no_time_without_a_heartbeat(tmp_path: Path) -> None:
    host = EmulatedHost(spec(), tmp_path)
    before = host._beats.uncounted()
    host.sleep()
    time.sleep(0.05)
    assert host._beats.uncounted() - before >= 0.05
    host.vitals.check()
    slept = host._beats.uncounted()
    time.sleep(0.05)
    assert host._beats.uncounted() == slept
    host.close()


def test_time_in_which_a_claim_has_stopped_the_host_is_none_without_a_heartbeat(tmp_path: Path) -> None:
    host = EmulatedHost(spec(), tmp_path)
    before = host._beats.uncounted()
    with standing_still(host):
        time.sleep(0.05)
    assert host._beats.uncounted() - before >= 0.05
    host.close()


def test_memory_is_in_the_file_of_a_booted_host_and_stays_as_it_was_when_one_is_restored(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"saved")
    EmulatedHost(spec(), tmp_path).close()
    EmulatedHost(spec(), tmp_path, memory=tmp_path / "memory").close()
    EmulatedHost(spec(), tmp_path, memory=tmp_path / "memory", state=tmp_path / "state").close()
    backends = [qemu.argv[qemu.argv.index("-object") + 1] for qemu in FakeQemu.made]
    file = f"memory-backend-file,mem-path={tmp_path}/memory,share"
    assert [backend.partition(",id=")[0] for backend in backends] == ["memory-backend-ram", f"{file}=on", f"{file}=off"]
    assert len({backend.partition(",id=")[2] for backend in backends}) == 1


def test_saved_and_restored_host_agree_on_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"saved")
    saved = EmulatedHost(spec(), tmp_path, memory=tmp_path / "memory")
    saved.save(tmp_path / "new")
    restored = EmulatedHost(spec(), tmp_path, memory=tmp_path / "memory", state=tmp_path / "state")
    (ours,), (theirs,) = (
        [line for line in qemu.qmp.done if line.startswith("migrate-set-capabilities")] for qemu in FakeQemu.made
    )
    assert ours == theirs
    assert "x-ignore-shared" in ours
    saved.close()
    restored.close()


def test_host_is_at_rest_when_all_have_gone_on_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_host, "RESTORE", 0.2)
    host = EmulatedHost(spec(), tmp_path)
    host._beats.take_line("host=1 plain=1")
    threading.Thread(target=lambda: [host._beats.take_line(f"host={n} plain=1") for n in range(2, 9)]).start()
    with pytest.raises(DeadlineError, match="to become idle"):
        host.rest()  # the guest stands still
    monkeypatch.setattr(local_host, "RESTORE", AT_ONCE)
    beats = itertools.count(10)
    monkeypatch.setattr(host, "_check_all", lambda: host._beats.take_line(f"host={next(beats)} plain={next(beats)}"))
    host.rest()
    host.close()


@pytest.mark.parametrize("wrong", [DeadlineError("slow"), MachineError("refused"), KeyboardInterrupt()])
def test_host_that_cannot_be_restored_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: BaseException
) -> None:
    (tmp_path / "state").write_bytes(b"saved")
    monkeypatch.setattr(FakeQemu, "wrong", wrong)
    with pytest.raises(type(wrong)):
        EmulatedHost(spec(), tmp_path, memory=tmp_path / "memory", state=tmp_path / "state")
    assert FakeQemu.made[0].killed == 1


def test_loss_of_the_host_is_its_guests_and_not_the_reverse(tmp_path: Path) -> None:
    first, second = (EmulatedHost(spec(guests=(PROTECTED, PLAIN)), tmp_path) for _ in range(2))
    assert (first.lost, second.lost) == (None, None)
    first.vitals.note_loss("panic")
    assert {vitals.reason for vitals in first.guest_vitals.values()} == {"its host is lost: panic"}
    second.guest_vitals["plain"].note_loss("its QEMU ended")
    assert (second.vitals.reason, second.guest_vitals["protected"].reason) == (None, None)
    assert (first.lost, second.lost) == ("panic", "guest plain: its QEMU ended")
    second.close()


@pytest.mark.parametrize(("guests", "under_test"), [((PLAIN,), "plain"), ((PROTECTED, PLAIN), "protected")])
def test_guest_under_test_is_the_first_and_the_plain_one_is_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guests: tuple[GuestSpec, ...], under_test: str
) -> None:
    monkeypatch.setattr(Keys, "public", lambda *_: "ssh-ed25519 AAAA")
    monkeypatch.setattr(EmulatedHost, "_forward", lambda _, port: port + 40000)
    host = EmulatedHost(spec(guests=guests), tmp_path)
    assert host.guest.spec.name == under_test
    assert host.guest.vitals is host.guest_vitals[under_test]
    assert (host.plain_guest and host.plain_guest.spec) == (PLAIN if len(guests) > 1 else None)
    assert [guest.spec for guest in host.guests] == list(guests)
    assert all(f"-:{guest.ssh_port}" in " ".join(host.spec.argv()) for guest in guests)
    host.close()


class BootingGuest:
    """A guest that is started, watched and logged in to; its heart beats when it is started."""

    def __init__(self, spec: GuestSpec, host: EmulatedHost, done: list[str], *, beats: bool = True) -> None:
        self.spec, self.host, self.done, self.beats = self, host, done, beats
        self.name, self.qmp_port = spec.name, spec.qmp_port
        self.vitals = host.guest_vitals[spec.name]

    def start(self, _: Any) -> None:
        self.done.append(f"start {self.name}")
        if self.beats:
            self.host._beats.take_line(f"{self.name}=1")

    def watch(self) -> None:
        self.done.append(f"watch {self.name}")

    def connect(self, *, seconds: float) -> BootingGuest:
        assert seconds > 0
        self.done.append(f"connect {self.name}")
        return self

    def console_tail(self) -> str:
        return f"last words of {self.name}"

    def close(self) -> None:
        self.done.append(f"close {self.name}")


def booting(folder: Path, monkeypatch: pytest.MonkeyPatch, done: list[str], **beats: bool) -> EmulatedHost:
    host = EmulatedHost(spec(guests=(PROTECTED, PLAIN)), folder)
    guests = tuple(BootingGuest(spec, host, done, beats=beats.get(spec.name, True)) for spec in (PROTECTED, PLAIN))
    monkeypatch.setattr(host, "_guests", guests)
    monkeypatch.setattr(host, "log_in", lambda _: BootingGuest(PLAIN, host, done))
    host._beats.take_line("host=0 protected=-1 plain=-1")
    return host


def test_guests_boot_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    host = booting(tmp_path, monkeypatch, done)
    host.boot()
    names = ("protected", "plain")
    assert done == [f"{step} {who}" for who in names for step in ("start", "watch")] + [
        f"{step} {who}" for who in names for step in ("connect", "close")
    ]
    host.close()


@pytest.mark.parametrize("silent", ["protected", "plain"])
def test_guest_that_does_not_boot_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    monkeypatch.setattr(local_host, "BOOT", 0.3)
    host = booting(tmp_path, monkeypatch, [], **{silent: False})
    # Beside a plain guest that comes up it is the fault of the kernel under test.
    error = HarmError if silent == "protected" else DeadlineError
    with pytest.raises(error, match=f"guest {silent} to boot") as caught:
        host.boot()
    assert f"last words of {silent}" in caught.value.message
    host.close()


@pytest.mark.parametrize("lost", ["protected", "plain"])
def test_guest_that_is_lost_at_boot_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    host = booting(tmp_path, monkeypatch, [], **{lost: False})
    watched = {name: host.guest_vitals[name].note_loss for name in (lost,)}
    monkeypatch.setattr(BootingGuest, "watch", lambda guest: watched.get(guest.name, len)("its QEMU ended"))
    error = HarmError if lost == "protected" else MachineLostError
    with pytest.raises(error, match=f"guest {lost} is lost: its QEMU ended") as caught:
        host.boot()
    assert f"last words of {lost}" in caught.value.message
    host.close()


def test_host_is_ended_even_when_a_channel_to_it_will_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn:
        def close(self) -> None:
            raise ZeroDivisionError

    host = EmulatedHost(spec(), tmp_path)
    monkeypatch.setattr(host, "_ssh", Stubborn())
    with pytest.raises(ZeroDivisionError):
        host.close()
    assert FakeQemu.made[0].killed == 1


def test_port_is_that_of_the_forward_and_of_no_connection(tmp_path: Path) -> None:
    host = EmulatedHost(spec(tmp_path), tmp_path)
    assert host._forward(2022) == 40213
    assert "-p 40214 root@127.0.0.1" in host.login_command()
    assert "-p 40213 root@127.0.0.1" in host.login_command(replace(PLAIN, ssh_port=2022))
    assert str(spec(tmp_path).keys.client) in host.login_command()
    with pytest.raises(MachineError, match="nothing to port 2222"):
        host._forward(2222)
    host.close()


def test_host_is_stopped_before_it_is_saved(tmp_path: Path) -> None:
    host = EmulatedHost(spec(), tmp_path)
    host.save(tmp_path / "state")
    done = FakeQemu.made[0].qmp.done
    assert done[0] == "stop"
    assert done.index("getfd state") < done.index("migrate uri=fd:state") < done.index("query-migrate")
    assert done.count("query-migrate") == 3
    assert (tmp_path / "state").read_bytes() == b"the state"
    host.close()


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:115C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 90
   1: 0100007F:D62E 0100007F:115C 06 00000000:00000000 03:00001677 00000000     0        0 0
   2: 0F02000A:07E6 0202000A:A6CE 01 00000000:00000000 00:00000000 00000000     0        0 1148"""
CONNECTED = "\n   3: 0100007F:115C 0100007F:D62E {} 00000000:00000000 00:00000000 00000000     0        0 91"


@pytest.mark.parametrize("state", ["01", "08"])
def test_host_is_left_alone_only_when_its_guests_qmp_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    host = EmulatedHost(spec(), tmp_path)
    done: list[str] = []
    session = FakeSsh(tcp=TCP + CONNECTED.format(state))
    monkeypatch.setattr(host, "_guests", (BootingGuest(PLAIN, host, done),))
    monkeypatch.setattr(host, "_ssh", session)
    monkeypatch.setattr(local_host, "RESTORE", 0.2)
    with pytest.raises(DeadlineError, match="QMP to be free"):
        host.detach()
    session.texts = {"tcp": TCP}
    host.detach()
    assert (session.closed, done) == (1, ["close plain"] * 3)
    host.close()


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_failed_save_is_told(tmp_path: Path, status: str) -> None:
    host = EmulatedHost(spec(), tmp_path)
    FakeQemu.made[0].qmp.migration = ["active", status]
    with pytest.raises(MachineError, match=f"migration {status}"):
        host.save(tmp_path / "state")
    host.close()


# --- heartbeats


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "STALL", 0.3)


Lives = tuple[Vitals, dict[str, Vitals]]


@pytest.fixture
def lives() -> Lives:
    return Vitals("the host"), {name: Vitals(f"guest {name}") for name in ("plain", "protected")}


@pytest.mark.usefixtures("quick")
def test_machine_whose_count_stands_still_has_stalled_and_one_without_a_heartbeat_yet_has_not(
    lives: Lives,
) -> None:
    host, guests = lives
    other, silent = Vitals("the host"), Vitals("guest plain")
    stuck, booting = Beats(host, guests), Beats(other, {"plain": silent})
    counts = itertools.count()

    def loss() -> str | None:
        count = next(counts)
        # The host goes on, and repeats what it last heard of its guests.
        stuck.take_line(f"host={count} plain=7 protected={count}")
        booting.take_line(f"host={count} plain=-1 nonsense other=3 =")
        return guests["plain"].reason

    assert poll_until(loss, Deadline(AT_ONCE), "the stall") == "stalled: no heartbeat for 0.3 s"
    assert (host.reason, guests["protected"].reason, other.reason, silent.reason) == (None, None, None, None)
    assert (stuck.count("plain"), booting.count("plain")) == (1, 0)
    assert stuck.count("protected") == stuck.count("host") > 1
    host.note_loss("over")
    other.note_loss("over")


@pytest.mark.usefixtures("quick")
def test_silent_host_is_the_one_that_stalled(lives: Lives) -> None:
    host, guests = lives
    host.on_loss(lambda: [vitals.note_loss(f"its host is lost: {host.reason}") for vitals in guests.values()])
    Beats(host, guests).take_line("host=1 plain=1 protected=1")
    poll_until(lambda: host.reason, Deadline(AT_ONCE), "the stall")
    assert {vitals.reason for vitals in guests.values()} == {"its host is lost: stalled: no heartbeat for 0.3 s"}


@pytest.mark.usefixtures("quick")
def test_silence_of_a_guest_that_we_have_stopped_does_not_count(lives: Lives) -> None:
    host, guests = lives
    beats, stops = Beats(host, guests), ["plain"]
    beats.stopped = lambda who: who in stops
    counts = itertools.count()

    def loss() -> str | None:
        beats.take_line(f"host={next(counts)} plain=1 protected={next(counts)}")
        return guests["plain"].reason

    with pytest.raises(DeadlineError):
        poll_until(loss, Deadline(1.5), "no stall")
    stops.clear()
    poll_until(loss, Deadline(AT_ONCE), "the stall")
    host.note_loss("over")


def test_host_knows_which_of_its_guests_we_have_stopped(tmp_path: Path) -> None:
    host: Any = EmulatedHost(spec(), tmp_path)
    assert not host._beats.stopped("plain")
    host._guests = (SimpleNamespace(spec=PLAIN, stopped=True, close=lambda: None),)
    assert host._beats.stopped("plain")
    assert not host._beats.stopped("host")
    host.close()


@pytest.mark.usefixtures("quick")
def test_silence_does_not_count_while_this_computer_does_not_run_the_host(lives: Lives) -> None:
    host, guests = lives
    started = time.monotonic()
    beats = Beats(host, guests)
    beats.take_line("host=1 plain=1 protected=1")
    beats.uncounted = lambda: time.monotonic() - started
    with pytest.raises(DeadlineError):
        poll_until(lambda: host.reason, Deadline(1.0), "no stall")
    beats.uncounted = lambda: 0.0
    poll_until(lambda: host.reason, Deadline(AT_ONCE), "the stall")

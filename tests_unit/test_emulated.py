# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated host without its QEMU: what it is started with, how its death is noticed, how it is saved and ended."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from common.errors import DeadlineError, MachineError
from common.waiting import Deadline, poll_until
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup.channels.vitals import Vitals
from host_setup.hosts import emulated as module
from host_setup.hosts.emulated import EmulatedHost, EmulatedSpec, _Beats
from host_setup.hosts.guest import GuestSpec
from tests_unit.machine_samples import spec

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

    def execute(self, command: str, **arguments: Any) -> Any:
        self.done.append(" ".join([command, *(f"{k}={v}" for k, v in arguments.items())]))
        return {"status": self.migration.pop(0)} if command == "query-migrate" else {}

    def monitor(self, line: str) -> str:
        assert line == "info usernet"
        return USERNET

    def send_fd(self, name: str, fd: int) -> None:
        self.done.append(f"getfd {name}")
        Path(f"/proc/self/fd/{fd}").write_bytes(b"the state")

    def close(self) -> None:
        self.done.append("close")


class FakeQemu:
    """What EmulatedHost uses of a Qemu."""

    made: ClassVar[list[FakeQemu]] = []
    wrong: BaseException | None = None

    def __init__(self, argv: list[str], *, vitals: Vitals, pass_fds: tuple[int, ...] = (), **_: Any) -> None:
        self.argv, self.vitals, self.killed = argv, vitals, 0
        self.qmp = FakeQmp()
        self.given = [Path(f"/proc/self/fd/{fd}").read_bytes() for fd in pass_fds]
        self.made.append(self)

    def wait_status(self, wanted: str, *, seconds: float) -> None:
        assert seconds > 0
        self.qmp.done.append(f"wait {wanted}")
        if self.wrong is not None:
            raise self.wrong

    def console(self) -> str:
        return "Linux version"

    def kill(self) -> None:
        self.vitals.lost("it was ended by the run")
        self.killed += 1


@pytest.fixture(autouse=True)
def qemu(monkeypatch: pytest.MonkeyPatch) -> type[FakeQemu]:
    monkeypatch.setattr(FakeQemu, "made", [])
    monkeypatch.setattr(module, "Qemu", FakeQemu)
    monkeypatch.setattr(module, "qemu_version", lambda: "9.2.0")
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
    "guest memory": lambda s: replace(s, guest=GuestSpec(memory=193)),
    "guest name": lambda s: replace(s, guest=GuestSpec(name="other")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_saved_state_of_another_host_has_another_key(change: Callable[[EmulatedSpec], EmulatedSpec]) -> None:
    assert spec().key == spec().key
    assert change(spec()).key != spec().key


def test_saved_state_of_another_qemu_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec().key
    monkeypatch.setattr(module, "qemu_version", lambda: "9.2.1")
    assert spec().key != before


def test_where_qemu_is_installed_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec().key
    monkeypatch.setattr(module, "QEMU", "/opt/qemu/bin/qemu-system-x86_64")
    assert spec().key == before


# --- its life


def test_restored_host_gets_the_state_and_runs_once_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"saved")
    host = EmulatedHost(spec(), tmp_path, state=tmp_path / "state")
    (qemu,) = FakeQemu.made
    assert qemu.argv[-2] == "-incoming"
    assert qemu.given == [b"saved"]
    assert qemu.qmp.done == ["wait paused", "cont"]
    assert host.started == "restored"
    host.close()


@pytest.mark.parametrize("wrong", [DeadlineError("slow"), MachineError("refused"), KeyboardInterrupt()])
def test_host_that_cannot_be_restored_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: BaseException
) -> None:
    (tmp_path / "state").write_bytes(b"saved")
    monkeypatch.setattr(FakeQemu, "wrong", wrong)
    with pytest.raises(type(wrong)):
        EmulatedHost(spec(), tmp_path, state=tmp_path / "state")
    assert FakeQemu.made[0].killed == 1


def test_loss_of_the_host_is_its_guests_and_not_the_reverse(tmp_path: Path) -> None:
    first, second = EmulatedHost(spec(), tmp_path), EmulatedHost(spec(), tmp_path)
    first.vitals.lost("panic")
    assert first.guest_vitals.reason == "its host is lost: panic"
    second.guest_vitals.lost("its QEMU ended")
    assert second.vitals.reason is None
    second.close()


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
    monkeypatch.setattr(module, "STALL", 0.3)


@pytest.fixture
def lives() -> tuple[Vitals, Vitals]:
    return Vitals("the host"), Vitals("the guest")


@pytest.mark.usefixtures("quick")
def test_machine_whose_count_stands_still_has_stalled_and_one_without_a_heartbeat_yet_has_not(
    lives: tuple[Vitals, Vitals],
) -> None:
    host, guest = lives
    other, silent = Vitals("the host"), Vitals("the guest")
    stuck, booting = _Beats(host, guest), _Beats(other, silent)
    counts = itertools.count()

    def stalled() -> str | None:
        count = next(counts)
        stuck.heard(f"host={count} guest=7")  # the host goes on, and repeats what it last heard of its guest
        booting.heard(f"host={count} guest=-1 nonsense other=3 =")
        return guest.reason

    assert poll_until(stalled, Deadline(AT_ONCE), "the stall") == "stalled: no heartbeat for 0.3 s"
    assert (host.reason, other.reason, silent.reason) == (None, None, None)
    host.lost("over")
    other.lost("over")


@pytest.mark.usefixtures("quick")
def test_silent_host_is_the_one_that_stalled(lives: tuple[Vitals, Vitals]) -> None:
    host, guest = lives
    host.on_loss(lambda: guest.lost(f"its host is lost: {host.reason}"))
    _Beats(host, guest).heard("host=1 guest=1")
    poll_until(lambda: host.reason, Deadline(AT_ONCE), "the stall")
    assert guest.reason == "its host is lost: stalled: no heartbeat for 0.3 s"

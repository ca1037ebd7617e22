# SPDX-License-Identifier: GPL-2.0-or-later
"""A real machine in the hands of a run, with a made-up machine at the other end of its sessions."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.errors import AccessError, ChannelError, DeadlineError, KernelError, MachineError, SetupError
from common.progress import Terminal
from common.waiting import Deadline
from host_setup.channels.ssh import Completed
from host_setup.inventory import Remote
from host_setup.kernel.notes import build_id
from host_setup.remote import leased as module
from host_setup.remote.leased import Leased, LeaseState, TakenError, bring_back_on_error

OURS, THEIRS = b"\x01" * 20, b"\x02" * 20
FACTS = {"root": "yes", "systemd": "257", "machine": "x86_64", "kernel_line": "root=/dev/vda1", "holder": ""}


def notes(identity: bytes) -> str:
    """Two ELF notes, the second a build ID."""
    other = struct.pack("<III", 6, 3, 0x101) + b"Linux\0\0\0" + b"abc\0"
    return (other + struct.pack("<III", 4, 20, 3) + b"GNU\0" + identity).hex()


@dataclass
class FakeMachine:
    """What is at the other end. ``boots``: what runs after each order to boot; None: nothing answers any more."""

    boots: list[bytes | None] = field(default_factory=lambda: [OURS])
    running: bytes | None = THEIRS
    lease: str = ""
    manifest: str = "a\nb"
    boot_count: int = 0
    facts: dict[str, str] = field(default_factory=lambda: dict(FACTS))
    said: list[str] = field(default_factory=list)
    full: bool = False
    refuses: bool = False
    orders: int = 0


class FakeControl:
    """A Control of one machine, which a test sets."""

    machine_at_the_other_end: FakeMachine

    def __init__(self, name: str, machine: Remote) -> None:
        self.name, self.machine = name, machine

    @property
    def far(self) -> FakeMachine:
        return self.machine_at_the_other_end

    def connect(self, _: Deadline, **__: Any) -> None:
        self._answer()

    def _answer(self) -> FakeMachine:
        if self.far.refuses:
            raise AccessError("it does not let us in")
        if self.far.running is None:
            raise DeadlineError("no answer")
        return self.far

    def run(self, argv: list[str], **_: Any) -> Completed:
        self._answer().said.append(" ".join(argv))
        return Completed(tuple(argv), 0, b"", b"")

    def write_file(self, path: str, _: bytes, **__: Any) -> None:
        if self._answer().full:
            raise ChannelError("no space left")
        self.far.said.append(f"put {path}")

    def boot_id(self) -> str:
        return str(self._answer().boot_count)

    def facts(self) -> dict[str, str]:
        return {**self._answer().facts, "notes": notes(self.far.running or b"")}

    def keeper(self, verb: str, *words: str, **_: Any) -> Completed:
        far = self._answer()
        far.said.append(" ".join([verb, *words[1:]]))
        answer: tuple[int, str, str] = getattr(self, f"_{verb}")(far, *words)
        return Completed((verb,), answer[0], answer[1].encode(), answer[2].encode())

    def _manifest(self, far: FakeMachine) -> tuple[int, str, str]:
        return 0, far.manifest, ""

    def _lease(self, far: FakeMachine, token: str, *_: str) -> tuple[int, str, str]:
        if far.lease:
            return (4, "", "keeper: left by ann") if far.lease == "old" else (3, "", "keeper: taken by ann")
        far.lease = token
        return 0, "leased", ""

    def _boot(self, far: FakeMachine, *_: str) -> tuple[int, str, str]:
        far.running = far.boots.pop(0)
        far.boot_count += 1
        return 0, "", ""

    def _restore(self, far: FakeMachine, token: str) -> tuple[int, str, str]:
        far.orders += 1
        if far.lease != token and not (token == "expired" and far.lease == "old"):
            return 5, "", "keeper: the lease is not ours"
        if far.running != THEIRS:
            far.running = THEIRS
            far.boot_count += 1
            return 0, "rebooting", ""
        far.lease = ""
        return 0, "restored", ""

    def close(self) -> None:
        pass


class FakeKernel:
    release = "6.12.0"
    build_id = OURS.hex()

    def __init__(self, folder: Path) -> None:
        self.image = folder / "bzImage"
        self.image.write_bytes(b"kernel")


class FakePrograms:
    def read(self, name: str) -> bytes:
        return name.encode()


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    fake = FakeMachine()
    monkeypatch.setattr(FakeControl, "machine_at_the_other_end", fake, raising=False)
    monkeypatch.setattr(module, "Control", FakeControl)
    return fake


def entry(**more: Any) -> Remote:
    fields = {
        "kind": "ssh",
        "address": "root@far",
        "host_key": "ssh-ed25519 AAAA",
        "key": "/k",
        "expendable": True,
        "limits": {"boot": 10},
        **more,
    }
    return Remote.model_validate(fields)


@pytest.fixture
def lease(far: FakeMachine, tmp_path: Path) -> Callable[..., Leased]:  # noqa: ARG001  it is at the other end
    def take(**more: Any) -> Leased:
        notes: list[str] = []
        states: list[LeaseState] = []
        leased = Leased("far", entry(**more), tmp_path, Terminal(), note=notes.append, on_state=states.append)
        leased.notes, leased.states = notes, states  # for the test alone
        return leased

    return take


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a limit: a deadline of ten seconds is over at once."""
    monkeypatch.setattr(module, "Deadline", lambda seconds: Deadline(seconds / 50))


def provision(leased: Leased, folder: Path) -> None:
    leased.provision(FakeKernel(folder), FakePrograms())


def test_machine_goes_from_its_lease_to_its_return(
    lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path
) -> None:
    leased = lease()
    assert far.lease
    with bring_back_on_error(leased):
        provision(leased, tmp_path)
        leased.boot()
    assert far.running == OURS
    leased.restore()
    leased.restore()
    assert (far.running, far.lease, leased.state) == (THEIRS, "", LeaseState.RESTORED)
    assert leased.states == [
        *(LeaseState.LEASED, LeaseState.PROVISIONED, LeaseState.BOOTING, LeaseState.BOOTED, LeaseState.RESTORED)
    ]


def test_machine_that_is_taken_is_left_alone(lease: Callable[..., Leased], far: FakeMachine) -> None:
    far.lease = "another"
    with pytest.raises(TakenError, match="taken by ann"):
        lease()
    assert far.orders == 0
    assert far.lease == "another"


def test_lease_that_is_long_over_is_taken_back_first(lease: Callable[..., Leased], far: FakeMachine) -> None:
    far.lease = "old"
    leased = lease()
    assert far.lease not in ("", "old")
    assert "that run is dead" in leased.notes[0]
    leased.restore()


@pytest.mark.parametrize(
    ("fact", "value", "error"),
    [("root", "no", AccessError), ("systemd", "", SetupError), ("machine", "aarch64", SetupError)],
)
def test_machine_that_cannot_be_used_is_not_even_leased(
    lease: Callable[..., Leased], far: FakeMachine, fact: str, value: str, error: type[Exception]
) -> None:
    far.facts[fact] = value
    with pytest.raises(error):
        lease()
    assert far.lease == ""


@pytest.mark.parametrize(
    ("boot", "facts", "message"),
    [
        ("grub", {"against_grub": "/boot/grub is on lvm -> boot = kexec"}, "by grub: /boot/grub is on lvm"),
        ("systemd-boot", {"secure_boot": "yes"}, "by systemd-boot: Secure Boot is on"),
        ("kexec", {"lockdown": "integrity"}, "by kexec: its kernel is locked down"),
        ("kexec", {"against_kexec": "no initramfs is found -> put one into /boot"}, "by kexec: no initramfs is found"),
        ("grub", {"kernel_line": "x" * 1950}, "by grub: its command line leaves no room"),
    ],
)
def test_machine_that_would_not_come_back_is_not_even_leased(
    lease: Callable[..., Leased], far: FakeMachine, boot: str, facts: dict[str, str], message: str
) -> None:
    far.facts |= facts
    with pytest.raises(SetupError, match=message) as caught:
        lease(boot=boot)
    assert caught.value.hint
    assert far.lease == ""


def test_full_disk_leaves_a_machine_that_was_never_booted_as_it_was(
    lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path
) -> None:
    leased = lease()
    far.full = True
    with pytest.raises(ChannelError), bring_back_on_error(leased):
        provision(leased, tmp_path)
    assert (far.lease, far.boot_count, leased.state) == ("", 0, LeaseState.RESTORED)


def test_kernel_that_gives_way_to_the_own_one_is_told_by_its_build_id(
    lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path
) -> None:
    far.boots = [THEIRS]
    leased = lease()
    with pytest.raises(KernelError, match=f"build ID {THEIRS.hex()}, not {OURS.hex()}"), bring_back_on_error(leased):
        provision(leased, tmp_path)
        leased.boot()
    assert far.lease == ""


def test_kernel_that_hangs_has_its_power_cut(
    lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far.boots = [None]
    mark = tmp_path / "cut"
    leased = lease(power={"cycle": [sys.executable, "-c", f"open({str(mark)!r}, 'w')"]})
    cut = leased._cut_power

    def power() -> None:
        cut()
        far.running = THEIRS

    monkeypatch.setattr(leased, "_cut_power", power)
    with pytest.raises(KernelError, match="to boot Linux"), bring_back_on_error(leased):
        provision(leased, tmp_path)
        leased.boot()
    assert mark.exists()
    assert (far.lease, leased.state) == ("", LeaseState.RESTORED)


def test_kernel_that_hangs_without_a_power_command_says_what_to_do(
    lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path
) -> None:
    far.boots = [None]
    leased = lease()
    with pytest.raises(MachineError, match="did not come back") as caught, bring_back_on_error(leased):
        provision(leased, tmp_path)
        leased.boot()
    assert "switch it off and on" in caught.value.hint
    assert leased.state is LeaseState.BROKEN


def test_power_command_that_fails_is_told(lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path) -> None:
    far.boots = [None]
    leased = lease(power={"cycle": ["sh", "-c", "echo no such outlet; exit 1"]})
    with pytest.raises(MachineError, match="no such outlet"), bring_back_on_error(leased):
        provision(leased, tmp_path)
        leased.boot()


def test_power_of_a_machine_that_refuses_us_is_not_cut(lease: Callable[..., Leased], far: FakeMachine) -> None:
    leased = lease(power={"cycle": ["false"]})
    far.refuses = True
    with pytest.raises(MachineError, match="does not let us in"):
        leased.restore()


def test_machine_that_another_run_has_by_now_is_not_touched(lease: Callable[..., Leased], far: FakeMachine) -> None:
    leased = lease(power={"cycle": ["false"]})
    far.lease, far.facts["holder"], far.manifest = "another", "ann", "other files"
    leased.restore()
    assert far.lease == "another"


def test_machine_that_is_not_as_it_was_is_told(lease: Callable[..., Leased], far: FakeMachine) -> None:
    leased = lease()
    far.manifest = "a\nc"
    with pytest.raises(MachineError, match="not as it was") as caught:
        leased.restore()
    assert "- b\n+ c" in caught.value.message
    assert leased.state is LeaseState.BROKEN


def test_lost_machine_is_booted_again(lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path) -> None:
    far.boots = [OURS, OURS]
    leased = lease()
    provision(leased, tmp_path)
    leased.boot()
    far.running = THEIRS  # it panicked, and its own kernel came
    leased.recover()
    assert far.running == OURS
    leased.restore()


def test_words_of_the_kernel_have_netconsole_and_the_machine_s_own(
    lease: Callable[..., Leased], far: FakeMachine, tmp_path: Path
) -> None:
    console = {"kind": "netconsole", "interface": "eth0", "source": "10.0.0.2", "target": "10.0.0.1:6666"}
    leased = lease(console=console, command_line="console=ttyS1")
    provision(leased, tmp_path)
    leased.boot()
    (order,) = [line for line in far.said if line.startswith("boot")]
    assert "panic=10" in order
    assert order.endswith("netconsole=@10.0.0.2/eth0,6666@10.0.0.1/ console=ttyS1")
    leased.restore()


def test_build_id_is_found_among_other_notes() -> None:
    assert build_id(bytes.fromhex(notes(OURS))) == OURS.hex()
    assert build_id(b"") == ""
    assert build_id(bytes.fromhex(notes(OURS))[:20]) == ""

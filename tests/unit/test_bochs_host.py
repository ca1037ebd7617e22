# SPDX-License-Identifier: GPL-2.0-or-later
"""The host that Bochs makes, without its Bochs: what it boots, how it is reached, that nothing of it stays."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest

from common.errors import MachineError, MachineLostError, SetupError, UserInputError
from common.progress import Terminal
from common.store import Store
from guest_images.keys import Keys
from guest_images.payload import Payload
from guest_images.rootfs import RootFs
from host_setup import provision
from host_setup.channels.vitals import Vitals
from host_setup.emulated import bochs_host as module
from host_setup.emulated import bochs_packages
from host_setup.emulated.bochs import CYLINDER, IPS, Machine
from host_setup.emulated.bochs_host import BOCHS, BochsHost, BochsHosts, BochsSpec, reserved_ports
from host_setup.emulated.direct_boot import INITRAMFS, KERNEL, PARAMETERS, parameters, protected_mode_kernel
from host_setup.emulated.host import EMULATION
from host_setup.hosts import kernel_log
from host_setup.hosts.base import Host, Hosts
from host_setup.hosts.guest_spec import PLAIN, PROTECTED
from host_setup.provision import Settings
from host_setup.this_machine import BOCHS_LIST, HostKind, survey
from tests.unit.machine_samples import bzimage


class FakeBochs:
    """What BochsHost uses of a Bochs."""

    made: ClassVar[list[FakeBochs]] = []

    def __init__(
        self,
        machine: Machine,
        *,
        vitals: Vitals,
        folder: Path,
        on_beat: Callable[[str], None],
        library: Path,
        saves: Path | None = None,
        state: Path | None = None,
    ) -> None:
        self.machine, self.vitals, self.folder, self.on_beat = machine, vitals, folder, on_beat
        self.library, self.saves, self.state = library, saves, state
        self.content = {address: file.read_bytes() for address, file in machine.content.items()}
        self.done: list[str] = []
        self.waited = 0.0
        self.made.append(self)
        if state is not None:
            self.on_restore()
        on_beat("host=1")

    def on_restore(self) -> None:
        """For tests that look at what a restored one leaves."""

    def console(self) -> str:
        return "Linux version"

    def explain(self) -> str:
        return "no complaint"

    def seconds_without_cpu(self) -> float:
        return self.waited

    def save(self) -> None:
        assert self.saves is not None
        (self.saves / "cpu0").write_text("registers")
        self.done.append("save")

    def stop(self) -> None:
        self.done.append("stop")

    def go_on(self) -> None:
        self.done.append("go on")

    def seconds_stopped(self) -> float:
        return 0.0

    def kill(self) -> None:
        self.done.append("kill")
        self.vitals.note_loss("it was ended by the run")


@pytest.fixture(autouse=True)
def bochs(monkeypatch: pytest.MonkeyPatch) -> type[FakeBochs]:
    monkeypatch.setattr(FakeBochs, "made", [])
    monkeypatch.setattr(module, "Bochs", FakeBochs)
    monkeypatch.setattr(BochsHost, "log_in", lambda *_: None)
    return FakeBochs


@pytest.fixture
def spec(tmp_path: Path) -> BochsSpec:
    (tmp_path / "bzImage").write_bytes(bzimage())
    for name in ("payload.erofs", "init", "e1000.ko", "preload", "sector", "rootfs/root.erofs"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(f"content of {name}".encode())
    root = RootFs(tmp_path / "rootfs", "root")
    payload = Payload(tmp_path / "payload.erofs", "payload")
    own = (Keys(tmp_path / "keys"), tmp_path / "init", tmp_path / "e1000.ko", tmp_path / "preload", tmp_path / "sector")
    return BochsSpec(tmp_path / "bzImage", "kernel", root, payload, *own)


def test_words_are_on_the_command_line(spec: BochsSpec) -> None:
    words = replace(spec, words="kvm_intel.ept=0").command_line.split()
    assert words[-1] == "kvm_intel.ept=0"
    assert "reboot=t" in words  # or the machine boots again after a panic
    assert f"tsc_early_khz={IPS // 1000}" in words


def test_waits_on_host_and_guest_are_longer_by_the_time_in_which_bochs_did_not_run(
    spec: BochsSpec, tmp_path: Path
) -> None:
    host = BochsHost(spec, tmp_path / "host")
    deadlines = [vitals.deadline(0.0) for vitals in (host.vitals, *host.guest_vitals.values())]
    assert [deadline.is_over() for deadline in deadlines] == [True, True]
    FakeBochs.made[0].waited = 1000.0
    assert [deadline.is_over() for deadline in deadlines] == [False, False]


def test_it_boots_what_its_memory_holds(spec: BochsSpec, tmp_path: Path) -> None:
    host = BochsHost(spec, tmp_path / "host")
    (bochs,) = FakeBochs.made
    assert bochs.machine.disk.read_bytes().rstrip(b"\0") == b"content of sector"
    assert bochs.machine.disk.stat().st_size == CYLINDER
    assert bochs.machine.disk.stat().st_mtime == module.WRITTEN
    initramfs = bochs.content.pop(INITRAMFS)
    assert bochs.content == {
        PARAMETERS: parameters(bzimage(), len(initramfs), spec.command_line),
        KERNEL: protected_mode_kernel(bzimage()),
    }
    for name in ("init", "e1000.ko", "root.erofs", "payload.erofs"):
        assert name.encode() + b"\0" in initramfs
    for name in ("init", "e1000.ko", "rootfs/root.erofs", "payload.erofs"):
        assert f"content of {name}".encode() in initramfs
    assert bochs.library == spec.library
    assert bochs.machine.disk.parent == tmp_path / "host"
    host.close()
    assert bochs.done == ["kill"]
    assert not list((tmp_path / "host").iterdir())


@pytest.mark.parametrize("release", ["6.12.117", "6.13.0-rc1", "7.3.4"])
def test_a_kernel_that_mounts_files_is_taken(release: str) -> None:
    provision.require_recent(Mock(source=Mock(release=release)))


@pytest.mark.parametrize("release", ["6.1.140", "6.11.0-rc1", "5.19.17"])
def test_a_kernel_that_mounts_no_file_is_refused(release: str) -> None:
    with pytest.raises(UserInputError, match=f"Linux {release} mounts no file"):
        provision.require_recent(Mock(source=Mock(release=release)))


def test_each_port_that_is_used_has_one_of_ours_and_no_other(spec: BochsSpec, tmp_path: Path) -> None:
    host = BochsHost(replace(spec, guests=(PROTECTED, PLAIN)), tmp_path / "host", [1, 2, 3, 4])
    assert FakeBochs.made[0].machine.forwards == {2022: 1, 22: 2, PROTECTED.ssh_port: 3, PLAIN.ssh_port: 4}
    assert " -p 2 " in host.login_command()
    assert " -p 4 " in host.login_command(PLAIN)
    with pytest.raises(MachineError, match="nothing to port 99"):
        host._forward(99)
    host.close()


def test_ports_are_nobody_elses_and_an_emulator_can_listen_on_them() -> None:
    with ExitStack() as reservations:
        ports = reserved_ports(4, reservations)
        assert len(set(ports)) == 4
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
            # As slirp does, with SO_REUSEADDR.
            with socket.create_server(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
                pass
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[0]))


def test_its_ports_and_its_disk_are_let_go_when_its_kernel_speaks(
    spec: BochsSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run may be killed at any time."""
    host = BochsHost(spec, tmp_path / "host")
    (bochs,) = FakeBochs.made
    (port, *_) = bochs.machine.forwards.values()
    output = iter(("", "", "Linux version"))

    def console(_: FakeBochs) -> str:
        assert bochs.machine.disk.exists()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        return next(output)

    monkeypatch.setattr(FakeBochs, "console", console)
    host.boot_alone()
    assert not bochs.machine.disk.exists()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
    host.close()


def test_host_whose_kernel_never_speaks_is_told_with_the_cause(
    spec: BochsSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = BochsHost(spec, tmp_path / "host")
    monkeypatch.setattr(FakeBochs, "console", lambda _: "")
    host.vitals.note_loss("its Bochs ended with status 1")
    with pytest.raises(MachineLostError, match="its Bochs ended with status 1"):
        host.boot_alone()
    host.close()
    assert not FakeBochs.made[0].machine.disk.exists()


def test_it_sleeps_until_it_is_used(spec: BochsSpec, tmp_path: Path) -> None:
    host = BochsHost(spec, tmp_path / "host")
    host.sleep()
    host.vitals.check()
    assert FakeBochs.made[0].done == ["stop", "go on"]
    host.close()


STEPPED = """[   33.817940] ------------[ cut here ]------------
[   33.817960] WARNING: CPU: 0 PID: 91 at arch/x86/kernel/traps.c:1120 exc_debug_kernel+0xad/0xd3
[   33.818064] CPU: 0 UID: 0 PID: 91 Comm: qemu-system-x86 Tainted: G S         O       6.12.117 #1
[   33.818923] Call Trace:
[   33.818948]  <#DB>
[   33.818974]  ? asm_exc_debug+0x1a/0x40
[   33.819105]  ? x86_verw_sel+0x40/0x40
[   33.819217]  </#DB>
[   33.819241] ---[ end trace 0000000000000000 ]---
"""


def test_a_warning_that_bochs_brings_about_is_no_complaint_of_the_kernel(
    spec: BochsSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = BochsHost(spec, tmp_path / "host")
    by_another = STEPPED.replace("exc_debug_kernel", "kvm_mmu_zap_all")
    elsewhere = STEPPED.replace("x86_verw_sel+0x40/0x40", "kvm_arch_vcpu_ioctl_run+0x12/0x900")
    for text, complaints in (
        (f"a\n{STEPPED}b\n", ""),
        (f"{by_another}{STEPPED}{elsewhere}", by_another + elsewhere),
        (f"{elsewhere}{STEPPED}", elsewhere),
        (f"{STEPPED}{STEPPED}", STEPPED),  # the kernel warns once
        (STEPPED[: len(STEPPED) // 2], STEPPED[: len(STEPPED) // 2]),  # half of it was printed yet
    ):
        monkeypatch.setattr(FakeBochs, "console", lambda _, text=text: text)
        assert len(host.kernel_log()) == len(text)
        assert kernel_log.splats(host.kernel_log()) == kernel_log.splats(complaints)


@pytest.fixture
def hosts(spec: BochsSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BochsHosts:
    for part in ("boot", "set_nonces", "detach", "rest"):
        monkeypatch.setattr(BochsHost, part, lambda *_: None)
    monkeypatch.setattr(BochsHost, "nonces", lambda _: {})
    store = Store(tmp_path / "store")
    return BochsHosts(replace(spec, guests=()), store, Terminal(), tmp_path / "hosts", note=notes.append)


notes: list[str] = []


def test_host_is_saved_once_with_its_disk_and_then_restored(hosts: BochsHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    proved: list[BochsHost] = []
    monkeypatch.setattr(BochsHosts, "prove", lambda _, host, __: proved.append(host))
    first, second = hosts.start(), hosts.start()
    saved, restored, again = FakeBochs.made
    assert saved.content
    assert not restored.content
    assert saved.done == ["save", "kill"]
    state = hosts.saved_state().folder / "state"
    assert (state / "cpu0").read_text() == "registers"
    assert (restored.state, again.state) == (state, state)
    assert restored.machine.disk != again.machine.disk
    assert proved == [first, second]
    assert [host.started for host in proved] == ["restored"] * 2
    for host in proved:
        host.close()


def test_restored_host_leaves_nothing_that_a_report_must_not_have(
    hosts: BochsHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def leave(bochs: FakeBochs) -> None:
        """What Bochs has read, and what it leaves, as it starts from a saved state."""
        folder = bochs.machine.disk.parent
        (folder / "state").mkdir()
        (folder / "state/cpu0").symlink_to(tmp_path)
        (folder / "boot.img.AbC123.lock").touch()
        (folder / "console.log").touch()
        seen.append(sorted(file.name for file in folder.iterdir()))

    monkeypatch.setattr(BochsHosts, "prove", lambda *_: None)
    monkeypatch.setattr(FakeBochs, "on_restore", leave)
    host = hosts.start()
    folder = FakeBochs.made[-1].machine.disk.parent
    assert host.started == "restored"
    assert {"state", "boot.img.AbC123.lock"} <= set(seen[-1])  # while it has not said that it runs
    assert [file.name for file in folder.iterdir()] == ["console.log"]  # and no longer: the report may be written now
    host.close()
    assert [file.name for file in folder.iterdir()] == ["console.log"]


def test_host_that_is_not_the_saved_one_is_booted(hosts: BochsHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.saved_state()
    monkeypatch.setattr(BochsHost, "nonces", lambda _: {"host": '{"nonce": "", "asked": 0}'})
    host = hosts.start()
    assert host.started == "cold"
    assert FakeBochs.made[-2].done == ["kill"]
    assert "memory of host and guests holds" in notes[-1]
    host.close()


def test_whatever_a_saved_state_depends_on_is_in_its_key(spec: BochsSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {spec.key, *(replace(spec, **other).key for other in ({"words": "quiet"}, {"memory": 2048}))}
    keys |= {replace(spec, kernel_key="another").key, replace(spec, guests=(PROTECTED,)).key}
    keys |= {replace(spec, init=spec.network).key}
    monkeypatch.setattr(module, "installed_files", lambda: {"bochs-bin": "another"})
    assert len(keys | {spec.key}) == 7


def test_hosts_are_booted_with_words_and_with_or_without_guests(hosts: BochsHosts) -> None:
    records: list[BochsHost] = []
    hosts.on_start = records.append
    host = hosts.cold("kvm_intel.ept=0", alone=True)
    assert "kvm_intel.ept=0" in host.spec.command_line
    assert (host.guests, host.qemu, host.started, records) == ((), None, "cold", [host])
    kinds: tuple[Hosts, Host] = (hosts, host)
    assert kinds[1].tier == "emulated"
    host.close()


def test_host_that_does_not_boot_is_ended(hosts: BochsHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MachineError("no boot")

    monkeypatch.setattr(BochsHost, "boot", fail)
    with pytest.raises(MachineError, match="no boot"):
        hosts.cold()
    assert FakeBochs.made[0].done == ["kill"]


# --- how it is chosen


def test_bochs_is_chosen_by_name_and_takes_the_same_kernel() -> None:
    here = replace(survey(), missing_for_bochs=())
    assert provision.accelerator("emulated", None, here) is EMULATION
    for host in ("auto", "emulated"):
        assert provision.accelerator(host, None, here, "bochs") is BOCHS
    assert provision.with_accelerator(Settings(), BOCHS) == Settings()
    assert BOCHS.kind is HostKind.EMULATED


def test_what_bochs_lacks_is_installed_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(survey(), missing_for_bochs=("bochs", "vgabios"))
    monkeypatch.setattr(provision, "survey", lambda: bare)
    assert provision.accelerator("auto", None, bare, "bochs") is BOCHS
    assert provision.accelerator("emulated", None, bare) is EMULATION
    set_up, call_log = tmp_path / "bootstrap.sh", tmp_path / "asked"
    monkeypatch.setattr(bochs_packages, "BOOTSTRAP", set_up)

    def provide(script: str) -> str:
        set_up.write_text(f'echo "$*" >"{call_log}"\n{script}\n')
        with pytest.raises(SetupError) as caught:
            provision.provide_by_bochs(
                Settings(cache=tmp_path), Store(tmp_path / "cache"), Terminal(), tmp_path, note=notes.append
            )
        return str(caught.value)

    monkeypatch.setattr(provision, "_make_parts", Mock(side_effect=SetupError("all was made", stage="kernel")))
    assert provide("") == "kernel: all was made"
    assert call_log.read_text() == f"packages {BOCHS_LIST}\n"
    output = provide("echo 'set-up: you are neither root nor have sudo: bochs\n  next: as root: apt-get' >&2; exit 2")
    assert output == "--emulator: you are neither root nor have sudo: bochs\n  next: as root: apt-get"
    assert provide("echo odd >&2; exit 1") == "--emulator: odd"


def test_nothing_is_installed_where_all_packages_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bochs_packages, "output", Mock(side_effect=AssertionError))
    bochs_packages.install((), Terminal())


def test_bochs_runs_no_other_kind_of_host() -> None:
    with pytest.raises(UserInputError, match="nested is no emulated one"):
        provision.accelerator("nested", None, survey(), "bochs")

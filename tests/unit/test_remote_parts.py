# SPDX-License-Identifier: GPL-2.0-or-later
"""The smaller parts of a real machine's way: its console, what doctor says of it, the stand-in's tools."""

from __future__ import annotations

import json
import shlex
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import DeadlineError, SetupError, UserInputError
from common.waiting import Deadline, poll_until
from host_setup import inventory
from host_setup.hosts.guest_spec import PLAIN
from host_setup.inventory import CommandConsole, NetConsole, NoConsole, Remote
from host_setup.remote.console import ConsoleLog
from host_setup.remote.control import Control
from host_setup.remote.host import TIERS, RemoteHost
from host_setup.tools import remote_doctor as doctor
from host_setup.tools.doctor import Grade
from signoff.record import Tier
from tests.hosts.standin import power
from tests.hosts.standin.hanging import hanging
from tests.hosts.standin.image import PARTITION, partition_table
from tests.hosts.standin.machine import write_inventory
from tests.hosts.standin.wire import Wire

GOOD = {
    "release": "6.12.0",
    "machine": "x86_64",
    "root": "yes",
    "systemd": "257",
    "kexec": "yes",
    "kexec_tools": "yes",
    "lockdown": "",
    "grub": "yes",
    "systemd_boot": "no",
    "extension": "svm",
    "cpus": "8",
    "memory": "16000000",
    "available": "15000000",
    "disk": "9000000",
    "boot_disk": "9000000",
    "config": "/boot/config-6.12.0",
    "processor": "Some CPU",
    "virtual": "none",
}


def entry(**more: Any) -> Remote:
    fields = {"kind": "ssh", "address": "root@far", "host_key": "ssh-ed25519 AAAA", "key": "/k", "expendable": True}
    return Remote.model_validate({**fields, "power": {"cycle": ["true"]}, **more})


def wait_for(text: str, log: ConsoleLog) -> None:
    poll_until(lambda: text in log.text(), Deadline(20), f"{text!r} on the console")


# --- the console


def test_console_is_what_a_command_shows_from_now_on(tmp_path: Path) -> None:
    log = ConsoleLog(CommandConsole(kind="command", command=("sh", "-c", "echo hello; exec sleep 60")), tmp_path / "c")
    wait_for("hello", log)
    assert "its console ends with:\nhello" in log.tail()
    log.close()
    assert log.text() == "hello\n"


def test_console_comes_by_udp(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    console = NetConsole(kind="netconsole", interface="eth0", source="10.0.0.2", target=f"127.0.0.1:{port}")
    log = ConsoleLog(console, tmp_path / "c")
    with pytest.raises(SetupError, match="netconsole on UDP port"):
        ConsoleLog(console, tmp_path / "d")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.sendto(b"6,1,2,-;Kernel panic\n", ("127.0.0.1", port))
    wait_for("Kernel panic", log)
    log.close()


def test_machine_without_a_console_says_so(tmp_path: Path) -> None:
    log = ConsoleLog(NoConsole(), tmp_path / "c")
    assert log.tail() == "it has no console in the inventory"
    log.close()
    with pytest.raises(SetupError, match="no-such-program is not installed"):
        ConsoleLog(CommandConsole(kind="command", command=("no-such-program",)), tmp_path / "c")


# --- doctor


def stops(machine: Remote, facts: dict[str, str]) -> list[str]:
    return [finding.fact for finding in doctor.judge("far", machine, facts) if finding.state is Grade.STOP]


def test_good_machine_is_stopped_by_nothing() -> None:
    assert stops(entry(), GOOD) == []
    first = doctor.judge("far", entry(), GOOD)[0]
    assert first.fact == "root@far: Linux 6.12.0, Some CPU, 8 CPUs, 15625 MiB"


@pytest.mark.parametrize(
    ("more", "facts", "message"),
    [
        ({"expendable": False}, {}, "not expendable"),
        ({}, {"root": "no"}, "root is not root and has no sudo"),
        ({}, {"systemd": ""}, "no systemd"),
        ({}, {"machine": "aarch64"}, "architecture aarch64"),
        ({}, {"extension": ""}, "the processor shows neither svm nor vmx"),
        ({}, {"kexec": "no"}, "its kernel does not support kexec"),
        ({}, {"lockdown": "integrity"}, "its kernel is locked down and does not load our kernel"),
        ({}, {"systemd": "252", "kexec_tools": "no"}, "systemd 252 needs kexec-tools"),
        ({"boot": "grub"}, {"grub": "no"}, "it has no GRUB that can boot an entry once"),
        ({"boot": "systemd-boot"}, {}, "no systemd-boot"),
        ({"boot": "grub"}, {"grub": "no", "against_grub": "/boot is on lvm -> boot = kexec"}, "/boot is on lvm"),
        ({"boot": "grub"}, {"secure_boot": "yes"}, "Secure Boot is on, and does not start our kernel"),
        ({"boot": "grub"}, {"lockdown": "integrity"}, "its kernel is locked down and does not load our kernel"),
        (
            {"boot": "systemd-boot"},
            {"systemd_boot": "yes", "esp_disk": "100000", "initramfs_size": "60000"},
            "97 MiB free for the EFI system partition",
        ),
        ({"command_line": "x" * 1900}, {}, "its command line leaves no room for the words that a run adds"),
        ({}, {"config": ""}, "its kernel's configuration is not in /boot"),
        ({}, {"disk": "1000"}, "0 MiB free for /var/lib"),
        ({"boot": "grub"}, {"boot_disk": "10240"}, "10 MiB free for /boot"),
        ({}, {"available": "512000"}, "500 MiB of memory available"),
    ],
)
def test_what_stops_a_machine_is_told_alone(more: dict[str, Any], facts: dict[str, str], message: str) -> None:
    assert stops(entry(**more), {**GOOD, **facts}) == [message]


def test_lease_of_another_run_is_a_note() -> None:
    result = doctor.judge("far", entry(), {**GOOD, "holder": "ann@lab", "silent": "3"})
    assert any(
        "leased by ann@lab, last heard of 3 s ago" in entry.fact for entry in result if entry.state is Grade.NOTE
    )


def notes(machine: Remote, facts: dict[str, str]) -> str:
    result = doctor.judge("far", machine, facts)
    return "\n".join(f"{entry.fact} -> {entry.advice}" for entry in result if entry.state is Grade.NOTE)


def test_labels_that_a_lean_kernel_does_not_write_are_a_note() -> None:
    assert "SELinux" in notes(entry(config="lean"), {**GOOD, "selinux": "yes"})
    assert "SELinux" not in notes(entry(config="own"), {**GOOD, "selinux": "yes"})
    assert "SELinux" not in notes(entry(config="lean"), {**GOOD, "selinux": "no"})


def test_disk_that_somebody_must_unlock_is_a_note() -> None:
    assert "encrypted" in notes(entry(), {**GOOD, "root_is": "ext4 crypt part disk"})
    assert "encrypted" not in notes(entry(), {**GOOD, "root_is": "ext4 part disk"})


def test_machine_that_does_not_answer_or_has_no_key_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REACH", 0.1)
    (finding,) = doctor.examine("far", entry())
    assert finding.fact == "far: there is no key /k"
    (tmp_path / "key").write_text("")
    (finding,) = doctor.examine("far", entry(address="root@127.0.0.1:1", key=str(tmp_path / "key")))
    assert "did not answer" in finding.fact
    assert "Connection refused" in finding.fact


def test_connection_that_is_refused_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    control = Control("far", entry(address="root@127.0.0.1:1", key=str(tmp_path / "key")))
    with pytest.raises(DeadlineError, match="far did not answer") as caught:
        control.connect(Deadline(0.1))
    assert "[machine.far]" in caught.value.hint
    with pytest.raises(UserInputError):
        Control("far", entry())


def test_tier_is_one_that_a_report_knows() -> None:
    assert {Tier(tier) for tier in TIERS.values()} == {Tier.EMULATED, Tier.BARE_METAL}


# --- the stand-in's tools


def test_kernel_that_hangs_stops_at_both_entries_and_is_else_the_same() -> None:
    image = bytearray(b"\x90" * 8192)
    image[0x1F1] = 3
    image[0x202:0x206] = b"HdrS"
    stopped = hanging(bytes(image))
    differ = [at for at in range(len(image)) if image[at] != stopped[at]]
    assert differ == [*range(2048, 2052), *range(2048 + 512, 2048 + 516)]
    with pytest.raises(ValueError, match="not a bzImage"):
        hanging(bytes(8192))


def test_partition_table_has_one_active_linux_partition() -> None:
    table = partition_table(PARTITION, 1000)
    assert len(table) == 512 - 440
    assert table[-2:] == b"\x55\xaa"
    assert struct.unpack_from("<B3xB3xII", table, 6) == (0x80, 0x83, PARTITION, 1000)


def test_wire_carries_until_it_is_cut_and_then_answers_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = Wire(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", wire.port)) as ours:
            theirs, _ = server.accept()
            ours.sendall(b"there")
            assert theirs.recv(10) == b"there"
            theirs.sendall(b"back")
            assert ours.recv(10) == b"back"
            wire.cut()
            assert ours.recv(10) == b""
            assert theirs.recv(10) == b""
            with socket.create_connection(("127.0.0.1", wire.port)) as late:
                late.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    late.recv(10)
            wire.close()
            theirs.close()


def test_wire_can_be_cut_in_the_middle_of_what_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = Wire(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", wire.port)) as ours:
            theirs, _ = server.accept()
            wire.cut_after(10)
            ours.sendall(b"12345")
            assert theirs.recv(20) == b"12345"
            ours.sendall(b"1234567")
            assert theirs.recv(20) == b""
            assert wire.is_cut
            wire.close()
            theirs.close()


def serve_qmp(path: Path, commands: list[str]) -> Callable[[], None]:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        sock, _ = server.accept()
        with sock, sock.makefile("rw", encoding="utf-8") as lines:
            lines.write('{"QMP": {}}\n')
            lines.flush()
            for line in lines:
                commands.append(json.loads(line)["execute"])
                lines.write('{"event": "RESET"}\n{"return": {}}\n')
                lines.flush()

    threading.Thread(target=serve, daemon=True).start()
    return server.close


def test_power_switch_resets_the_machine(tmp_path: Path) -> None:
    commands: list[str] = []
    close = serve_qmp(tmp_path / "power", commands)
    power.main(str(tmp_path / "power"))
    assert commands == ["qmp_capabilities", "system_reset"]
    close()
    with pytest.raises(OSError, match="No such file"):
        power.main(str(tmp_path / "none"))


def test_inventory_of_the_stand_in_is_one_that_is_read(tmp_path: Path) -> None:
    console = {"kind": "command", "command": ["tail", "-F", "/a b"]}
    remote = entry(console=console, boot="grub", lease={"seconds": 30})
    assert inventory.load(write_inventory(tmp_path / "one.toml", remote)).machine["standin"] == remote


def test_person_reaches_a_guest_through_its_machine() -> None:
    machine = entry(address="me@rack1:22022", key="/lab")
    host: Any = SimpleNamespace(_leased=SimpleNamespace(machine=machine), keys=SimpleNamespace(client=Path("/client")))
    words = shlex.split(RemoteHost.login_command(host, PLAIN))
    assert words[:3] == ["ssh", "-i", "/client"]
    assert words[words.index("-p") + 1] == str(PLAIN.ssh_port)
    assert "ProxyCommand=ssh -i /lab -p 22022 -W %h:%p me@rack1" in words
    assert words[-1] == "root@127.0.0.1"

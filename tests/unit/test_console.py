# SPDX-License-Identifier: GPL-2.0-or-later
"""Consoles that fail: what their command complained of is told, and a session that somebody left is taken over."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.waiting import Deadline, poll_until
from host_setup.inventory import CommandConsole, IpmiConsole
from host_setup.remote import console as module
from host_setup.remote.console import ConsoleLog
from host_setup.tools import remote_doctor as doctor
from host_setup.tools.doctor import Grade
from tests.unit.test_remote_parts import entry, wait_for

SIMULATOR = shutil.which("ipmi_sim")
needs_ipmi = pytest.mark.skipif(
    SIMULATOR is None or shutil.which("ipmitool") is None, reason="there is no ipmi_sim or ipmitool (Debian: openipmi)"
)


def shell(words: str) -> CommandConsole:
    return CommandConsole(kind="command", command=("sh", "-c", words))


def findings(console: Any) -> list[tuple[Grade, str]]:
    machines = {"far": entry(console=console.model_dump())}
    with doctor.consoles(machines) as ask:
        return [(finding.state, finding.fact) for finding in ask("far")]


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("echo no route to it >&2; exit 3", "its console's command ended with status 3: no route to it"),
        ("exit 1", "its console's command ended with status 1, and said nothing (sh -c 'exit 1')"),
        ("echo closed >&2", "its console's command ended with status 0: closed"),
    ],
)
def test_command_that_ends_at_once_is_told_with_what_it_complained_of(tmp_path: Path, does: str, message: str) -> None:
    log = ConsoleLog(shell(does), tmp_path / "c")
    assert log.settle() == message
    assert log.tail() == message
    notes: list[str] = []
    log.renew(notes.append)
    assert notes == [f"{message}: it is started again", message]
    log.close()
    assert findings(shell(does)) == [(Grade.STOP, message)]


def test_command_that_ends_later_is_told_after_its_last_words_and_started_again(tmp_path: Path) -> None:
    script = f"echo hello; test -e {tmp_path}/again && exec sleep 60; touch {tmp_path}/again; echo gone >&2; exit 2"
    log = ConsoleLog(shell(f"until test -e {tmp_path}/settled; do sleep 0.1; done; {script}"), tmp_path / "c")
    assert log.settle() == ""
    (tmp_path / "settled").touch()
    poll_until(log.problem, Deadline(20), "its end")
    assert log.tail() == "its console ends with:\nhello\nits console's command ended with status 2: gone"
    notes: list[str] = []
    log.renew(notes.append)
    assert len(notes) == 1
    poll_until(lambda: log.text() == "hello\nhello\n", Deadline(20), "its second beginning")
    assert log.problem() == ""
    log.renew(notes.append)
    assert len(notes) == 1
    log.close()


def test_command_that_keeps_its_words_back_where_no_terminal_is_is_heard_at_once(tmp_path: Path) -> None:
    """As ipmitool does: the last words of a kernel would stay in it."""
    source = tmp_path / "keeps.c"
    source.write_text('#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("panic"); sleep(60); }\n')
    subprocess.run(["gcc", "-o", str(tmp_path / "keeps"), str(source)], check=True, timeout=60)
    log = ConsoleLog(CommandConsole(kind="command", command=(str(tmp_path / "keeps"),)), tmp_path / "c")
    wait_for("panic", log)
    log.close()


def test_console_that_works_is_no_finding() -> None:
    assert findings(shell("echo hello; exec sleep 60")) == []
    (result,) = findings(CommandConsole(kind="command", command=("no-such-program",)))
    assert result == (Grade.STOP, "no-such-program is not installed here")


def test_port_of_netconsole_that_is_taken_is_told() -> None:
    console = {"kind": "netconsole", "interface": "eth0", "source": "10.0.0.2"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        port = other.getsockname()[1]
        machines = {"far": entry(console={**console, "target": f"10.0.0.1:{port}"})}
        with doctor.consoles(machines) as ask:
            (finding,) = ask("far")
    assert finding.state is Grade.STOP
    assert f"UDP port {port}" in finding.fact


def test_power_command_that_is_not_installed_is_told() -> None:
    result = doctor.judge("far", entry(power={"cycle": ["no-such-program", "cycle"]}), {"kexec": "yes"})
    assert any("its power command, no-such-program, is not installed here" in finding.fact for finding in result)


# --- a management controller


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[IpmiConsole]:
    """A controller of OpenIPMI's, to whose machine a serial line leads that says a word now and then."""
    over = threading.Event()
    line = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        line.settimeout(60)
        far, _ = line.accept()
        number = 0
        with far:
            while not over.wait(0.2):
                number += 1
                far.sendall(b"word %d\r\n" % number)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kinds = "".join(
        f"  allowed_auths_{who} none md2 md5 straight\n" for who in ("callback", "user", "operator", "admin")
    )
    (tmp_path / "lan").write_text(
        f'name "bmc"\nset_working_mc 0x20\nstartlan 1\n  addr 127.0.0.1 {port}\n  priv_limit admin\n{kinds}'
        f"  guid a123456789abcdefa123456789abcdef\nendlan\n"
        f'sol "tcp:127.0.0.1:{line.getsockname()[1]}" 115200\n'
        'user 1 true "" "none" user 10 none md2 md5 straight\n'
        'user 2 true "lab" "secret" admin 10 none md2 md5 straight\n'
    )
    (tmp_path / "emu").write_text(
        "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n"
    )
    (tmp_path / "password").write_text("secret")
    (tmp_path / "state").mkdir()
    argv = [
        str(SIMULATOR),
        "-n",
        "-c",
        str(tmp_path / "lan"),
        "-f",
        str(tmp_path / "emu"),
        "-s",
        str(tmp_path / "state"),
    ]
    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    console = IpmiConsole(
        kind="ipmi",
        address="127.0.0.1",
        user="lab",
        password_file=str(tmp_path / "password"),
        port=port,
        cipher_suite=3,
    )

    def answers() -> bool:
        argv = [*console.command[:-2], "mc", "info"]
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0

    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        poll_until(answers, Deadline(60), "the controller")
        yield console
    finally:
        over.set()
        process.kill()
        process.wait()
        line.close()


@needs_ipmi
def test_console_of_a_controller_is_heard_and_given_back(controller: IpmiConsole, tmp_path: Path) -> None:
    for number in range(2):  # the second one finds no session that the first one left
        log = ConsoleLog(controller, tmp_path / f"log{number}")
        assert log.settle() == ""
        wait_for("word", log)
        log.close()


@needs_ipmi
def test_session_that_a_killed_run_left_is_taken_over_by_who_has_the_machine(
    controller: IpmiConsole, tmp_path: Path
) -> None:
    dead = ConsoleLog(controller, tmp_path / "dead")
    assert dead.settle() == ""
    assert dead._process
    dead._process.send_signal(signal.SIGKILL)
    assert findings(controller) == [(Grade.NOTE, "another session holds its console")]
    notes: list[str] = []
    log = ConsoleLog(controller, tmp_path / "log")
    log.renew(notes.append)
    assert notes == ["another session held its console (127.0.0.1): this run takes it over"]
    wait_for("word", log)
    log.close()
    assert findings(controller) == []


@needs_ipmi
def test_controller_that_refuses_us_is_told(controller: IpmiConsole) -> None:
    Path(controller.password_file).write_text("wrong")
    (result,) = findings(controller)
    assert result == (
        Grade.STOP,
        "its console's command ended with status 1: Error: Unable to establish IPMI v2 / RMCP+ session",
    )


def test_controller_that_says_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ipmitool").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "ipmitool").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(module, "SESSION", 0.2)
    monkeypatch.setattr(module, "PARTING", 0.2)
    console = IpmiConsole(kind="ipmi", address="10.9.9.9", user="lab", password_file="/p")
    (result,) = findings(console)
    assert result[0] is Grade.STOP
    assert "opened no session within 0.2 s; cipher_suite = 3" in result[1]

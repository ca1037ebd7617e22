# SPDX-License-Identifier: GPL-2.0-or-later
"""``make shell`` and ``make debug`` with a stand-in for the host: what is called, how it ends, what is told."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import MachineError, MachineLostError, SetupError, UserInputError
from common.paths import PROJECT
from common.progress import Terminal
from common.store import Store
from host_setup.kernel.layers import Layer
from host_setup.kernel.series import Protection
from host_setup.tools import debug, fresh_host, shell

BANNER = "in another terminal: log in to"


class FakeHost:
    """A host whose login is a shell of this machine."""

    def __init__(self, folder: Path) -> None:
        self.guest_specs = (SimpleNamespace(name="protected"), SimpleNamespace(name="plain"))
        self.vitals = SimpleNamespace(reason=None)
        self.guest_vitals = {name: SimpleNamespace(reason=None) for name in ("protected", "plain")}
        self.asked: list[Any] = []
        self.qemu = SimpleNamespace(has_ended=False, qmp=self)
        self.devices: tuple[str, ...] = ()
        self.replies: dict[str, Any] = {}
        self.folder = folder

    def login_argv(self, guest: Any = None) -> list[str]:
        self.asked.append(guest.name if guest else "host")
        return ["sh", "-c", 'shift; exec sh ${1:+-c} "$@"', "login"]

    def login_command(self, guest: Any = None) -> str:
        return f"log in to {guest.name if guest else 'host'}"

    def monitor(self, line: str) -> str:
        self.asked.append(line)
        if line.startswith("gdbserver") and not self.replies.get("deaf"):
            Path(line.partition("unix:")[2].partition(",")[0]).touch()
        return "no such device"

    def execute(self, command: str, arguments: dict[str, Any] | None = None, *, seconds: float = 10.0) -> Any:  # noqa: ARG002
        self.asked.append((command, arguments or {}))
        return self.replies.get(command, {})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake = FakeHost(tmp_path)

    @contextmanager
    def fresh(
        options: argparse.Namespace, name: str, _: Terminal, *, devices: tuple[str, ...] = ()
    ) -> Iterator[fresh_host.FreshHost]:
        assert name in ("shell", "debug")
        fake.devices = devices
        kernel: Any = SimpleNamespace(
            series=options.series, release="6.12.7", vmlinux=tmp_path / "vmlinux", build_tree=tmp_path / "source/build"
        )
        running: Any = fake
        yield fresh_host.FreshHost(kernel, running, tmp_path, tmp_path / "qmp.sock")

    for module in (shell, debug):
        monkeypatch.setattr(module, "fresh_host", fresh)
    return fake


def test_shell_is_on_the_host_or_in_the_guest_that_is_meant(host: FakeHost, capfd: pytest.CaptureFixture[str]) -> None:
    for words, command in (
        ([], "host"),
        (["--guest"], "protected"),
        (["--guest", "plain", "--series", "stock"], "plain"),
        (["--guest=plain"], "plain"),
    ):
        assert shell.main([*words, "--", "echo", "a b", "'c'"]) == 0
        assert host.asked[-1] == command
        output = capfd.readouterr()
        assert output.out == "a b 'c'\n"
        assert f"{BANNER} {command}" in output.err


def test_shell_ends_with_the_status_of_its_command(host: FakeHost) -> None:
    host.vitals.check_broken = lambda: None
    assert shell.main(["--", "exit", "255"]) == 255
    assert shell.main(["--", "exit", "3"]) == 3
    assert shell.main(["--", "sh", "-c", "kill -TERM $$"]) == 128 + 15


def test_guest_that_is_not_there_is_told_with_those_that_are_before_a_host_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shell, "fresh_host", lambda *_: pytest.fail("a host was made"))
    for words, name, there in (
        ([], "other", "protected, plain"),
        ([], "", "protected, plain"),
        (["--mode", "plain"], "protected", "plain"),
        (["--series", "stock"], "protected", "plain"),
    ):
        with pytest.raises(UserInputError, match=f"no guest {name}") as caught:
            shell.main([*words, "--guest", name])
        assert caught.value.hint == f"one of: {there}"


def test_shell_ends_with_its_machine_and_says_why(host: FakeHost) -> None:
    host.guest_vitals["plain"].reason = "stalled"
    with pytest.raises(MachineLostError, match="the shell ended because its machine ended: stalled"):
        shell.main(["--guest", "plain", "--", "sleep", "60"])
    assert shell.main(["--guest", "--", "true"]) == 0  # the other guest
    assert shell.main(["--", "true"]) == 0  # the host, where a guest may be lost

    def notice() -> None:
        raise MachineLostError("the host is lost: its QEMU ended")

    host.vitals.check_broken = notice  # ssh is often the first to know
    with pytest.raises(MachineLostError, match="its QEMU ended"):
        shell.main(["--", "exit", "255"])
    host.vitals.reason = "kernel died: Kernel panic"
    with pytest.raises(MachineLostError, match="the shell ended because its machine ended: kernel died: Kernel panic"):
        shell.main(["--", "sleep", "60"])


def report_in(folder: Path, **changes: Any) -> Path:
    """The report of a run that keeps a host."""
    logins = {"host": "echo host", "guests": {"protected": "echo guest", "plain": "echo other"}}
    (folder / "hosts").mkdir(parents=True)
    text = json.dumps({"pid": os.getpid(), **logins, "takes_command": True, **changes})
    (folder / "hosts/kept.json").write_text(text)
    return folder


def test_who_attaches_is_on_the_host_that_a_run_keeps_or_in_its_guest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = str(report_in(tmp_path / "a"))
    for words, machine in (([], "host"), (["--guest"], "guest"), (["--guest", "plain"], "other")):
        assert shell.main(["--attach", report, *words]) == 0
        assert capfd.readouterr().out == f"{machine}\n"
        assert shell.main(["--attach", report, *words, "--", "ls", "a b"]) == 0
        assert capfd.readouterr().out == f"{machine} -- ls 'a b'\n"
    with pytest.raises(UserInputError, match="no guest other") as caught:
        shell.main(["--attach", report, "--guest", "other"])
    assert caught.value.hint == "one of: protected, plain"


def test_on_a_real_machine_the_login_is_a_command_already(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = str(report_in(tmp_path / "a", takes_command=False))
    assert shell.main(["--attach", report]) == 0
    assert shell.main(["--attach", report, "--guest", "--", "ls"]) == 0
    assert capfd.readouterr().out == "host\nguest -- ls\n"
    with pytest.raises(UserInputError, match="takes a login, not a command"):
        shell.main(["--attach", report, "--", "ls"])


def test_of_several_runs_the_newest_that_lives_is_meant(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    for age, (name, pid) in enumerate((("dead", dead.pid), ("new", os.getpid()), ("old", os.getpid()))):
        file = report_in(tmp_path / name, pid=pid, host=f"echo {name}") / "hosts/kept.json"
        os.utime(file, (1e9 - age, 1e9 - age))
    assert shell.main(["--attach", str(tmp_path)]) == 0
    assert capfd.readouterr().out == "new\n"
    with pytest.raises(UserInputError, match="keeps a host running") as caught:
        shell.main(["--attach", str(tmp_path / "dead")])
    assert "--keep-on-failure" in caught.value.hint
    (tmp_path / "new/hosts/kept.json").write_text("{}")
    with pytest.raises(UserInputError, match="cannot be used"):
        shell.main(["--attach", str(tmp_path / "new")])


def test_words_for_the_command_line_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    fresh_host.add_options(parser)
    assert parser.parse_args(["--words", "kvm_amd.npt=0 quiet"]).words == "kvm_amd.npt=0 quiet"
    with pytest.raises(SystemExit):
        parser.parse_args(["--words", "quiet\ninit=/bin/sh"])
    assert "is not one line of text" in capsys.readouterr().err


def test_options_mean_what_they_mean_to_the_sign_off() -> None:
    parser = argparse.ArgumentParser()
    fresh_host.add_options(parser)
    words = [
        "--series",
        "/a/b",
        "--kernel-source",
        "/k",
        "--layers",
        "debug,numa",
        "--mode",
        "plain",
        "--host",
        "nested",
    ]
    chosen = fresh_host.settings(parser.parse_args(words))
    assert (chosen.host, chosen.series, chosen.kernel_source) == ("nested", "/a/b", Path("/k"))
    assert (set(chosen.layers), chosen.mode) == ({Layer.DEBUG, Layer.NUMA}, Protection.PLAIN)


@pytest.mark.parametrize("name", ["shell", "debug"])
def test_help_and_a_wrong_option_need_no_machine(name: str) -> None:
    for words, status in (["--help"], 0), (["--host", "mainframe"], 2), (["--mode", "odd"], 2):
        done = subprocess.run(
            [sys.executable, "-m", f"host_setup.tools.{name}", *words],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert f"usage: sealproof {name}" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("folder", ["long" * 30, "a,b", "a b"])
def test_folder_where_qemu_cannot_listen_is_told(tmp_path: Path, folder: str) -> None:
    with pytest.raises(SetupError, match="QEMU cannot listen at") as caught:
        fresh_host._socket(tmp_path / folder / "qmp.sock")
    assert "TMPDIR" in caught.value.hint
    assert fresh_host._socket(Path("/tmp/sealproof-shell-12345678/qmp.sock"))


# --- debug ------------------------------------------------------------------------------------------------------------


def test_gdb_that_is_not_there_is_one_line_before_any_work(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SetupError, match="gdb is not installed") as caught:
        debug.main([])
    assert "apt-get install gdb" in caught.value.hint
    assert host.asked == []


def test_gdb_has_the_kernel_s_symbols_commands_and_source(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, tree = tmp_path / "gdb" / "vmlinux-gdb.py", tmp_path / "linux"
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/gdb")
    monkeypatch.setattr(debug, "gdb_scripts", lambda *_: script)
    monkeypatch.setattr(debug, "_tree", lambda *_: tree)
    called: list[list[str]] = []

    def run(argv: list[str], **_: object) -> int:
        called.append(argv)
        return 0

    monkeypatch.setattr(debug.foreground, "run", run)
    assert debug.main(["--", "-batch", "-ex", "bt"]) == 0
    ((program, *words),) = called
    assert program == "gdb"
    assert host.devices == ()
    assert str(tmp_path / "vmlinux") in words
    orders = [words[number + 1] for number, word in enumerate(words) if word == "-ex"]
    assert f"target remote {tmp_path}/gdb.sock" in orders
    assert orders.index(f"target remote {tmp_path}/gdb.sock") < orders.index(f"source {script}")
    assert f"directory {tree}/scripts" in orders
    assert words[-3:] == ["-batch", "-ex", "bt"]
    assert ("set-action", {"reboot": "shutdown", "shutdown": "pause"}) in host.asked


def test_qemu_that_does_not_listen_is_told(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/gdb")
    monkeypatch.setattr(debug, "gdb_scripts", lambda *_: tmp_path)
    monkeypatch.setattr(debug, "_tree", lambda *_: None)
    host.replies["deaf"] = True
    with pytest.raises(MachineError, match="QEMU does not listen for gdb: no such device"):
        debug.main([])


def test_gdb_scripts_get_the_constants_of_their_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "source/scripts/gdb"
    (theirs / "linux").mkdir(parents=True)
    for name in ("vmlinux-gdb.py", "linux/utils.py", "linux/Makefile", "linux/constants.py.in"):
        (theirs / name).write_text(name)

    def module(kernel: Any, sources: Path, *_: object, product: str) -> Path:
        assert sorted(file.name for file in sources.iterdir()) == ["Makefile", "constants.py.in"]
        (tmp_path / "made").mkdir()
        (tmp_path / "made" / product).write_text(f"constants of {kernel.key}")
        return tmp_path / "made"

    monkeypatch.setattr(debug, "module", module)
    kernel: Any = SimpleNamespace(key="k", build_tree=tmp_path / "source/build")
    (tmp_path / "session").mkdir()
    script = debug.gdb_scripts(kernel, tmp_path / "session", Store(tmp_path / "cache"), Terminal())
    beside = script.parent / "scripts/gdb/linux"  # where vmlinux-gdb.py looks
    assert script.read_text() == "vmlinux-gdb.py"
    assert (beside / "constants.py").read_text() == "constants of k"
    assert (beside / "utils.py").exists()


def drgn(host: FakeHost, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    called: list[list[str]] = []

    def run(argv: list[str], **_: object) -> int:
        called.append(argv)
        return 0

    monkeypatch.setattr(debug.pypi, "install", lambda *_: host.folder / "bin")
    monkeypatch.setattr(debug.foreground, "run", run)
    assert debug.main([*words]) == 0
    return called[0]


def test_drgn_reads_the_running_host(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = drgn(host, monkeypatch, "--drgn", "--", "-e", "1")
    assert program == f"{tmp_path}/bin/drgn"
    assert words[:2] == ["--qemu", f"{tmp_path}/qmp.sock"]
    assert words[words.index("--symbols") + 1] == str(tmp_path / "vmlinux")
    assert host.devices == ("vmcoreinfo",)
    assert words[-2:] == ["-e", "1"]


@pytest.mark.parametrize("name", ["no-folder/core", "folder", "file/core"])
def test_dump_that_cannot_be_written_is_told_before_anything_is_booted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(debug.pypi, "install", lambda *_: pytest.fail("drgn is installed"))
    with pytest.raises(UserInputError, match="no dump can be written to"):
        debug.main(["--dump", str(tmp_path / name)])


@pytest.mark.parametrize("name", ["core", "link", "fifo"])
def test_dump_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "core").write_text("mine")
    (tmp_path / "link").symlink_to("core")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(debug.pypi, "install", lambda *_: pytest.fail("drgn is installed"))
    with pytest.raises(UserInputError, match=f"{name} is there already, and a dump would overwrite it"):
        debug.main(["--dump", str(tmp_path / name)])
    assert (tmp_path / "core").read_text() == "mine"


def test_drgn_reads_a_dump_that_stays(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = drgn(host, monkeypatch, "--dump", str(tmp_path / "core"))
    assert words[1:3] == ["--core", str(tmp_path / "core")]
    assert host.devices == ("vmcoreinfo",)
    ((_, dumped),) = (words for words in host.asked if words[0] == "dump-guest-memory")
    assert (dumped["paging"], dumped["protocol"]) == (False, f"file:{tmp_path}/core")


def test_lock_pins_drgn_with_hashes() -> None:
    text = debug.DRGN.read_text(encoding="utf-8")
    assert debug.pypi.version_in_lock(text, "drgn")
    assert text.count("--hash=sha256:") > text.count("==") > 0
    with pytest.raises(ValueError, match="does not pin drgn"):
        debug.pypi.version_in_lock("mydrgn==1.0\n", "drgn")


def test_debugger_ends_with_its_machine(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug.pypi, "install", lambda *_: Path("/bin"))
    monkeypatch.setattr(debug, "_drgn", lambda *_: ["sleep", "60"])
    host.qemu.has_ended = True
    with pytest.raises(MachineError, match="QEMU has exited"):
        debug.main(["--drgn"])

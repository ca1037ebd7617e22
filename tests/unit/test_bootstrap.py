# SPDX-License-Identifier: GPL-2.0-or-later
"""bootstrap.sh with stand-ins for Debian's tools; the virtual environments are real, and empty."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from common.paths import PROJECT
from host_setup.tools.doctor import CEILINGS

TOOLS = [
    *("cat", "date", "dirname", "env", "flock", "grep", "id", "mktemp", "mv", "rm", "sed", "sh", "sha256sum", "sleep"),
    *("tail", "tr", "uname"),
]


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout whose list of packages is short, and a PATH of its own."""

    folder: Path
    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def tool(self, name: str, script: str) -> None:
        stand_in = self.path / name
        stand_in.unlink(missing_ok=True)
        stand_in.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        stand_in.chmod(0o755)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", "host_setup/bootstrap.sh", *argv],
            cwd=self.folder,
            env={"PATH": str(self.path), "TMPDIR": str(self.path), "HOME": str(self.path), **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str) -> tuple[int, str]:
        """Status and standard error."""
        process = self.start(*argv)
        _, err = process.communicate(timeout=120)
        return process.returncode, err

    def calls(self) -> list[str]:
        log = self.path / "calls"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def make_checkout(folder: Path) -> Checkout:
    checkout = Checkout(folder / "check out", folder / "bin")
    (checkout.folder / "host_setup").mkdir(parents=True)
    checkout.path.mkdir()
    shutil.copy(PROJECT / "host_setup" / "bootstrap.sh", checkout.folder / "host_setup")
    (checkout.folder / "host_setup" / "debian-packages.txt").write_text("# why\nalpha   # needed\n\nbeta\ngamma\n")
    (checkout.folder / "requirements.lock").write_text("")
    for name in TOOLS:
        (checkout.path / name).symlink_to(shutil.which(name) or name)
    checkout.tool("uname", "echo x86_64")
    checkout.tool("id", "echo 0")
    checkout.tool("sleep", "exit 0")
    checkout.tool("dpkg-query", "printf 'installed alpha\\ninstalled beta\\ninstalled gamma\\n'")
    checkout.tool("apt-get", f'echo "$DEBIAN_FRONTEND apt-get $*" >>"{checkout.path}/calls"')
    return checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    checkout = make_checkout(tmp_path)
    # The packages come first. A lock that is not there ends the run after them, before an environment is made.
    (checkout.folder / "requirements.lock").unlink()
    return checkout


@pytest.mark.parametrize("there", [False, True])
def test_a_tmpdir_that_is_no_folder_is_one_line(checkout: Checkout, there: bool) -> None:  # noqa: FBT001
    folder = checkout.folder / "tmp"
    if there:
        folder.touch()
    checkout.environment["TMPDIR"] = str(folder)
    status, output = checkout.run()
    assert status == 2
    assert output.splitlines() == [
        f"set-up: TMPDIR is {folder}, and nothing can be written there",
        "  next: point it to a writable folder, or unset it",
    ]


@pytest.mark.parametrize("files", [11, 12, 20, 100, CEILINGS["RLIMIT_NOFILE"][0] - 1])
def test_too_few_open_files_are_one_line(checkout: Checkout, files: int) -> None:
    checkout.tool("uname", "echo x86_64")
    program = subprocess.run(
        ["sh", "-c", f'ulimit -S -n {files}; exec sh "$0"', checkout.folder / "host_setup/bootstrap.sh"],
        env={"PATH": str(checkout.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (program.returncode, program.stdout) == (2, "")
    needed = CEILINGS["RLIMIT_NOFILE"][0]
    assert program.stderr.splitlines() == [
        f"set-up: {files} files may be open at a time, and {needed} are needed",
        f"  next: ulimit -n {needed}",
    ]


@dataclass(frozen=True, slots=True)
class History:
    """A checkout that went through a set-up that failed, and then two that were started at once."""

    checkout: Checkout
    failed: tuple[int, str]
    stamped_after_failure: bool
    both: list[tuple[int, str]]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    checkout = make_checkout(tmp_path_factory.mktemp("environment"))
    lock, stamp = checkout.folder / "requirements.lock", checkout.folder / ".venv" / "stamp"
    lock.write_text("./not-there\n")
    failed = checkout.run()
    stamped = stamp.exists()
    lock.write_text("")
    started = [checkout.start(), checkout.start()]
    output = [process.communicate(timeout=120)[1] for process in started]
    return History(
        checkout, failed, stamped, [(process.returncode, text) for process, text in zip(started, output, strict=True)]
    )


def test_missing_packages_and_only_those_are_installed_without_asking(checkout: Checkout) -> None:
    checkout.tool("dpkg-query", "printf 'installed alpha\\nconfig-files beta\\n'; exit 1")
    _, output = checkout.run()
    update, install = checkout.calls()
    assert update == "noninteractive apt-get -q update"
    assert install.startswith("noninteractive apt-get -q -y")
    assert install.endswith("install --no-install-recommends beta gamma")
    assert "installing Debian packages" in output


def test_nothing_is_installed_when_all_packages_are_there(checkout: Checkout) -> None:
    checkout.run()
    assert checkout.calls() == []


def test_package_whose_name_begins_like_an_installed_one_is_missing(checkout: Checkout) -> None:
    checkout.tool("dpkg-query", "printf 'installed alpha-extra\\ninstalled beta\\ninstalled gamma\\n'")
    checkout.run()
    assert checkout.calls()[1].endswith("--no-install-recommends alpha")


def test_ordinary_user_installs_by_sudo(checkout: Checkout) -> None:
    checkout.tool("id", "echo 1000")
    checkout.tool("dpkg-query", "printf 'installed alpha\\ninstalled beta\\n'")
    checkout.tool("sudo", f'echo sudo >>"{checkout.path}/calls"; shift; exec "$@"')
    checkout.run()
    assert [call.split()[0] for call in checkout.calls()] == ["sudo", "noninteractive", "sudo", "noninteractive"]


def test_who_is_refused_by_sudo_is_told_so_and_what_to_run(checkout: Checkout) -> None:
    """Without a terminal for the password, for instance: no network and no archive is at fault."""
    checkout.tool("id", "echo 1000")
    checkout.tool("dpkg-query", "printf 'installed alpha\\n'")
    checkout.tool("sudo", f'echo sudo >>"{checkout.path}/calls"; echo "sudo: a password is required" >&2; exit 1')
    status, output = checkout.run()
    assert status == 2
    assert "sudo: a password is required" in output
    assert "set-up: sudo does not let you install these packages: beta gamma" in output
    assert "next: as root: apt-get update && apt-get install --no-install-recommends beta gamma" in output
    assert checkout.calls() == ["sudo"]  # asked once


def test_neither_root_nor_sudo_ends_with_the_command_to_run(checkout: Checkout) -> None:
    checkout.tool("id", "echo 1000")
    checkout.tool("dpkg-query", "printf 'installed alpha\\n'")
    status, output = checkout.run()
    assert status == 2
    assert "next: as root: apt-get update && apt-get install --no-install-recommends beta gamma" in output
    assert checkout.calls() == []


def test_failed_installation_shows_the_end_of_its_log_and_the_next_step(checkout: Checkout) -> None:
    checkout.tool("dpkg-query", "exit 1")
    checkout.tool("apt-get", "echo 'E: Unable to locate package alpha'; exit 100")
    status, output = checkout.run()
    assert status == 2
    assert "E: Unable to locate package alpha" in output
    assert "see:" in output
    assert "next:" in output


def test_broken_archive_of_somebody_else_does_not_stop_the_installation(checkout: Checkout) -> None:
    checkout.tool("dpkg-query", "exit 1")
    checkout.tool("apt-get", f'echo "$*" >>"{checkout.path}/calls"; [ "$2" != update ]')
    _, output = checkout.run()
    assert len(checkout.calls()) == 2
    assert "could not install" not in output


def test_lists_that_another_apt_holds_are_waited_for(checkout: Checkout) -> None:
    checkout.tool("dpkg-query", "exit 1")
    refusal = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)"
    checkout.tool(
        "apt-get",
        f'echo "$*" >>"{checkout.path}/calls"\n'
        f'[ "$2" = update ] && [ ! -e "{checkout.path}/tried" ] || exit 0\n'
        f': >"{checkout.path}/tried"; echo "{refusal}"; exit 100',
    )
    _, output = checkout.run()
    assert [call.split()[1] for call in checkout.calls()] == ["update", "update", "-y"]
    assert "waiting" in output


def test_machine_without_dpkg_is_told_what_it_needs(checkout: Checkout) -> None:
    (checkout.path / "dpkg-query").unlink()
    status, output = checkout.run()
    assert status == 2
    assert "alpha beta gamma" in output


def test_other_architecture_is_refused(checkout: Checkout) -> None:
    checkout.tool("uname", "echo aarch64")
    status, output = checkout.run()
    assert status == 2
    assert "x86-64" in output


def test_environment_of_another_checkout_is_not_emptied_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    other = tmp_path / "environment"
    other.mkdir()
    (other / "kept").touch()
    (checkout.folder / ".venv").symlink_to(other)
    (checkout.folder / "requirements.lock").write_text("")
    status, output = checkout.run()
    assert (status, (other / "kept").exists()) == (2, True)
    assert ".venv is a link" in output


def test_checkout_below_a_colon_is_told_before_python_refuses_it(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    status, output = replace(checkout, folder=checkout.folder.rename(tmp_path / "a:b")).run()
    assert status == 2
    assert "the path of the checkout has a colon" in output
    assert "making .venv" not in output


def test_another_list_is_installed_and_no_environment_is_made(checkout: Checkout, tmp_path: Path) -> None:
    listed = tmp_path / "more.txt"
    listed.write_text("# why\ndelta # of Bochs\nalpha\n")
    (checkout.folder / "requirements.lock").write_text("")
    assert checkout.run("packages", str(listed))[0] == 0
    assert [call.rpartition("recommends ")[2] for call in checkout.calls()[1:]] == ["delta"]
    assert not (checkout.folder / ".venv").exists()


@pytest.mark.parametrize("has_venv", [False, True])
def test_checkout_that_cannot_be_written_is_told_so_and_no_disk_is_suspected(tmp_path: Path, has_venv: bool) -> None:  # noqa: FBT001
    checkout = make_checkout(tmp_path)
    place = checkout.folder / ".venv" if has_venv else checkout.folder
    place.mkdir(exist_ok=True)
    # Root may write everywhere but on a read-only mount.
    mounted = f"mount --bind '{place}' '{place}' && mount -o remount,ro,bind '{place}' && exec \"$@\""
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh", "sh", "host_setup/bootstrap.sh"],
        cwd=checkout.folder,
        env={"PATH": f"{checkout.path}:{os.environ['PATH']}", "TMPDIR": str(checkout.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip("no namespaces here")
    assert done.returncode == 2
    assert f"nothing can be written to {place}" in done.stderr
    assert "disk" not in done.stderr


def test_python_prints_debians_own(checkout: Checkout) -> None:
    process = checkout.start("python")
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "/usr/bin/python3\n")


def test_failed_pip_shows_its_lines_and_leaves_an_environment_that_does_not_count(history: History) -> None:
    status, output = history.failed
    assert status == 2
    assert "not-there" in output
    assert "pip could not install requirements.lock" in output
    assert not history.stamped_after_failure


def test_two_set_ups_at_once_repair_a_half_made_environment_once(history: History) -> None:
    assert [status for status, _ in history.both] == [0, 0]
    assert sum("making .venv" in line for _, line in history.both) == 1
    assert (history.checkout.folder / ".venv" / "bin" / "python").exists()


def test_set_up_with_nothing_to_do_is_silent_and_makes_nothing(history: History) -> None:
    stamp = history.checkout.folder / ".venv" / "stamp"
    before = stamp.stat().st_mtime_ns
    assert history.checkout.run() == (0, "")
    assert stamp.stat().st_mtime_ns == before


def test_environment_belongs_to_its_lock_its_python_and_its_folder(history: History) -> None:
    """A change of any of them makes the stamp differ, and so the environment be made anew."""
    folder = history.checkout.folder
    stamp = (folder / ".venv" / "stamp").read_text()
    assert hashlib.sha256((folder / "requirements.lock").read_bytes()).hexdigest() in stamp
    assert str(folder) in stamp
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True
    )
    assert version.stdout.strip() in stamp


def test_what_the_loader_complains_of_makes_no_other_environment(history: History) -> None:
    """It would be made anew in every such run, and under the feet of those that use it."""
    stamp = history.checkout.folder / ".venv" / "stamp"
    before = stamp.stat().st_mtime_ns
    odd = replace(history.checkout, environment={"LD_PRELOAD": "/not-there.so"})
    status, output = odd.run()
    assert (status, "making .venv" in output) == (0, False)
    assert stamp.stat().st_mtime_ns == before


def test_a_folder_of_the_users_with_the_same_name_is_not_gone_to(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "mine/host_setup").mkdir(parents=True)
    checkout.environment["CDPATH"] = str(tmp_path / "mine")
    checkout.tool("dpkg-query", "pwd >&2")
    assert str(checkout.folder) in checkout.run()[1] or checkout.calls()
    assert checkout.calls()  # it has read the list of packages

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a real machine does by itself, in a folder that stands for it: the real script, with a few commands made up."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_setup.remote.control import KEEPER, RUN_STDIN

RELEASE = os.uname().release
GRUB_CFG = (
    'if [ "${next_entry}" ] ; then\n  set default="${next_entry}"\n  save_env next_entry\nfi\n'
    "source ${config_directory}/custom.cfg\n"
)
GRUBENV = "# GRUB Environment Block\n" + "#" * 999
OWN_CUSTOM = "menuentry 'memtest' --id memtest {\n}\n"
CMDLINE = "BOOT_IMAGE=/boot/vmlinuz root=UUID=1234 ro quiet console=ttyS0\n"
# Each made-up command tells that it was called, and with what.
COMMANDS = {
    "systemctl": """
[ "$2" = enable ] || exit 0
for target in multi-user rescue emergency; do
    mkdir -p "$R/etc/systemd/system/$target.target.wants"
    ln -s x "$R/etc/systemd/system/$target.target.wants/$3"
done
""",
    "systemd-run": "",
    "grub-probe": "echo 1234-5678",
    "grub-mkrelpath": 'echo "${1#$R}"',
    "grub-reboot": 'printf "# GRUB Environment Block\\nnext_entry=sealproof\\n" > "$R/boot/grub/grubenv"',
    "bootctl": 'case "$*" in *esp*) [ -d "$R/efi" ] && echo "$R/efi";; esac',
}


class Machine:
    """A folder in place of a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls = root.parent / "calls"
        self.calls.touch()
        stubs = root.parent / "stubs"
        stubs.mkdir()
        for name, does in COMMANDS.items():
            (stubs / name).write_text(f'#!/bin/sh\nR={root}\necho "{name} $*" >> {self.calls}\n{does}\n')
            (stubs / name).chmod(0o755)
        for folder in ("run/systemd/system", "var/lib", "etc/systemd/system/multi-user.target.wants", "sys/kernel"):
            (root / folder).mkdir(parents=True)
        self.write("sys/kernel/notes", "old kernel")
        self.write("sys/kernel/kexec_loaded", "0\n")
        self.write("proc/cmdline", CMDLINE)
        self.write("proc/uptime", "1.0 2.0\n")
        self.write("proc/sysrq-trigger", "")
        self.write("boot/grub/grub.cfg", GRUB_CFG)
        self.write("boot/grub/grubenv", GRUBENV)
        self.write(f"boot/initrd.img-{RELEASE}", "initramfs")
        self.environment = {
            "SEALPROOF_ROOT": str(root),
            "SEALPROOF_PATH": str(stubs),
            "SEALPROOF_TEXT": KEEPER.read_text(),
            "SEALPROOF_LOOK": "1",
        }

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def keeper(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv, text = ["sh", "-c", RUN_STDIN, "keeper", *words], KEEPER.read_text()
        return subprocess.run(
            argv, env=self.environment, input=text, capture_output=True, text=True, timeout=30, check=False
        )

    def lease(self, token: str = "t1", holder: str = "kim@desk", seconds: int = 60) -> subprocess.CompletedProcess[str]:
        return self.keeper("lease", token, holder, str(seconds))

    def provision(self) -> None:
        self.write("var/lib/sealproof/kernel", "kernel under test")
        self.write(
            "var/lib/sealproof/kexec_into",
            f'#!/bin/sh\necho "kexec_into $*" >> {self.calls}\n'
            f'[ "$1" != --unload ] || echo 0 > {self.root}/sys/kernel/kexec_loaded\n',
        )
        (self.root / "var/lib/sealproof/kexec_into").chmod(0o700)

    def files(self) -> dict[str, str]:
        """Every file with its content; what the kernel itself has is not one."""
        results = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink() or name.split("/", maxsplit=1)[0] in ("proc", "sys"):
                continue
            results[name] = path.read_text() if path.is_file() else "/"
        return results


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "root").mkdir()
    fake = Machine(tmp_path / "root")
    yield fake
    watchers = subprocess.run(["pgrep", "-f", f"{fake.root}/var/lib"], capture_output=True, text=True, check=False)
    assert not watchers.stdout


def test_lease_is_taken_once_and_its_holder_is_told(machine: Machine) -> None:
    assert machine.lease().stdout == "leased\n"
    second = machine.lease("t2", "ann@lab")
    assert second.returncode == 3
    assert "taken by kim@desk" in second.stderr
    assert machine.read("var/lib/sealproof/keeper") == KEEPER.read_text().rstrip("\n")
    assert machine.keeper("beat", "t1").returncode == 0
    assert machine.keeper("beat", "t2").returncode == 5


def test_of_many_runs_at_once_one_gets_the_lease(machine: Machine) -> None:
    argv = ["sh", "-c", KEEPER.read_text(), "keeper", "lease"]
    runs = [
        subprocess.Popen([*argv, f"t{n}", f"run {n}", "60"], env=machine.environment, stderr=subprocess.DEVNULL)
        for n in range(8)
    ]
    assert sorted(run.wait(30) for run in runs) == [0, *[3] * 7]


def test_lease_long_over_can_be_taken_back_and_a_living_one_cannot(machine: Machine) -> None:
    machine.lease(seconds=60)
    assert machine.keeper("restore", "expired").returncode == 5
    old = time.time() - 121
    os.utime(machine.root / "var/lib/sealproof/beat", (old, old))
    late = machine.lease("t2")
    assert (late.returncode, "left by kim@desk" in late.stderr) == (4, True)
    assert machine.keeper("restore", "expired").stdout == "restored\n"
    assert machine.lease("t2").returncode == 0


def test_lease_of_a_run_that_died_while_it_took_it_can_be_taken_back(machine: Machine) -> None:
    (machine.root / "var/lib/sealproof").mkdir()
    assert machine.lease().returncode == 3  # it may just begin
    os.utime(machine.root / "var/lib/sealproof", (1, 1))
    assert machine.lease().returncode == 4
    assert machine.keeper("restore", "expired").returncode == 0
    assert machine.lease().returncode == 0


def test_lease_that_cannot_be_written_leaves_nothing(machine: Machine) -> None:
    (machine.root / "etc/systemd/system/sealproof-keeper.service").mkdir()
    before = machine.files()
    failed = machine.lease()
    assert failed.returncode == 2
    assert "cannot be written" in failed.stderr
    assert machine.files() == before


def test_without_systemd_there_is_no_lease(machine: Machine) -> None:
    (machine.root / "run/systemd/system").rmdir()
    before = machine.files()
    assert "systemd does not run" in machine.lease().stderr
    assert machine.files() == before


def test_kexec_gets_the_machine_s_own_initramfs_and_words(machine: Machine) -> None:
    machine.lease()
    machine.provision()
    assert machine.keeper("boot", "t1", "kexec", "panic=10").returncode == 0
    here = machine.root / "var/lib/sealproof"
    line = "root=UUID=1234 ro console=ttyS0 panic=10"
    calls = machine.calls.read_text()
    assert f"kexec_into --load {here}/kernel {machine.root}/boot/initrd.img-{RELEASE} {line}\n" in calls
    assert "systemctl kexec" in calls


def test_grub_boots_our_entry_once_and_all_comes_back_byte_by_byte(machine: Machine) -> None:
    machine.write("boot/grub/custom.cfg", OWN_CUSTOM)
    before, inode = machine.files(), (machine.root / "boot/grub/grubenv").stat().st_ino
    machine.lease()
    machine.provision()
    for _ in range(2):  # the second time from the kernel under test
        assert machine.keeper("boot", "t1", "grub", "panic=10").returncode == 0
        custom = machine.read("boot/grub/custom.cfg")
        assert custom.startswith(OWN_CUSTOM)
        assert custom.count("--id sealproof {") == 1
        assert "linux /boot/sealproof/kernel root=UUID=1234 ro console=ttyS0 panic=10\n" in custom
        assert f"initrd /boot/initrd.img-{RELEASE}\n" in custom
        assert "--set=root 1234-5678\n" in custom
        machine.write("boot/grub/grubenv", GRUBENV.replace("#\n", "next_entry=sealproof\n"))
    assert machine.keeper("restore", "t1").stdout == "restored\n"
    assert machine.files() == before
    assert (machine.root / "boot/grub/grubenv").stat().st_ino == inode


def test_systemd_boot_boots_our_entry_once_and_it_is_gone_again(machine: Machine) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    before = machine.files()
    machine.lease()
    machine.provision()
    assert machine.keeper("boot", "t1", "systemd-boot", "panic=10").returncode == 0
    assert "options root=UUID=1234 ro console=ttyS0 panic=10\n" in machine.read("efi/loader/entries/sealproof.conf")
    assert machine.read("efi/sealproof/kernel") == "kernel under test"
    assert "bootctl set-oneshot sealproof.conf" in machine.calls.read_text()
    assert machine.keeper("restore", "t1").returncode == 0
    assert machine.files() == before


@pytest.mark.parametrize("how", ["floppy", "systemd-boot", "grub"])
def test_boot_that_cannot_be_says_so_and_nothing_goes_down(machine: Machine, how: str) -> None:
    (machine.root / "boot/grub/grubenv").unlink()
    machine.lease()
    machine.provision()
    assert machine.keeper("boot", "t1", how, "").returncode == 2
    assert machine.keeper("boot", "t2", how, "").returncode == 5
    assert "systemd-run" not in machine.calls.read_text()


def test_another_kernel_is_left_first_and_the_rest_goes_when_the_own_one_is_back(machine: Machine) -> None:
    before = machine.files()
    machine.lease()
    machine.provision()
    machine.keeper("boot", "t1", "grub", "")
    machine.write("sys/kernel/notes", "kernel under test")
    assert machine.keeper("restore", "t1").stdout == "rebooting\n"
    assert "systemctl --no-block reboot" in machine.calls.read_text()
    assert (machine.root / "var/lib/sealproof/keeper").exists()
    assert not (machine.root / "boot/sealproof").exists()
    machine.write("sys/kernel/notes", "old kernel")
    assert machine.keeper("watch").returncode == 0
    assert machine.files() == before


def test_loaded_kernel_that_was_never_booted_is_unloaded(machine: Machine) -> None:
    machine.lease()
    machine.provision()
    machine.write("sys/kernel/kexec_loaded", "1\n")
    machine.keeper("restore", "t1")
    assert "kexec_into --unload" in machine.calls.read_text()


def test_silent_run_s_lease_ends_and_a_living_one_s_does_not(machine: Machine) -> None:
    before = machine.files()
    machine.lease(seconds=3)
    watch = subprocess.Popen(["sh", "-c", KEEPER.read_text(), "keeper", "watch"], env=machine.environment)
    begun = time.monotonic()
    while time.monotonic() - begun < 6:
        assert machine.keeper("beat", "t1").returncode == 0
        time.sleep(0.5)
    assert watch.wait(30) == 0
    assert machine.files() == before


def test_manifest_tells_what_a_run_leaves(machine: Machine) -> None:
    before = machine.keeper("manifest").stdout
    assert f"{machine.root}/boot/grub/grubenv" in before
    machine.lease()
    machine.provision()
    machine.keeper("boot", "t1", "grub", "")
    assert machine.keeper("manifest").stdout != before
    machine.keeper("restore", "t1")
    assert machine.keeper("manifest").stdout == before


def test_what_each_boot_of_the_machine_s_own_changes_is_no_part_of_the_manifest(machine: Machine) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    machine.write("efi/loader/random-seed", "one seed")
    machine.write("boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=debian\nrecordfail=1\n" + "#" * 900)
    before = machine.keeper("manifest").stdout
    machine.write("efi/loader/random-seed", "another")
    ours = "# GRUB Environment Block\nsaved_entry=debian\nboot_success=0\nboot_indeterminate=1\n" + "#" * 900
    machine.write("boot/grub/grubenv", ours)
    assert machine.keeper("manifest").stdout == before
    for changed in (
        ours.replace("=debian", "=other"),
        ours.replace("saved_entry=debian\n", ""),
        f"next_entry=x\n{ours}",
    ):
        machine.write("boot/grub/grubenv", changed)
        assert machine.keeper("manifest").stdout != before
    machine.write("boot/grub/grubenv", ours)
    machine.write("efi/loader/entries/debian.conf", "title Other\n")
    assert machine.keeper("manifest").stdout != before


def test_facts_name_holder_and_ways_to_boot(machine: Machine) -> None:
    machine.lease()
    facts = dict(line.split("=", 1) for line in machine.keeper("facts").stdout.splitlines())
    assert (facts["holder"], facts["grub"], facts["systemd_boot"]) == ("kim@desk", "yes", "no")
    assert facts["initramfs"] == f"{machine.root}/boot/initrd.img-{RELEASE}"
    assert bytes.fromhex(facts["notes"]) == b"old kernel"

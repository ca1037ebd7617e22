# SPDX-License-Identifier: GPL-2.0-or-later
"""The stand-in as it runs: an emulated PC with SVM that boots from its own disk, with a serial line and a power switch.

A run reaches it by SSH alone, and by what an inventory may name: a command that shows its console, one that switches
it off and on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.environment import environment
from common.errors import DeadlineError, MachineError
from common.paths import PROJECT
from common.progress import Terminal
from common.store import GIB, Store, digest
from common.waiting import Deadline, poll_until
from guest_images.keys import Keys
from guest_images.rootfs import RootFs, rootfs
from host_setup.channels.vitals import Vitals
from host_setup.emulated.host import EMULATION
from host_setup.emulated.qemu import Qemu
from host_setup.inventory import Remote
from host_setup.remote.control import Control
from tests.hosts.standin.image import Image, image

MEMORY = 2048  # MiB
CPUS = 1  # with several the emulation now and then loses a boot (docs/emulation.md says how)
ONE_LOOK = 10.0  # seconds
BOOT = 400  # seconds that Debian may take on a busy computer
POWER_SOCKET = "power"  # a file of its folder
DISK_NEED = 2 * GIB
ESP_BYTES = GIB // 4


class Standin:
    """A running stand-in.

    :param disk: it writes to it. :param root: has its QEMU. :param extra: added to QEMU's arguments.
    """

    def __init__(self, disk: Path, root: RootFs, keys: Keys, folder: Path, extra: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.keys = keys
        self.vitals = Vitals("the stand-in")
        argv = [
            *(str(root.qemu), "-name", "sealproof-standin", "-nodefaults", "-no-user-config", "-display", "none"),
            # Without a screen its firmware has the boot loader speak on the serial line.
            *("-machine", "pc,graphics=off", "-accel", EMULATION.argument, "-cpu", EMULATION.cpu),
            *("-smp", str(CPUS), "-m", str(MEMORY)),
            *("-drive", f"file={disk},if=none,id=disk,format=raw,cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22"),
            *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
            *("-qmp", f"unix:{folder / POWER_SOCKET},server=on,wait=off"),
            *extra,
        ]
        # A kernel that dies makes way for the machine's own: the machine is not lost with it.
        self.qemu = Qemu(argv, vitals=self.vitals, folder=folder, on_beat=lambda _: None, fatal=lambda _: False)

    @property
    def port(self) -> int:
        """The port of this computer's loopback that leads to its SSH server."""
        for line in self.qemu.qmp.monitor("info usernet").splitlines():
            if "HOST_FORWARD" in line:
                return int(line.split()[3])
        raise MachineError("the stand-in has no network")

    def entry(self, *, user: str = "root", port: int | None = None, **more: Any) -> Remote:
        """What an inventory says of it.

        :param port: another one of this computer that leads to it. :param more: further fields, or others in place.
        """
        fields = {
            "kind": "ssh",
            "address": f"{user}@127.0.0.1:{port or self.port}",
            "host_key": self.keys.public("host"),
            "key": str(self.keys.client),
            "expendable": True,
            "config": "lean",
            "console": {"kind": "command", "command": ["tail", "-n", "0", "-F", str(self.qemu.console_log)]},
            "power": {"cycle": self.power_command()},
            "lease": {"seconds": 60},
            "limits": {"boot": BOOT, "memory": 1024},
            **more,
        }
        return Remote.model_validate(fields)

    def power_command(self) -> list[str]:
        """What switches it off and on again."""
        return [sys.executable, str(PROJECT / "tests/hosts/standin/power.py"), str(self.folder / POWER_SOCKET)]

    def wait_until_up(self) -> None:
        """Wait until its SSH server answers.

        :raises DeadlineError: it does not. :raises MachineLostError: its QEMU has ended.
        """
        control = Control("standin", self.entry())

        def up() -> bool:
            try:
                control.connect(Deadline(ONE_LOOK))
            except DeadlineError:
                return False
            return True

        try:
            poll_until(up, Deadline(BOOT), "the stand-in to boot", check=self.vitals.check, explain=self.qemu.explain)
        finally:
            control.close()

    def close(self) -> None:
        """Pull the plug."""
        try:
            self.qemu.qmp.close()
        finally:
            self.qemu.kill()


def write_inventory(path: Path, entry: Remote) -> Path:
    """Write an inventory with one machine, ``standin``."""
    lines = ["[machine.standin]"]
    for name, value in entry.model_dump(mode="json", exclude_none=True).items():
        lines.append(f"{name} = {_toml(value)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)


@contextmanager
def running(disk: Path, root: RootFs, keys: Keys, folder: Path, extra: Sequence[str] = ()) -> Iterator[Standin]:
    """A stand-in that runs as long as the context; nobody has waited for it."""
    standin = Standin(disk, root, keys, folder, extra)
    try:
        yield standin
    finally:
        standin.close()


def installed_disk(store: Store, keys: Keys, terminal: Terminal, folder: Path) -> Path:
    """A disk from which it boots by itself: GRUB installed as on any Debian, by its own tools.

    :param folder: for the log of the first boot. :raises MachineError: GRUB does not install.
    """
    base = image(store, keys, terminal)
    root = rootfs(store, terminal)
    key = digest(base.key, root.version("qemu-system-x86"), _INSTALL)

    def make(entry: Path) -> None:
        disk = entry / "disk"
        copy_disk(base.disk, disk)
        with terminal.step("first boot of the stand-in, to install its boot loader", expected=120):
            _install(base, disk, root, keys, folder)

    return store.get_or_make("standin-disk", key, make, need=DISK_NEED) / "disk"


_INSTALL = "grub-install --target=i386-pc /dev/vda && update-grub && sync"


def _install(base: Image, disk: Path, root: RootFs, keys: Keys, folder: Path) -> None:
    """Boot the disk by its kernel alone, and have it install its boot loader."""
    _set_up(base, disk, _INSTALL, root, keys, folder, ())


def _set_up(
    base: Image, disk: Path, script: str, root: RootFs, keys: Keys, folder: Path, drives: Sequence[str]
) -> None:
    direct = ("-kernel", str(base.kernel), "-initrd", str(base.initramfs), "-append", "console=ttyS0 root=/dev/vda1 ro")
    with running(disk, root, keys, folder, (*direct, *drives)) as standin:
        standin.wait_until_up()
        control = Control("standin", standin.entry())
        try:
            control.run(["sh", "-c", script], seconds=BOOT).require()
            control.run(["systemctl", "--no-block", "poweroff"], seconds=30).require()
        finally:
            control.close()
        poll_until(lambda: standin.vitals.reason is not None, Deadline(BOOT), "the stand-in to switch itself off")


@dataclass(frozen=True, slots=True)
class UefiDisks:
    """What a stand-in with UEFI boots from: its disk, and one with an EFI system partition that has systemd-boot.

    :ivar firmware: the flash chip with the firmware; that with its variables is as it leaves the factory.
    """

    disk: Path
    esp: Path
    firmware: Path
    variables: Path

    def attach(self, folder: Path) -> list[str]:
        """Copies for one machine, as QEMU's arguments.

        :param folder: takes the copies.
        """
        folder.mkdir(parents=True, exist_ok=True)
        esp, variables = folder / "esp", folder / "variables"
        copy_disk(self.esp, esp)
        copy_disk(self.variables, variables)
        return [
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={self.firmware}"),
            *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
            *_second_drive(esp),
        ]


def uefi_disks(store: Store, keys: Keys, terminal: Terminal, folder: Path) -> UefiDisks:
    """The disks of a stand-in with UEFI: systemd-boot installed by its own tool.

    :param folder: for the log of the first boot. :raises MachineError: systemd-boot does not install.
    """
    base = image(store, keys, terminal)
    root = rootfs(store, terminal)
    key = digest("uefi", base.key, root.version("qemu-system-x86"), _INSTALL_UEFI, str(ESP_BYTES))

    def make(entry: Path) -> None:
        disk, esp = entry / "disk", entry / "esp"
        copy_disk(base.disk, disk)
        with esp.open("wb") as file:
            file.truncate(ESP_BYTES)
        with terminal.step("first boot of the stand-in with UEFI, to install its boot loader", expected=120):
            _set_up(base, disk, _INSTALL_UEFI, root, keys, folder, _second_drive(esp))

    entry = store.get_or_make("standin-disk", key, make, need=DISK_NEED)
    return UefiDisks(entry / "disk", entry / "esp", base.firmware, base.variables)


def _second_drive(file: Path) -> list[str]:
    drive = f"file={file},if=none,id=esp,format=raw,cache=unsafe"
    return ["-drive", drive, "-device", "virtio-blk-pci,drive=esp,bootindex=1"]


# The variables are those of another firmware, or none: so systemd-boot goes to where every firmware looks.
_INSTALL_UEFI = r"""
set -e
printf 'label: gpt\ntype=uefi\n' | sfdisk --quiet /dev/vdb
udevadm settle
mkfs.vfat -F 32 /dev/vdb1
echo '/dev/vdb1 /efi vfat umask=0077 0 0' >> /etc/fstab
mkdir -p /efi
mount /efi
bootctl --esp-path=/efi --no-variables install
mkdir -p /efi/debian
cp /boot/vmlinuz-* /efi/debian/vmlinuz
cp /boot/initrd.img-* /efi/debian/initrd
printf 'title Debian\nlinux /debian/vmlinuz\ninitrd /debian/initrd\noptions root=/dev/vda1 ro console=ttyS0\n' \
    > /efi/loader/entries/debian.conf
printf 'default debian.conf\ntimeout 0\n' > /efi/loader/loader.conf
umount /efi
sync
"""


def copy_disk(source: Path, target: Path) -> None:
    """Copy a disk without its holes.

    :raises MachineError: it cannot be copied.
    """
    argv = ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(f"the stand-in's disk cannot be copied: {done.stderr.strip()}", hint="is the disk full?")

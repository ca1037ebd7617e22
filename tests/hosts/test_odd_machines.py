# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are not as Debian installs them: each boots our kernel once, or is refused before it is touched."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from common.errors import SetupError
from common.paths import PROJECT
from host_setup.remote.leased import TakenError, bring_back_on_error
from tests.hosts.bench import Bench

ODD = 'sealproof.a=64K$0x18690000 sealproof.b=d-ng|n-ng;x&y sealproof.c={#*?[a] sealproof.d="two  words"'
PASSWORD = r"""
cp -p /boot/grub/grub.cfg /root/grub.cfg
sed -e "1i set superusers=\"boss\"\npassword boss secret" \
    -e "s/^menuentry '[^']*'/& --unrestricted/" -i /boot/grub/grub.cfg
grub-script-check /boot/grub/grub.cfg
grep -c -- "^menuentry .*--unrestricted" /boot/grub/grub.cfg
"""


@contextmanager
def password(bench: Bench) -> Iterator[None]:
    """Have GRUB ask for a password before it boots what is not its owner's own entry."""
    assert int(bench.run("sh", "-c", PASSWORD)) >= 1
    try:
        yield
    finally:
        bench.run("sh", "-c", "mv /root/grub.cfg /boot/grub/grub.cfg && sync")


def test_grub_with_a_password_and_odd_words(bench: Bench, say: Callable[[str], None]) -> None:
    """GRUB asks for a password, and the command line has odd words: the kernel gets them as they are."""
    with password(bench):
        leased = bench.lease(boot="grub", command_line=ODD)
        with bring_back_on_error(leased):
            leased.provision(bench.kernel, bench.programs)
            leased.boot()
            line = leased.command_line
        leased.restore()
    for word in ODD.partition(" sealproof.d")[0].split():
        assert f" {word} " in line
    assert ' "sealproof.d=two  words"' in line
    say("it ran the kernel, and came back")


LAYERS = {
    "LVM": (
        (
            "truncate -s 128M /var/tmp/part && at=$(losetup --find --show /var/tmp/part) && pvcreate -qq $at"
            " && vgcreate -qq -An lab $at && lvcreate -qq -An -n boot -l 100%FREE lab && mkfs.ext4 -q /dev/lab/boot"
            " && mount /dev/lab/boot"
        ),
        "vgchange -qq -an lab; losetup --detach-all; cd /etc/lvm; rm -rf devices/system.devices archive backup",
    ),
    "RAID": (
        (
            "for part in /var/tmp/part1 /var/tmp/part2; do truncate -s 96M $part; losetup --find --show $part; done"
            " | xargs mdadm --create /dev/md0 --quiet --run --level=1 --metadata=1.2 --raid-devices=2"
            " && mkfs.ext4 -q /dev/md0 && mount /dev/md0"
        ),
        "mdadm --quiet --stop /dev/md0; losetup --detach-all",
    ),
    "btrfs": (
        "truncate -s 128M /var/tmp/part && mkfs.btrfs -q /var/tmp/part && mount -o loop /var/tmp/part",
        "losetup --detach-all",
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_boot_on_layers(bench: Bench, say: Callable[[str], None], layer: str) -> None:
    """Its /boot is on ..., where GRUB could not take back an entry that is meant once."""
    make, unmake = LAYERS[layer]
    bench.run("sh", "-c", "mkdir /var/tmp/boot && cp -a /boot/grub /boot/initrd* /var/tmp/boot")
    try:
        bench.run("sh", "-c", f"{make} /boot && rm -rf /boot/lost+found && mv /var/tmp/boot/* /boot", seconds=120)
        with pytest.raises(SetupError, match="where GRUB cannot take back an entry") as caught:
            bench.lease(boot="grub")
    finally:
        bench.run("sh", "-c", f"umount /boot; {unmake}; rm -rf /var/tmp/part* /var/tmp/boot; sync", seconds=120)
    message = caught.value.message.splitlines()[0]
    assert {"LVM": "lvm", "RAID": "mdraid1x", "btrfs": "btrfs"}[layer] in message
    say(message)


LIMIT = "systemctl start lab.slice && systemctl set-property --runtime lab.slice"
GROUPS = {  # limit of a group of systemd's -> what doctor says of it, to a run in a group below
    "MemoryMax=1G": "of 1.0 GiB, by the limit of the control group /sys/fs/cgroup/lab.slice",
    "MemoryHigh=768M": "of 0.8 GiB, by the limit of the control group /sys/fs/cgroup/lab.slice",
    "CPUQuota=50%": "of which a control group's quota leaves the time of 0.5",
    "TasksMax=100": "more processes allowed by a control group",
}


@pytest.mark.parametrize("limit", GROUPS)
def test_doctor_sees_the_limit_of_a_control_group(bench: Bench, say: Callable[[str], None], limit: str) -> None:
    """Its systemd limits a slice (control groups of version 2): doctor in there says by how much (...)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in ("common", "host_setup"):
            for file in (PROJECT / folder).glob("*.*"):
                tar.add(file, file.relative_to(PROJECT))
    bench.write_file("/run/ours.tar", packed.getvalue())
    doctor = "systemd-run --quiet --pipe --wait --slice=lab-part.slice --working-directory=/run/ours -E COLUMNS=1000"
    try:
        bench.run("sh", "-c", f"mkdir /run/ours && tar -xf /run/ours.tar -C /run/ours && {LIMIT} '{limit}'")
        output = bench.run("sh", "-c", f"{doctor} python3 -B -m host_setup.tools.doctor || test $? = 1", seconds=120)
    finally:
        bench.run("sh", "-c", "systemctl stop lab.slice; systemctl revert lab.slice; rm -rf /run/ours /run/ours.tar")
    lines = [line.strip() for line in output.splitlines() if GROUPS[limit] in line]
    assert len(lines) == 1, output
    say(lines[0])


def test_kernel_that_is_locked_down(bench: Bench, say: Callable[[str], None]) -> None:
    """Its kernel is locked down, as Secure Boot has it, and then also lets nobody load another one."""
    bench.run("sh", "-c", "echo 1 > /proc/sys/kernel/kexec_load_disabled")
    before = bench.boot_id()
    try:
        with pytest.raises(SetupError, match="kexec is switched off until it boots again"):
            bench.lease()
        bench.run("sh", "-c", "echo integrity > /sys/kernel/security/lockdown")
        for boot in ("kexec", "grub"):
            with pytest.raises(SetupError, match="its kernel is locked down") as caught:
                bench.lease(boot=boot)
    finally:
        bench.switch_off_and_on()  # neither can be taken back
        bench.wait_for_another_boot(before)
    say(caught.value.message.splitlines()[0])


def test_clock_that_steps(bench: Bench, say: Callable[[str], None]) -> None:
    """Its clock steps by three hours while a run has it: another run does not take that one for dead."""
    leased = bench.lease()
    with bring_back_on_error(leased):
        for step in ("3 hours", "6 hours ago", "3 hours"):
            bench.run("date", "-s", step)
            with pytest.raises(TakenError, match="taken by") as caught:
                bench.lease()
    leased.restore()
    say(caught.value.message.splitlines()[0])

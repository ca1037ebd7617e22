# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that start another kernel from their own: theirs, which they have on disks of their own."""

from __future__ import annotations

from dataclasses import replace

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import GUEST_PROGRAMS, VIRTIO, GuestSpec
from tests_e2e.support.memory import shell

KERNEL, INITRAMFS = "bzImage", "initramfs"  # in the host's /payload/guest
LOAD = 180.0  # seconds: the kernel is copied page by page, each the first touch of private memory


def with_its_kernel(spec: GuestSpec) -> GuestSpec:
    """The same guest with its kernel and initramfs on disks."""
    drives = [
        word
        for file in (KERNEL, INITRAMFS)
        for word in (
            *("-drive", f"file=/payload/guest/{file},if=none,id={file},format=raw,readonly=on"),
            *("-device", f"virtio-blk-pci,drive={file},{VIRTIO}"),
        )
    ]
    return replace(spec, extra=tuple(drives))


def kexec(host: Host, guest: Guest) -> None:
    """Have a guest start the kernel on its disk from its own; nothing answers on the old connections then."""
    for disk, file in (("vdb", KERNEL), ("vdc", INITRAMFS)):
        (size,) = host.ssh.run(["wc", "-c", f"/payload/guest/{file}"], seconds=20).require().text.split()[:1]
        shell(guest, f"head -c {size} /dev/{disk} > /run/{file}")
    line = shell(guest, "cat /proc/cmdline")
    argv = [f"{GUEST_PROGRAMS}/kexec_into", f"/run/{KERNEL}", f"/run/{INITRAMFS}", line]
    guest.ssh.run(argv, seconds=LOAD).require()

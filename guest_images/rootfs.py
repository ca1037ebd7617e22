# SPDX-License-Identifier: GPL-2.0-or-later
"""The root file systems that come from Debian: the host's image and the base of the guest's initramfs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from common.environment import environment
from common.errors import CommandError, ImageError
from common.paths import PROJECT
from common.processes import run_tree
from common.progress import Terminal
from common.store import GIB, Store, digest

SUITE = "trixie"
RECIPE = PROJECT / "guest_images" / "debian"
EXPECTED = 60.0  # seconds
# mmdebstrap's own lines, in order: how far it is when each appears.
_MILESTONES = {
    "running apt-get update": 0.05,
    "downloading packages": 0.15,
    "extracting archives": 0.3,
    "installing essential": 0.4,
    "installing remaining": 0.55,
    "customize-hook": 0.85,
    "cleaning package lists": 0.95,
}


@dataclass(frozen=True, slots=True)
class RootFs:
    """What Debian gives: the host's image (erofs), the guest's base (cpio), a QEMU and the versions of all packages."""

    folder: Path
    key: str

    @property
    def host_image(self) -> Path:
        """The host's root file system, erofs with lz4."""
        return self.folder / "root.erofs"

    @property
    def guest_base(self) -> Path:
        """busybox and dropbear as a newc archive."""
        return self.folder / "guest-base.cpio"

    @property
    def qemu(self) -> Path:
        """The host's QEMU once more, with its libraries and firmware: a program of this machine, to run the host in.

        So the emulation is the same on every machine, whatever its distribution. It matters: QEMU 7.2 of Debian 12
        takes more than twice the time of this one for the same boot.
        """
        return self.folder / "qemu" / "qemu-system-x86_64"

    def version(self, package: str) -> str:
        """The version of a Debian package in the host's image.

        :raises ImageError: it is not in the image.
        """
        for line in (self.folder / "packages.list").read_text(encoding="ascii").splitlines():
            name, _, version = line.partition(" ")
            if name == package:
                return version
        raise ImageError(
            f"the host's image holds no package {package}", hint="add it to guest_images/debian/packages.txt"
        )


# Who is not root becomes root of a user namespace and stays the same user outside. In mmdebstrap's own, root would be
# somebody else outside: the hook could neither be reached in a home folder, which Debian 12 closes to others, nor write
# there. The processes end with the first one.
_BY_USER = (
    *("unshare", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
    *("mmdebstrap", "--mode=root"),
)


def bootstrap(packages: Path, hook: str, log: Path, terminal: Terminal, title: str) -> None:
    """Have mmdebstrap make a root file system, from which a hook makes what is to stay.

    :param packages: a file, a package a line. :param hook: a shell command; ``$1`` in it is the root file system.
    :raises ImageError: mmdebstrap failed; its last lines and log are named.
    """
    log.unlink(missing_ok=True)
    argv = [
        *(_BY_USER if os.geteuid() else ("mmdebstrap",)),
        *("--variant=minbase", "--format=null"),
        f"--include={','.join(_packages(packages))}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc")),
        f"--customize-hook={hook}",
        *(SUITE, "-", *_mirrors()),
    ]
    with terminal.step(title, expected=EXPECTED) as step:

        def on_line(line: str) -> None:
            for mark, fraction in _MILESTONES.items():
                if mark in line:
                    step.update(fraction, line.removeprefix("I: ")[:50])

        try:
            run_tree(argv, log=log, stage="image", on_line=on_line)
        except CommandError as error:
            raise ImageError(
                f"mmdebstrap failed\n{error.tail}",
                hint="does 'apt-get update' work here? the log's first line repeats the command",
                artefact=log,
            ) from error


def _packages(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _mirrors() -> list[str]:
    """Where this machine's apt gets Debian from, so that a proxy or mirror set up here serves the image too."""
    form = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(SITE)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    sites = set()
    for line in done.stdout.splitlines():
        origin, codename, component, site = line.split(" ", 3)
        # Security and updates archives hold other suites; the main archive is the one whose suite is a bare codename.
        if (origin, component) == ("Debian", "main") and codename.isalpha() and site.startswith("http"):
            sites.add(site)
    return sorted(sites)


def rootfs(store: Store, terminal: Terminal) -> RootFs:
    """The root file systems, built by mmdebstrap if the cache lacks them.

    :raises ImageError: mmdebstrap failed; its last lines and log are named.
    :raises NoSpaceError: less than 2 GiB free.
    """
    key = digest(SUITE, *sorted(RECIPE.iterdir()))

    def make(folder: Path) -> None:
        hook = f'"{RECIPE}/assemble.sh" "{RECIPE}" "{folder}" "$1"'
        log = store.root / "logs" / f"rootfs-{key}.log"
        bootstrap(RECIPE / "packages.txt", hook, log, terminal, "host and guest images")

    folder = store.get_or_make("rootfs", key, make, need=2 * GIB)
    # Made again from the same recipe it may hold newer packages, and then no saved host must go on with it.
    return RootFs(folder, digest(key, folder / "packages.list"))

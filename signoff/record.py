# SPDX-License-Identifier: GPL-2.0-or-later
"""The run's identity: what was tested, on what, with which project, and how to repeat it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from common.commands import git
from common.errors import CommandError, SetupError
from signoff.contract import Mode


class Tier(StrEnum):
    """Which kind of host proved the claims."""

    EMULATED = "emulated"
    NESTED = "nested"
    BARE_METAL = "bare-metal"

    @property
    def proves(self) -> str:
        """What a run on such a host shows."""
        return _TIERS[self][0]

    @property
    def does_not_prove(self) -> str:
        """What it cannot show."""
        return _TIERS[self][1]


_TIERS = {
    Tier.EMULATED: (
        (
            "the logic of the real kernel and the real QEMU: page tables, error paths, which access is refused and "
            "how. Processor and firmware are QEMU's model of them."
        ),
        ("speculative execution, caches, timing and speed; the behaviour of real processors, IOMMUs and devices."),
    ),
    Tier.NESTED: (
        "the logic of the real kernel and the real QEMU on a real processor, beneath another hypervisor.",
        (
            "what the hypervisor beneath hides or changes: nested paging in hardware, IOMMU and devices, speculation "
            "across its exits; speed."
        ),
    ),
    Tier.BARE_METAL: (
        "the logic of the real kernel and the real QEMU on this processor and these devices.",
        "other processor models, steppings, microcode and devices; that speculative attacks without a probe here fail.",
    ),
}


@dataclass(frozen=True, slots=True)
class PatchIdentity:
    """One patch of the series: its name and the SHA-256 of its file."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class KernelIdentity:
    """The host kernel under test.

    :ivar release: what ``uname -r`` says on the host. :ivar build_id: the GNU build ID of what was built (vmlinux), in
        hexadecimal. :ivar running_build_id: the one that the running kernel says of itself (``/sys/kernel/notes``).
    :ivar source: which source it was built from. :ivar config_sha256: of its final configuration.
    :ivar source_sha256: of the source's content. :ivar image_sha256: of the file that was booted (bzImage).
    :ivar vmlinux_sha256: of the kernel with its symbols. :ivar compiler: as it names itself.
    """

    release: str
    build_id: str
    source: str
    config_sha256: str
    patches: tuple[PatchIdentity, ...] = ()
    running_build_id: str = ""
    source_sha256: str = ""
    image_sha256: str = ""
    vmlinux_sha256: str = ""
    compiler: str = ""

    @property
    def series_sha256(self) -> str:
        """What names a series: the SHA-256 of its patches' lines, as ``sha256sum`` prints them."""
        return hashlib.sha256("".join(f"{patch.sha256}  {patch.name}\n" for patch in self.patches).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Record:
    """Identity of one run.

    :ivar started: UTC, ISO 8601. :ivar ended: the same, empty while the run goes on.
    :ivar command: repeats the run. :ivar host: name and value, in the order in which the report shows them.
    :ivar commit: of this project, with ``-dirty`` appended when the work tree differs from it; ``unknown`` outside git.
    :ivar durations: seconds spent, by what. :ivar problems: what makes the run as a whole no proof.
    :ivar machine: the machine that ran it, by the name that its user gives it.
    :ivar given_up: why the run was given up before its end; empty if it was not.
    :ivar made_of: what the run is made of, and its SHA-256; of several files that of their list, see ``LISTS``.
    """

    run: str
    started: str
    mode: Mode
    command: str
    commit: str
    ended: str = ""
    tier: Tier | None = None
    series: str = ""
    kernel: KernelIdentity | None = None
    host: Mapping[str, str] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    interrupted: bool = False
    machine: str = ""
    given_up: str = ""
    made_of: Mapping[str, str] = field(default_factory=dict)

    @property
    def cut_short(self) -> str:
        """Why the run did not come to its end; empty if it did."""
        if self.given_up:
            return self.given_up
        if self.interrupted:
            return "interrupted"
        return "" if self.ended else "killed"


SEALPROOF, PYTHON = "sealproof's files", "Python and its packages"
"""What each run is made of, whatever it tests."""
CONFIG = "identity/kernel.config"
"""The kernel's configuration, in a run's folder."""
LISTS = {
    SEALPROOF: "identity/sealproof.sha256",
    PYTHON: "identity/python.sha256",
    "emulator": "identity/emulator.sha256",
    "payload's files": "identity/payload.sha256",
    "modules": "identity/modules.sha256",
}
"""What consists of several files: their list, as ``sha256sum`` prints one, in a run's folder."""


def now() -> str:
    """The time: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_run_id() -> str:
    """A new run's name: sorts by time, differs between runs started in the same second."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


def project_commit(folder: Path) -> str:
    """The git commit of the project in ``folder``, whatever the user has told git."""
    stage = "commit"
    try:
        commit = git(folder, "rev-parse", "HEAD", stage=stage).decode().strip()
        if not git(folder, "ls-files", "--", ".", stage=stage):
            return "unknown"  # a copy inside of another project's repository
        dirty = git(folder, "status", "--porcelain", "--untracked-files=normal", "--", ".", stage=stage)
    except (CommandError, SetupError):
        return "unknown"
    return f"{commit}-dirty" if dirty else commit

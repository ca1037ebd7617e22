# SPDX-License-Identifier: GPL-2.0-or-later
"""``make doctor``: what this machine offers, what to do about what it lacks, and the kind of host that it will use.

Exit 0: the sign-off can run here, as it is or after the set-up that ``make`` does by itself. 1: it cannot, and the
reason is shown (make turns that 1 into its own 2). Standard library alone, plain text: it must work where nothing is
installed.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from common.paths import PROJECT, make_refuses
from host_setup.disks import Disk
from host_setup.this_machine import Survey, choose_host_kind, survey, why_not_nested

GIB = 1 << 30
# Measured for one kernel and its images: 1.7 GiB of source while it builds, 0.9 GiB of build, 0.7 GiB of images and
# snapshot. The checkout holds the environment and the reports.
CACHE_NEED = 5 * GIB
CHECKOUT_NEED = 1 * GIB
MEMORY_NEED = 3 * GIB  # the bound that one run keeps
# mmdebstrap puts the host's image together among the temporary files: 161 packages, 0.2 GiB by their Installed-Size,
# and as much again that apt downloads; with room to grow.
IMAGE_NEED = 1 * GIB
TEMPORARY_NEED = GIB // 16  # what every run puts there: repositories of git's, sockets, logs
CACHE_FILES = 200_000  # a kernel's source is 90,000 files; one more tree of links to them, and a build
PROCESSES_NEED = 150  # make's and the compiler's, a QEMU and its threads
NETWORK = (
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb3",
    "virtiofs",
    "vboxsf",
)
# No hard links or links, or names that differ only in upper and lower case are one: the kernel's source has such.
UNFIT = ("exfat", "fuseblk", "hfs", "hfsplus", "msdos", "ntfs", "ntfs3", "vfat")
CEILINGS = {  # of getrlimit(2) -> the least that a run needs, in its unit, and the shell's option that raises it
    "RLIMIT_AS": (8 * GIB, "-v"),
    "RLIMIT_CPU": (3600, "-t"),
    "RLIMIT_DATA": (4 * GIB, "-d"),
    "RLIMIT_FSIZE": (2 * GIB, "-f"),
    "RLIMIT_NOFILE": (256, "-n"),
}


class Grade(StrEnum):
    """How a fact stands. NOTE: works, but could be better. SETUP: ``make`` will see to it. STOP: you have to."""

    OK = "ok"
    NOTE = "note"
    SETUP = "set-up"
    STOP = "STOP"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. ``advice`` is the next step, where there is one."""

    state: Grade
    subject: str
    fact: str
    advice: str = ""


def system(machine: Survey) -> Finding:
    """The distribution and the architecture."""
    fact = f"{machine.system.name}, {machine.system.architecture}"
    if machine.system.architecture != "x86_64":
        return Finding(Grade.STOP, "system", fact, "use an x86-64 machine: the kernels under test are x86-64")
    if not machine.system.is_supported_debian:
        return Finding(Grade.NOTE, "system", fact, "only Debian 12 and 13 are set up automatically, and tested")
    return Finding(Grade.OK, "system", fact)


def user(machine: Survey) -> Finding:
    """Whether packages can be installed, and root file systems be made."""
    who = machine.user
    if who.is_root:
        return Finding(Grade.OK, "user", f"{who.name}, root")
    if not who.has_name:
        fact = f"{who.name}, which has no name in /etc/passwd"
        step = f"add a line to /etc/passwd (in a container: run it as root): {_passwd_line()}"
        if has_image(machine):  # newuidmap is needed for that alone
            return Finding(Grade.NOTE, "user", f"{fact}: ssh refuses this, so no machine can be logged in to", step)
        return Finding(Grade.STOP, "user", f"{fact}: newuidmap refuses this, and mmdebstrap needs newuidmap", step)
    fact = f"{who.name}, {'sudo is installed' if who.has_sudo else 'not root, no sudo'}"
    if not who.namespaces:
        step = "sudo sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1"
        return Finding(Grade.STOP, "user", f"{fact}; user namespaces are not allowed", f"for mmdebstrap: {step}")
    if not who.subordinate_ids:
        step = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who.name}"
        return Finding(Grade.STOP, "user", f"{fact}, no subordinate ids", f"for mmdebstrap: {step}")
    return Finding(Grade.OK, "user", fact)


def processor(machine: Survey) -> Finding:
    """Model and cores."""
    cores, quota = machine.processor.cores, machine.processor.quota
    fact = f"{machine.processor.model}, {cores} core{'s' if cores > 1 else ''}"
    if quota is not None and quota < cores:
        fact += f", of which a control group's quota leaves the time of {quota:g}"
        if quota < 2:
            slower = "a run works but takes longer: give this container or group the time of two cores"
            return Finding(Grade.NOTE, "processor", fact, slower)
    if cores < 2:
        return Finding(Grade.NOTE, "processor", fact, "a run works but takes about twice as long as on two cores")
    return Finding(Grade.OK, "processor", fact)


def memory(machine: Survey) -> Finding:
    """Memory for one run."""
    total, available = machine.memory.total, machine.memory.available
    fact = f"{available / GIB:.1f} GiB available of {total / GIB:.1f} GiB"
    need = f"{MEMORY_NEED / GIB:.0f} GiB"
    if machine.memory.group:
        fact += f", by the limit of the control group {machine.memory.group}"
        if total < MEMORY_NEED:
            step = f"raise the limit of this container or group: a run takes up to {need}"
            return Finding(Grade.STOP, "memory", fact, step)
    if total < MEMORY_NEED:
        return Finding(Grade.STOP, "memory", fact, f"give this machine more memory: a run takes up to {need}")
    if available < MEMORY_NEED:
        return Finding(Grade.STOP, "memory", fact, f"stop other processes: a run takes up to {need}")
    return Finding(Grade.OK, "memory", fact)


def _unusable(disk: Disk, subject: str, step: str) -> Finding | None:
    """What stands in the way of using a folder; None if nothing does."""
    if disk.problem:
        return Finding(Grade.STOP, subject, f"nothing can be written to {disk.path}: {disk.problem}", step)
    if disk.noexec:
        return Finding(Grade.STOP, subject, f"{disk.path} is mounted noexec: programs cannot start from there", step)
    return None


def cache_disk(machine: Survey) -> Finding:
    """Disk for kernels and images. What the cache holds already need not be made again."""
    disk = machine.cache_disk
    elsewhere = "point XDG_CACHE_HOME to a writable folder on a local disk"
    if stands := _unusable(disk, "disk, cache", elsewhere):
        return stands
    if make_refuses(disk.path):
        step = "point XDG_CACHE_HOME to a path of letters, digits and . _ - + ="
        return Finding(Grade.STOP, "disk, cache", f"{str(disk.path)!r}: make and QEMU cannot handle such a path", step)
    if disk.kind in UNFIT:
        fact = f"{disk.path} is on {disk.kind}, which cannot hold a kernel's source: no links, or no case in names"
        return Finding(Grade.STOP, "disk, cache", fact, elsewhere)
    if disk.files is not None and disk.files < CACHE_FILES and not any(kind.kind == "source" for kind in machine.cache):
        fact = f"only {disk.files} more files fit on the file system of {disk.path}, a kernel needs {CACHE_FILES}"
        return Finding(Grade.STOP, "disk, cache", fact, elsewhere)
    need = max(GIB, CACHE_NEED - sum(kind.size for kind in machine.cache))
    fact = f"{disk.free / GIB:.1f} GiB free for {disk.path}"
    if disk.free < need:
        step = (
            f"{need / GIB:.1f} GiB are needed: free some, 'make clean-cache', or point XDG_CACHE_HOME to a larger disk"
        )
        return Finding(Grade.STOP, "disk, cache", fact, step)
    if disk.kind in NETWORK or disk.kind.startswith("fuse."):
        fact += f", on {disk.kind}: it is slow, and builds need locks and hard links"
        return Finding(Grade.NOTE, "disk, cache", fact, elsewhere)
    if disk.kind == "tmpfs":
        return Finding(Grade.NOTE, "disk, cache", f"{fact}, which is in memory and lost at a restart", elsewhere)
    return Finding(Grade.OK, "disk, cache", fact)


def checkout_disk(machine: Survey) -> Finding:
    """Disk for the environment and the reports."""
    disk = machine.checkout_disk
    stands = _unusable(disk, "disk, checkout", "move the checkout to a writable folder")
    if stands:
        return replace(stands, state=Grade.NOTE) if machine.environment and not disk.noexec else stands
    if ":" in str(disk.path.resolve()):
        fact = f"{disk.path}: Python makes no environment below a colon"
        return Finding(Grade.STOP, "disk, checkout", fact, "move the checkout to a path without one")
    fact = f"{disk.free / GIB:.1f} GiB free for {disk.path}"
    if disk.free < CHECKOUT_NEED:
        step = f"{CHECKOUT_NEED / GIB:.0f} GiB is needed: free some, or move the checkout to a larger disk"
        return Finding(Grade.STOP, "disk, checkout", fact, step)
    return Finding(Grade.OK, "disk, checkout", fact)


def temporary(machine: Survey) -> Finding:
    """Disk for temporary files, of which the host's image takes the most."""
    disk = machine.temporary
    step = "point TMPDIR to a writable folder on a local disk"
    if disk.problem:
        return Finding(Grade.STOP, "disk, temporary", f"nothing can be written to {disk.path}: {disk.problem}", step)
    fact = f"{disk.free / GIB:.1f} GiB free for {disk.path}"
    if not has_image(machine):
        if disk.noexec:
            fact = f"{disk.path} is mounted noexec: mmdebstrap cannot put the host's image together there"
            return Finding(Grade.STOP, "disk, temporary", fact, step)
        if disk.free < IMAGE_NEED:
            fact += f", the host's image takes {IMAGE_NEED / GIB:.0f} GiB during its build"
            return Finding(Grade.STOP, "disk, temporary", fact, step)
    if disk.free < TEMPORARY_NEED:
        fact += f", a run takes {TEMPORARY_NEED >> 20} MiB"
        return Finding(Grade.STOP, "disk, temporary", fact, step)
    return Finding(Grade.OK, "disk, temporary", fact)


def reports(machine: Survey) -> Finding:
    """Whether runs can be kept."""
    disk = machine.reports
    if disk.problem:
        fact = f"nothing can be written to {disk.path}: {disk.problem}"
        return Finding(Grade.STOP, "reports", fact, "make it writable, or: make signoff ARGS='--reports DIR'")
    if machine.latest:
        fact = f"{disk.path / 'latest'} is {machine.latest}, not a link: it stays as it is; later runs are not linked"
        return Finding(Grade.NOTE, "reports", fact, "move it away; the next run makes the link again")
    return Finding(Grade.OK, "reports", f"in {disk.path}")


def ceilings(machine: Survey) -> Finding:
    """Bounds on each process, and on how many there may be."""
    low = {name: value for name, value in machine.ceilings.items() if value < CEILINGS[name][0]}
    if low:
        fact = ", ".join(f"{name} is {value}, {CEILINGS[name][0]} is needed" for name, value in low.items())
        step = "; ".join(f"ulimit {CEILINGS[name][1]} {_bound_to_set(name)}" for name in low)
        return Finding(Grade.STOP, "process limits", fact, f"in the shell, before make: {step}")
    if machine.processes is not None and machine.processes < PROCESSES_NEED:
        fact = f"{machine.processes} more processes allowed by a control group; {PROCESSES_NEED} are needed"
        return Finding(Grade.STOP, "process limits", fact, "raise pids.max (docker: --pids-limit) of this container")
    return Finding(Grade.OK, "process limits", "none is too low")


def _bound_to_set(name: str) -> str:
    """A bound that is high enough; the kernel has one of its own on open files, so that none is refused there."""
    return str(CEILINGS[name][0]) if name == "RLIMIT_NOFILE" else "unlimited"


def loopback(machine: Survey) -> Finding:
    """The way from here into a host of QEMU's."""
    if machine.loopback:
        fact = f"no connection to 127.0.0.1: {machine.loopback}; sealproof reaches hosts and guests through it"
        return Finding(Grade.STOP, "loopback", fact, "ip link set lo up   (as root)")
    return Finding(Grade.OK, "loopback", "127.0.0.1 answers")


def has_image(machine: Survey) -> bool:
    """Whether the cache holds the host's image: then mmdebstrap has nothing to do."""
    return any(kind.kind == "rootfs" for kind in machine.cache)


def _passwd_line() -> str:
    uid, gid = os.getuid(), os.getgid()
    return f"sealproof:x:{uid}:{gid}::/home/sealproof:/bin/sh"


def cache(machine: Survey) -> Finding:
    """What is cached already."""
    size = sum(kind.size for kind in machine.cache)
    kinds = ", ".join(f"{kind.entries} {kind.kind} ({kind.size / GIB:.1f} GiB)" for kind in machine.cache)
    return Finding(
        Grade.OK, "cache", f"{size / GIB:.1f} GiB: {kinds}" if kinds else "empty: the first run builds a kernel"
    )


def python(machine: Survey) -> Finding:
    """The interpreter; bootstrap.sh refuses one that is too old before this runs."""
    return Finding(Grade.OK, "Python", f"{'.'.join(map(str, machine.python))} ({sys.executable})")


def packages(machine: Survey) -> Finding:
    """The Debian packages."""
    missing = machine.missing_packages
    if missing is None:
        listed = "host_setup/debian-packages.txt"
        return Finding(Grade.STOP, "packages", "no dpkg here", f"use Debian 12 or 13; {listed} says what is needed")
    if not missing:
        return Finding(Grade.OK, "packages", "all there")
    fact = f"{len(missing)} missing: {' '.join(missing)}"
    by_hand = f"apt-get update && apt-get install --no-install-recommends {' '.join(missing)}"
    if not machine.system.is_supported_debian:
        return Finding(Grade.STOP, "packages", fact, f"install them by hand; on Debian: {by_hand}")
    if not (machine.user.is_root or machine.user.has_sudo):
        return Finding(Grade.STOP, "packages", fact, f"as root: {by_hand}")
    return Finding(Grade.SETUP, "packages", fact, "nothing: 'make signoff' and 'make test' install them")


def ccache(machine: Survey) -> Finding:
    """The compiler's cache."""
    if not machine.ccache:
        return Finding(Grade.NOTE, "ccache", "not there", "the package ccache makes later kernel builds faster")
    return Finding(Grade.OK, "ccache", machine.ccache)


def qemu(machine: Survey) -> Finding:
    """The QEMU that the emulated and the nested host run in: it comes with the host's image."""
    return Finding(Grade.OK, "QEMU", f"{machine.qemu or 'not there yet:'} comes with the host's image")


def bochs(machine: Survey) -> Finding:
    """The emulator of an Intel host, which only ``--emulator bochs`` asks for."""
    missing = machine.missing_for_bochs
    if missing is None:
        listed = "host_setup/bochs-packages.txt"
        return Finding(Grade.NOTE, "Bochs", "no dpkg here to ask", f"for --emulator bochs {listed} says what is needed")
    if not missing:
        return Finding(Grade.OK, "Bochs", "all there for --emulator bochs")
    fact = f"{len(missing)} packages missing: {' '.join(missing)}"
    by_hand = f"apt-get update && apt-get install --no-install-recommends {' '.join(missing)}   (as root)"
    if machine.system.is_supported_debian and (machine.user.is_root or machine.user.has_sudo):
        return Finding(Grade.NOTE, "Bochs", fact, f"nothing: --emulator bochs installs them, or {by_hand}")
    return Finding(Grade.NOTE, "Bochs", fact, f"for --emulator bochs: {by_hand}")


def kvm(machine: Survey) -> Finding:
    """Whether a VM can be created."""
    trial, module = machine.kvm.trial, machine.kvm.module
    extension = machine.processor.extension
    if trial is None:
        if extension:
            step = f"to use it: modprobe {'kvm_amd' if extension == 'svm' else 'kvm_intel'}   (as root)"
            return Finding(Grade.NOTE, "KVM", f"no /dev/kvm, though the processor has {extension}", step)
        step = "nothing: the emulated host needs no KVM; in a virtual machine, its owner may enable nested KVM"
        return Finding(Grade.NOTE, "KVM", "no /dev/kvm, and the processor shows neither svm nor vmx", step)
    if trial.permission:
        step = f"to use it: usermod -aG {trial.group} {machine.user.name}   (as root), then log in again"
        if machine.user.is_root:  # whom no mode of the device stops
            step = "to use it: give the container the device (docker: --device /dev/kvm)"
        elif not trial.group or not machine.user.has_name:
            step = f"to use it: setfacl --modify user:{os.getuid()}:rw /dev/kvm   (as root; until the next restart)"
        return Finding(Grade.NOTE, "KVM", f"/dev/kvm is there, but {trial.problem}", step)
    if trial.problem:
        step = "nothing: the emulated host needs no KVM. 'dmesg | grep -i kvm' may say why"
        return Finding(Grade.NOTE, "KVM", f"/dev/kvm is there, but {trial.problem}", step)
    return Finding(Grade.OK, "KVM", f"creates VMs (API {trial.api_version}, module {module or 'unknown'})")


def nested_kvm(machine: Survey) -> Finding:
    """Whether those VMs can run KVM themselves."""
    against = why_not_nested(machine)
    if not against:
        return Finding(
            Grade.OK, "nested KVM", f"works: guests of {machine.kvm.module} have {machine.processor.extension}"
        )
    if machine.kvm.trial is None or machine.kvm.trial.problem:
        return Finding(Grade.NOTE, "nested KVM", "needs KVM", "see KVM")
    if machine.kvm.nested is False:
        name = machine.kvm.module
        step = f"to use it, with no VM running: modprobe -r {name} && modprobe {name} nested=1   (as root)"
        return Finding(Grade.NOTE, "nested KVM", against, step)
    return Finding(Grade.NOTE, "nested KVM", against, "nothing: the emulated host needs no KVM")


CHECKS: tuple[Callable[[Survey], Finding], ...] = (
    system,
    user,
    processor,
    memory,
    cache_disk,
    checkout_disk,
    temporary,
    reports,
    ceilings,
    loopback,
    cache,
    python,
    packages,
    ccache,
    qemu,
    bochs,
    kvm,
    nested_kvm,
)


def examine(machine: Survey) -> list[Finding]:
    """All findings, in the order of the table."""
    return [check(machine) for check in CHECKS]


def render(machine: Survey, findings: list[Finding], width: int) -> str:
    """The table, the steps, the choice of host and the conclusion.

    :param width: of the terminal, in columns.
    """
    indent = 26
    lines = []
    for finding in findings:
        lead = f"  {finding.state:<7} {finding.subject:<16}"
        lines += textwrap.wrap(
            finding.fact,
            width,
            initial_indent=lead.ljust(indent),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
        if finding.advice:
            lines.append(f"{' ' * indent}-> {finding.advice}")  # never folded: it may hold a command to copy
    choice = choose_host_kind(machine)
    stops = [finding.subject for finding in findings if finding.state is Grade.STOP]
    if stops:
        verdict = f"The sign-off cannot run here yet: see STOP above ({'; '.join(stops)})."
    elif any(finding.state is Grade.SETUP for finding in findings):
        verdict = "The sign-off can run here: 'make signoff' sets up what is missing first."
    else:
        verdict = "The sign-off can run here: 'make signoff'."
    closing = (f"Host kind 'auto' means '{choice.kind}': {choice.why}.", verdict)
    folded = [textwrap.fill(text, width, break_on_hyphens=False) for text in closing]
    return "\n".join([f"sealproof doctor ({PROJECT})", "", *lines, "", *folded, ""])


def main() -> int:
    """Print it; the exit status is in the module's description."""
    machine = survey()
    findings = examine(machine)
    sys.stdout.write(render(machine, findings, max(60, shutil.get_terminal_size((100, 24)).columns)))
    return 1 if any(finding.state is Grade.STOP for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())

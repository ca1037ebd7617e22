# SPDX-License-Identifier: GPL-2.0-or-later
"""What control groups leave of this machine's memory and processors, of version 1, version 2, or both side by side.

A limit holds for a group and all below it, so every group above this process counts, as far as it can be seen: a
container often sees no more than its own. Standard library alone; looks only, and never raises for what it finds.

Sources: Linux 6.12 Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, scheduler/sched-bwc.rst; cgroups(7);
proc_pid_mountinfo(5).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

V2 = "cgroup2"
_PAGE_CACHE = re.compile(r"^(?:total_)?(?:in)?active_file (\d+)$|^slab_reclaimable (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system, by a line of mountinfo.

    :ivar part: which folder of the file system is seen there. :ivar options: of the mount and of the file system.
    """

    part: str
    place: str
    kind: str
    options: frozenset[str]


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A group's limit and what of it is used and cannot be taken back, in bytes; ``group`` is the group's folder."""

    group: Path
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What all groups together leave.

    :ivar memory: every limit there is. :ivar cpus: processors' worth of time; None: no quota.
    :ivar processes: how many more may be started; None: no limit.
    """

    memory: tuple[MemoryLimit, ...] = ()
    cpus: float | None = None
    processes: int | None = None


def mounts(root: Path = Path("/")) -> list[Mount]:
    """What is mounted, in the order of mounting."""
    rows = []
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, source = before.split(), after.split()
        if len(fields) >= 6 and len(source) >= 3:
            options = frozenset((*fields[5].split(","), *source[2].split(",")))
            rows.append(Mount(_unescape(fields[3]), _unescape(fields[4]), source[0], options))
    return rows


def limits(root: Path = Path("/")) -> Limits:
    """The limits that hold for this process.

    :param root: in place of ``/``.
    """
    memory = [*_memory_limits(root)]
    quotas = [quota for group in _groups(root, "cpu") if (quota := _cpu_quota(group)) is not None]
    processes = [count for group in _groups(root, "pids") if (count := _processes_left(group)) is not None]
    return Limits(tuple(memory), min(quotas, default=None), min(processes, default=None))


def usable_cpus(root: Path = Path("/")) -> int:
    """How many processors' worth of work can run at a time: what affinity and quotas leave, at least 1."""
    cpus, quota = len(os.sched_getaffinity(0)), limits(root).cpus
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and of those above it, in each hierarchy that may have the controller."""
    paths: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        paths |= dict.fromkeys(controllers.split(","), path)
    hierarchies = [
        mount for mount in mounts(root) if mount.kind == V2 or (mount.kind == "cgroup" and controller in mount.options)
    ]
    for hierarchy in hierarchies or [Mount("/", "/sys/fs/cgroup", V2, frozenset())]:
        top = root / hierarchy.place.lstrip("/")
        below = _below(top, hierarchy.part, paths.get("" if hierarchy.kind == V2 else controller, "/"))
        yield from (top / part for part in (below, *below.parents))


def _below(top: Path, part: str, path: str) -> PurePath:
    """Where this process's group is below its hierarchy's mount, which may show a part alone: a container's.

    :param part: what the mount shows, and ``path``: the group, both as seen from the process's cgroup namespace.
    """
    inside = PurePosixPath(path)
    if ".." in part:  # the mount begins above the namespace, so that the names in between are not told
        holding = (file.parent for file in top.rglob("cgroup.procs") if str(os.getpid()) in _read(file).split())
        return next((folder.relative_to(top) for folder in holding), PurePosixPath())
    if ".." in path or not inside.is_relative_to(part):  # outside of what can be seen
        return PurePosixPath()
    return inside.relative_to(part)


def _memory_limits(root: Path) -> Iterator[MemoryLimit]:
    for number, group in enumerate(_groups(root, "memory")):
        if number and _read(group / "memory.use_hierarchy") == "0":
            continue  # version 1 before Linux 5.11: such a group does not count those below it
        version1 = (_number(group / "memory.limit_in_bytes"), _number(group / "memory.usage_in_bytes"))
        bounds = [_number(group / name) for name in ("memory.max", "memory.high")]
        version2 = (
            min((bound for bound in bounds if bound is not None), default=None),
            _number(group / "memory.current"),
        )
        for limit, used in (version1, version2):
            if limit is not None:
                # What was read from disk goes when room is needed.
                cache = sum(int(first or other) for first, other in _PAGE_CACHE.findall(_memory_stat(group)))
                yield MemoryLimit(group, limit, max(0, (used or 0) - cache))


def _memory_stat(group: Path) -> str:
    """Version 1 states each number for the group alone, and as ``total_`` with those below it, which is what counts."""
    text = _read(group / "memory.stat")
    totals = [line for line in text.splitlines() if line.startswith("total_")]
    return "\n".join(totals) if totals else text


def _cpu_quota(group: Path) -> float | None:
    quota, period = (*_read(group / "cpu.max").split(), "", "")[:2]
    if not quota:
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _processes_left(group: Path) -> int | None:
    most, there = _number(group / "pids.max"), _number(group / "pids.current")
    return None if most is None else max(0, most - (there or 0))


def _number(file: Path) -> int | None:
    text = _read(file)
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)

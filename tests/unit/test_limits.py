# SPDX-License-Identifier: GPL-2.0-or-later
"""Control groups: of a made-up machine, and for real where this one lets us make some."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import PROJECT
from host_setup import limits
from host_setup.kernel import build
from host_setup.kernel.toolchain import GCC
from host_setup.limits import Limits, usable_cpus

GIB = 1 << 30
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {cpu} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {memory} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
    "36 31 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
)
V2 = "26 24 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"


class Root:
    """A folder in place of ``/``."""

    def __init__(self, folder: Path, mounted: str, groups: str) -> None:
        self.folder = folder
        self.write("proc/self/mountinfo", mounted)
        self.write("proc/self/cgroup", groups)

    def write(self, path: str, text: object) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(f"{text}\n")

    def limits(self) -> Limits:
        return limits.limits(self.folder)

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Group -> its limit, and what is used of it."""
        return {
            str(memory_limit.group.relative_to(self.folder)): (memory_limit.limit, memory_limit.used)
            for memory_limit in self.limits().memory
            if memory_limit.limit < 1 << 50
        }


def test_version_2_counts_every_group_on_the_way_down(tmp_path: Path) -> None:
    root = Root(tmp_path, V2, "0::/user.slice/user-7.slice/run\n")
    for group, most in (("", None), ("user.slice/", "max"), ("user.slice/user-7.slice/", 4 * GIB)):
        if most is not None:
            root.write(f"sys/fs/cgroup/{group}memory.max", most)
    root.write("sys/fs/cgroup/user.slice/user-7.slice/run/memory.high", 2 * GIB)
    root.write("sys/fs/cgroup/user.slice/user-7.slice/run/memory.max", 3 * GIB)
    root.write("sys/fs/cgroup/user.slice/user-7.slice/memory.current", GIB)
    root.write(
        "sys/fs/cgroup/user.slice/user-7.slice/memory.stat",
        "anon 7\nfile 9\ninactive_file 1000\nactive_file 200\nslab_reclaimable 30\n",
    )
    root.write("sys/fs/cgroup/other/memory.max", 1)  # of somebody else
    assert root.bounds() == {
        "sys/fs/cgroup/user.slice/user-7.slice/run": (2 * GIB, 0),
        "sys/fs/cgroup/user.slice/user-7.slice": (4 * GIB, GIB - 1230),
    }


def test_version_1_counts_every_group_on_the_way_down(tmp_path: Path) -> None:
    root = Root(tmp_path, V1.format(cpu="/", memory="/"), "8:pids:/\n4:memory:/lab/run\n1:cpu,cpuacct:/lab\n")
    root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", 9223372036854771712)
    root.write("sys/fs/cgroup/memory/lab/memory.limit_in_bytes", 2 * GIB)
    root.write("sys/fs/cgroup/memory/lab/memory.usage_in_bytes", GIB)
    root.write("sys/fs/cgroup/memory/lab/memory.use_hierarchy", 1)
    root.write(
        "sys/fs/cgroup/memory/lab/memory.stat",
        "inactive_file 5\nactive_file 6\ntotal_inactive_file 500\ntotal_active_file 60\n",
    )
    root.write("sys/fs/cgroup/memory/lab/run/memory.limit_in_bytes", 3 * GIB)
    assert root.bounds() == {
        "sys/fs/cgroup/memory/lab/run": (3 * GIB, 0),
        "sys/fs/cgroup/memory/lab": (2 * GIB, GIB - 560),
    }
    root.write("sys/fs/cgroup/memory/lab/memory.use_hierarchy", 0)
    assert list(root.bounds()) == ["sys/fs/cgroup/memory/lab/run"]


@pytest.mark.parametrize(
    ("part", "group", "where"),
    [
        ("/docker/ab", "/docker/ab", ""),  # the container's own group is mounted, its path is the host's
        ("/docker/ab", "/docker/ab/inner", "/inner"),
        ("/", "/", ""),  # a cgroup namespace
        ("/docker/ab", "/docker/other", ""),  # moved since
        ("/", "/../other", ""),  # moved out of the namespace
        ("/docker/ab", "/", ""),
    ],
)
def test_container_sees_its_own_group(tmp_path: Path, part: str, group: str, where: str) -> None:
    root = Root(tmp_path, V1.format(cpu="/", memory=part), f"4:memory:{group}\n")
    root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", 3 * GIB)
    root.write(f"sys/fs/cgroup/memory{where}/memory.limit_in_bytes", 2 * GIB)
    assert root.bounds()[f"sys/fs/cgroup/memory{where}"] == (2 * GIB, 0)
    root = Root(tmp_path, V2.replace(" / /", f" {part} /"), f"0::{group}\n")
    root.write("sys/fs/cgroup/memory.max", 3 * GIB)
    root.write(f"sys/fs/cgroup{where}/memory.max", 2 * GIB)
    assert root.bounds()[f"sys/fs/cgroup{where}"] == (2 * GIB, 0)


def test_mount_that_begins_above_the_namespace_is_searched(tmp_path: Path) -> None:
    root = Root(tmp_path, V2.replace(" / /", " /../.. /"), "0::/\n")
    root.write("sys/fs/cgroup/some/where/cgroup.procs", f"1\n{os.getpid()}")
    root.write("sys/fs/cgroup/some/where/memory.max", 2 * GIB)
    root.write("sys/fs/cgroup/else/cgroup.procs", 1)
    root.write("sys/fs/cgroup/else/memory.max", GIB)
    assert root.bounds() == {"sys/fs/cgroup/some/where": (2 * GIB, 0)}


def test_both_versions_side_by_side(tmp_path: Path) -> None:
    root = Root(tmp_path, HYBRID.format(cpu="/", memory="/"), "4:memory:/one\n1:cpu,cpuacct:/one\n0::/two\n")
    root.write("sys/fs/cgroup/memory/one/memory.limit_in_bytes", 2 * GIB)
    root.write("sys/fs/cgroup/cpu,cpuacct/one/cpu.cfs_quota_us", 150000)
    root.write("sys/fs/cgroup/cpu,cpuacct/one/cpu.cfs_period_us", 100000)
    root.write("sys/fs/cgroup/unified/two/memory.max", GIB)
    root.write("sys/fs/cgroup/unified/two/cpu.max", "300000 100000")
    assert set(root.bounds()) == {"sys/fs/cgroup/memory/one", "sys/fs/cgroup/unified/two"}
    assert root.limits().cpus == 1.5


def test_odd_path_of_a_mount_is_unescaped(tmp_path: Path) -> None:
    root = Root(tmp_path, V2.replace("/sys/fs/cgroup", "/my\\040groups"), "0::/a\n")
    root.write("my groups/a/memory.max", GIB)
    assert root.bounds() == {"my groups/a": (GIB, 0)}


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        ({"cpu.cfs_quota_us": "250000", "cpu.cfs_period_us": "100000"}, 2.5),
        ({"cpu.max": ""}, None),
        ({"cpu.max": "what"}, None),
        ({}, None),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], cpus: float | None) -> None:
    root = Root(tmp_path, V2, "0::/a/b\n")
    for name, text in files.items():
        root.write(f"sys/fs/cgroup/a/{name}", text)
    assert root.limits().cpus == cpus


def test_processes_left(tmp_path: Path) -> None:
    root = Root(tmp_path, V2, "0::/a\n")
    assert root.limits().processes is None
    root.write("sys/fs/cgroup/a/pids.max", 100)
    root.write("sys/fs/cgroup/a/pids.current", 30)
    assert root.limits().processes == 70


def test_nothing_to_read_is_no_limit(tmp_path: Path) -> None:
    assert limits.limits(tmp_path) == Limits()


def test_as_many_jobs_as_affinity_and_quota_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    for affinity, quota, usable in ((8, None, 8), (8, 2.5, 3), (2, 6.0, 2), (4, 0.2, 1), (1, None, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=affinity: set(range(count)))
        monkeypatch.setattr(limits, "limits", lambda _, most=quota: Limits(cpus=most))
        assert usable_cpus() == usable
        assert f"-j{usable + 1}" in build._make(Path("/linux"), GCC)


ASKED = "from host_setup.limits import limits, usable_cpus; l = limits(); "
HIERARCHIES = {
    "memory": ("memory.limit_in_bytes", "memory.max", 2 * GIB, "print(min(m.limit for m in l.memory))", 2 * GIB),
    "cpu": ("cpu.cfs_quota_us", "cpu.max", 50000, "print(l.cpus, usable_cpus())", "0.5 1"),
    "pids": ("pids.max", "pids.max", 60, "print(0 < l.processes < 60)", True),
}


@pytest.mark.parametrize("controller", HIERARCHIES)
def test_real_group_of_this_machine(controller: str) -> None:
    version1, version2, value, ask, answer = HIERARCHIES[controller]
    top = next((place for place in limits._groups(Path("/"), controller)), None)
    assert top is not None
    group = top / f"sealproof-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made here: {error}")
    try:
        file = next((group / name for name in (version1, version2) if (group / name).exists()), None)
        if file is None:
            pytest.skip(f"this machine has no controller {controller} to hand on")
        file.write_text(str(value))
        inside = f'echo $$ > {group}/cgroup.procs && exec {sys.executable} -c "{ASKED}{ask}"'
        done = subprocess.run(["sh", "-c", inside], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == str(answer), done.stderr
    finally:
        group.rmdir()

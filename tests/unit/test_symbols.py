# SPDX-License-Identifier: GPL-2.0-or-later
"""File and line behind the functions of a trace, with a real program in the kernel's place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from common.errors import CommandError
from host_setup.hosts.symbols import with_places

SOURCE = """\
static int twice(int one) { return one + 1; }
int inner(int one)
{
        return twice(one) / one;
}
int outer(int one)
{
        return inner(one) + 3;
}
"""


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linux")
    (folder / "mm").mkdir()
    (folder / "mm/a.c").write_text(SOURCE)
    (folder / "mm/b.c").write_text("static int twice(int a) { return a; }\nint other(int a) { return twice(a); }\n")
    words = ["gcc", "-g", "-O0", "-nostdlib", "-static", "-Wl,-e,0", f"-ffile-prefix-map={folder}=/linux", "-o"]
    subprocess.run([*words, folder / "vmlinux", folder / "mm/a.c", folder / "mm/b.c"], check=True)
    return folder / "vmlinux"


def test_a_trace_leads_to_file_and_line(vmlinux: Path) -> None:
    trace = "[    1.0] RIP: 0010:inner+0x0/0x20\n[    1.1] Call Trace:\n[    1.2]  outer+0x13/0x20\n"
    message = with_places(trace, vmlinux)
    assert "RIP: 0010:inner+0x0/0x20 (mm/a.c:3)" in message
    assert "outer+0x13/0x20 (mm/a.c:8)" in message
    assert [line.partition(" (")[0] for line in message.splitlines()] == trace.splitlines()


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "nothing of the kind",
        " unknown+0x1/0x2",
        " outer+0x13/0x20 [kvm]",  # a module's of that name
        " twice+0x1/0x2",  # there are two
        " outer+0xffff/0x20",  # beyond
    ],
)
def test_what_is_not_known_stays_as_it_is(vmlinux: Path, trace: str) -> None:
    assert with_places(trace, vmlinux) == trace


def test_a_kernel_without_symbols_is_no_reason_to_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_text("no program")
    with pytest.raises(CommandError):
        with_places(" outer+0x13/0x20", tmp_path / "vmlinux")

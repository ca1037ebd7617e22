# SPDX-License-Identifier: GPL-2.0-or-later
"""What compiles a kernel: gcc, or clang with all of LLVM's tools (Linux 6.12: Documentation/kbuild/llvm.rst)."""

from __future__ import annotations

import argparse
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.commands import output
from common.environment import search_path
from common.errors import SetupError
from host_setup.limits import usable_cpus

STAGE = "kernel build"
_MOST_JOBS = 9999  # make refuses what is no int of C's, and takes what no machine has processes for
# A name, or the whole path of one: gcc, gcc-13, /opt/cross/bin/x86_64-linux-gcc, clang, clang-19, /opt/llvm/bin/clang.
_COMPILER = re.compile(
    r"(?P<folder>/(?:[\w.+-]+/)*)?(?P<prefix>[\w.+-]+-)?(?P<kind>gcc|clang)(?P<suffix>-\d+(?:\.\d+)*)?"
)
CCACHE = Path(__file__).parent / "bin/ccache-unless-incbin"
"""What a compiler is started by if there is a ccache; its folder must be in ``PATH``."""
_LLVM_TOOLS = ("ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-objdump", "llvm-readelf", "llvm-strip")
# drgn asks for types, symbols and lines, not for where a local variable lives at each instruction; that is a tenth of
# the compiler's time and a third of an object's size. clang does not know these.
_GCC_FLAGS = ("-fno-var-tracking", "-fno-var-tracking-assignments")


def parse_compiler(text: str) -> str:
    """A compiler from an option's text.

    :raises argparse.ArgumentTypeError: it is neither a gcc nor a clang.
    """
    if _COMPILER.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a compiler: give gcc, gcc-13, clang, clang-19, or the full path of one"
        )
    return text


def parse_jobs(text: str) -> int:
    """A number of jobs from an option's text.

    :raises argparse.ArgumentTypeError: the text is not such a number.
    """
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MOST_JOBS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs")
    return int(text)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler, and what goes with it.

    :ivar compiler: as ``parse_compiler`` takes it. :ivar jobs: compilers at a time; None: as many as there are
        processors, and one, since make itself and the disk leave gaps.
    """

    compiler: str = "gcc"
    jobs: int | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """For the compiler, beyond the kernel's own."""
        return () if self._is_llvm else _GCC_FLAGS

    def version(self) -> str:
        """Which one it is, as it says itself; with clang the linker too. One that the user names is told by its name as
        well: two may say the same of themselves.

        :raises SetupError: it, or one of the tools that go with it, is not installed.
        """
        programs = [self.compiler, *(self._llvm(tool) for tool in _LLVM_TOOLS if self._is_llvm)]
        missing = [program for program in programs if shutil.which(program, path=search_path()) is None]
        if missing:
            suffix = self._parts["suffix"]
            packages = f"clang{suffix} lld{suffix} llvm{suffix}" if self._is_llvm else self._parts["kind"] + suffix
            raise SetupError(
                f"the compiler {self.compiler} cannot be used: {', '.join(missing)} not installed",
                stage=STAGE,
                hint=f"apt-get install {packages}, or choose another with --compiler",
            )
        compilers = [self.compiler, *([self._llvm("ld.lld")] if self._is_llvm else [])]
        versions = [
            output([compiler, "--version"], stage=STAGE).decode(errors="replace").splitlines()[0]
            for compiler in compilers
        ]
        return "; ".join(versions if self.compiler == GCC.compiler else [self.compiler, *versions])

    def words(self) -> list[str]:
        """For make's command line."""
        compiler = f"{CCACHE.name} {self.compiler}" if shutil.which("ccache", path=search_path()) else self.compiler
        jobs = self.jobs or usable_cpus() + 1
        llvm = [f"LLVM={self._parts['folder'] or self._parts['suffix'] or '1'}"] if self._is_llvm else []
        return [f"-j{jobs}", *llvm, f"CC={compiler}", f"HOSTCC={compiler}"]

    @property
    def _parts(self) -> dict[str, str]:
        match = _COMPILER.fullmatch(self.compiler)
        if match is None:
            raise ValueError(f"{self.compiler!r} is not a compiler")
        return match.groupdict("")

    @property
    def _is_llvm(self) -> bool:
        return self._parts["kind"] == "clang"

    def _llvm(self, tool: str) -> str:
        """A tool as kbuild names it: in the compiler's folder, or with its suffix."""
        folder = self._parts["folder"]
        return f"{folder}{tool}" if folder else f"{tool}{self._parts['suffix']}"


GCC = Toolchain()
"""What compiles a kernel when nothing is named: Debian's."""

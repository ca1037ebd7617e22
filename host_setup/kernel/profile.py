# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files of a kernel count how often their code runs (layer ``coverage``): those that the series touches.

Linux offers this as CONFIG_GCOV_KERNEL, whose runtime collects the counters and tells them by debugfs. Nothing of
that is needed where they are read from outside (``host_setup/coverage``); and an option more would have all of the
kernel compiled anew, as another kernel. So the compiler's flags are given for these files alone, on make's command
line: ``CFLAGS_KERNEL`` is an expression that looks at the whole path of what is being compiled. No file of the kernel
is changed for it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator

from common import toml_file
from host_setup.kernel.series import Series

FILE = "coverage.toml"
NOTES = "*.gcno"  # what the compiler leaves beside an object of such a file: its blocks and lines
FLAGS = (
    # As the kernel's own CFLAGS_GCOV.
    *("-fprofile-arcs", "-ftest-coverage", "-fprofile-update=prefer-atomic", "-fno-tree-loop-im"),
    # No constructor, which would need a runtime to call: the linker script of x86 drops the pointer that stands for it.
    # And no function that adds up counters of several runs: its address is taken, and it is never called.
    *("-fprofile-info-section=.discard.gcov_info", "-Wa,--defsym,__gcov_merge_add=1"),
)


class Explained(BaseModel):
    """An added line that no claim executes, and why. In the file, ``code`` may be a list: the same is so of each.

    :ivar file: of the patched tree. :ivar code: the line's text, without blanks around it.
    :ivar function: that it stands in; empty: wherever the file has this line. :ivar branch: only some of its branches.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    file: str
    code: str
    reason: str
    function: str = ""
    branch: bool = False


class Coverage(BaseModel):
    """``coverage.toml`` of a series.

    :ivar also: further C files that compile code of the headers that the series touches.
    :ivar explained: added code that no claim executes.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    also: tuple[str, ...] = ()
    explained: tuple[Explained, ...] = ()

    @field_validator("explained", mode="before")
    @classmethod
    def _one_line_each(cls, entries: object) -> object:
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return entries
        lines = ((entry, entry.get("code")) for entry in entries)
        return [
            {**entry, "code": line} for entry, code in lines for line in (code if isinstance(code, list) else [code])
        ]


def load(series: Series) -> Coverage:
    """What a series says of its coverage; nothing, if it has no such file.

    :raises UserInputError: the file is not right.
    """
    if series.coverage is None:
        return Coverage()
    return parse(series.coverage)


def parse(file: Path) -> Coverage:
    """A file of that form.

    :raises UserInputError: it is not.
    """
    return toml_file.load(file, Coverage, stage="coverage", strict=False)


def files(series: Series) -> tuple[str, ...]:
    """The C files that count: what the patches touch, and what the series names beside, in alphabetical order."""
    touched = {name for patch in series.patches for name in patch.written if name.endswith(".c")}
    return tuple(sorted(touched | set(load(series).also)))


def make_word(names: tuple[str, ...]) -> str:
    """The word for make's command line that has these files count.

    :param names: C files, relative to the kernel's tree. kbuild may name their objects by detours (arch/x86/kvm/../..).
    """
    objects = " ".join(f"$(CURDIR)/{name.removesuffix('.c')}.o" for name in names)
    flags = " ".join(FLAGS).replace(",", "$(comma)")  # scripts/Kbuild.include
    return f"CFLAGS_KERNEL=$(if $(filter {objects},$(abspath $@)),{flags})"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is taken from kbuild's output."""

from __future__ import annotations

from host_setup.kernel import compiler_output
from host_setup.kernel.compiler_output import Progress

LOG = (
    """\
$ make -j2 all
  CC      mm/gup.o
In file included from ../include/linux/mm.h:5,
                 from ../mm/memory.c:43:
../mm/memory.c: In function 'follow_phys':
../mm/memory.c:120:9: error: 'nothing' undeclared (first use in this function)
  120 |         nothing = 1;
      |         ^~~~~~~
../mm/memory.c:120:9: note: each undeclared identifier is reported only once
../mm/memory.c:130:9: warning: unused variable 'x'
  130 |         int x;
  CC      mm/swap.o
make[4]: *** [../scripts/Makefile.build:229: mm/memory.o] Error 1
make[4]: *** Waiting for unfinished jobs....
"""
    + "  CC      fs/open.o\n" * 50
)
ENDING = "make[3]: *** [../scripts/Makefile.build:478: mm] Error 2\nmake: *** [Makefile:224: __sub-make] Error 2\n"


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[float, str]] = []

    def update(self, fraction: float, note: str = "") -> None:
        self.calls.append((round(fraction, 3), note))


def test_an_error_far_from_the_end_is_found_with_its_context() -> None:
    assert compiler_output.errors(LOG + ENDING).splitlines() == [
        "In file included from ../include/linux/mm.h:5,",
        "                 from ../mm/memory.c:43:",
        "../mm/memory.c: In function 'follow_phys':",
        "../mm/memory.c:120:9: error: 'nothing' undeclared (first use in this function)",
        "  120 |         nothing = 1;",
        "      |         ^~~~~~~",
        "../mm/memory.c:120:9: note: each undeclared identifier is reported only once",
    ]
    assert compiler_output.first_failure(LOG + ENDING) == "mm/memory.o"


def test_errors_of_linker_modpost_and_make_are_found() -> None:
    for line in (
        "ld: mm/memory.o: in function `f': memory.c:(.text+0x1): undefined reference to `nothing'",
        'ERROR: modpost: "nothing" [/x/probe.ko] undefined!',
        "make[2]: *** No rule to make target 'x.c', needed by 'x.o'.  Stop.",
        "x.c:1:10: fatal error: nothing.h: No such file or directory",
    ):
        assert compiler_output.errors(f"  CC      x.o\n{line}\n{ENDING}") == line


def test_many_errors_are_cut_short_with_their_number() -> None:
    shown = compiler_output.errors("x.c:1:1: error: no\n" * 100).splitlines()
    assert len(shown) == compiler_output.MOST_LINES + 1
    assert shown[-1] == "... and 40 more lines"


def test_a_log_without_errors_gives_none() -> None:
    assert compiler_output.errors("  CC      mm/errors.o\n  CC      lib/error.o\n") == ""
    assert compiler_output.first_failure(ENDING) is None


def test_progress_counts_what_is_made_and_never_says_done() -> None:
    step = Recorder()
    progress = Progress(step, expected=4)
    for line in (
        "make: Entering",
        "  CC      mm/a.o",
        "  LD [M]  x.ko",
        "  OBJCOPY arch/x86/b",
        "warning",
        *["  AR  c"] * 3,
    ):
        progress(line)
    assert progress.lines == 6
    assert step.calls[:3] == [(0.25, "CC mm/a.o"), (0.5, "LD x.ko"), (0.75, "OBJCOPY arch/x86/b")]
    assert step.calls[-1][0] == 0.99

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which selftests there are, how each is called, and how long it may take."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

DEADLINE = 120.0
"""Seconds that a test may take on an emulated host; the KVM selftests' own deadline on a real machine."""

SLOW = {
    "demand_paging_test": 360.0,
    "dirty_log_perf_test": 360.0,
    "dirty_log_test": 360.0,
    "kvm_page_table_test": 360.0,
    "memslot_modification_stress_test": 360.0,
    "set_memory_region_test": 360.0,
}
"""KVM selftests that take half a minute and more under emulation, with another deadline: others may be at work on this
machine too, and a deadline that is passed on one kernel alone looks like a regression."""

HUGE_PAGES = 128
"""Huge pages of 2 MiB that a host has ready, where its kernel has them: what tools/testing/selftests/mm asks for."""

MM_PROGRAMS = (
    "gup_test",
    "cow",
    "madv_populate",
    "mkdirty",
    "ksm_functional_tests",
    "memfd_secret",
    "mremap_test",
)
"""Of tools/testing/selftests/mm, those that touch what a series for guest memory touches."""


LIGHTER: dict[str, tuple[str, ...]] = {
    "dirty_log_test": ("-i", "3"),  # rounds, of 32
}
"""Arguments for KVM selftests that without them do not end under emulation; the test's name shows them."""


@dataclass(frozen=True, slots=True)
class Selftest:
    """One selftest, as it is run.

    :ivar suite: folder below tools/testing/selftests. :ivar program: file in it. :ivar deadline: seconds.
    """

    suite: str
    program: str
    arguments: tuple[str, ...] = ()
    deadline: float = DEADLINE

    @property
    def name(self) -> str:
        """What names it in all tables: suite, program and arguments."""
        return " ".join([f"{self.suite}/{self.program}", *self.arguments])


def catalogue(kvm: Sequence[str], *, only: str = "", deadline: float | None = None) -> list[Selftest]:
    """The tests to run, in order: those of memory management first, as the others leave memory in pieces.

    :param kvm: the programs of the KVM suite. :param only: a part of the names wanted. :param deadline: for all.
    """
    selftests = [*_gup_tests(), *(Selftest("mm", program) for program in MM_PROGRAMS if program != "gup_test")]
    selftests += [Selftest("kvm", program, LIGHTER.get(program, ()), SLOW.get(program, DEADLINE)) for program in kvm]
    return [test if deadline is None else replace(test, deadline=deadline) for test in selftests if only in test.name]


def _gup_tests() -> list[Selftest]:
    """gup_test does one thing a run: all that tools/testing/selftests/mm/run_vmtests.sh has it do with ``-a``."""
    pages = (("-t",), ("-T",), ("-H", "-m", str(HUGE_PAGES * 2)))  # huge pages transparent, off, of hugetlbfs
    calls = ("-u", "-U", "-a", "-b", "-L")  # get fast, get, pin fast, pin, pin for long
    writes = ("-w", "-W")
    shared: tuple[tuple[str, ...], ...] = (("-S",), ())
    numbers = ("1", "512", "123")  # pages at a time
    matrix = [
        Selftest("mm", "gup_test", (*huge, call, write, *share, "-n", number))
        for huge, call, write, share, number in itertools.product(pages, calls, writes, shared, numbers)
    ]
    dump = Selftest("mm", "gup_test", ("-ct", "-F", "0x1", "0", "19", "0x1000"))
    return [*matrix, dump]

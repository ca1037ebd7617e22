# SPDX-License-Identifier: GPL-2.0-or-later
"""What of its own variables a guest's kernel shares: pages on which nothing else lies, and no page more.

Such a page is shared with its content (series: arch/x86/kernel/kvm_protected.c kvm_share_with_host()).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.errors import MachineError
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_memory import PAGE
from signoff.observation import Check
from tests_e2e.support.memory import shell
from tests_e2e.support.sweep import Sweep

CLOCK = "hv_clock_boot"  # Linux 6.12: arch/x86/kernel/kvmclock.c; a page
OF_EACH_CPU = ("apf_reason", "kvm_apic_eoi", "steal_time")  # arch/x86/kernel/kvm.c
OF_OTHER_HOSTS = ("vmw_steal_time",)  # arch/x86/kernel/cpu/vmware.c shares it where VMware is the host
_TEXT = "_text"


@dataclass(frozen=True, slots=True)
class Symbols:
    """Where a guest's kernel has its variables.

    :ivar at: addresses by name. :ivar beside: by name, what else begins on its page. :ivar image: guest-physical
        addresses in bytes of what the kernel keeps of its image, first and last. Its initial part is anybody's memory.
    """

    at: Mapping[str, int]
    beside: Mapping[str, tuple[str, ...]]
    image: tuple[tuple[int, int], ...]

    def physical(self, name: str) -> int:
        """The guest-physical address of a variable of the image, in bytes."""
        return self.at[name] - self.at[_TEXT] + self.image[0][0]


def symbols_of(guest: Guest) -> Symbols:
    """Ask a guest's kernel.

    :raises MachineError: it does not know such a variable.
    """
    names = (CLOCK, *OF_EACH_CPU, _TEXT)
    output = shell(guest, f"grep -E ' ({'|'.join(names)})$' /proc/kallsyms; grep ' : Kernel ' /proc/iomem")
    at = {words[2]: int(words[0], 16) for line in output.splitlines() if len(words := line.split()) == 3}
    image = tuple((int(first, 16), int(last, 16)) for first, last in re.findall(r"(\w+)-(\w+) : Kernel ", output))
    if (missing := sorted(set(names) - at.keys())) or not image:
        raise MachineError(f"the guest's kernel does not name {', '.join(missing)}: {output}")
    pages = {name: f"{at[name] // PAGE:x}" for name in (CLOCK, *OF_EACH_CPU)}
    symbols = shell(guest, f"grep -E '^0*({'|'.join(sorted(set(pages.values())))})[0-9a-f]{{3}} ' /proc/kallsyms")
    symbols_by_page = [
        (int(words[0], 16) // PAGE, words[2]) for line in symbols.splitlines() if len(words := line.split()) == 3
    ]
    beside = {
        name: tuple(sorted(other for page, other in symbols_by_page if page == at[name] // PAGE)) for name in pages
    }
    return Symbols(at, beside, image)


def of_its_kernel(sweep: Sweep, symbols: Symbols, *, protected: bool) -> list[Check]:
    """Whether a kernel shares the clock's page of its image alone, and what lies beside what it shares."""
    image = frozenset(page for first, last in symbols.image for page in range(first // PAGE * PAGE, last, PAGE))
    clock = f"{symbols.physical(CLOCK):#x}" if protected else "none"
    shared = ", ".join(f"{page:#x}" for page in sorted(sweep.shared & image))
    each = {name for own in OF_EACH_CPU for name in symbols.beside[own]} - {*OF_OTHER_HOSTS}
    return [
        Check("pages of its image that it shares", clock, shared or "none"),
        # A kernel that shares nothing may have them wherever it likes.
        _lie("variables on the clock's page", (CLOCK,), symbols.beside[CLOCK], sweep, protected=protected),
        _lie("variables of each CPU on a page that it shares", OF_EACH_CPU, each, sweep, protected=protected),
    ]


def _lie(name: str, expected: Iterable[str], names: Iterable[str], sweep: Sweep, *, protected: bool) -> Check:
    actual = ", ".join(sorted(names)) if sweep.shared else "none"
    return Check(name, ", ".join(expected) if protected else "none", actual)

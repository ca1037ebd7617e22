# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dump of the host's kernel has: the kernel that takes over after a crash reads memory as it is."""

from __future__ import annotations

import re

from common.errors import MachineError
from common.waiting import Deadline, poll_until
from host_setup.channels.puppets import Done
from host_setup.hosts.base import Host
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from tests_e2e.support.attack import Aimed, Answer, Attack, pages_of

CRASH_KERNEL = "crashkernel=160M"  # that kernel's memory: it holds the guest's initramfs
DONE = "vmcore done"  # guest_images/programs/read_vmcore.c
TIMEOUT = 90.0  # until it has printed all, on a slow, busy machine


def test_kdump_has_private_page(attack: Attack) -> None:
    """A crash dump of the host (kdump) has a private page of a guest in it."""
    with attack.pool.fresh_with_cmdline(CRASH_KERNEL, crashes=True) as host:
        aimed = [(guest, attack.aim(guest, sets)) for guest, sets in pages_of(host)]
        observations = attack.observe_all("kdump", aimed, _crash(host, [page for _, pages in aimed for page in pages]))
    attack.judge(observations)


def _crash(host: Host, pages: list[Aimed]) -> list[Answer]:
    """Have the host's kernel crash, and the next one print the pages."""
    addresses = [f"{page.target.hpa:x}" for page in pages]
    words = f"console=ttyS0 nokaslr maxcpus=1 no_timer_check rdinit=/sealproof/read_vmcore -- {' '.join(addresses)}"
    load = [f"{HOST_PROGRAMS}/kexec_into", "/payload/guest/bzImage", "/payload/guest/initramfs", words, "crash"]
    host.ssh.run(load, seconds=TIMEOUT).require()
    crash = "(sleep 0.2; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 &"
    host.ssh.run(["sh", "-c", crash], seconds=20).require()
    poll_until(
        lambda: DONE in host.kernel_log(),
        Deadline(TIMEOUT),
        "the crash dump",
        explain=lambda: host.kernel_log()[-2000:],
        interval=0.2,
    )
    # It restarts then, which is its end: only what is known to have ended is asked nothing more.
    poll_until(
        lambda: all(guest.vitals.reason is not None for guest in host.guests),
        Deadline(TIMEOUT),
        "the host to end after its crash dump",
        interval=0.2,
    )
    page_texts = dict(re.findall(r"^vmcore ([0-9a-f]+) (.+?)\r?$", host.kernel_log(), re.MULTILINE))
    if not set(addresses) <= set(page_texts):
        raise MachineError("the crash dump's reader left pages out")
    return [Answer(Done(), b"" if page_texts[at] == "not there" else bytes.fromhex(page_texts[at])) for at in addresses]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a host's processor and kernel offer, as the host itself sees it: looked up, never assumed.

Reports of several machines show these side by side.
"""

from __future__ import annotations

import functools
import re

from host_setup.channels.ssh import Ssh

TIMEOUT = 20
FEATURES = (
    *("svm", "npt", "nrip_save", "vgif", "avic", "decodeassists", "flushbyasid", "pausefilter", "sev", "sev_es"),
    *("vmx", "ept", "vpid", "ept_ad", "vnmi", "flexpriority", "tdx_host_platform"),
    *("smep", "smap", "pku", "la57", "avx", "avx2", "avx512f"),
)
"""Flags of /proc/cpuinfo that matter to virtual machines or to probes (Linux: arch/x86/include/asm/cpufeatures.h)."""
DEVICES = ("kvm", "vhost-net", "vhost-vsock", "vfio/vfio", "sev", "iommu", "userfaultfd")


@functools.lru_cache(maxsize=8)
def facts(ssh: Ssh) -> dict[str, str]:
    """Processor, features and devices of the host that a session is with; asked once a session.

    :raises ChannelError: the session broke. :raises DeadlineError: it did not answer.
    """
    # The status of `ls` is not asked: it fails for each device that is not there.
    look = f"cat /proc/cpuinfo; cd /dev && ls -d {' '.join(DEVICES)} 2>/dev/null; true"
    return read(ssh.run(["sh", "-c", look], seconds=TIMEOUT).require().text)


def read(text: str) -> dict[str, str]:
    """The facts out of /proc/cpuinfo and the names of the devices that are there, a line each."""

    def first(name: str) -> str:
        match = re.search(rf"^{name}\s*:[ \t]*(.*)$", text, re.MULTILINE)
        return match[1].strip() if match else ""

    # Intel has its own line for what VMX offers.
    flags = {*first("flags").split(), *first("vmx flags").split()}
    lines = set(text.splitlines())
    return {
        "processor": f"{first('vendor_id') or 'unknown'}, {first('model name') or 'unknown'}",
        "features": ", ".join(name for name in FEATURES if name in flags) or "none that matter here",
        "devices": ", ".join(name for name in DEVICES if name in lines) or "none that matter here",
    }

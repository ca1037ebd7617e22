# SPDX-License-Identifier: GPL-2.0-or-later
"""What an attacker can do who has the host's hardware: a device that reads memory, or the memory itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

from host_setup.channels.puppets import Done, Puppet
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target
from tests_e2e.support.dma import MOST, Device, plug_in
from tests_e2e.support.outside import outside


def test_device_reads_private_page(attack: Attack) -> None:
    """A device reads a private page of a guest by DMA, as there is no IOMMU between it and memory."""
    with attack.pool.fresh() as host:
        plug_in(host)

        def probe(attacker: Puppet, page: Target) -> Answer:
            device = Device(host.ssh, attacker)
            device.load(page.hpa, MOST)
            return Answer(Done(), device.content(MOST))

        attack.by_a_process("DMA", probe, host)


def test_device_overwrites_private_page(attack: Attack) -> None:
    """A device overwrites a private page of a guest by DMA, as there is no IOMMU between it and memory."""
    with attack.pool.fresh() as host:
        plug_in(host)

        def probe(attacker: Puppet, page: Target) -> Answer:
            device = Device(host.ssh, attacker)
            device.fill(PATTERN[:MOST])
            device.store(page.hpa, MOST)
            return Answer(Done(), wrote=PATTERN[:MOST])

        attack.by_a_process("DMA", probe, host)


def test_memory_read_from_outside_the_host_has_private_page(attack: Attack, tmp_path: Path) -> None:
    """Whoever reads the host's memory chips finds a private page of a guest in them, not encrypted."""
    qmp = outside(attack.pool.shared_host())

    def probe(_: Guest, page: Target) -> Answer:
        with tempfile.NamedTemporaryFile(dir=tmp_path) as file:
            qmp.execute("pmemsave", {"val": page.hpa, "size": PAGE_SIZE, "filename": file.name})
            return Answer(Done(), Path(file.name).read_bytes())

    attack.from_outside("pmemsave of the host", probe)

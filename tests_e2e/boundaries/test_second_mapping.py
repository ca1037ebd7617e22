# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest on memory of a file shows to whoever maps that file: such a guest is not protected, and knows it."""

from __future__ import annotations

from dataclasses import replace

from common.waiting import Deadline
from host_setup.channels.puppets import Puppet
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.guest_spec import beside
from host_setup.hosts.pool import HostPool
from signoff.observation import PAGE_SIZE, Canary, Check
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Attack
from tests_e2e.support.extra import BOOT, make_room
from tests_e2e.support.kvm import load

READ, SHARED = 1, 1  # PROT_READ, MAP_SHARED of linux/mman.h
BACKEND = "memory-backend-memfd"
FIND = f'for fd in /proc/$0/fd/*; do case "$(readlink "$fd")" in /memfd:{BACKEND}*) echo "$fd";; esac; done'


def test_second_mapping_of_a_file_shows_the_guest(trial: Trial, host: Host, pool: HostPool) -> None:
    """Whoever maps the file that a guest's memory is reads all of the guest, which is told that it is not protected."""
    spec = replace(beside(host.guest.spec), backend=BACKEND)
    with pool.fresh() as fresh:
        make_room(fresh)
        with fresh.extra_guest(spec) as guest, Attack.puppeteer(fresh) as puppeteer:
            guest.wait_for_boot(1, Deadline(BOOT))
            checks = _read_by_second_mapping(puppeteer.spawn(), fresh, guest)
    trial.legitimate(checks)


def _read_by_second_mapping(process: Puppet, host: Host, guest: Guest) -> list[Check]:
    path = host.ssh.run(["sh", "-c", FIND, str(guest.pid)], seconds=20).require().text
    file = process.open(path)
    checks = [Check("the guest says that it is protected", "False", str(guest.protected))]
    for aimed in Attack.aim(guest, [UNDER_TEST]):
        # The file begins with the memory below 4 GiB.
        place = process.syscall("mmap", 0, PAGE_SIZE, READ, SHARED, file, aimed.target.gpa).require("mmap")
        count = Canary(aimed.planted.content).count_leaked(load(process, replace(aimed.target, hva=place)).data)
        checks.append(Check(f"bytes of the {aimed.planted.kind} canary", str(PAGE_SIZE), str(count)))
    return checks

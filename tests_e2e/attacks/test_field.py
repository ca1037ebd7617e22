# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of pages of each guest, looked for in all of the host's memory: while it lives, and when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from host_setup.hosts.pool import HostPool
from signoff.observation import Check
from signoff.trial import Trial
from tests_e2e.support.attack import UNDER_TEST, Attack
from tests_e2e.support.decoy import Decoy
from tests_e2e.support.field import Field, fields_in, name_frames, nothing_left, plant_field
from tests_e2e.support.frame_owners import owners_of
from tests_e2e.support.guest_frames import GuestFrames, frames_of
from tests_e2e.support.host_memory import memory_of
from tests_e2e.support.residue import AS_IT_IS
from tests_e2e.support.vm_end import close_vm, has_quit, kill_qemu, reset


def test_host_has_no_copy_of_private_memory_while_the_guest_lives(trial: Trial, pool: HostPool) -> None:
    """What a guest keeps to itself is in its own private pages and nowhere else in all of the host's memory."""
    with pool.fresh() as host, Attack.puppeteer(host) as puppeteer:
        protected = host.guest.protected if host.plain_guest is not None else None
        fields = {guest: plant_field(guest) for guest in host.guests}
        for guest in fields:
            _share_and_take_back(guest)
        decoy = Decoy(host.ssh, puppeteer.spawn())
        before = {guest: frames_of(host, guest) for guest in fields}
        with memory_of(host) as memory:
            frames_of_fields = fields_in(memory, [*fields.values(), decoy.field])
            controls = decoy.checks(memory, frames_of_fields[decoy.field])
            results = []
            for guest, field in fields.items():
                possible = _possible_frames(guest, before[guest], frames_of(host, guest))
                strays = frozenset().union(*frames_of_fields[field].values()) - possible if guest.protected else ()
                whose = owners_of(host.ssh, memory, strays)
                results.append([*_elsewhere(guest, field, frames_of_fields[field], possible, whose), *controls])
    trial.legitimate(*results, protected=protected)


def _share_and_take_back(guest: Guest) -> None:
    for aim in Attack.aim(guest, [UNDER_TEST]):
        guest.canaries.share(aim.planted)
        guest.canaries.take_back(aim.planted)


def _possible_frames(guest: Guest, before: GuestFrames, after: GuestFrames) -> frozenset[int]:
    """Frames in which a guest's field may lie: a guest that runs may have been given more meanwhile."""
    private = frozenset(before.private) | frozenset(after.private)
    return private if guest.protected else before.all | after.all


def _elsewhere(
    guest: Guest,
    field: Field,
    frames_by_name: Mapping[str, frozenset[int]],
    possible: frozenset[int],
    whose: Mapping[int, str],
) -> list[Check]:
    """Where a field lies, but for its guest's own pages."""
    there = len(frames_by_name[AS_IT_IS] & possible)
    checks = [Check("its own pages hold the field", "yes", "yes" if there >= field.pages else str(there))]
    if guest.protected:  # whose data of a plain guest the host has is its own affair
        checks += [
            Check(f"other pages that hold it {name}", "none", name_frames(frames - possible, whose))
            for name, frames in frames_by_name.items()
        ]
    return checks


def test_host_finds_nothing_of_private_memory_after_reset(trial: Trial, pool: HostPool) -> None:
    """When a machine was reset, of thousands of private pages none is left, for QEMU or anybody else to find."""
    _try_frames_after_end(trial, pool, lambda _: reset)


def test_host_finds_nothing_of_private_memory_after_its_vm_was_closed(trial: Trial, pool: HostPool) -> None:
    """When QEMU has closed the VM and lives on, of thousands of private pages none is left."""

    def close(host: Host) -> Callable[[Guest], object]:
        def end(guest: Guest) -> None:
            with Attack.puppeteer(host) as puppeteer:
                close_vm(host, puppeteer, guest)

        return end

    _try_frames_after_end(trial, pool, close)


def test_host_finds_nothing_of_private_memory_after_quit(trial: Trial, pool: HostPool) -> None:
    """When QEMU has ended by itself, of thousands of private pages none is left."""

    _try_frames_after_end(trial, pool, lambda host: lambda guest: has_quit(host, guest))


def test_host_finds_nothing_of_private_memory_after_kill(trial: Trial, pool: HostPool) -> None:
    """When QEMU was killed, of thousands of private pages none is left."""

    _try_frames_after_end(trial, pool, lambda host: lambda guest: kill_qemu(host, guest))


def _try_frames_after_end(trial: Trial, pool: HostPool, ending: Callable[[Host], Callable[[Guest], object]]) -> None:
    with pool.fresh() as host:
        protected = host.guest.protected if host.plain_guest is not None else None
        checks = nothing_left(host, ending(host))
    trial.legitimate(*checks, protected=protected)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine cannot be had: it is full, taken, somebody else, or not ours to touch. Nothing of ours stays on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.errors import AccessError, ChannelError, UserInputError
from host_setup.provision import Settings, real_machine
from host_setup.remote.leased import TakenError, bring_back_on_error
from tests.hosts.bench import Bench
from tests.hosts.standin.machine import write_inventory

Say = Callable[[str], None]


def test_disk_is_full(bench: Bench, say: Say) -> None:
    """Its disk is full."""
    with bench.disk_to_fill() as fill:
        fill()
        with pytest.raises(ChannelError, match=r"is the disk full|cannot make") as caught:
            bench.lease()
    say(_last(caught.value.message))


def test_disk_fills_up_before_the_kernel_is_copied(bench: Bench, say: Say) -> None:
    """Its disk fills up once it is leased."""
    leased = bench.lease()
    full = pytest.raises(ChannelError, match="No space left")
    with bench.disk_to_fill() as fill, full as caught, bring_back_on_error(leased):
        fill()
        leased.provision(bench.kernel, bench.programs)
    say(_last(caught.value.message))


def test_disk_fills_up_before_the_kernel_is_in_boot(bench: Bench, say: Say) -> None:
    """Its disk fills up once the kernel is copied: there is no room for it in /boot."""
    leased = bench.lease(boot="grub")
    full = pytest.raises(ChannelError, match="no room in /boot")
    with bench.disk_to_fill() as fill, full as caught, bring_back_on_error(leased):
        leased.provision(bench.kernel, bench.programs)
        fill()
        leased.boot()
    say(_last(caught.value.message))


def test_other_host_key(bench: Bench, say: Say) -> None:
    """It answers with another host key than the inventory's."""
    with pytest.raises(AccessError, match="another host key") as caught:
        bench.lease(host_key=bench.keys.public("guest"))
    say(caught.value.message)


def test_wrong_key(bench: Bench, say: Say) -> None:
    """The machine does not accept our key."""
    with pytest.raises(AccessError, match="does not let us in") as caught:
        bench.lease(key=str(bench.keys.folder / "guest"))
    say(caught.value.message)


def test_lease_is_taken(bench: Bench, say: Say) -> None:
    """Another run has it."""
    first = bench.lease()
    with bring_back_on_error(first), pytest.raises(TakenError, match="taken by") as caught:
        bench.lease()
    first.restore()
    say(caught.value.message)


def test_machine_is_not_expendable(bench: Bench, say: Say) -> None:
    """It is in the inventory, but not as expendable."""
    file = write_inventory(bench.folder / "precious.toml", bench.standin.entry(expendable=False))
    with pytest.raises(UserInputError, match="not expendable") as caught:
        real_machine(Settings(host="standin", inventory=file))
    say(caught.value.message)


def test_machine_is_not_in_the_inventory(bench: Bench, say: Say) -> None:
    """It is not in the inventory."""
    entry = bench.standin.entry()
    file = write_inventory(bench.folder / "other.toml", entry.model_copy(update={"address": "root@192.0.2.1"}))
    with pytest.raises(UserInputError, match="is not in the inventory") as caught:
        real_machine(Settings(host=f"ssh://{entry.address}", inventory=file))
    say(f"{entry.address} was not touched: {caught.value.stage}")


def _last(message: str) -> str:
    return message.splitlines()[-1]

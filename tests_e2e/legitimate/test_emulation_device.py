# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions with an operand in a device, which KVM's emulator has to carry out."""

from __future__ import annotations

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.emulation import DEVICE, judge_emulation


def test_guest_mov_to_and_from_a_device_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads and stores of device memory as the processor does those of memory."""
    judge_emulation(trial, host, "mov", 4, 8, where=DEVICE)


def test_guest_sse_access_to_a_device_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out 16-byte loads and stores of device memory as the processor does those of memory."""
    judge_emulation(trial, host, "sse", 16, where=DEVICE)


def test_guest_string_instruction_on_a_device_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator moves strings between memory and a device, both ways, as the processor does within memory."""
    judge_emulation(trial, host, "string", 4, 8, where=DEVICE)


def test_guest_exchange_with_a_device_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out xchg and xadd with device memory as the processor does those with memory."""
    judge_emulation(trial, host, "xchg", 4, 8, where=DEVICE)


def test_guest_cmpxchg_on_a_device_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out cmpxchg on device memory as the processor does that on memory."""
    judge_emulation(trial, host, "cmpxchg", 4, 8, where=DEVICE)


def test_guest_arithmetic_on_a_device_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out locked arithmetic on device memory as the processor does that on memory."""
    judge_emulation(trial, host, "lock", 4, 8, where=DEVICE)

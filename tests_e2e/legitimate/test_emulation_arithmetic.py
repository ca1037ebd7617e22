# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that compute in memory, carried out by KVM's emulator."""

from __future__ import annotations

import pytest

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.emulation import judge_emulation


def test_guest_cmpxchg_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out cmpxchg, locked and not, of 1 byte as the processor does."""
    judge_emulation(trial, host, "cmpxchg", 1)


def test_guest_cmpxchg_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out cmpxchg, locked and not, of 2 bytes as the processor does."""
    judge_emulation(trial, host, "cmpxchg", 2)


def test_guest_cmpxchg_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out cmpxchg, locked and not, of 4 bytes as the processor does."""
    judge_emulation(trial, host, "cmpxchg", 4)


@pytest.mark.quick
def test_guest_cmpxchg_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out cmpxchg, locked and not, of 8 bytes as the processor does."""
    judge_emulation(trial, host, "cmpxchg", 8)


def test_guest_cmpxchg8b_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out cmpxchg8b, locked and not, as the processor does."""
    judge_emulation(trial, host, "cmpxchg8b", 8)


def test_guest_xchg_and_xadd_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out xchg and xadd, locked and not, of 1 byte as the processor does."""
    judge_emulation(trial, host, "xchg", 1)


def test_guest_xchg_and_xadd_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out xchg and xadd, locked and not, of 2 bytes as the processor does."""
    judge_emulation(trial, host, "xchg", 2)


def test_guest_xchg_and_xadd_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out xchg and xadd, locked and not, of 4 bytes as the processor does."""
    judge_emulation(trial, host, "xchg", 4)


def test_guest_xchg_and_xadd_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out xchg and xadd, locked and not, of 8 bytes as the processor does."""
    judge_emulation(trial, host, "xchg", 8)


def test_guest_locked_arithmetic_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out locked arithmetic on memory of 1 byte as the processor does."""
    judge_emulation(trial, host, "lock", 1)


def test_guest_locked_arithmetic_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out locked arithmetic on memory of 2 bytes as the processor does."""
    judge_emulation(trial, host, "lock", 2)


def test_guest_locked_arithmetic_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out locked arithmetic on memory of 4 bytes as the processor does."""
    judge_emulation(trial, host, "lock", 4)


def test_guest_locked_arithmetic_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out locked arithmetic on memory of 8 bytes as the processor does."""
    judge_emulation(trial, host, "lock", 8)


def test_guest_bit_instruction_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out instructions on single bits, locked and not, of 2 bytes as the processor does."""
    judge_emulation(trial, host, "bits", 2)


def test_guest_bit_instruction_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out instructions on single bits, locked and not, of 4 bytes as the processor does."""
    judge_emulation(trial, host, "bits", 4)


def test_guest_bit_instruction_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out instructions on single bits, locked and not, of 8 bytes as the processor does."""
    judge_emulation(trial, host, "bits", 8)


def test_guest_arithmetic_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out arithmetic with an operand in memory of 1 byte as the processor does."""
    judge_emulation(trial, host, "arithmetic", 1)


def test_guest_arithmetic_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out arithmetic with an operand in memory of 2 bytes as the processor does."""
    judge_emulation(trial, host, "arithmetic", 2)


def test_guest_arithmetic_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out arithmetic with an operand in memory of 4 bytes as the processor does."""
    judge_emulation(trial, host, "arithmetic", 4)


def test_guest_arithmetic_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out arithmetic with an operand in memory of 8 bytes as the processor does."""
    judge_emulation(trial, host, "arithmetic", 8)


def test_guest_shift_and_rotate_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out shifts and rotations of memory of 1 byte as the processor does."""
    judge_emulation(trial, host, "shift", 1)


def test_guest_shift_and_rotate_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out shifts and rotations of memory of 2 bytes as the processor does."""
    judge_emulation(trial, host, "shift", 2)


def test_guest_shift_and_rotate_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out shifts and rotations of memory of 4 bytes as the processor does."""
    judge_emulation(trial, host, "shift", 4)


def test_guest_shift_and_rotate_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out shifts and rotations of memory of 8 bytes as the processor does."""
    judge_emulation(trial, host, "shift", 8)


def test_guest_multiplication_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out multiplications with memory of 1 byte as the processor does."""
    judge_emulation(trial, host, "multiply", 1)


def test_guest_multiplication_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out multiplications with memory of 2 bytes as the processor does."""
    judge_emulation(trial, host, "multiply", 2)


def test_guest_multiplication_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out multiplications with memory of 4 bytes as the processor does."""
    judge_emulation(trial, host, "multiply", 4)


def test_guest_multiplication_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out multiplications with memory of 8 bytes as the processor does."""
    judge_emulation(trial, host, "multiply", 8)


def test_guest_division_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out divisions by memory, and their faults, of 1 byte as the processor does."""
    judge_emulation(trial, host, "divide", 1)


def test_guest_division_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out divisions by memory, and their faults, of 2 bytes as the processor does."""
    judge_emulation(trial, host, "divide", 2)


def test_guest_division_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out divisions by memory, and their faults, of 4 bytes as the processor does."""
    judge_emulation(trial, host, "divide", 4)


def test_guest_division_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out divisions by memory, and their faults, of 8 bytes as the processor does."""
    judge_emulation(trial, host, "divide", 8)

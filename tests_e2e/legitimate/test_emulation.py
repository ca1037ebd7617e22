# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that move data or control, carried out by KVM's emulator."""

from __future__ import annotations

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.emulation import judge_emulation


def test_guest_mov_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads, stores and extending moves of 1 byte as the processor does."""
    judge_emulation(trial, host, "mov", 1)


def test_guest_mov_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads, stores and extending moves of 2 bytes as the processor does."""
    judge_emulation(trial, host, "mov", 2)


def test_guest_mov_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads, stores and extending moves of 4 bytes as the processor does."""
    judge_emulation(trial, host, "mov", 4)


def test_guest_mov_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads, stores and extending moves of 8 bytes as the processor does."""
    judge_emulation(trial, host, "mov", 8)


def test_guest_string_instruction_of_1_byte_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out string instructions on elements of 1 byte as the processor does."""
    judge_emulation(trial, host, "string", 1)


def test_guest_string_instruction_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out string instructions on elements of 2 bytes as the processor does."""
    judge_emulation(trial, host, "string", 2)


def test_guest_string_instruction_of_4_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out string instructions on elements of 4 bytes as the processor does."""
    judge_emulation(trial, host, "string", 4)


def test_guest_string_instruction_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out string instructions on elements of 8 bytes as the processor does."""
    judge_emulation(trial, host, "string", 8)


def test_guest_push_and_pop_of_2_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out pushes, pops, enter and leave of 2 bytes as the processor does."""
    judge_emulation(trial, host, "stack", 2)


def test_guest_push_and_pop_of_8_bytes_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out pushes, pops, enter and leave of 8 bytes as the processor does."""
    judge_emulation(trial, host, "stack", 8)


def test_guest_call_and_return_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out near calls, returns, jumps and loops as the processor does."""
    judge_emulation(trial, host, "branch", 8)


def test_guest_far_jump_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out far jumps as the processor does, also to 32-bit code."""
    judge_emulation(trial, host, "far", 6, 10)


def test_guest_segment_load_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads and stores of segment registers as the processor does."""
    judge_emulation(trial, host, "segment", 2)


def test_guest_32_bit_code_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out instructions of 32-bit code as the processor does."""
    judge_emulation(trial, host, "32-bit", 4, 6, 8, 16)


def test_guest_sse_load_and_store_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads and stores of 16 bytes, aligned ones and others, as the processor does."""
    judge_emulation(trial, host, "sse", 16)


def test_guest_mmx_load_and_store_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out loads and stores of MMX registers as the processor does."""
    judge_emulation(trial, host, "mmx", 8)


def test_guest_fpu_control_store_is_emulated(trial: Trial, host: Host) -> None:
    """KVM's emulator carries out stores of the x87's control and status words as the processor does."""
    judge_emulation(trial, host, "x87", 2)


def test_guest_port_access_of_ring_3_is_refused_by_the_emulator(trial: Trial, host: Host) -> None:
    """KVM's emulator refuses ring 3 the ports that its task may not use, as the processor does."""
    judge_emulation(trial, host, "port", 1, 4)


def test_guest_store_whose_second_page_faults_is_done_in_part(trial: Trial, host: Host) -> None:
    """KVM's emulator has stored in the first of two pages when the second one faults; the processor has not."""
    judge_emulation(trial, host, "torn", 2, 4, 8)


def test_guest_cmpxchg16b_is_undefined_to_the_emulator(trial: Trial, host: Host) -> None:
    """KVM's emulator refuses cmpxchg16b with #UD and changes nothing."""
    judge_emulation(trial, host, "cmpxchg16b", 16)


def test_guest_fxsave_in_64_bit_code_is_undefined_to_the_emulator(trial: Trial, host: Host) -> None:
    """KVM's emulator refuses fxsave and fxrstor of 64-bit code with #UD and changes nothing."""
    judge_emulation(trial, host, "fxsave64", 512)

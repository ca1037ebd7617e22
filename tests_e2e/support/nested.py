# SPDX-License-Identifier: GPL-2.0-or-later
"""SVM in a guest whose CPU we steer: the control block of a nested guest, and KVM's word of it (asm/kvm.h, Linux 6.12).

The page of code that QEMU gives its guest is a page directory of the hypervisor, too, that the guest is then. The CPU
walks a copy of it in the guest's own memory: to walk page tables is to write to them (AMD APM 2, 15.25.5).
"""

from __future__ import annotations

import struct

from host_setup.channels.puppets import Done
from signoff.observation import PAGE_SIZE
from tests_e2e.support.kvm import OUT_80, SPARE, OwnVm

KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE = 0xC080AEBE, 0x4080AEBF
GUEST_MODE, GIF_SET, _FORMAT_SVM = 0x1, 0x100, 1  # KVM_STATE_NESTED_...
_STATE = struct.Struct("<HHIQ112x")  # struct kvm_nested_state: flags, format, size, address of the control block
STATE_BYTES = _STATE.size + PAGE_SIZE
EFER_SVME = 1 << 12
BLOCK_BYTES = 0x700  # of a control block that are used here; pieces of a canary are looked for behind them
VMMCALL, NOP = bytes.fromhex("0f01d9"), b"\x90"
# AMD APM 2, appendix B. The nested guest's TSC offset is any number: it serves as a mark that KVM keeps.
_INTERCEPTS, _ASID, _TSC_OFFSET, EXIT_CODE_AT, RAX_AT = 0x10, 0x58, 0x50, 0x70, 0x5F8
EXIT_BY_PORT = 0x7B  # why a nested guest ended: its IN or OUT (AMD APM 2, appendix C)
_VMRUN_AND_VMMCALL = 3
_REAL_CR0, _CODE_16, _DATA_16 = 0x10, 0x9B, 0x93
_PAGED_CR0, _CR4_PSE, _CODE_32, _DATA_32 = 0x80000011, 0x10, 0xC9B, 0xC93
# In the page of code: where the hypervisor goes on, where its guest begins, its page directory.
_RESUME_AT, _GUEST_AT, _ENTRY_AT = 0x80, 0xC0, SPARE >> 22 << 2
_DIRECTORY_ENTRY = SPARE & ~0x3FFFFF | 0x83  # present, writable, 4 MiB


# 16-bit: mov ecx, VM_HSAVE_PA; mov eax, SPARE; xor edx, edx; wrmsr; mov eax, esi; vmrun
HYPERVISOR = b"".join(
    (
        bytes.fromhex("66b9170101c066b8"),
        struct.pack("<I", SPARE),
        bytes.fromhex("6631d20f306689f0670f01d8"),
    )
)


def code_page(start: bytes) -> bytes:
    """A page for ``OwnVm.code``: what runs first, the hypervisor's OUT after its guest, that one's OUT, a directory."""
    page = bytearray(PAGE_SIZE)
    for at, content in (
        (0, start),
        (_RESUME_AT, NOP + OUT_80),
        (_GUEST_AT, NOP + OUT_80),
        (_ENTRY_AT, struct.pack("<I", _DIRECTORY_ENTRY)),
    ):
        page[at : at + len(content)] = content
    return bytes(page)


def hypervisor_block() -> bytes:
    """A control block that KVM takes for a nested guest under way; the hypervisor goes on in ``code_page``."""
    return _block(0, (_CODE_32, _DATA_32), 0xFFFFFFFF, 0, (_CR4_PSE, SPARE, _PAGED_CR0), SPARE + _RESUME_AT)


def guest_block(mark: int, register: int) -> bytes:
    """A control block whose guest is in real mode and makes the OUT of ``code_page``.

    :param mark: its TSC offset. :param register: its RAX, which stands at ``RAX_AT``.
    """
    block = _block(mark, (_CODE_16, _DATA_16), 0xFFFF, SPARE, (0, 0, _REAL_CR0), _GUEST_AT)
    return block[:RAX_AT] + struct.pack("<Q", register) + block[RAX_AT + 8 :]


def _block(
    mark: int, kinds: tuple[int, int], limit: int, base: int, control: tuple[int, int, int], start: int
) -> bytes:
    block = bytearray(PAGE_SIZE)

    def store(at: int, form: str, *values: int) -> None:
        struct.pack_into(form, block, at, *values)

    store(_INTERCEPTS, "<I", _VMRUN_AND_VMMCALL)
    store(_TSC_OFFSET, "<Q", mark)
    store(_ASID, "<I", 1)
    code, data = kinds
    for at, selector, kind in ((0x400, 16, data), (0x410, 8, code), (0x420, 16, data), (0x430, 16, data)):
        store(at, "<HHIQ", selector, kind, limit, base if kind == code else 0)
    store(0x4D0, "<Q", EFER_SVME)
    store(0x548, "<QQQQQQQ", *control, 0x400, 0xFFFF0FF0, 2, start)
    store(0x668, "<Q", 0x0007040600070406)  # the page attribute table of a reset
    return bytes(block)


def run_nested(own: OwnVm, control_at: int, directory_at: int) -> Done:
    """Have the guest be a hypervisor, by ``HYPERVISOR`` in its page of code; how the nested guest's OUT ends.

    :param directory_at: where the guest has a copy of that page.
    """
    own.cpu.aim(SPARE, 0, 0, rsi=control_at)
    own.cpu.walk_from(directory_at, _CR4_PSE, EFER_SVME)
    return own.cpu.run()


def put_state(own: OwnVm, control_at: int, block: bytes) -> bool:
    """KVM_SET_NESTED_STATE: the CPU runs a nested guest whose control block is there. Whether KVM took it."""
    state = _STATE.pack(GUEST_MODE | GIF_SET, _FORMAT_SVM, STATE_BYTES, control_at) + block
    return _ioctl(own, KVM_SET_NESTED_STATE, state)


def leave(own: OwnVm) -> bool:
    """KVM_SET_NESTED_STATE: there is no nested guest."""
    return _ioctl(own, KVM_SET_NESTED_STATE, _STATE.pack(GIF_SET, _FORMAT_SVM, _STATE.size, 0))


def _ioctl(own: OwnVm, request: int, state: bytes) -> bool:
    done = own.qemu.syscall("ioctl", own.cpu.fd, request, own.qemu.memory(state))
    return done.errno is None


def state_told(own: OwnVm) -> bytes:
    """What KVM_GET_NESTED_STATE tells."""
    place = own.qemu.memory(_STATE.pack(0, 0, STATE_BYTES, 0) + bytes(PAGE_SIZE))
    own.qemu.syscall("ioctl", own.cpu.fd, KVM_GET_NESTED_STATE, place).require("KVM_GET_NESTED_STATE")
    return own.qemu.read(place, STATE_BYTES)

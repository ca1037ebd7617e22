# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM's own interface, used by a process that we move: a VM of our making, or the one that QEMU already has.

Numbers and structures are those of linux/kvm.h and x86's asm/kvm.h, Linux 6.12. What runs in a VM here is a few bytes
of code in real mode, whose segments begin where we want them to, anywhere in the guest's memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from common.errors import ChannelError
from host_setup.channels.puppets import Done, Puppet, Puppeteer
from host_setup.hosts.base import Host
from host_setup.hosts.guest import Guest
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import Answer, Attack, Target

KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE, KVM_CREATE_VCPU, KVM_RUN = 0xAE01, 0xAE04, 0xAE41, 0xAE80
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS = 0x8090AE81, 0x4090AE82, 0x8138AE83, 0x4138AE84
KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_MP_STATE, KVM_SET_MP_STATE = (
    0x8040AE9F,
    0x4040AEA0,
    0x8004AE98,
    0x4004AE99,
)
KVM_GET_SREGS2, KVM_GET_MSRS, KVM_SET_MSRS = 0x8140AECC, 0xC008AE88, 0x4008AE89
# STAR, LSTAR, CSTAR, SYSCALL_MASK, KERNEL_GS_BASE, SYSENTER_CS, _ESP, _EIP: a triple fault, as of code that is nobody's
# in system management mode, has KVM clear them with the control block (arch/x86/kvm/svm/svm.c shutdown_interception()).
_LOST_AT_SHUTDOWN = (*range(0xC0000081, 0xC0000085), 0xC0000102, *range(0x174, 0x177))
KVM_TRANSLATE = 0xC018AE85
KVM_GET_FPU, KVM_SET_FPU, KVM_GET_XSAVE, KVM_GET_DEBUGREGS = 0x81A0AE8C, 0x41A0AE8D, 0x9000AEA4, 0x8080AEA1
KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_SET_GUEST_DEBUG = 0x8400AE8E, 0x4400AE8F, 0x4048AE9B
KVM_NMI, KVM_SMI, KVM_SIGNAL_MSI, KVM_XEN_HVM_CONFIG = 0xAE9A, 0xAEB7, 0x4020AEA5, 0x4038AE7A
KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY = 1, 2
KVM_EXIT_IO, KVM_EXIT_DEBUG, KVM_EXIT_MMIO = 2, 4, 6

_REGION = struct.Struct("<IIQQQ")  # slot, flags, guest-physical address, size, address
_REGS = struct.Struct("<18Q")  # rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 .. r15, rip, rflags
R8_TO_R15 = slice(64, 128)  # bytes of them
_XMM_IN_FPU, _XMM_IN_XSAVE, _XMM_BYTES = 152, 160, 256  # in struct kvm_fpu, in what FXSAVE saves
_SYNCED_AT, _VALID_AT, _DIRTY_AT, _SYNC_REGS = 0x130, 0x120, 0x128, 1  # in struct kvm_run; KVM_SYNC_X86_REGS
_SEGMENT = struct.Struct("<QIH8Bxx")  # base, limit, selector, type, present, dpl, db, s, l, g, avl
_TABLE, _IDT_AT = struct.Struct("<QH6x"), 208  # base, limit; in struct kvm_sregs
_CONTROL = struct.Struct("<6Q")  # cr0, cr2, cr3, cr4, cr8, efer
_TRANSLATION = struct.Struct("<QQB7x")  # address, guest-physical address, valid
_MSRS = struct.Struct("<IIIIQ")  # how many, padding, number, reserved, value
FPU_BYTES, _DEBUGREGS_BYTES = 416, 128
_SREGS_BYTES, _SREGS2_BYTES, _CONTROL_AT, _PDPTRS_AT = 312, 320, 224, 288
EVENTS_BYTES, MP_STATE_BYTES, LAPIC_BYTES = 64, 4, 1024
_IMMEDIATE_EXIT_AT, _EXIT_REASON_AT = 1, 8  # in struct kvm_run
_MMIO, _MMIO_AT = "<8sI", 40  # in struct kvm_run: the data of an access, and how many bytes it has
_RUN_BYTES = 2 * PAGE_SIZE  # of what KVM would map: kvm_run itself, and a page for what goes through ports
_READ_WRITE, _SHARED = 3, 1
RAM_BASE = 1 << 20
# The guest has nothing there, and real mode reaches it; QEMU has few slots.
SPARE, PAST, SPARE_SLOT, ALIAS_SLOT, SLOTS = 0x40000000, 0x40100000, 500, 501, 32
_RFLAGS = 2  # no interrupts; bit 1 is always set
CR0_REAL, CR0_PAGED, CR4_PAE = 0x10, 0x80000011, 0x20
EFER_LONG = 0x500  # long mode, enabled and active
MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_STEAL_TIME = 0x4B564D00, 0x4B564D01, 0x4B564D03

REP_MOVSB = bytes.fromhex("f3a4")  # 64-bit: copies rcx bytes from [rsi] to [rdi]
REP_MOVSD = bytes.fromhex("66f3a5")  # 16-bit: copies cx times 4 bytes from ds:si to es:di
OUT_80 = bytes.fromhex("e680")  # out 0x80, al: no device of KVM's is there, so KVM_RUN returns
FORCED = bytes.fromhex("0f0b6b766d")  # ud2; "kvm": what follows is carried out by KVM's emulator
# KVM_RUN first completes the OUT that it returned for, if the CPU still stands there: so no code begins with one.
PAUSE = bytes.fromhex("90") + OUT_80
COPY = REP_MOVSD + OUT_80
EMULATED_COPY = FORCED + COPY
# lock cmpxchg [si], ecx; add si, 4; the same again: two words that are unlike eax are stored as they are
EMULATED_EXCHANGE = (
    FORCED + bytes.fromhex("66f00fb10c") + bytes.fromhex("83c604") + FORCED + bytes.fromhex("66f00fb10c") + OUT_80
)
WORDS = PAGE_SIZE // 4
# mov eax, [si]; mov ebx, [si + 4]; mov ecx, [si + 8]; mov edx, [si + 12]
LOAD_16 = bytes.fromhex("668b04668b5c04668b4c08668b540c") + OUT_80
# mov es:[di], eax; mov es:[di + 4], ebx; mov es:[di + 8], ecx; mov es:[di + 12], edx
LOAD_16_STORE_16 = LOAD_16 + bytes.fromhex("266689052666895d042666894d08266689550c") + OUT_80


@dataclass(frozen=True, slots=True)
class File:
    """A file of KVM's. :ivar fd: its descriptor in the process. :ivar scratch: memory there, for arguments."""

    process: Puppet
    fd: int
    scratch: int

    def put(self, request: int, content: bytes) -> Done:
        """An ioctl that takes a structure."""
        self.process.write(self.scratch, content)
        return self.process.syscall("ioctl", self.fd, request, self.scratch)

    def set(self, request: int, content: bytes) -> None:
        """The same; it must succeed."""
        self.put(request, content).require(f"KVM ioctl {request:#x}")

    def get(self, request: int, size: int) -> bytes:
        """What an ioctl tells, so many bytes; it must succeed."""
        self.process.syscall("ioctl", self.fd, request, self.scratch).require(f"KVM ioctl {request:#x}")
        return self.process.read(self.scratch, size)


@dataclass(frozen=True, slots=True)
class Vm(File):
    """A VM."""

    def region(self, slot: int, gpa: int, size: int, address: int, flags: int = 0) -> Done:
        """KVM_SET_USER_MEMORY_REGION: bytes of guest-physical memory, which are the process's own at ``address``."""
        return self.put(KVM_SET_USER_MEMORY_REGION, _REGION.pack(slot, flags, gpa, size, address))


@dataclass(frozen=True, slots=True)
class Vcpu(File):
    """A virtual CPU. :ivar run_at: where the process has its ``struct kvm_run``."""

    run_at: int

    def aim(
        self, code: int, source: int, target: int, *, rflags: int = _RFLAGS, efer: int = 0, **registers: int
    ) -> None:
        """Have it begin at guest-physical address ``code``, in real mode, with ds at ``source`` and es at ``target``.

        :param registers: general registers; those not given are 0.
        """
        segments = [_segment(code, 0xB), _segment(source, 3), _segment(target, 3), *[_segment(0, 3)] * 3]
        segments += [_segment(0, 0xB, s=0), _segment(0, 2, s=0)]  # a busy TSS, an LDT
        sregs = bytearray(self.get(KVM_GET_SREGS, _SREGS_BYTES))
        sregs[: len(segments) * _SEGMENT.size] = b"".join(segments)
        sregs[_CONTROL_AT : _CONTROL_AT + _CONTROL.size] = _CONTROL.pack(CR0_REAL, 0, 0, 0, 0, efer)
        self.set(KVM_SET_SREGS, bytes(sregs))
        names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi")
        self.set(KVM_SET_REGS, _REGS.pack(*(registers.get(name, 0) for name in names), *[0] * 11, rflags))

    def take_handlers_away(self) -> None:
        """Have an exception end the run, by KVM_EXIT_SHUTDOWN; it must have been aimed before."""
        sregs = bytearray(self.get(KVM_GET_SREGS, _SREGS_BYTES))
        sregs[_IDT_AT : _IDT_AT + _TABLE.size] = _TABLE.pack(0, 0)
        self.set(KVM_SET_SREGS, bytes(sregs))

    def page_directory_pointers(self, tables: Iterable[int]) -> Iterator[tuple[Done, bytes]]:
        """While CR3 is each of ``tables``: how KVM_GET_SREGS2 ends, and the four page directory pointers that it tells.

        It must have been aimed before: with segments of 64-bit mode KVM refuses this paging.
        """
        sregs = bytearray(self.get(KVM_GET_SREGS, _SREGS_BYTES))
        for table in tables:
            sregs[_CONTROL_AT : _CONTROL_AT + _CONTROL.size] = _CONTROL.pack(CR0_PAGED, 0, table, CR4_PAE, 0, 0)
            self.set(KVM_SET_SREGS, bytes(sregs))
            done = self.put(KVM_GET_SREGS2, bytes(_SREGS2_BYTES))
            yield done, self.process.read(self.scratch, _SREGS2_BYTES)[_PDPTRS_AT:]

    def load_result(self) -> bytes:
        """What ``LOAD_16`` has loaded, from its registers."""
        rax, rbx, rcx, rdx, *_ = _REGS.unpack(self.get(KVM_GET_REGS, _REGS.size))
        return struct.pack("<4I", rax, rbx, rcx, rdx)

    def msr(self, number: int) -> int:
        """A model-specific register."""
        self.put(KVM_GET_MSRS, _MSRS.pack(1, 0, number, 0, 0)).require("KVM_GET_MSRS")
        return int(_MSRS.unpack(self.process.read(self.scratch, _MSRS.size))[-1])

    def walk_from(self, table: int, cr4: int = 0, efer: int = 0) -> None:
        """Have its page tables begin at a guest-physical address; it must have been aimed before.

        :param cr4: and ``efer``: which kind of paging, of 32 bits if none of them says another.
        """
        sregs = bytearray(self.get(KVM_GET_SREGS, _SREGS_BYTES))
        sregs[_CONTROL_AT : _CONTROL_AT + _CONTROL.size] = _CONTROL.pack(CR0_PAGED, 0, table, cr4, 0, efer)
        self.set(KVM_SET_SREGS, bytes(sregs))

    def translate(self, address: int) -> tuple[Done, int | None]:
        """KVM_TRANSLATE: how it ended, and where page tables lead from one of the guest's addresses; None: nowhere."""
        done = self.put(KVM_TRANSLATE, _TRANSLATION.pack(address, 0, 0))
        _, physical, valid = _TRANSLATION.unpack(self.process.read(self.scratch, _TRANSLATION.size))
        return done, int(physical) if done.errno is None and valid else None

    def general_registers(self) -> bytes:
        """The general registers, as KVM_GET_REGS gives them."""
        return self.get(KVM_GET_REGS, _REGS.size)

    def xmm(self) -> bytes:
        """The registers xmm0 to xmm15, as KVM_GET_FPU gives them."""
        return self.get(KVM_GET_FPU, FPU_BYTES)[_XMM_IN_FPU:][:_XMM_BYTES]

    def xmm_by_xsave(self) -> bytes:
        """The same, as KVM_GET_XSAVE gives them."""
        return self.get(KVM_GET_XSAVE, PAGE_SIZE)[_XMM_IN_XSAVE:][:_XMM_BYTES]

    def put_xmm(self, content: bytes) -> None:
        """Set them, by KVM_SET_FPU."""
        fpu = self.get(KVM_GET_FPU, FPU_BYTES)
        self.set(KVM_SET_FPU, fpu[:_XMM_IN_FPU] + content + fpu[_XMM_IN_FPU + len(content) :])

    def put_r8_to_r15(self, content: bytes) -> None:
        """Set them, by KVM_SET_REGS, and no other."""
        regs = self.general_registers()
        self.set(KVM_SET_REGS, regs[: R8_TO_R15.start] + content + regs[R8_TO_R15.stop :])

    def registers_by_sync(self) -> bytes:
        """The general registers, as KVM_RUN leaves them in the CPU's shared page, without that the CPU runs."""
        self.process.write(self.run_at + _VALID_AT, struct.pack("<QQ", _SYNC_REGS, 0))
        self.process.write(self.run_at + _SYNCED_AT, bytes(_REGS.size))
        self._pass_through()
        return self.process.read(self.run_at + _SYNCED_AT, _REGS.size)

    def sync_r8_to_r15(self, content: bytes) -> None:
        """Set them by the shared page: KVM_RUN takes them from there, without that the CPU runs."""
        self.registers_by_sync()
        self.process.write(self.run_at + _SYNCED_AT + R8_TO_R15.start, content)
        self.process.write(self.run_at + _VALID_AT, struct.pack("<QQ", 0, _SYNC_REGS))
        self._pass_through()

    def port_data(self) -> bytes:
        """The page in which KVM hands out what the guest tells ports, and takes what they answer."""
        return self.process.read(self.run_at + PAGE_SIZE, PAGE_SIZE)

    def _pass_through(self) -> None:
        """KVM_RUN that leaves at once; the shared page asks for nothing afterwards."""
        leave = self.process.read(self.run_at + _IMMEDIATE_EXIT_AT, 1)
        self.process.write(self.run_at + _IMMEDIATE_EXIT_AT, b"\1")
        done = self.process.syscall("ioctl", self.fd, KVM_RUN, 0)
        self.process.write(self.run_at + _IMMEDIATE_EXIT_AT, leave)
        self.process.write(self.run_at + _VALID_AT, bytes(16))
        if done.errno != "EINTR":
            raise ChannelError(f"KVM_RUN that is to leave at once ended otherwise: {done}")

    def control_registers(self) -> tuple[int, int, int]:
        """CR0, CR3 and EFER, as KVM_GET_SREGS gives them."""
        cr0, _, cr3, _, _, efer = _CONTROL.unpack_from(self.get(KVM_GET_SREGS, _SREGS_BYTES), _CONTROL_AT)
        return cr0, cr3, efer

    def debug_addresses(self) -> tuple[int, ...]:
        """DR0 to DR3, as KVM_GET_DEBUGREGS gives them."""
        return struct.unpack_from("<4Q", self.get(KVM_GET_DEBUGREGS, _DEBUGREGS_BYTES))

    def instruction_pointer(self) -> int:
        """RIP, as KVM_GET_REGS gives it."""
        return int(_REGS.unpack(self.general_registers())[16])

    def set_msr(self, number: int, value: int) -> Done:
        """Set one; returns how many were set."""
        return self.put(KVM_SET_MSRS, _MSRS.pack(1, 0, number, 0, value))

    def mmio_data(self) -> bytes:
        """What the last exit, a KVM_EXIT_MMIO, says that the guest has stored."""
        data, size = struct.unpack(_MMIO, self.process.read(self.run_at + _MMIO_AT, struct.calcsize(_MMIO)))
        return bytes(data[:size])

    def hand_in(self, content: bytes) -> None:
        """Answer the guest's load, for which KVM_RUN ended with KVM_EXIT_MMIO."""
        self.process.write(self.run_at + _MMIO_AT, content.ljust(8, b"\0"))

    def run(self) -> Done:
        """KVM_RUN: it returned the exit's reason (``KVM_EXIT_IO``), or -1 and an errno."""
        done = self.process.syscall("ioctl", self.fd, KVM_RUN, 0)
        if done.errno is not None or done.signal is not None:
            return done
        (reason,) = struct.unpack("<I", self.process.read(self.run_at + _EXIT_REASON_AT, 4))
        return replace(done, returned=reason)

    def run_a_while(self) -> None:
        """KVM_RUN until it returns, but for a second at the most."""
        try:
            self.process.syscall("ioctl", self.fd, KVM_RUN, 0, seconds=1.0)
        except ChannelError as error:
            if "deadline" not in error.message:
                raise

    @contextmanager
    def borrow(self) -> Iterator[None]:
        """Its registers and events are ours for as long as the context lasts, and then again what they were."""
        regs, sregs = self.get(KVM_GET_REGS, _REGS.size), self.get(KVM_GET_SREGS, _SREGS_BYTES)
        events = self.get(KVM_GET_VCPU_EVENTS, EVENTS_BYTES)
        state = self.get(KVM_GET_MP_STATE, MP_STATE_BYTES)
        msrs = {number: self.msr(number) for number in _LOST_AT_SHUTDOWN}
        self.set(KVM_SET_VCPU_EVENTS, bytes(EVENTS_BYTES))
        self.set(KVM_SET_MP_STATE, bytes(MP_STATE_BYTES))  # runnable, if it was halted
        leave = self.process.read(self.run_at + _IMMEDIATE_EXIT_AT, 1)
        self.process.write(self.run_at + _IMMEDIATE_EXIT_AT, b"\0")  # QEMU has set it to stop the CPU
        try:
            yield
        finally:
            self.set(KVM_SET_SREGS, sregs)
            self.set(KVM_SET_REGS, regs)
            for number, value in msrs.items():
                self.set_msr(number, value)
            self.set(KVM_SET_VCPU_EVENTS, events)
            self.set(KVM_SET_MP_STATE, state)
            self.process.write(self.run_at + _IMMEDIATE_EXIT_AT, leave)


@contextmanager
def second_vm(process: Puppet) -> Iterator[tuple[Vm, Vcpu]]:
    """A new VM with one CPU and no memory; it is gone afterwards."""
    scratch = process.memory(PAGE_SIZE)
    kvm = process.open("/dev/kvm", os.O_RDWR)
    vm = process.syscall("ioctl", kvm, KVM_CREATE_VM, 0).require("KVM_CREATE_VM")
    cpu = process.syscall("ioctl", vm, KVM_CREATE_VCPU, 0).require("KVM_CREATE_VCPU")
    size = process.syscall("ioctl", kvm, KVM_GET_VCPU_MMAP_SIZE, 0).require("KVM_GET_VCPU_MMAP_SIZE")
    run = process.syscall("mmap", 0, size, _READ_WRITE, _SHARED, cpu, 0).require("mmap of the virtual CPU")
    try:
        yield Vm(process, vm, scratch), Vcpu(process, cpu, scratch, run)
    finally:
        process.syscall("munmap", run, size).require("munmap of the virtual CPU")
        for fd in (cpu, vm, kvm):
            process.syscall("close", fd).require("close")


@dataclass(frozen=True, slots=True)
class Ram:
    """A memory slot of the guest's memory. :ivar base: guest-physical. :ivar address: where QEMU has it."""

    vm: Vm
    slot: int
    base: int
    size: int
    address: int

    def put(self, flags: int = 0) -> None:
        """Add the slot as it was, or give it other flags."""
        self.vm.region(self.slot, self.base, self.size, self.address, flags).require("add the guest's memory")

    def delete(self) -> None:
        """Take the slot away."""
        self.vm.region(self.slot, 0, 0, 0).require("delete the guest's memory")


@dataclass(frozen=True, slots=True)
class OwnVm:
    """The VM that a QEMU runs its guest with, stopped. :ivar cpu: its first CPU. :ivar memory: of the guest, MiB."""

    vm: Vm
    cpu: Vcpu
    memory: int

    @property
    def qemu(self) -> Puppet:
        """The QEMU."""
        return self.vm.process

    def ram(self, gpa: int, address: int) -> Ram:
        """The slot of the memory above 1 MiB, that has this page, which lies there in QEMU."""
        return self.slot(RAM_BASE, (self.memory << 20) - RAM_BASE, address - gpa + RAM_BASE)

    def slot(self, base: int, size: int, address: int) -> Ram:
        """The slot that is so large, begins at guest-physical ``base``, and lies there in QEMU.

        Nothing tells a slot's number: KVM_SET_USER_MEMORY_REGION with what a slot is already changes nothing and
        succeeds, of another slot it says EINVAL, and of a number without a slot EEXIST.
        """
        for slot in range(SLOTS):
            done = self.vm.region(slot, base, size, address)
            if done.returned == 0:
                return Ram(self.vm, slot, base, size, address)
            if done.errno not in ("EINVAL", "EEXIST"):
                done.require("look for the slot of the guest's memory")
        raise ChannelError(f"no slot of QEMU's is {size >> 20} MiB at {base:#x}")

    @contextmanager
    def code(self, code: bytes) -> Iterator[int]:
        """Give the guest a page of code, at the guest-physical address that this returns.

        It is read-only: of a slot that can be written a protected guest sees no content of QEMU's.
        """
        page = self.qemu.memory(code.ljust(PAGE_SIZE, b"\0"))
        self.vm.region(SPARE_SLOT, SPARE, PAGE_SIZE, page, KVM_MEM_READONLY).require("a slot for code")
        try:
            yield SPARE
        finally:
            self.vm.region(SPARE_SLOT, 0, 0, 0).require("delete the slot for code")


@contextmanager
def vm_in_hand(host: Host, puppeteer: Puppeteer, guest: Guest) -> Iterator[OwnVm]:
    """Stop a guest and have its VM in hand, by its QEMU. Nothing is put back: what we do to its CPU stays."""
    lines = host.ssh.run(["ls", "-l", f"/proc/{guest.pid}/fd"], seconds=10).require().text.splitlines()
    links = [line.rsplit(maxsplit=3) for line in lines if " -> anon_inode:kvm-v" in line]
    files = {name.removeprefix("anon_inode:"): int(fd) for _, fd, _, name in links}
    guest.qmp.execute("stop")
    try:
        with puppeteer.inside(guest.pid) as qemu:
            file = files["kvm-vcpu:0"]
            run = qemu.syscall("mmap", 0, _RUN_BYTES, _READ_WRITE, _SHARED, file, 0).require("mmap of the virtual CPU")
            scratch = qemu.memory(PAGE_SIZE)
            yield OwnVm(Vm(qemu, files["kvm-vm"], scratch), Vcpu(qemu, file, scratch, run), guest.spec.memory)
            qemu.syscall("munmap", run, _RUN_BYTES).require("munmap of the virtual CPU")
    finally:
        guest.qmp.execute("cont")


@contextmanager
def own_vm(host: Host, puppeteer: Puppeteer, guest: Guest) -> Iterator[OwnVm]:
    """The same; its CPU afterwards goes on where it was."""
    with vm_in_hand(host, puppeteer, guest) as own, own.cpu.borrow():
        yield own


def by_own_vm(attack: Attack, call: str, probe: Callable[[OwnVm, Target], Answer], host: Host | None = None) -> None:
    """Attack from within QEMU by the VM that it runs the guest with; both go on unharmed.

    :param host: another one than the shared one: to steer the guest's CPU takes one whose registers are not private.
    """
    host = host or attack.host
    with attack.puppeteer(host) as puppeteer:
        attack.by_whom(call, probe, lambda guest: own_vm(host, puppeteer, guest), host)


def load(qemu: Puppet, page: Target) -> Answer:
    """Have QEMU load the page, by an instruction."""
    buffer = qemu.memory(PAGE_SIZE)
    done = qemu.run(REP_MOVSB, rsi=page.hva, rdi=buffer, rcx=PAGE_SIZE)
    return Answer(done.as_a_load(), qemu.read(buffer, PAGE_SIZE))


def _segment(base: int, kind: int, s: int = 1) -> bytes:
    return _SEGMENT.pack(base, 0xFFFF, 0, kind, 1, 0, 0, s, 0, 0, 0)

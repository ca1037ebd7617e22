# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks by single instructions of the guest's own QEMU: every way in which a processor touches memory.

Code is given in hexadecimal, with the instructions beside it.
"""

from __future__ import annotations

import dataclasses

from host_setup.channels.puppets import Done, Puppet
from signoff.observation import PAGE_SIZE
from tests_e2e.support.attack import PATTERN, Answer, Attack, Target

WORD, SSE, AVX = 8, 16, 32  # bytes that one instruction moves
HALF = WORD // 2
GUESSED = 64  # bytes to guess
READ_WRITE, EXECUTE = 3, 4  # PROT_* of linux/mman.h
APPROACH = b"\xa5"  # what each byte before a kernel page is (guest_images/modules/sealproof_uapi.h)
SINGLE_STEP = 0x302  # RFLAGS with the trap flag

LODSB_LOOP = bytes.fromhex("ac aa e2fc")  # 1: lodsb; stosb; loop 1b
LOAD_RAX = bytes.fromhex("488b07")  # mov rax, [rdi]
STORE_RAX = bytes.fromhex("488907")  # mov [rdi], rax
POP_RAX = bytes.fromhex("4889fc 58")  # mov rsp, rdi; pop rax
MOVUPS = bytes.fromhex("0f1006 0f1107")  # movups xmm0, [rsi]; movups [rdi], xmm0
MOVNTDQA = bytes.fromhex("660f382a06 0f1107")  # movntdqa xmm0, [rsi]; movups [rdi], xmm0
VMOVDQU = bytes.fromhex("c5fe6f06 c5fe7f07")  # vmovdqu ymm0, [rsi]; vmovdqu [rdi], ymm0
# vpcmpeqd ymm1, ymm1, ymm1; vmovdqu ymm2, [rdx]; vpgatherqq ymm0, [rsi + ymm2], ymm1; vmovdqu [rdi], ymm0
GATHER = bytes.fromhex("c5f576c9 c5fe6f12 c4e2f5910416 c5fe7f07")
# 1: xor eax, eax; 2: scasb; je 3f; dec rdi; inc al; jmp 2b; 3: xchg rsi, rdi; stosb; xchg rsi, rdi; loop 1b
GUESS = bytes.fromhex("31c0 ae 7407 48ffcf fec0 ebf6 4887fe aa 4887fe e2eb")
REP_STOSB = bytes.fromhex("f3aa")  # fills rcx bytes at [rdi] with al
LOCK_XADD = bytes.fromhex("f0480fc107")  # lock xadd [rdi], rax
XCHG = bytes.fromhex("488707")  # xchg [rdi], rax
# lock cmpxchg [rdi], rdx; mov [rsi], rax; lock cmpxchg [rdi], rdx: the first fails and tells what to expect
LOCK_CMPXCHG = bytes.fromhex("f0480fb117 488906 f0480fb117")
PUSH_AND_JUMP = bytes.fromhex("50 ffe2")  # push rax; jmp rdx
POPF_MOV = bytes.fromhex("9d c707")  # popf; mov dword [rdi], the 4 bytes that follow


def test_qemu_cannot_load_private_bytes_one_by_one(attack: Attack) -> None:
    """QEMU itself cannot load the bytes of a private page one by one."""
    attack.by_qemu("lodsb", lambda qemu, page: _run_copy(qemu, LODSB_LOOP, page, PAGE_SIZE, rcx=PAGE_SIZE))


def test_qemu_cannot_load_private_word(attack: Attack) -> None:
    """QEMU itself cannot load a word of a private page into a register."""
    attack.by_qemu("mov", lambda qemu, page: _in_rax(qemu.run(LOAD_RAX, rdi=page.hva)))


def test_qemu_cannot_pop_private_word(attack: Attack) -> None:
    """QEMU itself cannot take a private page for its stack and pop a word."""
    attack.by_qemu("pop", lambda qemu, page: _in_rax(qemu.run(POP_RAX, rdi=page.hva)))


def test_qemu_cannot_load_across_into_private_page(attack: Attack) -> None:
    """QEMU itself cannot load a word that begins in a shared page and ends in a private one."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        answer = _in_rax(qemu.run(LOAD_RAX, rdi=page.hva - HALF))
        return Answer(answer.done, answer.data[HALF:])

    attack.by_qemu("mov across pages", probe)


def test_qemu_cannot_load_private_vector_by_sse(attack: Attack) -> None:
    """QEMU itself cannot load a vector of a private page by SSE."""
    attack.by_qemu("movups", lambda qemu, page: _run_copy(qemu, MOVUPS, page, SSE))


def test_qemu_cannot_load_private_vector_past_the_cache(attack: Attack) -> None:
    """QEMU itself cannot load a vector of a private page by a non-temporal load."""
    attack.by_qemu("movntdqa", lambda qemu, page: _run_copy(qemu, MOVNTDQA, page, SSE))


def test_qemu_cannot_load_private_vector_by_avx(attack: Attack) -> None:
    """QEMU itself cannot load a vector of a private page by AVX."""
    attack.by_qemu("vmovdqu", lambda qemu, page: _run_copy(qemu, VMOVDQU, page, AVX))


def test_qemu_cannot_gather_private_words(attack: Attack) -> None:
    """QEMU itself cannot gather words from all over a private page by AVX2."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        places = b"".join(at.to_bytes(WORD, "little") for at in range(0, PAGE_SIZE, PAGE_SIZE // (AVX // WORD)))
        answer = _run_copy(qemu, GATHER, page, AVX, rdx=qemu.memory(places))
        return dataclasses.replace(answer, cuts=tuple(range(WORD, AVX, WORD)))

    attack.by_qemu("vpgatherqq", probe)


def test_qemu_cannot_guess_private_bytes(attack: Attack) -> None:
    """QEMU itself cannot find out the bytes of a private page by comparing them with all that they can be."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        guessed = qemu.memory(GUESSED)
        done = qemu.run(GUESS, rdi=page.hva, rsi=guessed, rcx=GUESSED)
        return Answer(done.as_a_load(), qemu.read(guessed, GUESSED))

    attack.by_qemu("scasb", probe)


def test_qemu_cannot_store_to_private_page(attack: Attack) -> None:
    """QEMU itself cannot store a word in a private page of its guest: the store ends in SIGBUS."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        word = PATTERN[:WORD]
        done = qemu.run(STORE_RAX, rdi=page.hva, rax=int.from_bytes(word, "little"))
        return Answer(done.as_a_load(), wrote=word)

    attack.by_qemu("mov to memory", probe)


def test_qemu_cannot_fill_private_page(attack: Attack) -> None:
    """QEMU itself cannot fill a private page of its guest byte by byte."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        byte = 0x5A
        done = qemu.run(REP_STOSB, rdi=page.hva, rcx=PAGE_SIZE, rax=byte)
        return Answer(done.as_a_load(), wrote=bytes([byte]) * PAGE_SIZE)

    attack.by_qemu("rep stosb", probe)


def test_qemu_cannot_add_to_private_word(attack: Attack) -> None:
    """QEMU itself cannot add to a word of a private page, and get what it was, in one atomic instruction."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        more = 0x0123456789ABCDEF
        answer = _in_rax(qemu.run(LOCK_XADD, rdi=page.hva, rax=more))
        total = int.from_bytes(answer.data, "little") + more
        return Answer(answer.done, answer.data, wrote=(total % 2 ** (8 * WORD)).to_bytes(WORD, "little"))

    attack.by_qemu("lock xadd", probe)


def test_qemu_cannot_exchange_private_word(attack: Attack) -> None:
    """QEMU itself cannot exchange a word of a private page for its own in one atomic instruction."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        word = PATTERN[:WORD]
        answer = _in_rax(qemu.run(XCHG, rdi=page.hva, rax=int.from_bytes(word, "little")))
        return Answer(answer.done, answer.data, wrote=word)

    attack.by_qemu("xchg", probe)


def test_qemu_cannot_compare_and_exchange_private_word(attack: Attack) -> None:
    """QEMU itself cannot compare and exchange a word of a private page, and learn it when the comparison fails."""

    def probe(qemu: Puppet, page: Target) -> Answer:
        word, result = PATTERN[:WORD], qemu.memory(WORD)
        done = qemu.run(LOCK_CMPXCHG, rdi=page.hva, rsi=result, rdx=int.from_bytes(word, "little"))
        return Answer(done.as_a_load(), qemu.read(result, WORD), wrote=word)

    attack.by_qemu("lock cmpxchg", probe)


def test_qemu_cannot_execute_from_private_page(attack: Attack) -> None:
    """QEMU itself cannot execute an instruction of which a part lies in a private page of its guest.

    The instruction begins in the shared page before, where QEMU may write, and stores its own last 4 bytes, which are
    the first of the canary. The trap flag, which POPF sets right before it, stops what would come next.
    """

    def probe(qemu: Puppet, page: Target) -> Answer:
        both, site, result = page.hva - PAGE_SIZE, page.hva - len(POPF_MOV), qemu.memory(HALF)
        qemu.syscall("mprotect", both, 2 * PAGE_SIZE, READ_WRITE | EXECUTE).require("mprotect(PROT_EXEC)")
        qemu.write(site, POPF_MOV)
        done = qemu.run(PUSH_AND_JUMP, rdx=site, rax=SINGLE_STEP, rdi=result)
        qemu.write(site, APPROACH * len(POPF_MOV))
        qemu.syscall("mprotect", both, 2 * PAGE_SIZE, READ_WRITE).require("mprotect back")
        return Answer(done, qemu.read(result, HALF))

    attack.by_qemu("instruction fetch", probe)


def _run_copy(qemu: Puppet, code: bytes, page: Target, size: int, **registers: int) -> Answer:
    """What code that copies from [rsi] to [rdi] got."""
    buffer = qemu.memory(size)
    done = qemu.run(code, rsi=page.hva, rdi=buffer, **registers)
    return Answer(done.as_a_load(), qemu.read(buffer, size))


def _in_rax(done: Done) -> Answer:
    """What code brought home in rax, if it came to its end."""
    return Answer(done.as_a_load(), b"" if done.returned is None else done.returned.to_bytes(WORD, "little"))

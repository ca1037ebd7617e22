# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's messages taken apart. The samples are in the forms that Linux 6.12 prints, for x86."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import oops
from common.oops import find

NULL_POINTER = """\
[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   12.345690] #PF: supervisor read access in kernel mode
[   12.345701] #PF: error_code(0x0000) - not-present page
[   12.345712] PGD 0 P4D 0
[   12.345723] Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
[   12.345734] CPU: 1 UID: 0 PID: 123 Comm: qemu-system-x86 Tainted: G           O       6.12.117 #1
[   12.345745] Tainted: [O]=OOT_MODULE
[   12.345756] Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.3-debian-1.16.3-2 04/01/2014
[   12.345767] RIP: 0010:kvm_mem_protect.isra.0+0x12/0x1c0 [kvm]
[   12.345778] Code: 0f 1f 44 00 00 41 57 41 56 <48> 8b 47 10 c3 cc cc cc cc 0f 1f
[   12.345789] RSP: 0018:ffffc900001a3e20 EFLAGS: 00010246
[   12.345800] RAX: 0000000000000000 RBX: ffff888003a4b000 RCX: 0000000000000000
[   12.345811] RDX: 0000000000000001 RSI: 0000000000000000 RDI: 0000000000000000
[   12.345822] R13: 0000000000000000 R14: 0000000000000000 R15: 0000000000000000
[   12.345833] FS:  00007f3e4c0006c0(0000) GS:ffff88803ed00000(0000) knlGS:0000000000000000
[   12.345844] CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033
[   12.345855] CR2: 0000000000000010 CR3: 0000000003b5c000 CR4: 00000000000006f0
[   12.345866] Call Trace:
[   12.345877]  <TASK>
[   12.345888]  ? __die_body.cold+0x19/0x27
[   12.345899]  ? page_fault_oops+0x15c/0x2d0
[   12.345910]  ? asm_exc_page_fault+0x26/0x30
[   12.345921]  ? kvm_mem_protect.isra.0+0x12/0x1c0 [kvm]
[   12.345932]  kvm_emulate_hypercall.part.0+0x2a1/0x3b0 [kvm]
[   12.345943]  vcpu_enter_guest.constprop.0+0x9f1/0x1660 [kvm]
[   12.345954]  kvm_arch_vcpu_ioctl_run+0x2a4/0x5b0 [kvm]
[   12.345965]  kvm_vcpu_ioctl+0x2bd/0x7c0 [kvm]
[   12.345976]  __x64_sys_ioctl+0x94/0xd0
[   12.345987]  do_syscall_64+0x82/0x190
[   12.345998]  entry_SYSCALL_64_after_hwframe+0x76/0x7e
[   12.346009] RIP: 0033:0x7f3e4d1179ee
[   12.346020] Code: 00 00 48 89 44 24
[   12.346031]  </TASK>
[   12.346042] Modules linked in: host_attack(O)
[   12.346053] CR2: 0000000000000010
[   12.346064] ---[ end trace 0000000000000000 ]---
[   12.346075] RIP: 0010:kvm_mem_protect.isra.0+0x12/0x1c0 [kvm]
[   12.346086] Kernel panic - not syncing: Fatal exception
[   12.346097] ---[ end Kernel panic - not syncing: Fatal exception ]---
"""
# The same fault in another build, on another machine: no module, no .isra and so on, inlined otherwise at the way in.
AGAIN = """\
[ 1234.000001][  T998] BUG: kernel NULL pointer dereference, address: 00000000000007f0
[ 1234.000002][  T998] #PF: supervisor read access in kernel mode
[ 1234.000003][  T998] #PF: error_code(0x0000) - not-present page
[ 1234.000004][  T998] PGD 800000010b2c7067 P4D 800000010b2c7067 PUD 10b2c8067 PMD 0
[ 1234.000005][  T998] Oops: 0000 [#1] SMP PTI
[ 1234.000006][  T998] CPU: 7 PID: 998 Comm: CPU 0/KVM Not tainted 6.13.0-rc1+ #77
[ 1234.000007][  T998] RIP: 0010:kvm_mem_protect+0x9a/0x210
[ 1234.000008][  T998] RSP: 0018:ffffb0c3c1234e20 EFLAGS: 00010286
[ 1234.000009][  T998] Call Trace:
[ 1234.000010][  T998]  <TASK>
[ 1234.000011][  T998]  kvm_emulate_hypercall+0x1f1/0x3b0
[ 1234.000012][  T998]  ? __pfx_kvm_emulate_hypercall+0x10/0x10
[ 1234.000013][  T998]  vcpu_enter_guest+0x1f1/0x1660
[ 1234.000014][  T998]  kvm_arch_vcpu_ioctl_run+0x1a4/0x5b0
[ 1234.000015][  T998]  kvm_vcpu_ioctl+0x1bd/0x7c0
[ 1234.000016][  T998]  entry_SYSCALL_64_after_hwframe+0x4b/0x53
[ 1234.000017][  T998]  </TASK>
[ 1234.000018][  T998] ---[ end trace 0000000000000000 ]---
"""
KASAN = """\
[    5.000001] ==================================================================
[    5.000002] BUG: KASAN: slab-use-after-free in release_block+0x3f/0x90
[    5.000003] Read of size 8 at addr ffff88800acb1e00 by task qemu/77
[    5.000004]
[    5.000005] CPU: 0 UID: 0 PID: 77 Comm: qemu Not tainted 6.12.117 #1
[    5.000006] Call Trace:
[    5.000007]  <TASK>
[    5.000008]  dump_stack_lvl+0x5d/0x80
[    5.000009]  print_report+0x170/0x4f3
[    5.000010]  ? __virt_addr_valid+0x81/0x120
[    5.000011]  kasan_report+0xb9/0x190
[    5.000012]  release_block+0x3f/0x90
[    5.000013]  kvm_destroy_vm+0x2f/0x40
[    5.000014]  </TASK>
[    5.000015]
[    5.000016] Allocated by task 77:
[    5.000017]  kasan_save_stack+0x20/0x40
[    5.000018]  protect_slot+0x70/0x250
"""
WARNING = """\
[    9.100000] ------------[ cut here ]------------
[    9.100001] WARNING: CPU: 2 PID: 41 at mm/protected_guest_mem.c:312 pgm_release+0x4c/0x60
[    9.100002] Modules linked in:
[    9.100003] CPU: 2 UID: 0 PID: 41 Comm: kworker/2:1 Not tainted 6.12.117 #1
[    9.100004] RIP: 0010:pgm_release+0x4c/0x60
[    9.100005] Call Trace:
[    9.100006]  <TASK>
[    9.100007]  ? __warn+0x84/0x130
[    9.100008]  ? report_bug+0x1c3/0x1d0
[    9.100009]  kvm_mem_release+0x21/0x40
[    9.100010]  process_one_work+0x17a/0x390
[    9.100011]  worker_thread+0x2ad/0x3d0
[    9.100012]  kthread+0xd2/0x100
[    9.100013]  ret_from_fork+0x34/0x50
[    9.100014]  </TASK>
[    9.100015] ---[ end trace 0000000000000000 ]---
"""
LOCKUP = """\
[   60.000001] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [qemu-system-x86:88]
[   60.000002] CPU: 1 UID: 0 PID: 88 Comm: qemu-system-x86 Not tainted 6.12.117 #1
[   60.000003] RIP: 0010:{where}+0x15/0x30
[   60.000004] Call Trace:
[   60.000005]  <IRQ>
[   60.000006]  ? watchdog_timer_fn+0x226/0x2b0
[   60.000007]  __hrtimer_run_queues+0x10f/0x2a0
[   60.000008]  </IRQ>
[   60.000009]  <TASK>
[   60.000010]  {where}+0x15/0x30
[   60.000011]  share_range+0x15/0x130
[   60.000012]  kvm_mem_share+0x15/0x130
[   60.000013]  kvm_vm_ioctl+0x1/0x2
[   60.000014]  __x64_sys_ioctl+0x94/0xd0
[   60.000015]  do_syscall_64+0x82/0x190
[   60.000016]  </TASK>
"""
STALL = """\
[   80.000001] rcu: INFO: rcu_preempt self-detected stall on CPU
[   80.000002] rcu: \t1-....: (2100 ticks this GP) idle=4a4c/1/0x4000000000000000 softirq=155/155 fqs=525
[   80.000003] CPU: 1 UID: 0 PID: 88 Comm: qemu Not tainted 6.12.117 #1
[   80.000004] RIP: 0010:cpu_relax+0x1/0x2
[   80.000005] Call Trace:
[   80.000006]  <TASK>
[   80.000007]  wait_for_tlb+0x15/0x30
[   80.000008]  kvm_vm_ioctl+0x1/0x2
[   80.000009]  </TASK>
"""
HUNG = """\
[  240.000001] INFO: task qemu-system-x86:88 blocked for more than 120 seconds.
[  240.000002]       Not tainted 6.12.117 #1
[  240.000003] "echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
[  240.000004] task:qemu-system-x86 state:D stack:0     pid:88    tgid:88    ppid:1      flags:0x00004002
[  240.000005] Call Trace:
[  240.000006]  <TASK>
[  240.000007]  __schedule+0x3f1/0xd40
[  240.000008]  schedule+0x27/0xf0
[  240.000009]  schedule_preempt_disabled+0x15/0x30
[  240.000010]  __mutex_lock.constprop.0+0x47e/0x8a0
[  240.000011]  kvm_mem_share+0x20/0x130
[  240.000012]  </TASK>
"""
BUG_AT = """\
[    3.000001] kernel BUG at mm/protected_guest_mem.c:77!
[    3.000002] Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI
[    3.000003] RIP: 0010:pool_alloc.cold+0x15/0x30
[    3.000004] Call Trace:
[    3.000005]  <TASK>
[    3.000006]  protect_slot+0x3f/0x90
[    3.000007]  </TASK>
[    3.000008] ---[ end trace 0000000000000000 ]---
"""
PROTECTION = """\
[    3.000001] Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP
[    3.000002] RIP: 0010:list_del+0x15/0x30
[    3.000003] Call Trace:
[    3.000004]  protect_slot+0x3f/0x90
[    3.000005] ---[ end trace 0000000000000000 ]---
"""
PANIC = "[    1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n[    1.0] CPU: 0 PID: 1\n"
FAULT = NULL_POINTER.replace(
    "kernel NULL pointer dereference, address: 0000000000000010",
    "unable to handle page fault for address: ffffc90000400000",
).replace("read access", "write access")
ALL = (NULL_POINTER, FAULT, KASAN, WARNING, LOCKUP.format(where="cpu_relax"), STALL, HUNG, BUG_AT, PROTECTION, PANIC)


@pytest.mark.parametrize(
    ("log", "kind", "functions"),
    [
        (
            NULL_POINTER,
            "NULL pointer dereference, read",
            (
                "kvm_mem_protect",
                "kvm_emulate_hypercall",
                "vcpu_enter_guest",
                "kvm_arch_vcpu_ioctl_run",
                "kvm_vcpu_ioctl",
            ),
        ),
        (KASAN, "KASAN: slab-use-after-free, read", ("release_block", "kvm_destroy_vm")),
        (
            WARNING,
            "WARNING at mm/protected_guest_mem.c",
            ("pgm_release", "kvm_mem_release", "process_one_work", "worker_thread"),
        ),
        (
            LOCKUP.format(where="cpu_relax"),
            "soft lockup",
            ("cpu_relax", "share_range", "kvm_mem_share", "kvm_vm_ioctl"),
        ),
        (STALL, "RCU stall", ("wait_for_tlb", "kvm_vm_ioctl")),
        (HUNG, "hung task", ("__mutex_lock", "kvm_mem_share")),
        (BUG_AT, "BUG at mm/protected_guest_mem.c", ("pool_alloc", "protect_slot")),
        (PROTECTION, "general protection fault", ("list_del", "protect_slot")),
        (PANIC, "panic: Attempted to kill init!", ()),
    ],
)
def test_a_message_is_its_kind_and_its_functions(log: str, kind: str, functions: tuple[str, ...]) -> None:
    (messages,) = find(log)
    assert (messages.kind, messages.functions) == (kind, functions)
    assert re.fullmatch("[0-9a-f]{12}", messages.fingerprint)
    assert messages.fingerprint in messages.words and messages.kind in messages.words


def test_a_fault_keeps_its_fingerprint_in_another_build_and_on_another_machine() -> None:
    (message,), (other,) = find(NULL_POINTER), find(AGAIN)
    assert message.fingerprint == other.fingerprint
    assert message.text != other.text


def test_other_faults_have_other_fingerprints() -> None:
    prints = [message.fingerprint for log in ALL for message in find(log)]
    assert len(prints) == len(ALL)
    elsewhere = find(NULL_POINTER.replace("vcpu_enter_guest", "vcpu_run"))[0].fingerprint
    assert len({*prints, elsewhere}) == len(ALL) + 1


def test_where_a_processor_is_stuck_is_chance() -> None:
    stuck = LOCKUP.replace("share_range", "walk+0x1/0x2\n[   60.0]  share_range")
    prints = {find(stuck.format(where=where))[0].fingerprint for where in ("cpu_relax", "native_pause", "delay_tsc")}
    assert len(prints) == 1


def test_all_messages_of_a_log_are_found_in_their_order() -> None:
    between = "[    9.9] systemd: something ordinary\n"
    messages = find(between.join(ALL))
    assert [entry.kind for entry in messages] == [message.kind for log in ALL for message in find(log)]


def test_what_follows_from_an_oops_is_no_message_of_its_own() -> None:
    (messages,) = find(NULL_POINTER)
    assert "Fatal exception" not in messages.kind


@pytest.mark.parametrize(
    "log",
    [
        "",
        "[    0.1] Linux version 6.12.117\n[    0.2] Spectre V2 : WARNING: Unprivileged eBPF is enabled\n",
        "[    0.1] random: crng init done\n[    0.2]  foo+0x1/0x2\n",
    ],
)
def test_a_healthy_log_has_none(log: str) -> None:
    assert find(log) == []


def test_a_log_that_breaks_off_still_tells_what_it_has() -> None:
    lines = NULL_POINTER.splitlines(keepends=True)
    for end in range(1, len(lines)):
        (messages,) = find("".join(lines[:end]))
        assert messages.kind.startswith("NULL pointer dereference")


@pytest.mark.parametrize("prefix", ["", "<0>", "<4>[   12.345678] ", "[   12.345678][    C0] ", "[12.345678][ T1234] "])
def test_what_stands_before_a_message_is_no_part_of_it(prefix: str) -> None:
    lines = [oops.bare(line) for line in NULL_POINTER.splitlines()]
    if prefix == "<0>":
        prefix = "<0>[    1.000000] "
    (messages,) = find("\r\n".join(f"{prefix}{line}" for line in lines))
    assert messages.fingerprint == find(NULL_POINTER)[0].fingerprint


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 511),
    st.integers(1, 99999),
    st.integers(0, 0xFFF),
    st.floats(0, 99999),
)
def test_addresses_processes_processors_offsets_and_times_do_not_count(
    address: int, cpu: int, pid: int, offset: int, at: float
) -> None:
    lines = [oops.bare(line) for line in NULL_POINTER.splitlines()]
    text = "\n".join(f"[{at:12.6f}] {line}" for line in lines)
    text = text.replace("0000000000000010", f"{address:016x}").replace("CPU: 1 ", f"CPU: {cpu} ")
    text = text.replace("PID: 123 ", f"PID: {pid} ")
    text = re.sub(r"\+0x[0-9a-f]+/0x[0-9a-f]+", f"+{offset:#x}/{offset + 16:#x}", text)
    assert find(text)[0].fingerprint == find(NULL_POINTER)[0].fingerprint


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    find(text)


@given(st.lists(st.sampled_from([line for log in ALL for line in log.splitlines()]), max_size=60))
def test_lines_in_any_order_are_taken(lines: list[str]) -> None:
    for message in find("\n".join(lines)):
        assert message.text and message.kind and message.fingerprint

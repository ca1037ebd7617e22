# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as a sick kernel. The lines are what Linux 6.12 prints, and older or newer ones where they differ."""

from __future__ import annotations

import pytest

from host_setup.hosts.kernel_log import fatal, splats, user_faults

FATAL = [
    "[    9.1] Kernel panic - not syncing: Fatal exception",
    "[    9.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
    "[    9.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
    "[    9.1] Kernel panic - not syncing: softlockup: hung tasks",
    "[    9.1] BUG: unable to handle page fault for address: ffff888012345000",
    "[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "[    9.1] kernel BUG at mm/slub.c:448!",
    "[    9.1] Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "[    9.1][   T42] Oops: 0000 [#1] SMP",
    "[    9.1] Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP",
    "[    9.1] Oops: general protection fault: 0000 [#1] PREEMPT SMP NOPTI",
    "[    9.1] general protection fault: 0000 [#1] SMP PTI",
    "[    9.1] Oops: invalid opcode: 0000 [#1] SMP",
    "[    9.1] invalid opcode: 0000 [#1] SMP",
    "[    9.1] Oops: divide error: 0000 [#1] SMP",
    "[    9.1] Oops: stack segment: 0000 [#2] SMP",
    "[    9.1] Oops: int3: 0000 [#1] SMP",
    "[    9.1] traps: PANIC: double fault, error_code: 0x0",
    "[    9.1] Oops: double fault: 0000 [#1] SMP",
]
ILL = [
    "[    9.1] ------------[ cut here ]------------",
    "[    9.1] WARNING: CPU: 1 PID: 77 at arch/x86/kvm/svm/nested.c:1110 nested_svm_vmexit+0x12/0x800",
    "[    9.1][  T77] WARNING: CPU: 1 PID: 77 at mm/gup.c:1 follow_page_mask+0x1/0x2",
    "WARNING: CPU: 0 PID: 1 at init/main.c:1 start_kernel+0x1/0x2",
    "[    9.1] WARNING: arch/x86/kvm/mmu/mmu.c:12 at kvm_mmu_map+0x1/0x2, CPU#0: qemu/77",
    "[    9.1] WARNING: possible circular locking dependency detected",
    "[    9.1] WARNING: possible recursive locking detected",
    "[    9.1] WARNING: suspicious RCU usage",
    "[    9.1] WARNING: bad unlock balance detected!",
    "Starting the n[    9.1] WARNING: inconsistent lock state",
    "[    9.1] BUG: sleeping function called from invalid context at mm/gup.c:1",
    "[    9.1] BUG: scheduling while atomic: qemu/77/0x00000002",
    "[    9.1] BUG: Bad page state in process qemu  pfn:12345",
    "[    9.1] BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:1",
    "[    9.1] BUG: KASAN: slab-use-after-free in kvm_vcpu_run+0x1/0x2",
    "[    9.1] BUG: KFENCE: out-of-bounds read in kvm_vcpu_run+0x1/0x2",
    "[    9.1] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [qemu-system-x86:77]",
    "[    9.1] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
    "[    9.1] watchdog: Watchdog detected hard LOCKUP on cpu 0",
    "[    9.1] INFO: task qemu-system-x86:77 blocked for more than 120 seconds.",
    "[    9.1] INFO: rcu_sched self-detected stall on CPU",
    "[    9.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "[    9.1] rcu: INFO: rcu_preempt self-detected stall on CPU",
    "[    9.1] refcount_t: underflow; use-after-free.",
    "[    9.1] Call Trace:",
]
HEALTHY = """\
[    0.000000] Linux version 6.12.117 (root@build) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0) #1 SMP
[    0.000000] Command line: console=ttyS0 root=/dev/vda ro panic=-1 oops=panic nokaslr kvm.force_emulation_prefix=1
[    0.000000] tsc: Fast TSC calibration failed
[    0.000000] ACPI: PM-Timer IO Port: 0x608
[    0.000000] Unknown kernel command line parameters "nokaslr", will be passed to user space.
[    0.000000] mem auto-init: stack:all(zero), heap alloc:off, heap free:off
[    0.000000] rcu: Hierarchical RCU implementation.
[    0.000000] rcu: \tRCU restricting CPUs from NR_CPUS=64 to nr_cpu_ids=2.
[    0.000000] rcu: srcu_init: Setting srcu_struct sizes based on contention.
[    0.020000] ..TIMER: vector=0x30 apic1=0 pin1=2 apic2=-1 pin2=-1
[    0.035921] x86/fpu: Enabled xstate features 0x21f, context size is 2696 bytes, using 'standard' format.
[    0.292820] APIC calibration not consistent with PM-Timer: 97ms instead of 100ms
[    0.306084] Performance Events: PMU not available due to virtualization, using software events only.
[    0.000000] calibrate_delay_direct() dropping max bogoMips estimate 1 = 88497650
[    0.671177] mtrr: your CPUs had inconsistent fixed MTRR settings
[    0.671812] mtrr: probably your BIOS does not setup all CPUs.
[    0.875641] PCI: Using host bridge windows from ACPI; if necessary, use "pci=nocrs" and report a bug
[    1.002934] acpi PNP0A03:00: fail to add MMCONFIG information, can't access extended configuration space
[    1.010229] pci_bus 0000:00: root bus resource [io  0x0000-0x0cf7 window]
[    1.015368] pci 0000:00:00.0: [8086:1237] type 00 class 0x060000 conventional PCI endpoint
[    1.373003] pci 0000:00:00.0: Limiting direct PCI/PCI transfers
[    1.378108] kvm_intel: VMX not supported by CPU 0
[    1.379192] kvm_amd: Nested Virtualization enabled
[    6.009811] amd_pstate: the _CPC object is not present in SBIOS or ACPI disabled
[    6.034043] IPI shorthand broadcast: enabled
[    8.610236] overlayfs: failed to set xattr on upper
[    8.612825] overlayfs: ...falling back to redirect_dir=nofollow.
[   11.379414] host_attack: loading out-of-tree module taints kernel.
[   11.379500] host_attack: module verification failed: signature and/or required key missing - tainting kernel
[74] Nov 22 21:37:53 Not backgrounding
Server listening on 0.0.0.0 port 22.
[82] Nov 22 21:37:55 Pubkey auth succeeded for 'root' with ssh-ed25519 key SHA256:3jPpymdRNyps from 10.0.2.2:60272
[   17.821261] kvm: user requested TSC rate below hardware speed
[   18.000000] kvm: kvm [112]: ignored rdmsr: 0xc0010001 data 0x0
[   18.100000] kvm [112]: vcpu0, guest rIP: 0xffffffff8104a1b2 Unhandled WRMSR(0xc0010015) = 0x0
[   18.200000] hrtimer: interrupt took 10403938 ns
[   18.300000] perf: interrupt took too long (2503 > 2500), lowering kernel.perf_event_max_sample_rate to 79750
[   18.400000] INFO: NMI handler (nmi_cpu_backtrace_handler) took too long to run: 1.211 msecs
[   18.500000] workqueue: vmstat_update hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND
[   18.600000] clocksource: Marking clocksource 'tsc' as unstable because the skew is too large
[   18.700000] sched: DL replenish lagged too much
[   18.800000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible!
[   18.800000] RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!
[   18.800000] Speculative Return Stack Overflow: WARNING: kernel not compiled with MITIGATION_SRSO.
[   18.900000] L1TF CPU bug present and SMT on, data leak possible.
[   18.900000] [Firmware Bug]: TSC doesn't count with P0 frequency!
[   18.900000] ACPI BIOS Warning (bug): Incorrect checksum in table [APIC] - 0x8B, should be 0x8A
[   19.000000] process '/payload/programs/puppeteer' started with executable stack
[   19.100000] traps: puppeteer[120] general protection fault ip:401000 sp:7ffe0000 error:0 in puppeteer[401000+1000]
[   19.100000] traps: puppeteer[121] trap invalid opcode ip:401000 sp:7ffe0000 error:0
[   19.200000] puppeteer[122]: segfault at 7f0000001000 ip 401000 sp 7ffe0000 error 4 in puppeteer[401000+1000]
DEBUG: dropbear session 0001 [#]
debug1: WARNING is no word for a log
"""


@pytest.mark.parametrize("line", FATAL)
def test_dying_kernel_is_seen(line: str) -> None:
    assert fatal(line)
    assert splats(f"[    1.0] fine\n{line}\r\n[    9.2] more\n") == [line]


@pytest.mark.parametrize("line", ILL)
def test_sick_kernel_that_goes_on_is_seen_and_not_taken_for_dead(line: str) -> None:
    assert splats(f"{HEALTHY}{line}\n") == [line]
    assert not fatal(line)


@pytest.mark.parametrize("line", HEALTHY.splitlines())
def test_healthy_line_is_no_splat(line: str) -> None:
    assert splats(line) == []
    assert not fatal(line)


def test_each_line_that_tells_is_listed_in_order() -> None:
    assert splats("\n".join([ILL[0], "fine", ILL[1], FATAL[0]])) == [ILL[0], ILL[1], FATAL[0]]
    assert splats("") == []


def test_process_that_dies_of_a_fault_is_told() -> None:
    faults = [
        "[   25.2] traps: beat[85] general protection fault ip:461d37 sp:7ffca39ad638 error:a4f0 in beat",
        "[   25.7] qemu-system-x86[99]: segfault at 0 ip 00007f9e4c4db110 sp 00007ffea685e218 error 4 in libzstd",
        "[   26.1] traps: sh[9] trap invalid opcode ip:401000 sp:7ffd00000000 error:0 in busybox[401000+1000]",
    ]
    assert user_faults("\n".join(["[    1.0] Linux version 6.12", *faults, "[   27.0] x: y"])) == faults


def test_report_of_a_process_that_we_had_killed_is_no_complaint() -> None:
    """A VMM of ours uses more than its memory cgroup may have; what comes after that report counts, and amid it."""
    report = (
        "[    5.416871] {0} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
        "[    5.418485] Call Trace:\n"
        "[    5.418738]  <TASK>\n"
        "[    5.430781] Memory cgroup out of memory: Killed process 107 ({0}) total-vm:152536kB, UID:0 pgtables:92kB\n"
    )
    assert splats(report.format("past-limit")) == []
    assert splats(report.format("tiny_vm")) == ["[    5.418485] Call Trace:"]
    assert splats(report.format("past-limit").replace("107 (past-limit)", "107 (qemu)")) == [
        "[    5.418485] Call Trace:"
    ]
    assert splats(report.format("past-limit").replace("Memory cgroup out", "Out")) == ["[    5.418485] Call Trace:"]
    assert splats(report.format("past-limit") + "[   66.0] Call Trace:\n") == ["[   66.0] Call Trace:"]
    amid = report.format("past-limit").replace("[    5.418738]", f"{FATAL[0]}\n[    5.418738]")
    assert splats(amid) == [FATAL[0]]


def test_report_of_an_allocation_that_we_made_fail_is_no_complaint() -> None:
    """Fault injection has the kernel report a failed allocation, with a call trace; what comes after it counts."""
    report = (
        "[   65.411359] {0}: vmalloc error: size 4, vm_struct allocation failed, mode:0x400dc0\n"
        "[   65.414899] CPU: 2 UID: 0 PID: 184 Comm: {0} Tainted: G           O       6.12.117 #1\n"
        "[   65.416984] Call Trace:\n"
        "[   65.417461]  <TASK>\n"
        "[   65.418242]  </TASK>\n"
        "[   65.420053] Mem-Info:\n"
    )
    assert splats(report.format("fail-nth")) == []
    assert splats(report.format("tiny_vm")) == ["[   65.416984] Call Trace:"]
    assert splats(report.format("fail-nth") + "[   66.0] Call Trace:\n") == ["[   66.0] Call Trace:"]
    for line in (ILL[0], FATAL[0]):
        amid = report.format("fail-nth").replace("[   65.417461]", f"{line}\n[   65.417461]")
        assert splats(amid) == [line]

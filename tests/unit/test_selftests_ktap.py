# SPDX-License-Identifier: GPL-2.0-or-later
"""What a selftest's status and output are taken for. The samples are what real ones printed on the emulated host."""

from __future__ import annotations

import pytest

from host_setup.selftests.ktap import KtapCheck, KtapOutcome, judge, read

GUP_WITHOUT_CONFIG = """\
TAP version 13
1..1
# check if CONFIG_GUP_TEST is enabled in kernel config
ok 1 # SKIP Please run this test as root
# Totals: pass:0 fail:0 xfail:0 xpass:0 skip:1 error:0
"""
REQUIREMENT = """\
Random seed: 0x6b8b4567
1..0 # SKIP - Requirement not met: kvm_cpu_has(X86_FEATURE_XSAVES)
"""
ASSERTION = """\
Random seed: 0x6b8b4567
==== Test Assertion Failure ====
  lib/x86_64/processor.c:567: Unconditional guest failure
  pid=1337 tid=1337 errno=4 - Interrupted system call
sh: 1: addr2line: not found
  Unhandled exception '0x3' at guest RIP '0x4022ca'
"""
HARNESS = """\
TAP version 13
1..2
# Starting 2 tests from 1 test cases.
#  RUN           vmx_pmu_caps.guest_wrmsr_perf_capabilities ...
#            OK  vmx_pmu_caps.guest_wrmsr_perf_capabilities
ok 1 vmx_pmu_caps.guest_wrmsr_perf_capabilities
#  RUN           fix_hypercall.enable_quirk ...
# x86_64/fix_hypercall_test.c:12:enable_quirk:Expected 1 (1) == 2 (2)
# enable_quirk: Test failed
#          FAIL  fix_hypercall.enable_quirk
not ok 2 fix_hypercall.enable_quirk
# FAILED: 1 / 2 tests passed.
"""
COW = """\
TAP version 13
# [INFO] detected THP size: 2048 KiB
1..4
# [RUN] Basic COW after fork() ... with base page
ok 1 No leak from parent into child
# [RUN] Basic COW after fork() ... with swapped out base page
ok 2 # SKIP MADV_PAGEOUT did not work, is swap enabled?
ok 3 # XFAIL No leak from child into parent
  ok 1 nested, its parent counts
ok 4 - with a dash
# Totals: pass:2 fail:0 xfail:1 xpass:0 skip:1 error:0
"""


def outcome(status: int, output: str = "", *, seconds: float = 1.0, deadline: float = 120.0) -> tuple[KtapOutcome, str]:
    result = judge(status, output, seconds=seconds, deadline=deadline)
    return result.outcome, result.reason


def test_each_check_is_read_with_its_directive() -> None:
    output = read(COW)
    assert output.planned == 4
    assert output.checks == (
        KtapCheck(KtapOutcome.PASS, "No leak from parent into child"),
        KtapCheck(KtapOutcome.SKIP, "", "MADV_PAGEOUT did not work, is swap enabled?"),
        KtapCheck(KtapOutcome.PASS, ""),
        KtapCheck(KtapOutcome.PASS, "with a dash"),
    )


def test_a_pass_tells_what_it_left_out() -> None:
    assert outcome(0, COW) == (KtapOutcome.PASS, "1 of 4 checks skipped")
    assert outcome(0, "") == (KtapOutcome.PASS, "")  # many KVM selftests say nothing when all is well


def test_a_test_that_tried_nothing_has_not_passed_though_it_ends_with_0() -> None:
    assert outcome(0, GUP_WITHOUT_CONFIG) == (
        KtapOutcome.SKIP,
        "Please run this test as root; check if CONFIG_GUP_TEST is enabled in kernel config",
    )
    assert outcome(0, "1..0 # SKIP no such device\n") == (KtapOutcome.SKIP, "no such device")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (REQUIREMENT, "kvm_cpu_has(X86_FEATURE_XSAVES)"),
        ("MCG_CMCI_P is not supported, skipping test\n", "MCG_CMCI_P is not supported"),
        ("TAP version 13\nno KTAP here\n", "no KTAP here"),
        ("", "no reason given"),
    ],
)
def test_a_skip_tells_why(output: str, reason: str) -> None:
    assert outcome(4, output) == (KtapOutcome.SKIP, reason)


def test_a_failed_check_fails_the_test_whatever_its_status() -> None:
    for status in (0, 1, 4):
        kind, reason = outcome(status, HARNESS)
        assert kind is KtapOutcome.FAIL
        assert reason.startswith(f"status {status}: 1 of 2 checks failed, the first: fix_hypercall.enable_quirk - ")
        assert "Expected 1 (1) == 2 (2)" in reason


def test_fewer_checks_than_planned_are_a_failure() -> None:
    assert outcome(0, "TAP version 13\n1..3\nok 1 one\nok 2 two\n") == (
        KtapOutcome.FAIL,
        "made 2 of 3 checks, and ended with status 0",
    )
    assert outcome(0, "1..2\n")[0] is KtapOutcome.FAIL


def test_a_failed_assertion_is_told_with_place_and_message() -> None:
    kind, reason = outcome(254, ASSERTION)
    assert kind is KtapOutcome.FAIL
    assert reason.startswith("status 254: lib/x86_64/processor.c:567: Unconditional guest failure; ")
    assert reason.endswith("; Unhandled exception '0x3' at guest RIP '0x4022ca'")


def test_other_failures_tell_what_they_can() -> None:
    assert outcome(1, "TAP version 13\n1..5\nok 1 one\nBail out! mmap: Cannot allocate memory\n") == (
        KtapOutcome.FAIL,
        "status 1: mmap: Cannot allocate memory",
    )
    assert outcome(139, "ok 1 one\nlast words\n") == (KtapOutcome.FAIL, "killed by SIGSEGV: last words")
    assert outcome(200, "") == (KtapOutcome.FAIL, "status 200")


def test_a_test_that_had_to_be_ended_is_a_timeout_and_one_killed_early_a_failure() -> None:
    assert outcome(124, "going on\n", seconds=120.2) == (
        KtapOutcome.TIMEOUT,
        "not done after 120 s; it said last: going on",
    )
    assert outcome(137, "", seconds=125.1) == (KtapOutcome.TIMEOUT, "not done after 120 s")
    assert outcome(137, "", seconds=3.0) == (KtapOutcome.FAIL, "killed by SIGKILL")  # out of memory, for instance

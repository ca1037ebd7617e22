# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest

from common.errors import MachineError
from signoff.memory_map import Fate
from tests_e2e.support import account
from tests_e2e.support import sweep as module
from tests_e2e.support.sweep import (
    Sweep,
    _page_text,
    bounce_buffers,
    check_shared_is_little,
    check_shares,
    checks,
    parse,
)

PAGE = 4096
HVA = 0x7F0000000000
SHARED, ROM = 2 * PAGE, 6 * PAGE
ABSENT = 1 * PAGE


def sweep_output(**changes: Any) -> str:
    """What the program prints of a guest of four pages and one of its VMM's, which has shared one."""
    fields = {
        "way": "process_vm_readv",
        "bytes": 4096,
        "pages": 5,
        "ns": 1000,
        "protected": True,
        "slots": [[ROM, 1, HVA + ROM, 1, 0], [0, 4, HVA, 0, 1], [0, 4, HVA, 0, 0]],
        "shared": [[SHARED, 1]],
        "still_shared": [[SHARED, 1]],
        "absent": [[ABSENT, 1]],
        "found": [[0, 2, "EFAULT"], [SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]],
        "account": [[SHARED, 1]],
        "later_account": [[SHARED, 1]],
    }
    return json.dumps({**fields, **changes})


def make_sweep(**changes: Any) -> Sweep:
    return parse(sweep_output(**changes))


def with_account(*runs: list[int]) -> dict[str, Any]:
    return {"account": list(runs), "later_account": list(runs)}


NO_ACCOUNT = {"account": None, "later_account": None}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 2)
    monkeypatch.setattr(module, "SHARED_BESIDE", 1)


def wrong_checks(swept: Sweep, *, physical: bool = False) -> list[str]:
    return [check.name for check in checks(swept, "EFAULT", physical=physical) if not check.right]


def test_pages_and_how_they_fared() -> None:
    sweep = make_sweep()
    assert sweep.private == {0, PAGE, 3 * PAGE}
    assert sweep.fates() == {
        0: Fate.PRIVATE,
        ABSENT: Fate.ABSENT,
        SHARED: Fate.SHARED,
        3 * PAGE: Fate.PRIVATE,
        ROM: Fate.READABLE,
    }
    assert sweep.rate == 5_000_000
    assert wrong_checks(sweep) == []


def test_a_page_that_can_be_read_and_is_not_shared_is_a_leak() -> None:
    sweep = make_sweep(
        found=[[0, 1, None], [PAGE, 1, "EFAULT"], [SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]]
    )
    assert sweep.fates()[0] is Fate.LEAKED
    assert wrong_checks(sweep) == ["pages that can be read", "pages that are the guest's alone, and can be read"]


def test_a_shared_page_that_is_refused_is_wrong() -> None:
    sweep = make_sweep(found=[[0, 4, "EFAULT"], [ROM, 1, None]])
    assert sweep.fates()[SHARED] is Fate.LOST
    assert wrong_checks(sweep) == ["pages that can be read", "pages that are not the guest's alone, and cannot be read"]


def test_another_errno_is_wrong() -> None:
    listing = [[0, 1, "EIO"], [PAGE, 1, "EFAULT"], [SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]]
    assert wrong_checks(make_sweep(found=listing)) == ["refusals other than EFAULT"]


def test_a_page_that_was_left_out_is_wrong() -> None:
    listing = [[0, 2, "EFAULT"], [SHARED, 1, None], [ROM, 1, None]]
    assert wrong_checks(make_sweep(found=listing)) == ["pages that were tried"]


def test_a_way_by_physical_address_leaves_out_what_the_host_does_not_have() -> None:
    listing = [[0, 1, "EFAULT"], [SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]]
    assert wrong_checks(make_sweep(found=listing), physical=True) == []


def test_a_way_by_physical_address_must_have_tried_many_pages() -> None:
    sweep = make_sweep(absent=[[0, 2]], found=[[SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]])
    assert wrong_checks(sweep, physical=True) == ["private pages that the host has, and that were tried"]


def test_a_page_that_was_not_tried_was_not_refused() -> None:
    sweep = make_sweep(found=[[0, 1, "EFAULT"], [SHARED, 1, None]])
    assert [_page_text(sweep, gpa) for gpa in (0, SHARED, 3 * PAGE)] == ["refused", "read", "not tried"]


def test_a_guest_that_shares_more_than_it_needs_is_told() -> None:
    few, many = make_sweep(**with_account([PAGE, 2])), make_sweep(**with_account([0, 4]))
    for swept, right in ((few, True), (many, False)):
        assert [check.right for check in check_shared_is_little(swept, [2 * PAGE])] == [right]
    assert "3 pages: 0x0-0x1fff" in check_shared_is_little(many, [2 * PAGE])[0].got


def test_a_guest_that_shares_less_than_it_says_is_told() -> None:
    for shared, right in ((2, True), (1, False)):
        swept = make_sweep(**with_account([PAGE, shared], [3 * PAGE, 1]))
        assert [check.right for check in check_shares(swept, [3 * PAGE], 2)] == [right]
    assert [check.got for check in check_shares(swept, [3 * PAGE], 2)] == ["1"]
    assert not list(check_shares(make_sweep(protected=False, **NO_ACCOUNT), [], 2))


def test_sharing_meanwhile_is_noticed() -> None:
    meanwhile = ["what the guest shares stays the same meanwhile"]
    assert wrong_checks(make_sweep(still_shared=[])) == meanwhile
    assert wrong_checks(make_sweep(later_account=[])) == meanwhile


def test_a_page_that_the_host_shares_on_its_own_account_is_a_leak() -> None:
    book = [[PAGE, 2]]
    listing = [[0, 1, "EFAULT"], [PAGE, 2, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]]
    sweep = make_sweep(shared=book, still_shared=book, found=listing)
    assert sweep.fates()[PAGE] is Fate.LEAKED
    assert wrong_checks(sweep) == [
        "shared pages, as KVM has them: those that the guest has shared",
        "pages that can be read",
        "pages that are the guest's alone, and can be read",
    ]


def test_a_guest_that_keeps_no_account_leaves_the_hosts_word_alone() -> None:
    sweep = make_sweep(**NO_ACCOUNT)
    assert sweep.shared == {SHARED}
    assert wrong_checks(sweep) == ["the guest keeps an account of what it shares"]


def test_the_firmwares_area_is_in_no_account_and_shared() -> None:
    slots = [[0xBF000, 2, HVA, 0, 0]]
    sweep = make_sweep(**with_account(), slots=slots, shared=[[0xC0000, 1]], still_shared=[[0xC0000, 1]])
    assert sweep.shared == sweep.book == {0xC0000}
    assert sweep.private == {0xBF000}


def test_the_guests_account() -> None:
    assert account.parse("") is None
    assert account.parse("kept\n") == []
    assert account.parse("kept\n0x2000-0x2fff\n0x10000-0x11fff\n") == [[0x2000, 1], [0x10000, 2]]
    with pytest.raises(MachineError, match="'and more'"):
        account.parse("kept\n0x2000-0x2fff\nand more\n")


def test_all_of_a_plain_guest_is_readable() -> None:
    sweep = make_sweep(**NO_ACCOUNT, protected=False, shared=[], still_shared=[], found=[[0, 4, None], [ROM, 1, None]])
    assert set(sweep.fates().values()) == {Fate.READABLE}
    assert wrong_checks(sweep) == []
    sweep = make_sweep(**NO_ACCOUNT, protected=False, shared=[], still_shared=[])
    assert wrong_checks(sweep) != []


def test_bounce_buffers_as_the_kernel_names_them() -> None:
    log = "[    0.5] software IO TLB: mapped [mem 0x0000000000002000-0x0000000000004000] (0MB)\n"
    assert list(bounce_buffers(log)) == [0x2000, 0x3000]
    with pytest.raises(MachineError, match="bounce buffers"):
        bounce_buffers("nothing")

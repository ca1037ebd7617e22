# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest

from common.errors import MachineError
from signoff.memory_map import Fate
from tests_e2e.support import sweep as module
from tests_e2e.support.sweep import Sweep, _fared, bounce_buffers, checks, parse, shared_for_no_device

PAGE = 4096
HVA = 0x7F0000000000
SHARED, ROM = 2 * PAGE, 6 * PAGE
ABSENT = 1 * PAGE


def printed(**changes: Any) -> str:
    """What the program prints of a guest of four pages and one of its VMM's, which has shared one."""
    told = {
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
    }
    return json.dumps({**told, **changes})


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 2)
    monkeypatch.setattr(module, "SHARED_BESIDE", 1)


def wrong(one: Sweep, *, physical: bool = False) -> list[str]:
    return [check.name for check in checks(one, "EFAULT", physical=physical) if not check.right]


def test_pages_and_how_they_fared() -> None:
    one = parse(printed())
    assert one.private == {0, PAGE, 3 * PAGE}
    assert one.fates() == {
        0: Fate.PRIVATE,
        ABSENT: Fate.ABSENT,
        SHARED: Fate.SHARED,
        3 * PAGE: Fate.PRIVATE,
        ROM: Fate.READABLE,
    }
    assert one.rate == 5_000_000
    assert wrong(one) == []


def test_a_page_that_can_be_read_and_is_not_shared_is_a_leak() -> None:
    one = parse(
        printed(found=[[0, 1, None], [PAGE, 1, "EFAULT"], [SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]])
    )
    assert one.fates()[0] is Fate.LEAKED
    assert wrong(one) == ["pages that can be read", "pages that are the guest's alone, and can be read"]


def test_a_shared_page_that_is_refused_is_wrong() -> None:
    one = parse(printed(found=[[0, 4, "EFAULT"], [ROM, 1, None]]))
    assert one.fates()[SHARED] is Fate.LOST
    assert wrong(one) == ["pages that can be read", "pages that are not the guest's alone, and cannot be read"]


def test_another_errno_is_wrong() -> None:
    found = [[0, 1, "EIO"], [PAGE, 1, "EFAULT"], [SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]]
    assert wrong(parse(printed(found=found))) == ["refusals other than EFAULT"]


def test_a_page_that_was_left_out_is_wrong() -> None:
    found = [[0, 2, "EFAULT"], [SHARED, 1, None], [ROM, 1, None]]
    assert wrong(parse(printed(found=found))) == ["pages that were tried"]


def test_a_way_by_physical_address_leaves_out_what_the_host_does_not_have() -> None:
    found = [[0, 1, "EFAULT"], [SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]]
    assert wrong(parse(printed(found=found)), physical=True) == []


def test_a_way_by_physical_address_must_have_tried_many_pages() -> None:
    one = parse(printed(absent=[[0, 2]], found=[[SHARED, 1, None], [3 * PAGE, 1, "EFAULT"], [ROM, 1, None]]))
    assert wrong(one, physical=True) == ["private pages that the host has, and that were tried"]


def test_a_page_that_was_not_tried_was_not_refused() -> None:
    one = parse(printed(found=[[0, 1, "EFAULT"], [SHARED, 1, None]]))
    assert [_fared(one, gpa) for gpa in (0, SHARED, 3 * PAGE)] == ["refused", "read", "not tried"]


def test_a_guest_that_shares_more_than_it_needs_is_told() -> None:
    few, many = parse(printed(shared=[[PAGE, 2]])), parse(printed(shared=[[0, 4]]))
    for one, right in ((few, True), (many, False)):
        assert [check.right for check in shared_for_no_device(one, [2 * PAGE])] == [right]
    assert "3 pages: 0x0-0x1fff" in shared_for_no_device(many, [2 * PAGE])[0].got


def test_sharing_meanwhile_is_noticed() -> None:
    assert wrong(parse(printed(still_shared=[]))) == ["what the guest shares stays the same meanwhile"]


def test_all_of_a_plain_guest_is_readable() -> None:
    one = parse(printed(protected=False, shared=[], still_shared=[], found=[[0, 4, None], [ROM, 1, None]]))
    assert set(one.fates().values()) == {Fate.READABLE}
    assert wrong(one) == []
    one = parse(printed(protected=False, shared=[], still_shared=[]))
    assert wrong(one) != []


def test_bounce_buffers_as_the_kernel_names_them() -> None:
    log = "[    0.5] software IO TLB: mapped [mem 0x0000000000002000-0x0000000000004000] (0MB)\n"
    assert list(bounce_buffers(log)) == [0x2000, 0x3000]
    with pytest.raises(MachineError, match="bounce buffers"):
        bounce_buffers("nothing")

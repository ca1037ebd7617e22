# SPDX-License-Identifier: GPL-2.0-or-later
"""The quick list as users run it: each probe is refused where something protects, and gets through elsewhere.

It is no sign-off, and says so: all other claims are MISS. Its exit status is that of the list.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from common.paths import PROJECT
from common.waiting import Deadline
from host_setup.claim_runs import read_run, run_pytest

LIMIT = 1800.0  # seconds; the kernel is built by then
AT_LEAST = 10  # claims that the list has


@pytest.mark.parametrize("mode", ["protected", "plain"])
@pytest.mark.usefixtures("provisioned")
def test_each_claim_of_the_quick_list_is_pass(mode: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    chosen, log = request.config.option, tmp_path / "log"
    same = [word for name in ("host", "series") for word in (f"--{name}", str(getattr(chosen, name)))]
    late = run_pytest(
        [str(PROJECT / "tests_e2e"), "-m", "quick", "--mode", mode, *same], tmp_path / "reports", log, Deadline(LIMIT)
    )
    run = read_run(tmp_path / "reports", log, late)
    assert not run.late, run.output[-4000:]
    assert run.report is not None, run.output[-4000:]
    tried = {claim["id"]: claim["status"] for claim in run.report["claims"] if claim["command"]}
    assert len(tried) >= AT_LEAST
    assert set(tried.values()) == {"PASS"}, tried
    assert {claim["status"] for claim in run.report["claims"] if not claim["command"]} == {"MISS"}
    assert "NOT PROVEN" in run.output
    assert "exit 0: every claim of the quick list is PASS" in run.output

# SPDX-License-Identifier: GPL-2.0-or-later
"""axe-core finds nothing on a report's page. It needs Node, Chromium, and npm's axe-core and puppeteer-core."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.paths import PROJECT
from signoff.contract import Mode
from signoff.verdict import Status
from tests.unit.report_samples import KEY, small_report
from tests.unit.test_tampering_fleet import fleet

PROGRAM = PROJECT / "tests/unit/accessibility.cjs"
STORIES: list[dict[str, Any]] = [
    {},
    {"mode": Mode.PLAIN},
    {"statuses": {"host_cannot_read": Status.FAIL, "guest_works": Status.ERROR}, "problems": ("the disk was full",)},
]


@pytest.fixture
def tools() -> tuple[str, str, dict[str, str]]:
    """Node, the browser, and the environment in which Node finds npm's packages."""
    node, npm = shutil.which("node"), shutil.which("npm")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not (node and npm and browser):
        pytest.skip("needs node, npm and chromium")
    root = subprocess.run(
        [npm, "root", "--global"], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    places = ":".join(filter(None, [os.environ.get("NODE_PATH"), root]))
    environment = {**os.environ, "NODE_PATH": places}
    for name in ("axe-core", "puppeteer-core"):
        if subprocess.run([node, "-e", f"require.resolve('{name}')"], env=environment, check=False,
                          capture_output=True, timeout=60).returncode:  # fmt: skip
            pytest.skip(f"needs npm's {name}: npm install --global {name}, or its folder in NODE_PATH")
    return node, browser, environment


def test_axe_finds_nothing(tmp_path: Path, tools: tuple[str, str, dict[str, str]]) -> None:
    node, browser, environment = tools
    reports = [small_report(tmp_path / str(number), KEY, **story) for number, story in enumerate(STORIES)]
    pages = [str(report / "signoff.html") for report in [*reports, fleet(tmp_path / "fleet")]]
    # Told to end, Node ends the browser too; killed, it would leave the browser behind.
    argv = ["timeout", "--kill-after=20", "300", node, str(PROGRAM), browser, *pages]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=340)
    assert done.stdout.splitlines() == [f"looked at {4 * len(pages)}"], done.stdout + done.stderr

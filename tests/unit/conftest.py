# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings of hypothesis: a busy machine makes no example wrong, however long it takes. And signals are as usual.

And the small report that the tests of tampering edit.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.unit.report_samples import KEY, small_report

settings.register_profile("sealproof", deadline=None)
settings.load_profile("sealproof")

# A shell has what it starts with "&" ignore Ctrl-C, and all that this starts in turn, the programs of the tests too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# And nohup has it ignore the end of its terminal.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small report, which nobody edits; each module has its own."""
    return small_report(tmp_path_factory.mktemp("original") / "reports", KEY)


@pytest.fixture
def report(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to edit."""
    return Path(shutil.copytree(original, tmp_path / original.name))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequences of operations by guest and VMM that nobody has thought of, and those that show known faults."""

from __future__ import annotations

import pytest

from host_setup.hosts.base import Host
from signoff.trial import Trial
from tests_e2e.support.search import (
    LEAST_TRIED,
    MANY,
    SEQUENCE_FOLDER,
    SOME,
    judge_private_mappings,
    kept_sequences,
    sequences_agree,
    try_generated,
)


@pytest.mark.quick
def test_vmm_reaches_no_private_page_after_sequences_made_up_by_a_seed(trial: Trial, host: Host) -> None:
    """After each of some hundred operations by guest and VMM, made up by a seed, no page is whose it must not be."""
    sequences_agree(trial, host, try_generated, LEAST_TRIED, MANY)


def test_vmm_reaches_no_private_page_after_sequences_that_show_known_faults(trial: Trial, host: Host) -> None:
    """Nor is one after the shortest sequences that show faults of a kind that is known."""
    sequences_agree(trial, host, kept_sequences, len(list(SEQUENCE_FOLDER.glob("*.txt"))), SOME)


def test_host_maps_no_private_page_where_sequences_left_their_vms(trial: Trial, host: Host) -> None:
    """While VMs stand where such sequences have left them, no page table of the host leads to a private page."""
    judge_private_mappings(trial, host)

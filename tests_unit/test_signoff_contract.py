# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.errors import UserInputError
from common.paths import PROJECT
from signoff.contract import Class, Kind, Mode, ProbeClaim, WorkClaim, load
from signoff.observation import State
from tests_unit.signoff_samples import READ, REFUSED, probe

HEAD = 'version = 1\n\n[[claim]]\nid = "works"\nkind = "legitimate"\nclass = "devices"\nsource = "s"\nreason = "r"\n'
WORKS = HEAD + "plain = { right = true }\nprotected = { right = true }\n"


def faults(tmp_path: Path, text: str) -> str:
    path = tmp_path / "contract.toml"
    path.write_text(text)
    with pytest.raises(UserInputError) as error:
        load(path)
    return error.value.message


def test_the_projects_contract_is_right() -> None:
    contract = load(PROJECT / "tests_e2e" / "contract.toml")
    attacks = [claim for claim in contract.claims if isinstance(claim, ProbeClaim)]
    assert len(attacks) >= 8
    assert {claim.kind for claim in contract.claims} >= {Kind.ATTACK, Kind.LEGITIMATE, Kind.HEALTH}
    peek = contract.find("host_cannot_read_private_page_by_ptrace_peekdata")
    assert isinstance(peek, ProbeClaim)
    assert (peek.outcome(State.PRIVATE).errno, peek.outcome(State.SHARED).leaked) == ("EIO", 8)


def test_a_fault_names_line_claim_and_field(tmp_path: Path) -> None:
    text = WORKS + WORKS.replace("version = 1\n", "").replace('"works"', '"two"').replace(
        "plain = { right = true }", 'plain = { right = true, errno = "EIO" }'
    )
    assert "contract.toml:12: two: plain.errno: Extra inputs" in faults(tmp_path, text)


def test_other_faults_of_the_file_are_named(tmp_path: Path) -> None:
    assert "line 2" in faults(tmp_path, "version = 1\nclaim = what\n")
    assert "claimed twice: works" in faults(tmp_path, WORKS + WORKS.replace("version = 1\n", ""))
    assert "protected" in faults(tmp_path, HEAD + "plain = { right = true }\n")
    assert "protected.right" in faults(tmp_path, HEAD + "plain = { right = true }\nprotected = { right = false }\n")
    assert "does not belong to the kind legitimate" in faults(tmp_path, WORKS.replace('"devices"', '"kernel-gup"'))
    assert "kind" in faults(tmp_path, WORKS.replace('"legitimate"', '"wish"'))
    assert "claim" in faults(tmp_path, "version = 1\n")
    with pytest.raises(UserInputError, match="cannot be read"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protected": READ}, "must leak nothing"),
        ({"protected": {**REFUSED, "leak": 8}}, "must leak nothing"),
        ({"protected": {**REFUSED, "page_after": "overwritten"}}, "must leave the page intact"),
        ({"protected": {"leak": "none"}}, "state how the attack ends"),
        ({"protected": {**REFUSED, "errno": "EFALUT"}}, "there is no EFALUT"),
        ({"protected": {"returned": -1, "leak": "none"}}, "state which"),
        ({"protected": {**REFUSED, "returned": 0}}, "returns -1"),
        ({"protected": {"signal": "SIGBUS", "leak": "none"}}, "together"),
        ({"protected": {"signal": "SIGBUSS", "si_code": "BUS_ADRERR", "leak": "none"}}, "there is no SIGBUSS"),
        ({"protected": {"signal": "SIGBUS", "si_code": "2", "leak": "none"}}, "not a name"),
        ({"plain": {"returned": 4096, "leak": "none"}}, "proves nothing"),
        ({"shared": {"returned": 0, "leak": "none"}}, "proves nothing"),
        ({"plain": {"returned": 4096, "leak": "none", "page_after": "overwritten"}}, "state page_after = 'intact'"),
        ({"plain": {"returned": 4096, "leak": 4097}}, "4096"),
        ({"plain": {"returned": "4096", "leak": "page"}}, "valid integer"),
        ({"pages": []}, "at least one"),
        ({"pages": ["user", "user"]}, "once"),
        ({"class": "devices"}, "does not belong to the kind attack"),
        ({"id": "Host"}, "pattern"),
        ({"reason": ""}, "at least 1"),
    ],
)
def test_an_outcome_that_proves_nothing_is_refused(changes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        probe(**changes)


def test_a_boundary_that_shows_no_canary_is_told_by_checks(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(WORKS.replace('"legitimate"', '"boundary"').replace('"devices"', '"kvm"'))
    (claim,) = load(path).claims
    assert isinstance(claim, WorkClaim)
    assert claim.kind is Kind.BOUNDARY
    # An attack never is: it would have no control.
    assert "plain" in faults(tmp_path, WORKS.replace('"legitimate"', '"attack"').replace('"devices"', '"kvm"'))


def test_a_boundary_may_be_open() -> None:
    claim = probe(kind="boundary", protected=READ)
    assert claim.outcome(State.PRIVATE).leaked == 4096


def test_shared_is_as_plain_unless_stated() -> None:
    assert probe().outcome(State.SHARED).returned == 4096
    assert probe(shared={"returned": 512, "leak": 512}).outcome(State.SHARED).leaked == 512


def test_every_class_has_words_and_every_mode_a_name() -> None:
    assert all(one.heading and one.sentence.endswith(".") for one in Class)
    assert {str(mode) for mode in Mode} == {"plain", "protected"}


def test_fewer_kinds_of_page_need_a_reason_which_the_report_prints() -> None:
    assert probe(pages=["kernel"]).why == "because Tried on the kernel page alone: for a test."
    assert probe().why == "because"
    for wrong in ({"pages": ["kernel"], "narrowed": " "}, {"narrowed": "no need"}):
        with pytest.raises(ValidationError, match="narrowed: give the reason"):
            probe(**wrong)

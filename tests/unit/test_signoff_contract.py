# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from common.errors import UserInputError
from common.paths import PROJECT
from signoff import needs
from signoff.contract import Class, Kind, Mode, ProbeClaim, WorkClaim
from signoff.contract_files import files, load, sha256
from signoff.observation import State
from signoff.verdict import describe
from tests.unit.signoff_samples import READ, REFUSED, probe
from verifier import contract as verifiers
from verifier.text import UnsoundError

FOLDER = PROJECT / "tests_e2e" / "contract"

HEAD = 'version = 2\nkind = "legitimate"\nclass = "devices"\n\n'
CLAIM = '[[claim]]\nid = "works"\nsource = "s"\nreason = "r"\n'
WORKS = HEAD + CLAIM
ATTACK = """version = 2
[[claim]]
id = "host_cannot"
kind = "attack"
class = "kvm"
source = "s"
reason = "r"
plain = { returned = 0, leak = "page" }
protected = { returned = -1, errno = "EFAULT", leak = "none" }
"""


def folder(tmp_path: Path, **files: str) -> Path:
    """A contract's folder; the names are without suffix, and a blank stands for a hyphen."""
    path = tmp_path / "contract"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name, text in files.items():
        (path / f"{name.replace('_', '-')}.toml").write_text(text)
    return path


def faults(tmp_path: Path, text: str, **more: str) -> str:
    """What the judge says of a wrong contract; the verifier must refuse it as well."""
    path = folder(tmp_path, contract=text, **more)
    with pytest.raises(UserInputError) as error:
        load(path)
    with pytest.raises(UnsoundError):
        verifiers.load(verifiers.at(path))
    return error.value.message


def test_the_projects_contract_is_right() -> None:
    contract = load(FOLDER)
    attacks = [claim for claim in contract.claims if isinstance(claim, ProbeClaim)]
    assert len(attacks) >= 8
    assert {claim.kind for claim in contract.claims} >= {Kind.ATTACK, Kind.LEGITIMATE, Kind.HEALTH}
    peek = contract.find("host_cannot_read_private_page_by_ptrace_peekdata")
    assert isinstance(peek, ProbeClaim)
    assert (peek.outcome(State.PRIVATE).errno, peek.outcome(State.SHARED).leaked) == ("EIO", 8)


def test_each_file_is_of_one_kind_and_class_and_named_by_them() -> None:
    for file in {*FOLDER.glob("*.toml")} - {FOLDER / needs.FILE}:
        head = tomllib.loads(file.read_text())
        assert file.stem == f"{head['kind']}-{head['class']}"


def test_a_claim_and_its_test_are_found_by_its_name() -> None:
    text = "".join(file.read_text() for file in FOLDER.glob("*.toml"))
    tests = "".join(file.read_text() for file in FOLDER.parent.rglob("test_*.py"))
    for claim in load(FOLDER).claims:
        assert text.count(f'"{claim.id}"') == 1
        assert tests.count(f"def test_{claim.id}(") == 1


def test_judge_and_verifier_read_the_same() -> None:
    theirs = verifiers.load(verifiers.at(FOLDER))
    ours = load(FOLDER).claims
    assert [claim.id for claim in ours] == list(theirs)
    for claim in ours:
        other = theirs[claim.id]
        assert (claim.kind, claim.threat, claim.source, claim.why) == (
            other.kind, other.threat, other.source, other.why
        )  # fmt: skip
        assert (claim.skip.names if claim.skip else ()) == tuple(other.skip)
        assert (claim.pages if isinstance(claim, ProbeClaim) else ()) == other.pages
        for state in State if isinstance(claim, ProbeClaim) else ():
            assert describe(claim.outcome(state)) == other.by_state[state].words


def test_a_contract_is_named_by_names_and_contents_as_sha256sum_prints_them(tmp_path: Path) -> None:
    path = folder(tmp_path, b=WORKS, a_a=ATTACK)
    (path / "README.md").write_text("no claim")
    name = sha256(files(path))
    assert verifiers.sha256(verifiers.at(path)) == name
    command = f"cd {path} && LC_ALL=C sha256sum *.toml | sha256sum"
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout[:64] == name
    for change in ("content", "name"):
        if change == "content":
            (path / "b.toml").write_text(f"{WORKS}\n")
        else:
            (path / "b.toml").write_text(WORKS)
            (path / "b.toml").rename(path / "c.toml")
        assert sha256(files(path)) != name
        assert verifiers.sha256(verifiers.at(path)) == sha256(files(path))


def test_a_single_file_is_a_folder_with_that_file(tmp_path: Path) -> None:
    path = folder(tmp_path, a=WORKS)
    assert sha256(files(path / "a.toml")) == sha256(files(path))
    assert verifiers.sha256(verifiers.at(path / "a.toml")) == sha256(files(path))
    assert load(path / "a.toml") == load(path)


def test_claims_are_in_the_order_of_the_files_names(tmp_path: Path) -> None:
    path = folder(tmp_path, b=WORKS, a_b=ATTACK, c=WORKS.replace("works", "third"))
    assert [claim.id for claim in load(path).claims] == ["host_cannot", "works", "third"]
    assert list(verifiers.load(verifiers.at(path))) == ["host_cannot", "works", "third"]


def test_claims_that_differ_by_name_alone_are_told_once(tmp_path: Path) -> None:
    path = folder(tmp_path, a=WORKS.replace('id = "works"', 'ids = ["one", "two"]'))
    first, second = load(path).claims
    assert (first.id, second.id) == ("one", "two")
    assert first == second.model_copy(update={"id": "one"})
    assert list(verifiers.load(verifiers.at(path))) == ["one", "two"]
    for wrong in ('ids = ["one"]', 'ids = "one"', 'ids = ["one", "two"]\nid = "three"', 'ids = ["one", "one"]'):
        assert re.search("ids: name|claimed twice", faults(tmp_path, WORKS.replace('id = "works"', wrong)))


def test_a_fault_names_file_line_claim_and_field(tmp_path: Path) -> None:
    two = ATTACK.replace("version = 2", "").replace("host_cannot", "two").replace("returned = 0", 'errno = "EFALUT"')
    result = faults(tmp_path, ATTACK + two, other=WORKS.replace("devices", "device"))
    assert "contract.toml:11: two: plain: errno: there is no EFALUT" in result
    assert "other.toml:5: works: class: Input should be" in result


def test_other_faults_of_the_files_are_named(tmp_path: Path) -> None:
    assert "line 2" in faults(tmp_path, "version = 2\nclaim = what\n")
    assert "claimed twice: works" in faults(tmp_path, WORKS + CLAIM)
    assert "other.toml: claimed twice: works" in faults(tmp_path, WORKS, other=WORKS)
    assert "version: Input should be 2" in faults(tmp_path, WORKS.replace("version = 2", "version = 1"))
    assert "kind: the head of the file states it" in faults(tmp_path, f'{WORKS}kind = "health"\n')
    assert "kind: Field required" in faults(tmp_path, WORKS.replace('kind = "legitimate"\n', ""))
    assert "plain: Extra inputs" in faults(tmp_path, f"{WORKS}plain = {{ right = true }}\n")
    assert "protected: Field required" in faults(tmp_path, ATTACK.partition("protected")[0])
    assert "kind: Input should be" in faults(tmp_path, WORKS.replace('"legitimate"', '"wish"'))
    assert "claim" in faults(tmp_path, "version = 2\n")
    assert "does not belong to the kind legitimate" in faults_of_ours(tmp_path, WORKS.replace('"devices"', '"kvm"'))
    assert "Attack.toml is not a valid name" in faults(tmp_path, WORKS, Attack=ATTACK)
    for path, words in ((tmp_path / "none.toml", "cannot be read"), (folder(tmp_path), "holds no file")):
        with pytest.raises(UserInputError, match=words):
            load(path)
        with pytest.raises((OSError, UnsoundError)):
            verifiers.load(verifiers.at(path))


def faults_of_ours(tmp_path: Path, text: str) -> str:
    """What the judge says of a contract in which the verifier finds no fault: classes are the reader's matter alone."""
    with pytest.raises(UserInputError) as error:
        load(folder(tmp_path, contract=text))
    return error.value.message


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
    text = WORKS.replace('"legitimate"', '"boundary"').replace('"devices"', '"kvm"')
    (claim,) = load(folder(tmp_path, contract=text)).claims
    assert isinstance(claim, WorkClaim)
    assert claim.kind is Kind.BOUNDARY
    # An attack never is: it would have no control.
    assert "plain" in faults(tmp_path, text.replace('"boundary"', '"attack"'))
    # Nor is one that states half of its outcome.
    assert "plain" in faults(tmp_path, f'{text}protected = {{ returned = 0, leak = "page" }}\n')


def test_a_boundary_may_be_open() -> None:
    claim = probe(kind="boundary", protected=READ)
    assert claim.outcome(State.PRIVATE).leaked == 4096


def test_shared_is_as_plain_unless_stated() -> None:
    assert probe().outcome(State.SHARED).returned == 4096
    assert probe(shared={"returned": 512, "leak": 512}).outcome(State.SHARED).leaked == 512


def test_every_class_has_words_and_every_mode_a_name() -> None:
    assert all(class_.heading and class_.sentence.endswith(".") for class_ in Class)
    assert {str(mode) for mode in Mode} == {"plain", "protected"}


def test_fewer_kinds_of_page_need_a_reason_which_the_report_prints() -> None:
    assert probe(pages=["kernel"]).why == "because Tried on the kernel page alone: for a test."
    assert probe().why == "because"
    for wrong in ({"pages": ["kernel"], "narrowed": " "}, {"narrowed": "no need"}):
        with pytest.raises(ValidationError, match="narrowed: give the reason"):
            probe(**wrong)

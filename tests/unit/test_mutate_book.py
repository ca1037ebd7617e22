# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of each fault, what counts, and which claims are tried on it."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.errors import SealproofError, SetupError, UserInputError
from common.paths import PROJECT
from common.store import Store
from host_setup.claim_runs import claim_tests
from host_setup.mutate import __main__ as command
from host_setup.mutate.book import Book, Line, MutantVerdict, equivalents, summary, table
from host_setup.mutate.claims import Order, coverage, hints
from host_setup.mutate.faults import FOLDER, Fault
from host_setup.mutate.operators import Mutant, Operator
from host_setup.mutate.trial import MutantOutcome, Trials, read
from signoff.contract_files import load


def fault(name: str = "mm/gup.c:f:7:check-dropped", **changes: object) -> Fault:
    plain = Fault(name, "if ((x) && 0)", "check-dropped", b"patch", (("mm/gup.c", 7),), "f", "if (x)")
    return replace(plain, **changes)


def line(
    verdict: MutantVerdict = MutantVerdict.KILLED, name: str = "mm/gup.c:f:7:check-dropped", **changes: object
) -> Line:
    claims = ("host_cannot",) if verdict is MutantVerdict.KILLED else ()
    plain = Line(name, fault().digest, verdict, "check-dropped", "if (x)", "if ((x) && 0)", claims, commit="abc")
    return replace(plain, **changes)


def hand(name: str, **changes: object) -> Fault:
    return fault(name, operator="by hand", before="", must=("host_cannot",), **changes)


def mutant(name: str) -> Mutant:
    return Mutant(name, "mm/gup.c", "f", 7, Operator.CHECK_DROPPED, (), "if (x)", "if ((x) && 0)")


# --- kept at any moment -----------------------------------------------------------------------------------------------


def test_a_later_run_knows_what_an_earlier_one_has_found(tmp_path: Path) -> None:
    Book(tmp_path).add(line())
    assert Book(tmp_path).lines == {line().name: line()}
    assert Book(tmp_path).has_result(fault(), ())
    assert not Book(tmp_path).has_result(fault("mm/gup.c:f:9:check-dropped"), ())


def test_a_fault_that_has_changed_is_tried_again(tmp_path: Path) -> None:
    Book(tmp_path).add(line())
    assert not Book(tmp_path).has_result(fault(patch=b"another"), ())


def test_a_verdict_can_be_asked_for_again(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.add(line(MutantVerdict.SURVIVED))
    assert book.has_result(fault(), ()) and not book.has_result(fault(), [MutantVerdict.SURVIVED])


def test_the_last_result_counts(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.add(line(MutantVerdict.SURVIVED))
    book.add(line())
    assert Book(tmp_path).lines[line().name].verdict is MutantVerdict.KILLED


def test_a_line_that_was_cut_off_by_a_kill_costs_its_fault_alone(tmp_path: Path) -> None:
    Book(tmp_path).add(line())
    file = tmp_path / "results.jsonl"
    file.write_text(file.read_text() + '{"name": "mm/gup.c:g:8:loop-o')
    book = Book(tmp_path)
    assert list(book.lines) == [line().name]
    book.add(line(name="b"))
    with pytest.raises(UserInputError, match="line 2"):  # it is not the last any more, so somebody must look
        Book(tmp_path)


# --- what counts ------------------------------------------------------------------------------------------------------


def test_a_claim_that_is_not_pass_without_a_fault_kills_nothing(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.add(line(claims=("a", "b")))
    assert book.without_control() == ["a", "b"]
    assert book.verdicts({})[0].verdict is MutantVerdict.UNTRIED  # nobody has looked
    book.add_control("a", "FAIL")
    book.add_control("b", "PASS")
    assert (book.verdicts({})[0].verdict, book.verdicts({})[0].claims) == (MutantVerdict.KILLED, ("b",))
    book.add_control("b", "MISS")
    (judged,) = Book(tmp_path).verdicts({})
    assert (judged.verdict, judged.claims) == (MutantVerdict.UNTRIED, ())
    assert Book(tmp_path).without_control() == []


def test_a_survivor_may_be_equivalent_and_nothing_else_may(tmp_path: Path) -> None:
    book = Book(tmp_path)
    reasons = {verdict_line.name: "no VM ever gets there" for verdict_line in (line(), line(name="b"), line(name="c"))}
    book.add(line())
    book.add(line(MutantVerdict.SURVIVED, "b"))
    book.add(line(MutantVerdict.CRASH, "c"))
    book.add_control("host_cannot", "PASS")
    assert [verdict_line.verdict for verdict_line in book.verdicts(reasons)] == [
        MutantVerdict.KILLED,
        MutantVerdict.EQUIVALENT,
        MutantVerdict.CRASH,
    ]


def test_an_equivalence_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "equivalent.toml"
    assert equivalents(file, {fault().name: fault().before}) == {}
    entry = f'[[equivalent]]\nid = "{fault().name}"\nbecause = "nobody can tell the difference"\nbefore = '
    file.write_text(entry + '"if (x)"\n')
    assert equivalents(file, {fault().name: fault().before}) == {fault().name: "nobody can tell the difference"}
    for before, now in (('"if (y)"\n', {fault().name: "if (x)"}), ('"if (x)"\n', {})):
        file.write_text(entry + before)
        with pytest.raises(UserInputError, match="lacks this mutant"):
            equivalents(file, now)


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([MutantVerdict.KILLED, MutantVerdict.SAME, MutantVerdict.NOT_BUILT, MutantVerdict.EQUIVALENT], 0),
        ([MutantVerdict.KILLED, MutantVerdict.SURVIVED], 1),
        ([MutantVerdict.SURVIVED_SOME], 1),
        ([MutantVerdict.CRASH, None], 1),
        ([MutantVerdict.OTHERS], 1),
        ([MutantVerdict.KILLED, None], 2),
        ([MutantVerdict.UNTRIED], 2),
    ],
)
def test_the_exit_status_is_the_verdict(verdicts: Any, status: Any) -> None:
    faults = [fault(str(number)) for number in range(len(verdicts))]
    lines = [line(verdict, str(number)) for number, verdict in enumerate(verdicts) if verdict]
    assert command.exit_status(faults, lines) == status


def test_the_table_has_each_fault_and_who_names_it() -> None:
    lines = [
        line(),
        line(MutantVerdict.SURVIVED, "mm/ksm.c:g:8:loop-once"),
        line(name="by", operator="by hand", before=""),
    ]
    text = table(lines, ["host_cannot", "other"], "make mutate", 1469)
    assert "| mm/gup.c:f:7:check-dropped | `if (x)` → `if ((x) && 0)` | killed | host_cannot |" in text
    assert "| mm/ksm.c:g:8:loop-once |" in text and "| host_cannot | 2 |" in text and "1 of 2 claims" in text
    assert "3 of 1469 faults" in text
    assert text.index("## By hand") < text.index("## By operators")
    assert "2 of 3 faults are named by a claim" in summary(lines)


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    faults = [fault(f"{number:03}") for number in range(100)]
    names = [
        [chosen_fault.name for chosen_fault in command.choose_faults(faults[::step], (), "all", (), 10, 3)]
        for step in (1, -1)
    ]
    assert names[0] == names[1] and len(set(names[0])) == 10
    assert names[0] != [chosen_fault.name for chosen_fault in command.choose_faults(faults, (), "all", (), 10, 4)]


def test_kinds_and_names_choose() -> None:
    faults = [hand("a")], [mutant("b"), mutant("mm/c")]
    assert [chosen_fault.name for chosen_fault in command.choose_faults(*faults, "hand", (), None, 0)] == ["a"]
    assert [chosen_fault.name for chosen_fault in command.choose_faults(*faults, "machine", (), None, 0)] == [
        "b",
        "mm/c",
    ]
    assert [chosen_fault.name for chosen_fault in command.choose_faults(*faults, "all", ["mm/*", "a"], None, 0)] == [
        "a",
        "mm/c",
    ]
    with pytest.raises(UserInputError, match="no fault fits"):
        command.choose_faults(*faults, "all", ["none"], None, 0)


@pytest.mark.parametrize("argv", [["--sample", "0"], ["--failures", "0"], ["--again", "good"]])
def test_a_run_of_nothing_is_refused(argv: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.options(argv)
    capsys.readouterr()


class FakeTrials:
    """Tries in no time, and is told to end after some."""

    def __init__(self, end_after: int = 99, control: str = "PASS") -> None:
        self.tried: list[str] = []
        self.control = control
        self._end_after = end_after

    def try_fault(self, fault: Fault) -> Line:
        if len(self.tried) == self._end_after:
            raise KeyboardInterrupt
        self.tried.append(fault.name)
        return line(name=fault.name)

    def controls(self, claims: list[str]) -> dict[str, str]:
        return dict.fromkeys(claims, self.control)


def run(faults: list[Fault], folder: Path, trials: FakeTrials, *words: str) -> Book:
    book = Book(folder)
    terminal = type("Silent", (), {"say": lambda *_: None})()
    command._try(faults, book, trials, command.options([*words]), terminal)
    return book


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    faults = [fault(name) for name in "abcd"]
    with pytest.raises(KeyboardInterrupt):
        run(faults, tmp_path, FakeTrials(end_after=2))
    again = FakeTrials()
    book = run(faults, tmp_path, again)
    assert again.tried == ["c", "d"]
    assert sorted(book.lines) == ["a", "b", "c", "d"]
    assert book.controls == {"host_cannot": "PASS"}


def test_a_control_that_was_not_tried_to_its_end_is_tried_again(tmp_path: Path) -> None:
    assert run([fault("a")], tmp_path, FakeTrials(control="ERROR")).without_control() == ["host_cannot"]
    assert run([fault("a")], tmp_path, FakeTrials()).without_control() == []


def test_when_the_time_is_up_no_fault_is_begun(tmp_path: Path) -> None:
    trials = FakeTrials()
    book = run([fault("a")], tmp_path, trials, "--minutes", "0")
    assert trials.tried == [] == list(book.lines)
    assert command.exit_status([fault("a")], book.verdicts({})) == 2


def test_two_runs_do_not_share_a_folder_that_is_kept(tmp_path: Path) -> None:
    with command._alone(Store(tmp_path)), pytest.raises(SetupError, match="another"), command._alone(Store(tmp_path)):
        pass
    with command._alone(Store(tmp_path)):
        pass


# --- which claims -----------------------------------------------------------------------------------------------------


def test_every_claim_has_its_test() -> None:
    claims = [claim.id for claim in load(PROJECT / "tests_e2e/contract").claims]
    assert sorted(claim_tests(PROJECT)) == sorted(claims)


def test_every_hint_is_about_claims_that_there_are() -> None:
    claims = tuple(claim_tests(PROJECT))
    for hint in hints():
        for pattern in hint.claims:
            assert fnmatch.filter(claims, pattern), pattern


def test_claims_about_a_place_come_first() -> None:
    claims = tuple(claim_tests(PROJECT))
    first = Order(claims, hints()).first(fault(places=(("mm/ksm.c", 7),)))
    assert first[0] == "host_cannot_confirm_a_guess_of_private_page_by_ksm" and len(first) < 10


def test_coverage_orders_the_most_special_first_and_leaves_the_others_for_later(tmp_path: Path) -> None:
    file = tmp_path / "coverage.json"
    file.write_text(json.dumps({"mm/gup.c": {"7": ["wide", "narrow"], "8": ["wide"]}}))
    order = Order(("wide", "narrow", "other"), (), coverage(file))
    assert order.first(fault()) == ("narrow", "wide")
    assert order.rest(fault()) == ("other",)
    file.write_text("[1]")
    with pytest.raises(UserInputError, match="not a coverage file"):
        coverage(file)


def test_what_must_name_a_fault_is_tried_first() -> None:
    order = Order(("a", "b", "host_cannot"), ())
    assert order.first(hand("x")) == ("host_cannot",)
    assert order.rest(hand("x")) == ("a", "b")


@pytest.mark.parametrize("folder", [path for path in FOLDER.iterdir() if path.is_dir()], ids=lambda path: path.name)
def test_faults_by_hand_name_claims_that_there_are(folder: Path) -> None:
    all_claims = claim_tests(PROJECT)
    files = sorted(folder.glob("*.patch"))
    assert files
    for file in files:
        head = file.read_text().partition("diff --git")[0]
        claims = [row.removeprefix("Claim: ") for row in head.splitlines() if row.startswith("Claim: ")]
        assert claims and not set(claims) - all_claims.keys(), file.name


# --- what a run has left ----------------------------------------------------------------------------------------------


def report(folder: Path, *claims: tuple[str, str, str, str], problems: tuple[str, ...] = ()) -> Path:
    fields = ("id", "status", "kind", "why")
    listing = [{**dict(zip(fields, row, strict=True)), "command": "pytest"} for row in claims]
    listing.append({"id": "z", "status": "MISS", "kind": "attack", "why": "not run", "command": ""})
    (folder / "run").mkdir(parents=True)
    (folder / "run/signoff.json").write_text(json.dumps({"claims": listing, "problems": list(problems)}))
    return folder


def test_a_claim_names_a_fault_by_what_it_looked_for(tmp_path: Path) -> None:
    result = read(
        report(
            tmp_path / "reports",
            ("a", "FAIL", "attack", "leaked 4096 bytes"),
            ("b", "FAIL", "attack", "the probe did harm: the host: kernel died"),
            ("c", "FAIL", "health", "splats: 1"),
            ("d", "ERROR", "attack", "no answer"),
            ("e", "PASS", "attack", ""),
        ),
        tmp_path / "log",
        "",
    )
    assert result.named == {"a": "leaked 4096 bytes"}
    assert [words.split()[0] for words in result.noticed] == ["b", "c", "d"]
    assert result.passed == 1 and "z" not in result.statuses


def test_a_host_that_does_not_come_up_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("...\n! _pytest.outcomes.Exit: the set-up failed: machine: kernel panic !\n")
    (tmp_path / "reports/run/hosts/host-1").mkdir(parents=True)
    result = read(tmp_path / "reports", tmp_path / "log", "")
    assert "kernel panic" in result.noticed[0] and not result.named
    late = read(tmp_path / "reports", tmp_path / "log", "not done within 3 s")
    assert late.noticed == ["not done within 3 s"]


def test_a_run_that_broke_before_a_host_was_started_says_nothing_of_the_fault(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("! _pytest.outcomes.Exit: contract: line 7: no such class !\n")
    with pytest.raises(SealproofError, match="no such class"):
        read(tmp_path / "none", tmp_path / "log", "")


# --- one fault --------------------------------------------------------------------------------------------------------


class Ran:
    """Runs of claims, as they were asked for, and what they come to."""

    def __init__(self, named: set[str] = frozenset(), noticed: list[str] | None = None) -> None:  # type: ignore[assignment]
        self.asked: list[tuple[tuple[str, ...], int]] = []
        self._named, self._noticed = named, noticed or []

    def __call__(self, _folder: Path, claims: list[str], _cache: object, *, failures: int) -> MutantOutcome:
        self.asked.append((tuple(claims), failures))
        named = {claim: "leaked" for claim in claims if claim in self._named}
        return MutantOutcome(named, self._noticed, len(claims) - len(named), dict.fromkeys(claims, "PASS"))


def line_of_try(ran: Ran, fault: Fault, *, whole: bool = False) -> Line:
    trials = object.__new__(Trials)
    trials._order = Order(("must", "ksm", "other"), [hints_of("ksm")])
    trials._whole, trials._failures, trials._cache = whole, 2, None  # type: ignore[assignment]
    trials._run = ran  # type: ignore[method-assign, assignment]
    return trials._try_claims(line(MutantVerdict.UNTRIED), fault, Path())


def hints_of(claim: str) -> Any:
    return type("Hint", (), {"at": ("mm/gup.c:*",), "claims": (claim,)})()


def test_what_must_name_a_fault_is_tried_to_the_end_and_the_rest_only_if_need_be() -> None:
    ran = Ran({"must"})
    assert line_of_try(ran, fault(must=("must",)), whole=True).verdict is MutantVerdict.KILLED
    assert ran.asked == [(("must",), 0)]
    ran = Ran({"other"})
    result = line_of_try(ran, fault(must=("must",)), whole=True)
    assert (result.verdict, result.claims, result.tried) == (MutantVerdict.OTHERS, ("other",), 3)
    assert ran.asked == [(("must",), 0), (("ksm",), 2), (("other",), 2)]


def test_a_fault_that_not_all_name_who_must_is_said_to() -> None:
    assert line_of_try(Ran({"must"}), fault(must=("must", "ksm"))).verdict is MutantVerdict.OTHERS
    assert line_of_try(Ran({"must", "ksm"}), fault(must=("must", "ksm"))).verdict is MutantVerdict.KILLED


@pytest.mark.parametrize(
    ("ran", "whole", "verdict"),
    [
        (Ran(), False, MutantVerdict.SURVIVED_SOME),
        (Ran(), True, MutantVerdict.SURVIVED),
        (Ran(noticed=["the host died"]), True, MutantVerdict.CRASH),
        (Ran({"ksm"}, noticed=["the host died"]), True, MutantVerdict.KILLED),
    ],
)
def test_what_was_found_is_the_verdict(ran: Any, whole: Any, verdict: Any) -> None:
    assert line_of_try(ran, fault(), whole=whole).verdict is verdict


def test_a_fault_on_which_nothing_was_tried_did_not_survive() -> None:
    assert line_of_try(Ran(), fault(places=(("mm/none.c", 1),))).verdict is MutantVerdict.UNTRIED

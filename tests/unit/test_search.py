# SPDX-License-Identifier: GPL-2.0-or-later
"""The search by model, on fakes of the program: one that is right, and some that make a mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import MachineError, MachineLostError, SealproofError, UserInputError
from common.paths import PROJECT
from host_setup.channels.ssh import Completed
from host_setup.search import __main__ as command
from host_setup.search import sequence_file
from host_setup.search.machine import BEGINNINGS, search
from host_setup.search.model import OPERATIONS, Model, NoneOf, UndefinedError
from host_setup.search.trial import (
    Disagreement,
    OnHost,
    Tally,
    differing,
    disagreement,
    is_defined,
    offers_protection,
    shorten,
    whole,
)
from tests_e2e.support.search import SEQUENCE_FOLDER

FAULTS = PROJECT / "host_setup" / "kernel" / "faults" / "protected-memory"
BEGUN = BEGINNINGS[1]  # two slots, one behind the other, protected and filled


def answers(model: Model, marks: Sequence[int] = ()) -> Callable[[str], Completed]:
    """A program that answers as a model does, one process after the other.

    :param left: marks that are left in the frames of a process that has ended.
    """

    def run(text: str) -> Completed:
        fresh_model = type(model)()
        replies = [answer(fresh_model, line) for line in text.splitlines()]
        lines = [
            {"marks": list(marks), "frames": 64, "kept": 0} if isinstance(answer, NoneOf) else answer
            for answer in replies
        ]
        return completion_of(*(json.dumps(reply) for reply in lines))

    return run


def answer(model: Model, line: str) -> object:
    try:
        return model.do(line)
    except UndefinedError:  # by its mistake it has come to another state
        return "undefined"


def completion_of(*lines: str, status: int = 0, stderr: str = "") -> Completed:
    return Completed(("driven_vm",), status, "".join(f"{line}\n" for line in lines).encode(), stderr.encode())


def model_after(*lines: str) -> Model:
    model = Model()
    for line in lines:
        model.do(line)
    return model


# --- the model --------------------------------------------------------------------------------------------------------


def test_a_page_is_private_from_the_request_on_and_open_while_it_is_shared() -> None:
    model = model_after(*BEGUN)
    assert model.do("sweep")[2] == "SIGBUS EFAULT EFAULT EIO kept"
    assert model.do("share 0x102 2") == 0
    assert model.do("sweep")[1:5] == ["SIGBUS EFAULT EFAULT EIO kept", "3", "4", "SIGBUS EFAULT EFAULT EIO kept"]
    assert model.do("unshare 0x102 2") == 0
    assert model.do("sweep")[2] == "SIGBUS EFAULT EFAULT EIO kept"
    assert model.do("look 0x102 2 native") == ["3", "4"]


def test_a_guest_without_protection_has_nothing_private() -> None:
    model = model_after("slot 1 0x100 2 0 rw", "fill 0x100 2 7 native")
    assert model.do("sweep")[:3] == ["7", "8", "0"]
    assert model.do("share 0x100 1") == -1
    assert not model.secrets
    assert model.do("book") == {"protected": 0, "private": 0, "shared": 0, "book": []}


def test_the_book_has_what_was_shared_and_the_firmwares_area() -> None:
    model = model_after(*BEGUN, "share 0x100 3", "share 0x110 1")
    assert model.do("book") == {
        "protected": 1, "private": 4 + 32 - 4, "shared": 4, "book": [[0xC0, 0x43], [0x110, 1]]
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", ["share 0x10f 2", "share 0x100 0", "share 0x12f 1", "unshare 0x10f 2", "share 0x11f 2"]
)
def test_a_range_that_is_not_in_one_slot_is_refused(line: str) -> None:
    assert model_after(*BEGUN).do(line) == -22


def test_what_is_shared_is_no_secret_and_what_is_written_afterwards_is() -> None:
    model = model_after(*BEGUN, "share 0x100 1", "unshare 0x100 1", "fill 0x100 1 99 native")
    assert 1 not in model.secrets
    assert {2, 99} <= model.secrets


def test_a_page_that_the_vmm_moves_is_not_taken_for_another() -> None:
    model = model_after(*BEGUN, "move 3 5 all")
    assert model.do("look 0x103 3 native") == ["EFAULT", "5", "EFAULT"]
    assert model.do("look 0x105 1 emulated") == ["emulation"]
    assert model.do("share 0x105 1") == -95
    assert model_after(*BEGUN, "move 3 40 all", "move 40 3 all").do("look 0x103 1 native") == ["4"]


def test_where_a_page_was_left_behind_there_is_no_other_until_it_is_back() -> None:
    model = model_after(*BEGUN, "move 3 5 content")
    assert model.do("look 0x103 1 native") == ["EFAULT"]
    with pytest.raises(UndefinedError):
        model.do("move 3 6 all")
    model.do("move 5 3 content")
    assert model.do("look 0x103 1 native") == ["4"]
    moved = model_after(*BEGUN, "move 3 40 all", "move 40 5 all", "move 5 41 content")
    assert moved.do("look 0x105 1 native") == ["0"], "Linux 6.12: mm/mremap.c move_vma(): it is a new mapping"
    two = model_after(*BEGUN, "move 3 40 all", "move 4 41 all")
    with pytest.raises(UndefinedError):
        two.do("move 40 50 content")


def test_nothing_is_protected_where_private_memory_is_away() -> None:
    model = model_after(*BEGUN, "move 3 40 all", "map 3 1 50", "share 0x104 1")
    assert model.do("unshare 0x103 2") == -16
    assert model.do("unshare 0x104 1") == 0
    assert model.do("slot 3 0x120 1 3 rw") == "EBUSY"
    model.do("move 40 3 all")
    assert model.do("unshare 0x103 1") == 0
    assert model.do("look 0x103 1 native") == ["4"]


def test_what_is_shared_is_newer_than_a_private_page_that_comes_back() -> None:
    model = model_after(*BEGUN, "move 3 40 all", "share 0x103 1", "move 40 3 all", "unshare 0x103 1")
    assert model.do("look 0x103 1 native") == ["0"]


def test_a_private_number_without_memory_is_no_device() -> None:
    model = model_after(*BEGUN, "unslot 1")
    assert model.do("fill 0x100 1 5 native") == ["EFAULT"]
    assert model.do("look 0x100 1 emulated") == ["emulation"]
    assert model.do("look 0x121 1 native") == ["device"]
    assert model_after("slot 1 0x100 1 0 rw", "unslot 1").do("look 0x100 1 native") == ["device"]


def test_a_read_only_slot_is_the_vmms_and_not_in_the_place_of_private_memory() -> None:
    model = model_after(*BEGUN, "unslot 1", "slot 1 0x100 1 40 ro", "slot 3 0x121 1 41 ro", "store 41 1 9")
    assert model.do("look 0x100 1 native") == ["EFAULT"]
    assert model.do("look 0x121 1 native") == ["9"]
    assert model.do("fill 0x121 1 5 native") == ["device"]


def test_a_new_slot_is_empty_and_one_that_cannot_be_private_is_refused() -> None:
    model = model_after(*BEGUN, "store 40 2 70", "unmap 42 1", "protect 43 1 read")
    assert model.do("slot 3 0x120 2 40 rw") == "ok"
    assert model.do("look 0x120 2 native") == ["0", "0"]
    assert model.do("slot 4 0x122 2 41 rw") == "EFAULT"
    assert model.do("slot 4 0x122 1 43 rw") == "EOPNOTSUPP"
    assert model.do("slot 4 0x122 1 44 rw") == "ok"
    assert model.do("slot 5 0x122 1 45 rw") == "EEXIST"


def test_a_refused_slot_leaves_its_numbers_as_they_were_and_its_memory_empty() -> None:
    model = model_after(*BEGUN, "share 0x10f 1", "unslot 1", "store 40 3 70", "protect 43 1 none")
    assert model.do("slot 1 0x10e 4 40 rw") == "EEXIST"
    model.do("unslot 2")
    assert model.do("slot 1 0x10e 4 40 rw") == "EOPNOTSUPP"
    assert model.do("sweep")[40:43] == ["0", "71", "72"], "of two ranges the first was private for a moment"
    assert model.do("look 0x120 1 native") == ["device"]


def test_memory_keeps_the_number_that_it_has_at_this_time() -> None:
    model = model_after(*BEGUN, "slot 3 0x120 1 3 rw")
    assert model.do("look 0x120 1 native") == ["EFAULT"]
    assert model.do("look 0x120 1 emulated") == ["emulation"]
    assert model.do("share 0x120 1") == -22
    assert model.do("unshare 0x120 1") == -22
    assert model.do("look 0x103 1 native") == ["4"]
    assert model.do("share 0x103 1") == 0


def test_memory_that_gets_another_number_is_empty_and_comes_back_empty() -> None:
    again = ("unslot 1", "slot 1 0x100 16 0 rw")
    assert model_after(*BEGUN, *again).do("look 0x103 1 native") == ["4"], "QEMU does that all the time"
    other = ("unslot 1", "slot 1 0x121 1 3 rw")
    assert model_after(*BEGUN, *other).do("look 0x121 1 native") == ["0"]
    assert model_after(*BEGUN, *other, *again).do("look 0x103 2 native") == ["0", "5"]


def test_memory_behind_a_number_that_has_had_other_memory_is_empty() -> None:
    model = model_after(*BEGUN, "unslot 1", "slot 1 0x100 1 40 rw", "fill 0x100 1 90 native", "unslot 1")
    model.do("slot 1 0x100 16 0 rw")
    assert model.do("look 0x100 2 native") == ["0", "2"]


def test_no_old_page_comes_back_beside_one_with_another_number() -> None:
    model = model_after(
        *BEGUN, "unslot 1", "slot 1 0x100 1 40 rw", "slot 3 0x121 1 1 rw", "unslot 1", "slot 1 0x100 2 0 rw"
    )
    assert model.do("look 0x100 2 native") == ["0", "EFAULT"]


def test_what_a_driver_holds_of_a_new_slots_memory_stays_what_it_was() -> None:
    model = model_after(*BEGUN, "store 40 1 70", "pin 40 1", "slot 3 0x120 1 40 rw", "fill 0x120 1 71 native")
    assert model.do("pinned") == ["70"]


def test_a_second_vm_hears_of_its_own_memory_first() -> None:
    assert model_after(*BEGUN).do("second_enables") == -16
    assert model_after(*BEGUN, "second 40 2").do("second_enables") == -16
    assert model_after(*BEGUN, "second 40 2", "unmap 41 1").do("second_enables") == -14
    assert model_after(*BEGUN, "second 40 2", "move 3 41 all").do("second_enables") == -95


def test_what_holds_a_frame_finds_zeros_when_the_page_was_taken_back() -> None:
    model = model_after(*BEGUN, "share 0x100 2", "pin 0 2", "register 0 0", "fork", "second 0 2")
    assert model.do("pinned") == ["1", "2"]
    model.do("unshare 0x100 2")
    model.do("fill 0x100 2 80 native")
    assert model.do("pinned") == ["0", "0"]
    assert model.do("registered 0") == "0"
    assert model.do("child")[:3] == ["1", "2", "SIGSEGV"]
    assert model.do("seconds 2") == ["EFAULT", "EFAULT"]
    assert model.do("registered 0 81") == "ok"
    assert model.do("look 0x100 1 native") == ["80"]


def test_io_that_ends_when_the_page_was_taken_back_is_refused() -> None:
    assert model_after(*BEGUN, "share 0x100 1", "await 0", "unshare 0x100 1").do("arrive 9") == "EFAULT"
    model = model_after(*BEGUN, "share 0x100 1", "await 0")
    assert model.do("arrive 9") == "ok"
    assert model.do("look 0x100 1 native") == ["9"]


def test_a_failed_request_changes_nothing_but_frames() -> None:
    model = model_after(*BEGUN, "share 0x100 4", "pin 0 1", "unshare 0x102 1", "protect 3 1 read")
    assert model.do("unshare 0x100 4") == -95
    assert model.do("sweep")[:4] == ["1", "2", "SIGBUS EFAULT EFAULT EIO kept", "4"]
    assert model.do("pinned") == ["0"], "it was private for a moment, in another frame"


def test_the_vmm_gets_its_memory_back_empty_when_the_machine_is_reset_or_the_vm_ends() -> None:
    for end in ("reset", "destroy"):
        model = model_after(*BEGUN, "share 0x100 1", end)
        assert model.do("sweep")[:3] == ["1", "0", "0"]
        assert not model.protected
    assert model_after(*BEGUN, "reset", "enable").do("share 0x100 1") == 0


def test_memory_that_cannot_be_protected_has_the_request_refused_as_a_whole() -> None:
    model = model_after("slot 1 0x100 4 0 rw", "fill 0x100 4 1 native", "unmap 3 1")
    assert model.do("enable") == -14
    assert model.do("sweep")[:3] == ["1", "2", "3"]
    with pytest.raises(UndefinedError):
        model_after("slot 1 0x100 4 0 rw", "slot 2 0x104 4 0 rw").do("enable")


@pytest.mark.parametrize(
    "line", ["child", "reap", "pinned", "unpin", "registered 0", "unregister 0", "arrive 1", "seconds 1",
             "second_enables", "unslot 1", "advise 0 2 20", "move 1 1 all"],
)  # fmt: skip
def test_what_nobody_can_say_changes_nothing(line: str) -> None:
    with pytest.raises(UndefinedError):
        Model().do(line)


def test_the_model_has_the_programs_operations_with_as_many_operands() -> None:
    program = (PROJECT / "guest_images" / "programs" / "driven_vm" / "main.c").read_text()
    table = {
        name: (int(least), int(most)) for name, least, most in re.findall(r'^\t{ "(\w+)", (\d), (\d),', program, re.M)
    }
    assert table.pop("frames") == (0, 0)  # what it tells no model knows
    words = {name: kinds.split() for name, kinds in OPERATIONS.items()}
    assert table == {name: (sum(kind[0] != "[" for kind in kinds), len(kinds)) for name, kinds in words.items()}


# --- a sequence -------------------------------------------------------------------------------------------------------


def test_each_operation_is_followed_by_looks_and_the_end_by_one_at_what_is_left() -> None:
    lines = [line for _, line in whole(["enable"])]
    assert lines == ["sweep", "book", "enable", "sweep", "book", "look 0x100 48 native", "sweep", "end kill"]
    assert [line for _, line in whole(["look 0x100 1 native"])][2:4] == ["look 0x100 1 native", "look 0x100 48 native"]
    end = ["look 0x100 48 native", "destroy", "sweep", "end kill"]
    assert [line for _, line in whole(["destroy"])] == ["sweep", "book", *end]


def test_a_program_that_is_right_agrees() -> None:
    tally = Tally()
    assert disagreement(BEGUN, answers(Model()), tally) is None
    assert tally.sequences == 1
    assert tally.operations == len(BEGUN)
    assert tally.private > 32
    assert (tally.read, tally.left) == (0, 64)


def test_what_a_process_leaves_must_hold_no_secret() -> None:
    assert disagreement(BEGUN, answers(Model(), marks=[40, 41])) is None
    result = disagreement(BEGUN, answers(Model(), marks=[3, 41, 4]))
    assert result is not None
    assert result.line == "end exit"
    assert "marks [3, 4]" in result.answer


def test_a_program_that_ends_early_is_told_of() -> None:
    for run in (lambda _: completion_of('["0"]'), lambda _: completion_of(status=1, stderr="cannot open /dev/kvm: no")):
        result = disagreement((), run)
        assert result is not None
    assert "cannot open /dev/kvm" in result.answer
    assert differing("ok", "not json") == ('"ok"', "not json")


def test_a_difference_names_a_few_places() -> None:
    expected, answer = ["0"] * 9, ["0", *["1"] * 8]
    assert differing(expected, json.dumps(answer)) == (
        "[1] 0, [2] 0, [3] 0, [4] 0 and 4 more",
        "[1] 1, [2] 1, [3] 1, [4] 1 and 4 more",
    )
    assert differing(0, "-22") == ("0", "-22")
    assert differing("ok", '"ok"') is None


def test_a_kernel_that_knows_nothing_of_protection_is_told_from_one_that_does() -> None:
    stock = Model(offered=False)
    assert stock.do("book") == "none"
    for line in ("enable", "share 0x100 1", "unshare 0x100 1", "second_enables"):
        assert stock.do(line) == -1000
    assert offers_protection(answers(Model()))
    assert not offers_protection(lambda _: completion_of('"none"'))
    with pytest.raises(MachineError, match="cannot open"):
        offers_protection(lambda _: completion_of(status=1, stderr="cannot open /dev/kvm"))


def host(done: Completed | Exception, *, log: str = "", reason: str | None = None) -> Any:
    """A host on which the program comes to this end, and whose kernel says that meanwhile."""
    lines = ["quiet\n"]

    def run(argv: list[str], *, seconds: float, stdin: bytes) -> Completed:
        assert argv == ["/payload/programs/driven_vm"]
        assert seconds > 30
        assert stdin == b"book\n"
        lines.append(log)
        if isinstance(done, Exception):
            raise done
        return done

    vitals = SimpleNamespace(reason=reason, harm=reason is not None)
    return SimpleNamespace(
        ssh=SimpleNamespace(run=run), vitals=vitals, all_guests=(), kernel_log=lambda: "".join(lines)
    )


def test_harm_to_the_host_is_told_in_place_of_an_answer() -> None:
    ends: list[str] = []

    def run(machine: Any) -> Completed:
        return OnHost(lambda: machine, lambda: ends.append("ended"))("book\n")

    assert run(host(completion_of("{}"))).text == "{}"
    assert not ends
    complains = run(host(completion_of("{}"), log="BUG: unable to handle page fault\n"))
    assert (complains.status, complains.text) == (-1, "")
    assert b"unable to handle" in complains.stderr
    dies = run(host(MachineLostError("the host is lost"), reason="kernel died"))
    assert b"came to harm: the host: kernel died" in dies.stderr
    assert ends == ["ended", "ended"]
    with pytest.raises(MachineLostError):  # that is no fault of the kernel
        run(host(MachineLostError("its QEMU was killed")))


# --- the search -------------------------------------------------------------------------------------------------------


class LastPageStaysShared(Model):
    """A range that is taken back but for its last page."""

    def _do_unshare(self, first: int, pages: int) -> object:
        answer = super()._do_unshare(first, pages)
        slot = self.slot_of(first)
        if answer == 0 and pages > 1 and slot is not None:
            mapping = self.arena[first + pages - 1 + slot.shift]
            if mapping is not None:
                self._release([mapping])
        return answer


class MovedPageIsTakenForAnother(Model):
    """The guest goes on with a page that the VMM has moved to the place of its own."""

    def _do_move(self, source: int, target: int, kind: str) -> object:
        answer = super()._do_move(source, target, kind)
        mapping = self.arena[target]
        if answer == "ok" and mapping is not None and mapping.frame is not None:
            mapping.frame.home = target
        return answer


class ChildGetsThePages(Model):
    """A child has a copy of private pages."""

    def _do_fork(self) -> object:
        self.child = [str(mapping.frame.mark if mapping and mapping.frame else 0) for mapping in self.arena]
        return "ok"


def find(model: Model, number: int, sequences: int = 300) -> tuple[tuple[str, ...], Disagreement] | None:
    return search(
        lambda operations: disagreement(operations, answers(model)), number=number, sequences=sequences, protects=True
    )


def test_a_right_program_is_never_accused() -> None:
    assert find(Model(), 1, 100) is None


@pytest.mark.parametrize("mistake", [LastPageStaysShared, MovedPageIsTakenForAnother, ChildGetsThePages])
def test_each_mistake_is_found_and_shortened(mistake: type[Model]) -> None:
    messages = find(mistake(), 1)
    assert messages is not None
    operations, _ = messages
    run = answers(mistake())
    short = shorten(operations, lambda fewer: disagreement(fewer, run))
    assert len(short) <= 5
    assert disagreement(short, run) is not None
    assert disagreement(short, answers(Model())) is None


def test_a_seed_tries_the_same_sequences_again() -> None:
    tried: list[list[tuple[str, ...]]] = []
    for number in (5, 5, 6):
        tried.append([])
        search(lambda sequence: tried[-1].append(tuple(sequence)), number=number, sequences=20, protects=True)
    assert tried[0] == tried[1] != tried[2]


def test_a_guest_that_does_not_ask_has_nothing_private() -> None:
    def check(operations: Sequence[str]) -> None:
        assert "enable" not in operations
        model = model_after(*operations)
        assert not model.secrets

    assert search(check, number=1, sequences=20, protects=False) is None


def test_a_harness_that_breaks_ends_the_search_with_its_error() -> None:
    tried: list[int] = []

    def check(_: Sequence[str]) -> None:
        tried.append(1)
        if len(tried) == 3:  # and not when it is tried again
            raise MachineError("the host is lost")

    with pytest.raises(MachineError, match="the host is lost"):
        search(check, number=1, sequences=20, protects=True)
    assert len(tried) == 3


def test_an_interrupt_ends_the_search() -> None:
    def check(_: Sequence[str]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(check, number=1, sequences=20, protects=True)


# --- the file, and the command ----------------------------------------------------------------------------------------


def test_a_sequence_is_kept_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "one.txt"
    sequence_file.write(file, BEGUN, ["seed 3", "two\nlines"])
    assert file.read_text().startswith("# seed 3\n# two\n# lines\nslot 1 ")
    assert sequence_file.read(file) == BEGUN


@pytest.mark.parametrize(
    "text",
    [
        "child\n",
        "nothing 1\n",
        "share\n",
        "share 1 2 3\n",
        "slot 1 x 1 1 rw\n",
        "unmap 60 5\n",
        "protect 1 1 all\n",
        "destroy\nlook 0x100 1 native\n",
        "\xff",
    ],
)
def test_a_file_that_is_no_sequence_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "one.txt"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserInputError):
        sequence_file.read(file)
    with pytest.raises(UserInputError):
        sequence_file.read(tmp_path / "none")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[str], Completed]]:
    """The program that the command finds on its host."""
    programs = [answers(Model())]
    monkeypatch.setattr(command, "prepare", lambda *_: (SimpleNamespace(series="one", release="6.12"), None))
    monkeypatch.setattr(command, "EmulatedHosts", lambda *_, **__: None)
    monkeypatch.setattr(command, "OnHost", lambda *_: programs[-1])
    return programs


@pytest.mark.usefixtures("program")
def test_the_command_finds_nothing_where_all_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--minutes", "0.001", "--seed", "3", "--finds", str(tmp_path)]) == 0
    searched, result = capsys.readouterr().out.splitlines()
    assert result == "found: 0"
    match = re.fullmatch(
        r"seed 3, series one, Linux 6\.12, protected: (\d+) sequences, (\d+) operations, (\d+) answers; "
        r"looks at pages: (\d+) from which the VMM was kept, (\d+) that it read, (\d+) that it left",
        searched,
    )
    assert match is not None
    sequences, operations, answers, private, read, left_behind = map(int, match.groups())
    assert 10 < sequences < operations < answers
    assert min(private, read, left_behind) > 100
    (kept_line,) = (tmp_path / "searches.txt").read_text().splitlines()
    assert kept_line.endswith(f"Z {searched}; {result}")


@pytest.mark.usefixtures("program")
def test_two_seeds_have_no_round_in_common(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    numbers: list[int] = []

    def round_of(*_: object, number: int, **__: object) -> object:
        numbers.append(number)
        return None if len(numbers) % 3 else (("fork",), Disagreement(1, "fork", "ok", "EPERM"))

    monkeypatch.setattr(command, "search", round_of)
    for seed in ("3", "4", "3"):
        assert command.main(["--minutes", "5", "--seed", seed, "--finds", str(tmp_path)]) == 1
    assert numbers[:3] == numbers[6:]
    assert len(set(numbers)) == 6


def test_the_command_keeps_what_it_finds_and_replays_it(
    program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.append(answers(LastPageStaysShared()))
    assert command.main(["--minutes", "5", "--seed", "3", "--finds", str(tmp_path)]) == 1
    file = tmp_path / "3.txt"
    assert f"./sealproof search --replay {file}" in capsys.readouterr().out
    assert "# Found by seed 3, series one, Linux 6.12, protected. It fails each time." in file.read_text()
    replay = ["--replay", str(file), "--finds", str(tmp_path)]
    assert command.main(replay) == 1
    program.append(answers(Model()))
    assert command.main(replay) == 0
    ends = [line[-1] for line in (tmp_path / "searches.txt").read_text().splitlines()]
    assert ends == ["1", "1", "0"]


def test_the_sequences_of_the_claim_are_sequences_and_name_faults() -> None:
    files = sorted(SEQUENCE_FOLDER.glob("*.txt"))
    assert len(files) >= 3
    for file in files:
        assert is_defined(sequence_file.read(file), offered=False)
        assert (FAULTS / f"{file.stem}.patch").is_file()
        assert f"the fault {file.stem} " in file.read_text()


def test_the_command_says_what_failed_once(program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong, right, failed = answers(LastPageStaysShared()), answers(Model()), list[str]()

    def once(text: str) -> Completed:
        done = (right if failed else wrong)(text)
        if not failed and done.text != right(text).text:
            failed.append(text)
        return done

    program.append(once)
    assert command.main(["--minutes", "5", "--seed", "3", "--finds", str(tmp_path)]) == 1
    assert "It failed once, and not each time" in capsys.readouterr().out


@pytest.mark.parametrize("end", [MachineError("the host is lost"), KeyboardInterrupt()])
def test_what_failed_is_kept_whatever_ends_its_shortening(
    program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], end: BaseException
) -> None:
    wrong, right, failed = answers(LastPageStaysShared()), answers(Model()), list[str]()

    def once(text: str) -> Completed:
        if failed:
            raise end
        done = wrong(text)
        if done.text != right(text).text:
            failed.append(text)
        return done

    program.append(once)
    line = ["--minutes", "5", "--seed", "3", "--finds", str(tmp_path)]
    if isinstance(end, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            command.main(line)
    else:
        assert command.main(line) == 1
        assert "could not be shortened: " in (tmp_path / "3.txt").read_text()
    assert "It failed once" in (tmp_path / "3.txt").read_text()
    assert len(sequence_file.read(tmp_path / "3.txt")) > 5
    assert "found: 1" in capsys.readouterr().out
    assert (tmp_path / "searches.txt").read_text().endswith("found: 1\n")


def test_a_sequence_of_which_nobody_can_say_what_must_come_on_this_kernel_is_refused(
    program: Any, tmp_path: Path
) -> None:
    program.append(lambda _: completion_of('"none"'))
    sequence_file.write(tmp_path / "one.txt", ["enable", "slot 1 0x100 1 0 rw", "unmap 0 1", "slot 1 0x100 1 0 rw"], [])
    with pytest.raises(UserInputError):
        command.main(["--replay", str(tmp_path / "one.txt"), "--finds", str(tmp_path)])


def test_the_command_does_not_search_where_nothing_works(program: Any, tmp_path: Path) -> None:
    for broken in (completion_of(status=1, stderr="cannot open"), completion_of("{}", '["1"]')):
        program.append(lambda _, broken=broken: broken)
        with pytest.raises(SealproofError):
            command.main(["--minutes", "1", "--finds", str(tmp_path)])


def test_a_host_is_used_until_it_is_lost() -> None:
    started: list[Any] = []

    def start() -> Any:
        stopped: list[str] = []
        guest = SimpleNamespace(qmp=SimpleNamespace(execute=stopped.append))
        namespace = SimpleNamespace(lost=None, guests=[guest], stopped=stopped, closed=0)
        namespace.close = lambda: setattr(namespace, "closed", namespace.closed + 1)
        started.append(namespace)
        return namespace

    hosts: Any = SimpleNamespace(start=start)
    lent: Any = command.HostLoan(hosts)
    assert lent.host() is lent.host() is started[0]
    assert started[0].stopped == ["stop"]
    started[0].lost = "it is gone"
    assert lent.host() is started[1]
    assert started[0].closed == 1
    lent.end()
    lent.end()
    assert started[1].closed == 1


def test_the_command_refuses_no_time() -> None:
    with pytest.raises(SystemExit):
        command.main(["--minutes", "0"])

# SPDX-License-Identifier: GPL-2.0-or-later
"""Coverage: a program that counts as a kernel does, made by the real compiler and told by the real gcov."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.errors import KernelError, UserInputError
from host_setup.coverage import __main__ as command
from host_setup.coverage import counters, notes, page
from host_setup.coverage.added_lines import AddedLines, lines_added
from host_setup.coverage.collector import Collector, Image, Memory, _join_pieces, _runs
from host_setup.coverage.counters import IMAGE
from host_setup.coverage.result import NOTES_FOLDER, Code, Coverage, gather
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.kernel import profile
from host_setup.kernel.arrival import Patch
from host_setup.kernel.profile import Explained

pytestmark = pytest.mark.skipif(shutil.which("gcov") is None, reason="gcov is not installed")

HEADER = """\
static inline int is_large(int number)
{
	if (number > 100)
		return 1;
	return 0;
}
"""
CODE = """\
#include "../include/large.h"

static volatile int log_of;

int looked_at(int number)
{
	int found = number;

	if (number == 3)
		log_of += 3;
	if (is_large(number))
		log_of *= 7;
	return found;
}

int other(int number)
{
	return looked_at(number) + 1;
}
"""
RUNTIME = """\
#include <stdio.h>
int looked_at(int);
int main(void)
{
	int number;

	while (scanf("%d", &number) == 1) {
		looked_at(number);
		puts("done");
		fflush(stdout);
	}
}
"""


class Counting:
    """A process that counts, and what is known of it."""

    def __init__(self, build: Path) -> None:
        self.build = build
        self.process = subprocess.Popen([build / "program"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.image = Image(build / "program")
        self.objects = self.image.objects

    def read(self, address: int, size: int) -> bytes:
        with Path(f"/proc/{self.process.pid}/mem").open("rb") as memory:
            memory.seek(address)
            return memory.read(size)

    def look_at(self, number: int) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def counts(self) -> counters.Counts:
        return counters.counts(self.objects, self.read)


@pytest.fixture
def build_folder(tmp_path: Path) -> Path:
    build = tmp_path / "source/build"
    (build / "mm").mkdir(parents=True)
    for name, text in (("include/large.h", HEADER), ("mm/memory.c", CODE), ("runtime.c", RUNTIME)):
        (build.parent / name).parent.mkdir(exist_ok=True)
        (build.parent / name).write_text(text)
    count = ["gcc", "-O1", *profile.FLAGS, "-c", "../mm/memory.c", "-o", "mm/memory.o"]
    subprocess.run(count, cwd=build, check=True)
    subprocess.run(["gcc", "-static", "-no-pie", "../runtime.c", "mm/memory.o", "-o", "program"], cwd=build, check=True)
    return build


@pytest.fixture
def start(build_folder: Path) -> Iterator[Callable[[], Counting]]:
    started: list[Counting] = []

    def run() -> Counting:
        started.append(Counting(build_folder))
        return started[-1]

    yield run
    for server in started:
        server.process.kill()
        server.process.wait()


@pytest.fixture
def counting(start: Callable[[], Counting]) -> Counting:
    return start()


def of(text: str, *words: str) -> dict[int, str]:
    """The numbers of the lines with these words, as if a patch had added them."""
    return {at: "0001-a.patch" for at, line in enumerate(text.splitlines(), 1) if any(word in line for word in words)}


def everything(text: str) -> AddedLines:
    return AddedLines(tuple(text.split("\n")), dict.fromkeys(range(1, text.count("\n") + 1), "0001-a.patch"))


ALL = {"mm/memory.c": everything(CODE), "include/large.h": everything(HEADER)}


def prepare(counting: Counting, folder: Path, lines: dict[str, AddedLines] = ALL) -> dict[str, tuple[int, ...]]:
    def is_asked_for(file: str, number: int) -> bool:
        return file in lines and number in lines[file].patches

    return notes.interesting(counting.build, is_asked_for, folder / NOTES_FOLDER)


def claim(counting: Counting, folder: Path, name: str, *numbers: int) -> None:
    before = counting.counts()
    for number in numbers:
        counting.look_at(number)
    counters.write(folder / "claims" / name, counting.objects, counters.since(counting.counts(), before))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["-k", "nonsense"], "none fits"),
        (["tests_e2e/nonsense"], "file or directory not found: tests_e2e/nonsense"),
    ],
)
def test_words_that_pytest_does_not_take_are_an_error_before_a_kernel_is_built(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux/Makefile").write_text(
        "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\nNAME = x\nKERNELVERSION = 6.12.117\n"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "build", lambda *_: pytest.fail("a kernel is built"))
    with pytest.raises(UserInputError, match=f"pytest finds no claim by these words: .*{reason}"):
        command.main(["--folder", str(tmp_path / "result"), "--kernel-source", str(tmp_path / "linux"), *words])


def test_each_line_has_the_claims_that_ran_it(counting: Counting, tmp_path: Path) -> None:
    functions = prepare(counting, tmp_path)
    claim(counting, tmp_path, "three", 3)
    claim(counting, tmp_path, "large", 101, 101)
    claim(counting, tmp_path, "nothing")
    result = gather("gcov", tmp_path, functions, ALL, ())
    (at,) = of(CODE, "+= 3")
    assert result.code["mm/memory.c"][at].claims == {"three"}
    (at,) = of(CODE, "*= 7")
    assert result.code["mm/memory.c"][at].claims == {"large"}
    (at,) = of(HEADER, "number > 100")
    assert result.code["include/large.h"][at].claims == {"three", "large"}
    (at,) = of(CODE, "looked_at(number) + 1")
    assert not result.code["mm/memory.c"][at].claims
    (at,) = of(CODE, "number == 3")
    assert sorted(map(sorted, result.code["mm/memory.c"][at].branches.values())) == [["large"], ["three"]]
    assert result.claims == ["large", "nothing", "three"]
    assert {1, 2} & set(result.code["mm/memory.c"]) == set()


def test_what_was_counted_reads_as_the_compilers_own_library_writes_it(counting: Counting, tmp_path: Path) -> None:
    prepare(counting, tmp_path)
    claim(counting, tmp_path, "three", 3, 3)
    listing = [line for _, line in notes.lines("gcov", counting.build, ["mm/memory"])]
    assert not any(line.count for line in listing)
    shutil.copyfile(tmp_path / "claims/three/mm/memory.gcda", counting.build / "mm/memory.gcda")
    ours = [line for _, line in notes.lines("gcov", counting.build, ["mm/memory"])]
    (counting.build / "mm/memory.gcda").unlink()
    (counting.build / "own.c").write_text("int looked_at(int);\nint main(void) { looked_at(3); looked_at(3); }\n")
    count = ["gcc", "-O1", "-fprofile-arcs", "-ftest-coverage", "-c", "../mm/memory.c", "-o", "mm/memory.o"]
    subprocess.run(count, cwd=counting.build, check=True)
    subprocess.run(["gcc", "own.c", "mm/memory.o", "-lgcov", "-o", "own"], cwd=counting.build, check=True)
    subprocess.run([counting.build / "own"], check=True)
    assert ours == [line for _, line in notes.lines("gcov", counting.build, ["mm/memory"])]


def test_functions_without_added_lines_are_left_out(counting: Counting, tmp_path: Path) -> None:
    lines = {"mm/memory.c": AddedLines(tuple(CODE.split("\n")), of(CODE, "number == 3"))}
    functions = prepare(counting, tmp_path, lines)
    assert [len(idents) for idents in functions.values()] == [1]
    results = {line.function for _, line in notes.lines("gcov", tmp_path / NOTES_FOLDER, functions)}
    assert results - {""} == {"looked_at"}
    claim(counting, tmp_path, "three", 3)
    result = gather("gcov", tmp_path, functions, lines, ())
    assert {file: list(code) for file, code in result.code.items()} == {"mm/memory.c": list(of(CODE, "number == 3"))}


def test_a_function_with_inlined_lines_is_known_by_these(counting: Counting, tmp_path: Path) -> None:
    lines = {"include/large.h": AddedLines(tuple(HEADER.split("\n")), of(HEADER, "number > 100"))}
    functions = prepare(counting, tmp_path, lines)
    claim(counting, tmp_path, "three", 3)
    result = gather("gcov", tmp_path, functions, lines, ())
    assert {number: code.claims for number, code in result.code["include/large.h"].items()} == {3: {"three"}}


def test_a_counter_that_has_fallen_began_anew() -> None:
    key = ("mm/memory", 1)
    result = counters.since({key: struct.pack("<2Q", 3, 9)}, {key: struct.pack("<2Q", 5, 4)})
    assert result == {key: struct.pack("<2Q", 3, 5)}
    assert counters.since({key: bytes(16)}, {key: bytes(16)}) == {}
    counters.add(result, {key: struct.pack("<2Q", 1, 1), ("mm/gup", 1): bytes(8)})
    assert result == {key: struct.pack("<2Q", 4, 6), ("mm/gup", 1): bytes(8)}


def test_what_was_never_counted_is_no_count(counting: Counting) -> None:
    function = counting.objects[0].functions[0]

    def read(address: int, size: int) -> bytes:
        return b"\xcc" * size if address == function.address else counting.read(address, size)

    with pytest.raises(KernelError, match="are not in the expected form"):
        counters.counts(counting.objects, read)


def test_a_kernel_of_an_older_compiler_is_refused() -> None:
    def read(address: int, size: int) -> bytes:
        return bytes(size) if address else b"*20B".ljust(size, b"\0")

    with pytest.raises(KernelError, match="gcc 10"):
        counters.layout([0x1000], read)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/ann/.cache/sealproof/scratch/kernel-0123/a1/source/build/mm/memory.gcda", "mm/memory"),
        ("/linux/build/arch/x86/kvm/../../../virt/kvm/kvm_main.gcda", "virt/kvm/kvm_main"),
    ],
)
def test_an_object_is_known_by_its_place_in_the_build(path: str, name: str) -> None:
    def read(address: int, size: int) -> bytes:
        return (path.encode() + bytes(200))[address : address + size]

    assert counters._name(read, 0) == name


@pytest.mark.parametrize(
    ("folder", "name", "result"),
    [
        ("/linux/build", "../mm/memory.c", "mm/memory.c"),
        ("/x/source/build", "../include/linux/mm.h", "include/linux/mm.h"),
        ("/linux/build", "/linux/virt/kvm/kvm_main.c", "virt/kvm/kvm_main.c"),
        ("/linux/build", "../arch/x86/kvm/../../../virt/kvm/protected_mem.c", "virt/kvm/protected_mem.c"),
        ("/linux/build", "/usr/include/stdio.h", None),
    ],
)
def test_a_source_is_known_by_its_place_in_the_tree(folder: str, name: str, result: str | None) -> None:
    assert notes.source_name(name, folder) == result


def test_the_gcov_of_a_compiler() -> None:
    assert [notes.program(compiler) for compiler in ("gcc", "gcc-13", "/opt/x/bin/x86_64-gcc-14")] == [
        "gcov",
        "gcov-13",
        "/opt/x/bin/x86_64-gcov-14",
    ]


# --- what the series adds ---------------------------------------------------------------------------------------------


def patch(name: str, old: str, new: str, file: str, folder: Path) -> Patch:
    for side, text in (("a", old), ("b", new)):
        (folder / side / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / side / file).write_text(text)
    command = ["diff", "-u", f"a/{file}", f"b/{file}"] if old else ["diff", "-uN", "/dev/null", f"b/{file}"]
    change = subprocess.run(command, cwd=folder, capture_output=True, check=False).stdout
    return Patch(name, change, change)


def test_added_lines_have_the_patch_that_they_come_from(tmp_path: Path) -> None:
    pristine = tmp_path / "pristine"
    (pristine / "mm").mkdir(parents=True)
    base = "".join(f"line {at}\n" for at in range(20))
    (pristine / "mm/memory.c").write_text(base)
    first = base.replace("line 9\n", "line 9\nfirst\nsecond\n")
    second = first.replace("second\n", "other\n").replace("line 1\n", "line 1\nshifts\n")
    result = lines_added(
        pristine,
        [
            patch("0001-a.patch", base, first, "mm/memory.c", tmp_path),
            patch("0002-b.patch", first, second, "mm/memory.c", tmp_path),
            patch("0003-c.patch", "", "new\n", "mm/new.c", tmp_path),
            patch("0004-d.patch", "", "a text\n", "Documentation/new.rst", tmp_path),
        ],
        tmp_path / "work",
    )
    assert {file: dict(added.patches) for file, added in result.items()} == {
        "mm/memory.c": {3: "0002-b.patch", 12: "0001-a.patch", 13: "0002-b.patch"},
        "mm/new.c": {1: "0003-c.patch"},
    }
    assert result["mm/memory.c"].text[11] == "first"
    assert (pristine / "mm/memory.c").read_text() == base


def test_make_is_told_of_the_touched_files_by_their_whole_path(tmp_path: Path) -> None:
    word = profile.make_word(("mm/memory.c", "virt/kvm/kvm_main.c"))
    makefile = tmp_path / "Makefile"
    makefile.write_text(
        "comma := ,\nCFLAGS_KERNEL =\n"
        "all: mm/memory.o boot/memory.o arch/x86/kvm/../../../virt/kvm/kvm_main.o\n"
        "mm/memory.o boot/memory.o arch/x86/kvm/../../../virt/kvm/kvm_main.o:\n"
        "\t@echo $@ $(if $(CFLAGS_KERNEL),counts $(CFLAGS_KERNEL),)\n"
    )
    output = subprocess.run(["make", "-s", "-C", tmp_path, word], capture_output=True, text=True, check=True).stdout
    listing = [line for line in output.splitlines() if "counts" in line]
    expected = ("mm/memory.o", "arch/x86/kvm/../../../virt/kvm/kvm_main.o")
    assert listing == [f"{name} counts {' '.join(profile.FLAGS)}" for name in expected]


# --- what is said of it -----------------------------------------------------------------------------------------------


def sample(*explained: Explained) -> Coverage:
    text = ("int a;", "if (x)", "\treturn -EIO;", "y();")
    ran, not_ran, half = Code({"f"}, {"one"}), Code({"f"}), Code({"f"}, {"one", "two"})
    half.branches = {(2, 0): {"two"}, (2, 1): set()}
    lines = {2: half, 3: not_ran, 4: ran}
    return Coverage(
        {"mm/a.c": AddedLines(text, dict.fromkeys(range(1, 5), "0001-a.patch"))},
        {"mm/a.c": lines},
        ["one", "two"],
        explained,
    )


def test_a_gap_is_told_and_counted() -> None:
    result = sample()
    assert [(gap.number, gap.branches, gap.reason) for gap in result.gaps] == [(2, 1, ""), (3, 0, "")]
    totals = result.totals()
    assert (totals.added, totals.code, totals.ran, totals.missing) == (4, 3, 2, 1)
    assert (totals.branches, totals.branches_taken) == (2, 1)
    assert not totals.has_reached_goal
    assert result.by_line() == {"mm/a.c": {"2": ["one", "two"], "3": [], "4": ["one"]}}


def test_what_is_explained_one_by_one_is_no_gap() -> None:
    line = Explained(file="mm/a.c", code="return -EIO;", function="f", reason="no such disk")
    branch = Explained(file="mm/a.c", code="if (x)", branch=True, reason="x is always set")
    result = sample(line, branch)
    assert [gap.reason for gap in result.gaps] == ["x is always set", "no such disk"]
    assert result.totals().has_reached_goal
    assert not result.stale


@pytest.mark.parametrize(
    "wrong",
    [
        Explained(file="mm/a.c", code="y();", reason="it does run"),
        Explained(file="mm/b.c", code="return -EIO;", reason="another file"),
        Explained(file="mm/a.c", code="return -EIO;", function="g", reason="another function"),
        Explained(file="mm/a.c", code="if (x)", reason="only a branch was not taken"),
        Explained(file="mm/a.c", code="return -EIO;", branch=True, reason="all of it did not run"),
    ],
)
def test_an_explanation_of_something_else_is_stale(wrong: Explained) -> None:
    result = sample(wrong)
    assert result.stale == [wrong]
    assert not any(gap.reason for gap in result.gaps)


def test_page_and_table_tell_what_ran() -> None:
    line = Explained(file="mm/a.c", code="return -EIO;", reason="no <such> disk")
    html = page.html(sample(line), {"made": "today"})
    shown = re.findall(r'<span class="(\w+)" data-claims="(-?\d+)"', html)
    assert shown == [("none", "-1"), ("partly", "0"), ("explained", "-1"), ("ran", "1")]
    assert 'title="no &lt;such&gt; disk"' in html
    data = re.search(r'id="data">(.*?)</script>', html)
    assert data
    assert json.loads(data[1]) == {"claims": ["one", "two"], "sets": [[0, 1], [0]]}
    assert "http" not in html.replace("http-equiv", "")
    table = page.markdown(sample(line), {"made": "today"})
    assert "| `mm/a.c` | 4 | 3 | 2 (66.6 %) | 1 | 0 | 2 | 1 (50 %) | 0 |" in table
    assert "| `mm/a.c` 3 | `f` | `return -EIO;` | no <such> disk |" in table
    assert "| `mm/a.c` 2 | `f` | `if (x)` | **not by the claims that were run** |" in table


def test_a_folder_without_counters_is_told(counting: Counting, tmp_path: Path) -> None:
    functions = prepare(counting, tmp_path)
    with pytest.raises(UserInputError, match="holds no counters"):
        gather("gcov", tmp_path, functions, ALL, ())


def test_a_file_of_explanations_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "coverage.toml"
    file.write_text('[[explained]]\nfile = "mm/a.c"\ncode = ["x();", "y();"]\nreason = "why"\n')
    assert [(entry.code, entry.reason) for entry in profile.parse(file).explained] == [("x();", "why"), ("y();", "why")]
    file.write_text('[[explained]]\nfile = "mm/a.c"\ncode = "x();"\n')
    with pytest.raises(UserInputError, match="reason"):
        profile.parse(file)


# --- where it is read -------------------------------------------------------------------------------------------------


def test_a_kernel_that_does_not_count_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain.c").write_text("int main(void) {}\n")
    subprocess.run(["gcc", "plain.c", "-o", "plain"], cwd=tmp_path, check=True)
    with pytest.raises(KernelError, match="does not count"):
        Image(tmp_path / "plain")


def test_what_never_changes_is_the_same_in_memory(counting: Counting) -> None:
    at = counting.image.witness
    assert counting.read(at, 40) == counting.image.read(at, 40)
    assert any(counting.image.read(at, 8))


def test_pages_that_follow_each_other_are_read_at_once() -> None:
    pages = [(0x1000, 0x71000), (0x2000, 0x72000), (0x3000, 0x9000), (0x5000, 0xB000), (0x6000, None)]
    assert _runs(pages) == [(0x1000, 2), (0x3000, 1), (0x5000, 1), (0x6000, 1)]
    memory = Memory(_join_pieces({0x1000: b"a" * 0x2000, 0x3000: b"b" * 0x1000, 0x5000: b"c" * 0x1000}))
    assert memory(0x2FFE, 4) == b"aabb"
    with pytest.raises(KernelError):
        memory(0x3FFE, 4)


GUESTS = 1 << 40  # physical addresses of a host at which the memory of its guests begins, one after the other


class FakeHost:
    """A host whose memory is a process's, and that of its guests other processes'."""

    def __init__(self, own: Counting, *guests: Counting, started: str = "restored") -> None:
        self.machines = {0: own, **dict(enumerate(guests, 1))}
        self.started = started
        self.lost: str | None = None
        self.guests = tuple(self.guest(number) for number in range(1, len(self.machines)))
        self.all_guests = self.guests
        self.before_end: Callable[[object], None] = lambda _: None
        self.qemu = SimpleNamespace(has_ended=False, qmp=SimpleNamespace(execute=self.save))

    def guest(self, number: int) -> SimpleNamespace:
        def frames(gpas: Sequence[int]) -> list[int]:
            return [gpa + GUESTS * number for gpa in gpas]

        return SimpleNamespace(spec=SimpleNamespace(name=f"guest-{number}"), memory=SimpleNamespace(frames=frames))

    def save(self, command: str, arguments: Mapping[str, Any]) -> None:
        assert command == "pmemsave"
        address, size = arguments["val"] + IMAGE, arguments["size"]
        number = address // GUESTS
        Path(arguments["filename"]).write_bytes(self.machines[number].read(address - GUESTS * number, size))


@pytest.fixture
def collecting(counting: Counting, tmp_path: Path) -> tuple[Collector, EmulatedHosts, Callable[[str], set[str]]]:
    """A collector, where it watches for hosts, and what tells for which claims the line with these words ran."""
    functions = prepare(counting, tmp_path)
    notes_taken: list[str] = []
    collector = Collector(counting.image, functions, tmp_path, notes_taken.append)
    hosts = cast(EmulatedHosts, SimpleNamespace(on_start=None))
    collector.watch(hosts)

    def end_claim(words: str) -> set[str]:
        assert notes_taken == []
        (at,) = of(CODE, words)
        return gather("gcov", tmp_path, functions, ALL, ()).code["mm/memory.c"][at].claims

    return collector, hosts, end_claim


Collected = tuple[Collector, EmulatedHosts, Callable[[str], set[str]]]


def test_a_claim_has_what_host_and_guests_counted_meanwhile(
    collecting: Collected, start: Callable[[], Counting], counting: Counting
) -> None:
    collector, hosts, ran = collecting
    guest = start()
    counting.look_at(3)
    hosts.on_start(cast(EmulatedHost, FakeHost(counting, guest)))
    collector.begin()
    guest.look_at(101)
    collector.end("first")
    collector.begin()
    counting.look_at(1)
    collector.end("second")
    assert ran("+= 3") == {"boot"}
    assert ran("*= 7") == {"first"}
    assert ran("return found") == {"boot", "first", "second"}


def test_what_ends_within_a_claim_has_counted_for_it(
    collecting: Collected, start: Callable[[], Counting], counting: Counting
) -> None:
    collector, hosts, ran = collecting
    own, extra = start(), start()
    host = FakeHost(own, extra)
    host.guests = host.all_guests = ()
    hosts.on_start(cast(EmulatedHost, FakeHost(counting)))
    collector.begin()
    hosts.on_start(cast(EmulatedHost, host))
    extra.look_at(3)
    host.all_guests = (host.guest(1),)
    host.before_end(host.guest(1))
    host.all_guests = ()
    own.look_at(101)
    host.before_end(None)
    host.qemu.has_ended = True
    collector.end("one")
    assert ran("+= 3") == {"one"}
    assert ran("*= 7") == {"one"}


def test_a_host_that_a_claim_has_booted_has_counted_its_boot_for_it(
    collecting: Collected, start: Callable[[], Counting], counting: Counting
) -> None:
    collector, hosts, ran = collecting
    hosts.on_start(cast(EmulatedHost, FakeHost(counting)))
    cold = start()
    collector.begin()
    cold.look_at(3)
    hosts.on_start(cast(EmulatedHost, FakeHost(cold, started="cold")))
    collector.end("one")
    assert ran("+= 3") == {"one"}


def test_a_machine_with_another_kernel_is_passed_over_with_a_note(counting: Counting, tmp_path: Path) -> None:
    notes: list[str] = []
    collector = Collector(counting.image, prepare(counting, tmp_path), tmp_path, notes.append)
    hosts = cast(EmulatedHosts, SimpleNamespace(on_start=None))
    collector.watch(hosts)
    host = FakeHost(counting)
    host.machines[0] = cast(Counting, SimpleNamespace(read=lambda _, size: b"\1" * size))
    hosts.on_start(cast(EmulatedHost, host))
    collector.begin()
    collector.end("one")
    assert notes == ["host: another kernel runs there"] * 2
    assert not list((tmp_path / "claims/one").rglob("*.gcda"))


def test_a_result_that_is_not_there_is_not_written_again(tmp_path: Path) -> None:
    """Above all it builds no kernel, which takes ten minutes."""
    with pytest.raises(UserInputError, match=r"there is no result in .*/none"):
        command.main(["--no-run", "--folder", str(tmp_path / "none")])


def test_a_result_of_another_kernel_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / command.KERNEL).write_text("another")
    """Nor is a kernel built for it, which takes ten minutes."""
    request = SimpleNamespace(toolchain=SimpleNamespace(version=lambda: "gcc 12"))
    monkeypatch.setattr(command, "kernel_request", lambda *_: request)
    monkeypatch.setattr(command, "key", lambda *_: "this one")
    monkeypatch.setattr(command, "build", lambda *_: pytest.fail("a kernel is built"))
    with pytest.raises(UserInputError, match="the result is of another kernel"):
        command.main(["--no-run", "--folder", str(tmp_path)])
    assert (tmp_path / command.KERNEL).read_text() == "another"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants of real code: the memory part of the series protected-memory, as its patch adds it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from host_setup.kernel import series
from host_setup.mutate import operators
from host_setup.mutate.added_lines import files_touched, lines_added
from host_setup.mutate.faults import machine_mutants, of_mutant
from host_setup.mutate.operators import Mutant, Operator
from host_setup.mutate.text import CText

FILE = "mm/protected_guest_mem.c"


@pytest.fixture(scope="module")
def source() -> str:
    """The file that patch 4 adds."""
    patch = next(patch for patch in series.load("protected-memory").patches if patch.name.startswith("0004-"))
    part = patch.change.decode().split(f"+++ b/{FILE}\n")[1].split("\ndiff --git ")[0]
    return "\n".join(line[1:] for line in part.splitlines() if line.startswith("+")) + "\n"


@pytest.fixture(scope="module")
def all_mutants(source: str) -> list[Mutant]:
    everything = range(1, source.count("\n") + 1)
    return operators.mutants(FILE, source, everything, {"is_at_home", "page_is_guest_private"})


def changed_lines(text: str, all_mutants: list[Mutant], operator: Operator, function: str) -> list[str]:
    """The lines that the mutants of one operator in one function leave, in which they differ."""
    return [
        new.strip()
        for mutant in all_mutants
        if (mutant.operator, mutant.function) == (operator, function)
        for old, new in zip(text.split("\n"), mutant.apply_to(text).split("\n"), strict=True)
        if old != new
    ]


def mutants(text: str) -> list[Mutant]:
    return operators.mutants("a.c", text, range(1, text.count("\n") + 1), {"gate"})


@pytest.mark.parametrize(
    ("operator", "function", "line"),
    [
        (Operator.CHECK_DROPPED, "check_range", "if ((!is_at_home(vma)) && 0)"),
        (Operator.CHECK_INVERTED, "check_range", "if (!(userfaultfd_armed(vma)))"),
        (Operator.GATE_IGNORED, "check_range", "if (!(0 && is_at_home(vma)))"),
        (Operator.REFUSAL_IS_SUCCESS, "check_range", "return 0;"),
        (Operator.ERROR_IGNORED, "protect_guest_range", "ret = ((check_range(mm, start, end)), 0);"),
        (Operator.ANSWER_INVERTED, "charge_block", "return true;"),
        (Operator.CLEAR_DROPPED, "exchange_pages", "(void)0;"),
        (Operator.FLUSH_DROPPED, "leave_direct_map", "(void)0;"),
        (Operator.CALL_DROPPED, "protect_piece", "(void)0;"),
        (Operator.STORE_DROPPED, "protected_guest_mem_claim", "(void)0;"),
        (Operator.FLAG_DROPPED, "guest_page_get", "FOLL_WRITE | FOLL_HWPOISON,"),
        (Operator.END_MOVED, "protect_piece", "change_range(mm, start, (end - PAGE_SIZE), PROTECT);"),
        (Operator.LOOP_SHORT, "return_block_pages", "for (i = 0; i + 1 < BLOCK_PAGES; i++) {"),
        (Operator.LOOP_ONCE, "unfreeze_pages", "{ page_ref_unfreeze(pages + --count, 1); break; }"),
    ],
)
def test_each_operator_finds_its_place(source: Any, all_mutants: Any, operator: str, function: Any, line: str) -> None:
    assert line in changed_lines(source, all_mutants, operator, function)


def test_a_lock_goes_with_what_releases_it(source: Any, all_mutants: Any) -> None:
    lines = changed_lines(source, all_mutants, Operator.LOCK_DROPPED, "guest_private_page_free")
    assert lines == ["(void)0;", "(void)0;"]
    assert not changed_lines(
        source, all_mutants, Operator.LOCK_DROPPED, "dirty_block"
    )  # guard(): nothing releases it by name


def test_a_helper_is_the_stock_one() -> None:
    patch = next(patch for patch in series.load("protected-memory").patches if patch.name.startswith("0006-"))
    line = "\treturn kvm_copy_from_slot(slot, gfn, addr + offset, data, len);"
    assert f"+{line}\n" in patch.change.decode()
    (mutant,) = [
        mutant for mutant in mutants(f"int f(void)\n{{\n{line}\n}}\n") if mutant.operator is Operator.STOCK_HELPER
    ]
    assert mutant.after == "return (__copy_from_user(data, (void __user *)(addr + offset), len) ? -EFAULT : 0);"


def test_names_say_where_and_differ(all_mutants: Any) -> None:
    assert len({mutant.id for mutant in all_mutants}) == len(all_mutants) > 300
    entry = next(
        entry for entry in all_mutants if (entry.operator, entry.function) == (Operator.CLEAR_DROPPED, "pool_grow")
    )
    assert entry.id == f"{FILE}:pool_grow:{entry.line}:clear-dropped"
    assert entry.before == "clear_highpage(block->pages + i);"


def test_no_line_moves(source: Any, all_mutants: Any) -> None:
    assert {mutant.apply_to(source).count("\n") for mutant in all_mutants} == {source.count("\n")}


def test_every_mutant_changes_what_it_says_it_changes(source: Any, all_mutants: Any) -> None:
    for mutant in all_mutants:
        applied = mutant.apply_to(source).split("\n")
        assert applied != source.split("\n"), mutant.id
        assert applied[mutant.line - 1].strip() == mutant.after != mutant.before, mutant.id


def test_mutants_are_still_c(source: Any, all_mutants: Any) -> None:
    """Brackets match in each: a compiler would say so at the first line, and here nothing else can be compiled."""
    for mutant in all_mutants:
        code = CText(mutant.apply_to(source)).code
        assert all(code.count(opening) == code.count(closing) for opening, closing in ("()", "{}", "[]")), mutant.id


def test_they_compile(tmp_path: Any) -> None:
    text = """\
int gate(int a); int get(int a); void clear_it(int a); void work(int a);
void spin_lock(int *l); void spin_unlock(int *l);
#define A_FLAG 1
#define B_FLAG 2
static int f(int a, unsigned long end, int *l, struct { int x; } *s)
{
\tint ret = 0, i;

\tif (gate(a) &&
\t    a > 1)
\t\treturn -EPERM;
\telse if (a)
\t\tclear_it(a |
\t\t\t B_FLAG);
\tspin_lock(l);
\tret = get(a | A_FLAG | B_FLAG);
\tfor (i = 0; i < a; i++)
\t\tret += i;
\twhile (end > 3) {
\t\tend--;
\t}
\ts->x = 1;
\twork(a);
\tspin_unlock(l);
\treturn end < 2 ? 0 : ret; /* if (x) return -EPERM; "quoted */
}
"""
    text = text.replace("struct { int x; } *s", "struct s *s").replace("int gate", "struct s { int x; }; int gate", 1)
    result = mutants(text)
    kinds = {mutant.operator for mutant in result}
    assert kinds == set(Operator) - {Operator.ANSWER_INVERTED, Operator.STOCK_HELPER, Operator.FLUSH_DROPPED}
    for number, mutant in enumerate(result):
        file = tmp_path / f"{number}.c"
        file.write_text("#define PAGE_SIZE 1\n#define EPERM 1\n" + mutant.apply_to(text))
        done = subprocess.run(["gcc", "-fsyntax-only", "-w", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{mutant.id}: {done.stderr}"


def test_comments_strings_and_the_preprocessor_are_left_alone() -> None:
    text = 'int f(void)\n{\n#if (A | B_FLAG)\n\t/* if (a) return -EPERM; */\n\tg("if (b) return -EPERM;");\n#endif\n}\n'
    assert [mutant.operator for mutant in mutants(text)] == [Operator.CALL_DROPPED]


def test_only_what_the_series_adds_is_changed(source: Any) -> None:
    lines = source.split("\n")
    line = next(number for number, text in enumerate(lines, 1) if "if (!is_at_home(vma))" in text)
    result = operators.mutants(FILE, source, {line}, {"is_at_home"})
    assert {(mutant.line, mutant.function) for mutant in result} == {(line, "check_range")}
    assert len(result) == 3


def test_a_call_that_is_part_of_something_is_no_statement() -> None:
    text = "int f(void)\n{\n\tx = a +\n\t\tclear(b);\n\treturn g(1,\n\t\tflush(2));\n}\n"
    assert not [mutant for mutant in mutants(text) if mutant.operator.value.endswith("-dropped")]


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("static int __init guest_page_init(void)", "guest_page_init"),
        ("static struct page *get_private_page(const struct slot *slot,\n\t\t bool atomic)", "get_private_page"),
        ("__always_inline bool free_pages_prepare(struct page *page,\n\t\t\tunsigned int order)", "free_pages_prepare"),
    ],
)
def test_functions_have_the_name_that_they_are_called_by(head: Any, name: str) -> None:
    assert [function.name for function in CText(f"{head}\n{{\n}}\n").functions] == [name]


def test_what_the_series_adds_is_what_differs(tmp_path: Any) -> None:
    old, new = tmp_path / "old.c", tmp_path / "new.c"
    old.write_text("a\nb\nc\n")
    new.write_text("a\nx\ny\nc\nz\n")
    assert lines_added(old, new) == {2, 3, 5}
    assert lines_added(tmp_path / "none.c", new) == {1, 2, 3, 4, 5}


def test_all_of_a_series_is_looked_at(tmp_path: Any, source: Any) -> None:
    patches = series.load("protected-memory").patches
    assert FILE in files_touched(patches)
    assert not [name for name in files_touched(patches) if name.startswith(("tools/", "Documentation/"))]
    for tree in ("old", "new"):
        (tmp_path / tree / "mm").mkdir(parents=True)
    (tmp_path / "new" / FILE).write_text(source)
    result = machine_mutants(tmp_path / "old", tmp_path / "new", patches)
    # The gates are found by themselves.
    assert Operator.GATE_IGNORED in {mutant.operator for mutant in result}
    assert {mutant.file for mutant in result} == {FILE}


def test_the_patch_of_a_mutant_gives_the_mutant(tmp_path: Any, source: Any, all_mutants: Any) -> None:
    for mutant in (all_mutants[0], all_mutants[len(all_mutants) // 2], all_mutants[-1]):
        (tmp_path / "mm").mkdir(exist_ok=True)
        (tmp_path / FILE).write_text(source)
        fault = of_mutant(mutant, source)
        subprocess.run(["patch", "-p1"], input=fault.patch, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        assert (tmp_path / FILE).read_text() == fault.changes[FILE] == mutant.apply_to(source)
        assert fault.places == ((FILE, mutant.line),)

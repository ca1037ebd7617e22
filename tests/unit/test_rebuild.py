# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel made again, with the toy of ``test_kernel_build`` in place of one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from common.errors import KernelError, NoSpaceError, UserInputError
from common.processes import run_tree
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import build, series, source
from host_setup.kernel.build import Request
from host_setup.kernel.layers import Layer
from host_setup.tools import rebuild
from host_setup.tools.rebuild import OTHER, SAME, main
from tests.unit.test_kernel_build import make_tree

Report = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def report(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Makes the report of a run that built the toy; ``changes`` are of what it says of its kernel."""
    monkeypatch.setattr(build, "_KERNEL_NEEDS", 0)
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", 0)
    monkeypatch.setattr(rebuild, "_NEEDS", 0)

    def write_report(**changes: Any) -> Path:
        store = Store(tmp_path / "cache")
        kernel = build.build(Request(source.resolve(tree, store), series.load("stock")), store, Terminal())
        folder = tmp_path / "report"
        (folder / "identity").mkdir(parents=True)
        shutil.copy(kernel.config, folder / "identity/kernel.config")
        facts = {
            "release": kernel.release,
            "build_id": kernel.build_id,
            "source": kernel.source,
            "source_sha256": kernel.source_identity,
            "config_sha256": kernel.sums["config"],
            "image_sha256": kernel.sums["image"],
            "vmlinux_sha256": kernel.sums["vmlinux"],
            "compiler": kernel.compiler,
            "patches": [asdict(patch) for patch in kernel.patches],
            "running_build_id": kernel.build_id,
        }
        record = {"run": "a-run", "series": "stock", "mode": "plain", "kernel": {**facts, **changes}}
        (folder / "record.json").write_text(json.dumps(record))
        return folder

    return write_report


def again(report: Path, tree: Path, *words: str) -> int:
    folder = report.parent / "elsewhere"
    folder.mkdir()
    try:
        return main([str(report), "--kernel-source", str(tree), "--folder", str(folder), *words])
    finally:
        assert list(folder.iterdir()) == []


def test_the_same_kernel_comes_of_it_elsewhere(report: Report, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert again(report(), tree) == SAME
    text = capsys.readouterr().out
    assert text.count("  same") == 6
    assert "The same kernel, bit for bit." in text


def test_nothing_is_taken_from_the_cache(report: Report, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = report()
    for image in folder.parent.glob("cache/kernel/*/source/build/vmlinux"):
        image.write_text("changed")
    assert again(folder, tree) == SAME
    assert "DIFFERS" not in capsys.readouterr().out


def test_ccache_is_off(report: Report, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[dict[str, str]] = []

    def run(command: list[str], **words: Any) -> None:
        records.append(words["env"])
        run_tree(command, **words)

    monkeypatch.setattr(rebuild, "run_tree", run)
    assert again(report(), tree) == SAME
    assert [record["CCACHE_DISABLE"] for record in records] == ["1"]


def test_an_interrupted_rebuild_goes_on_in_its_folder(
    report: Report, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report_folder, folder = report(), tree.parent / "elsewhere"
    folder.mkdir()
    laid_out: list[Path] = []

    def lay_out(tree: Path, at: Path, *words: Any) -> build.Site:
        laid_out.append(at)
        return build.lay_out(tree, at, *words)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild, "lay_out", lay_out)
    words = [str(report_folder), "--kernel-source", str(tree), "--folder", str(folder)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rebuild, "run_tree", interrupted)
        main(words)
    assert "stays: the same command goes on there" in capsys.readouterr().err
    assert main(words) == SAME
    assert len(laid_out) == 1
    assert list(folder.iterdir()) == []


def test_two_rebuilds_do_not_work_in_one_folder(report: Report, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report_folder, folder = report(), tree.parent / "elsewhere"
    folder.mkdir()
    words = [str(report_folder), "--kernel-source", str(tree), "--folder", str(folder)]

    def second(*_: Any, **__: Any) -> None:
        with pytest.raises(UserInputError, match="another rebuild works in"):
            main(words)
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild, "run_tree", second)
    with pytest.raises(KeyboardInterrupt):
        main(words)


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("build_id", "00" * 20, "build ID"),
        ("image_sha256", "00" * 32, "image"),
        ("vmlinux_sha256", "00" * 32, "with symbols"),
        ("compiler", "gcc 99", "compiler"),
    ],
)
def test_what_differs_is_named(
    report: Report, tree: Path, capsys: pytest.CaptureFixture[str], field: str, value: str, name: str
) -> None:
    assert again(report(**{field: value}), tree) == OTHER
    text = capsys.readouterr().out
    assert f"  DIFFERS  {name:<14} {value}; here: " in text
    assert f"Not the same kernel: {name}." in text
    assert text.count("  same") == 5


def test_another_source_is_refused_before_hours_of_work(report: Report, tree: Path) -> None:
    folder = report()
    (tree / "mm/memory.c").write_text("int memory = 2;\n")
    with pytest.raises(UserInputError, match="and the report's source"):
        again(folder, tree)


def test_another_series_is_refused_by_the_patch_that_differs(report: Report, tree: Path) -> None:
    folder = report(patches=[{"name": "0001-x.patch", "sha256": "00" * 32}])
    with pytest.raises(UserInputError, match=r"series stock is not the report's: 0001-x.patch differs"):
        again(folder, tree)


def test_a_series_that_is_not_here_must_be_named(report: Report, tree: Path) -> None:
    folder = report()
    (folder / "record.json").write_text((folder / "record.json").read_text().replace('"stock"', '"/etc"'))
    with pytest.raises(UserInputError, match="does not come with sealproof"):
        again(folder, tree)


def name_configuration(folder: Path, text: str) -> None:
    """Another configuration in a report, which names it."""
    (folder / "identity/kernel.config").write_text(text)
    path = folder / "record.json"
    record = json.loads(path.read_text())
    record["kernel"]["config_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(record))


def test_a_configuration_that_is_not_the_one_named_is_refused(report: Report, tree: Path) -> None:
    folder = report()
    (folder / "identity/kernel.config").write_text("CONFIG_KVM=n\n")
    with pytest.raises(UserInputError, match="lacks the configuration that it names"):
        again(folder, tree)


@pytest.mark.parametrize("word", ["$(shell touch /tmp/x)", "`touch /tmp/x`", "\\"])
def test_a_strangers_configuration_cannot_have_make_do_a_thing(report: Report, tree: Path, word: str) -> None:
    folder = report()
    name_configuration(folder, f'CONFIG_LOCALVERSION="{word}"\n')
    with pytest.raises(UserInputError, match="which no kernel configuration has"):
        again(folder, tree)


def test_a_configuration_that_does_not_stay_is_told(report: Report, tree: Path) -> None:
    folder = report()
    name_configuration(folder, (folder / "identity/kernel.config").read_text() + "CONFIG_LOST=y\n")
    with pytest.raises(KernelError, match=r"(?s)olddefconfig changes the configuration.*-CONFIG_LOST=y"):
        again(folder, tree)


def test_of_a_merged_report_a_part_holds_it(report: Report, tree: Path) -> None:
    folder = report()
    part = folder / "parts" / "one"
    part.mkdir(parents=True)
    (folder / "identity").rename(part / "identity")
    assert again(folder, tree) == SAME


def test_a_disk_that_is_too_small_is_told_before_anything_is_made(
    report: Report, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = report()
    monkeypatch.setattr(rebuild, "_NEEDS", 1 << 62)
    with pytest.raises(NoSpaceError, match="are needed") as caught:
        again(folder, tree)
    assert "--folder" in caught.value.hint


def test_a_folder_that_make_does_not_take_is_told(report: Report, tree: Path) -> None:
    folder = tree.parent / "a folder"
    folder.mkdir()
    with pytest.raises(UserInputError, match="make cannot build in"):
        main([str(report()), "--kernel-source", str(tree), "--folder", str(folder)])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("layers", "result"), [("none", ()), ("debug, coverage", (Layer.COVERAGE,)), ("debug", ())])
def test_a_kernel_that_counts_its_lines_is_made_as_one(layers: str, result: tuple[Layer, ...]) -> None:
    kernel = dict.fromkeys(rebuild._Kernel.model_fields, "") | {"patches": ()}
    reported = rebuild.ReportedRun.model_validate(
        {"run": "a", "series": "stock", "kernel": kernel, "host": {"kernel's layers": layers}}
    )
    assert reported.layers == result


@pytest.mark.parametrize("content", [None, "{}", '{"run": "x", "series": "stock", "kernel": null}'])
def test_a_folder_that_says_nothing_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(UserInputError):
        main([str(tmp_path)])

# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts on what a report says that it is made of, as in ``test_tampering``; and what a reader may demand of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report_samples import MADE_OF
from tests.unit.test_tampering import (
    RAW,
    REMADE,
    SEALED,
    Edit,
    both,
    carry_out,
    check,
    document,
    html,
    payload,
    record,
    remake_or_seal,
)

OTHER = "99" * 32


def kernel(**changes: Any) -> Edit:
    """Change what the record says of the kernel."""

    def edit(folder: Path) -> None:
        path = folder / "record.json"
        content = json.loads(path.read_text())
        content["kernel"].update(changes)
        path.write_text(json.dumps(content, indent=1))

    return edit


def change_parts(change: Callable[[dict[str, Any]], object]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "record.json"
        content = json.loads(path.read_text())
        change(content["made_of"])
        path.write_text(json.dumps(content, indent=1))

    return edit


def without(name: str) -> Edit:
    return change_parts(lambda content: content.pop(name))


def change_list(name: str, before: str, after: str, *, honest: bool = True) -> Edit:
    """Change a list of files; ``honest``: the record names the changed one."""

    def edit(folder: Path) -> None:
        file = folder / "identity" / f"{name}.sha256"
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        list_name = {"payload": "payload's files", "sealproof": "sealproof's files"}.get(name, name)
        if honest:
            change_parts(lambda content: content.update({list_name: sha256}))(folder)

    return edit


ATTEMPTS: dict[str, tuple[str, Edit, int, str]] = {
    "another_kernel_was_running": (REMADE, kernel(running_build_id="99" * 20), 3, "the running kernel said that its"),
    "no_kernel_was_asked": (REMADE, kernel(running_build_id=""), 3, "running_build_id is ''"),
    "a_build_id_that_is_none": (REMADE, kernel(build_id="unknown"), 3, "build_id is 'unknown'"),
    "no_hash_of_the_image": (REMADE, kernel(image_sha256=""), 3, "image_sha256 is ''"),
    "no_hash_of_the_symbols": (REMADE, kernel(vmlinux_sha256=""), 3, "vmlinux_sha256 is ''"),
    "no_hash_of_the_source": (REMADE, kernel(source_sha256="linux"), 3, "source_sha256 is 'linux'"),
    "no_compiler": (REMADE, kernel(compiler=" "), 3, "which compiler made the kernel"),
    "another_image": (REMADE, kernel(image_sha256=OTHER), 3, "the guest boots another kernel than the host"),
    "another_configuration": (REMADE, kernel(config_sha256=OTHER), 3, "not the configuration that the record names"),
    "a_configuration_edited": (
        REMADE,
        lambda f: (f / "identity/kernel.config").write_text("CONFIG_KVM=n\n"),
        3,
        "not the configuration that the record names",
    ),
    "no_configuration": (REMADE, lambda f: (f / "identity/kernel.config").unlink(), 3, "not the configuration"),
    "a_field_of_the_kernel_less": (
        SEALED,
        lambda f: (f / "record.json").write_text((f / "record.json").read_text().replace('"image_sha256"', '"image"')),
        3,
        "kernel has no image_sha256",
    ),
    "not_made_of_anything": (REMADE, record(made_of={}), 3, "does not say what it is made of: sealproof's files"),
    "made_of_a_list": (SEALED, record(made_of=[]), 3, "made_of are malformed"),
    "made_of_no_hash": (
        REMADE,
        change_parts(lambda content: content.update(programs="x")),
        3,
        "'x', which is no SHA-256",
    ),
    "no_emulator": (REMADE, without("emulator"), 3, "does not say what it is made of: emulator"),
    "no_root_file_system": (REMADE, without("root file system"), 3, "made of: root file system"),
    "no_payload": (REMADE, without("payload"), 3, "made of: payload"),
    "no_guest_image": (REMADE, without("guest image"), 3, "made of: guest image"),
    "no_programs": (REMADE, without("programs"), 3, "made of: programs"),
    "no_modules": (REMADE, without("modules"), 3, "made of: modules"),
    "no_python": (REMADE, without("Python and its packages"), 3, "made of: Python and its packages"),
    "sealproof_not_told": (REMADE, without("sealproof's files"), 3, "made of: sealproof's files"),
    "a_list_edited": (
        REMADE,
        change_list("sealproof", "01" * 32, OTHER, honest=False),
        3,
        "identity/sealproof.sha256 is not the list that the record names",
    ),
    "a_list_less": (REMADE, lambda f: (f / "identity/emulator.sha256").unlink(), 3, "emulator.sha256 is not the list"),
    "other_programs_in_the_payload": (
        REMADE,
        change_list("payload", "08" * 32, OTHER),
        3,
        "the payload holds another programs/sealproof than the record names",
    ),
    "another_guest_image": (REMADE, change_list("payload", "06" * 32, OTHER), 3, "another guest/initramfs"),
    "another_kernel_of_the_guest": (
        REMADE,
        change_list("payload", "1a" * 32, OTHER),
        3,
        "the guest boots another kernel",
    ),
    "another_module": (REMADE, change_list("modules", "07" * 32, OTHER), 3, "not one of the modules that were built"),
    "a_list_that_is_none": (REMADE, change_list("payload", "  modules/", " modules/"), 3, "has a malformed line"),
    "a_file_listed_twice": (
        REMADE,
        change_list("payload", "  modules/host_attack.ko", "  guest/bzImage"),
        3,
        "has a malformed line",
    ),
    "record_edited_after_the_end": (SEALED, kernel(compiler="gcc 99"), 3, "record.json is not as it was"),
    "a_byte_of_a_list": (
        RAW,
        change_list("sealproof", "01", "02", honest=False),
        3,
        "identity/sealproof.sha256 was changed after",
    ),
    "json_of_another_emulator": (SEALED, document(lambda d: d["made_of"].update(emulator=OTHER)), 3, "made_of is"),
    "json_of_another_image": (SEALED, document(lambda d: d["kernel"].update(image_sha256=OTHER)), 3, "kernel is"),
    "page_of_another_image": (SEALED, html("1a" * 32, OTHER), 3, "<dt>Image</dt><dd><code>sha256 999"),
    "page_of_another_payload": (SEALED, html("0b" * 32, OTHER), 3, "<dt>payload</dt><dd><code>999"),
    "page_of_another_compiler": (SEALED, html("gcc 12.2.0", "gcc 13"), 3, "<dt>Compiler</dt><dd>gcc 13</dd>"),
    "statement_of_another_source": (
        RAW,
        payload(lambda s: s["predicate"].update(source=OTHER)),
        3,
        "the statement's source",
    ),
    "statement_of_another_series": (
        RAW,
        payload(lambda s: s["predicate"].update(patches=OTHER)),
        3,
        "the statement's patches",
    ),
    "statement_made_of_nothing": (
        RAW,
        payload(lambda s: s["predicate"].update(madeOf={})),
        3,
        "the statement's madeOf",
    ),
    "statement_without_an_image": (
        RAW,
        payload(lambda s: s["predicate"]["configuration"].pop(1)),
        3,
        "does not name Linux 6.12.117 bzImage",
    ),
    "statement_without_programs": (
        RAW,
        payload(lambda s: s["predicate"]["configuration"].pop()),
        3,
        "the statement's configuration does not name",
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    far, edit, expected, words = ATTEMPTS[name]
    carry_out(report, edit, far)
    code, output = check(report, capsys)
    assert (code, words in output) == (expected, True), output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--build-id", "ab" * 20], 0, "build ID"),
        (["--build-id", "ac" * 20], 3, "build ID is " + "ab" * 20),
        (["--source", "5a" * 32], 0, "kernel source"),
        (["--tree", MADE_OF["sealproof's files"]], 0, "sealproof's files: as you named them"),
        (["--tree", OTHER], 3, "sealproof's files are not those that you trust"),
        (["--is", f"image={'1a' * 32}", "--is", f"root file system={'0a' * 32}"], 0, "image, root file system: as you"),
        (["--is", f"payload={OTHER}"], 3, "payload is " + "0b" * 32),
        (["--is", f"weather={OTHER}"], 3, "weather is not told"),
        (["--is", "payload=short"], 2, ""),
        (["--tree", "nowhere"], 2, ""),
    ],
)
def test_what_the_reader_demands_is_held(
    report: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    result, text = check(report, capsys, *words)
    assert (result, message in text) == (code, True), text


def write_trusted_tree(folder: Path) -> dict[str, bytes]:
    """A small sealproof; returns its files."""
    files = {"conftest.py": b"one", "signoff/verdict.py": b"two", "README.md": b"three"}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def names(files: dict[str, bytes]) -> Edit:
    """A report that says that it was made by these files."""

    def edit(folder: Path) -> None:
        text = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
        (folder / "identity/sealproof.sha256").write_text(text)
        change_parts(lambda content: content.update({"sealproof's files": hashlib.sha256(text.encode()).hexdigest()}))(
            folder
        )
        remake_or_seal(folder)

    return edit


def test_a_checkout_is_held_against_the_list_file_by_file(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors = tmp_path / "trusted"
    names(write_trusted_tree(anchors))(report)
    (anchors / "reports" / "x").mkdir(parents=True)
    (anchors / "reports" / "x" / "signoff.py").write_bytes(b"not looked at")
    assert check(report, capsys, "--tree", str(anchors))[0] == 0
    (anchors / "signoff" / "verdict.py").write_bytes(b"otherwise")
    code, text = check(report, capsys, "--tree", str(anchors))
    assert (code, "not those that you trust: signoff/verdict.py" in text) == (3, True), text


@pytest.mark.parametrize(
    "more", ["signoff/conftest.py", "pytest_hidden.py", "guest_images/init", "pyproject.toml", "requirements.lock"]
)
def test_a_file_that_a_checkout_has_more_is_told(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    anchors = tmp_path / "trusted"
    names(write_trusted_tree(anchors))(report)
    (anchors / more).parent.mkdir(exist_ok=True)
    (anchors / more).write_bytes(b"x")
    code, text = check(report, capsys, "--tree", str(anchors))
    assert (code, f"not those that you trust: {more}" in text) == (3, True), text


def test_a_dirty_tree_is_good_if_the_reader_has_the_same(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors = tmp_path / "trusted"
    both(record(commit="0" * 40 + "-dirty"), names(write_trusted_tree(anchors)))(report)
    assert check(report, capsys)[0] == 2
    assert check(report, capsys, "--tree", str(anchors))[0] == 0

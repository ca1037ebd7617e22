# SPDX-License-Identifier: GPL-2.0-or-later
"""Imports go one way: from what people start down to what everything stands on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from common.paths import PROJECT

HOST = {"common", "guest_images", "host_setup"}
MAY_IMPORT = {
    "common": {"common"},
    "verifier": {"verifier"},
    "guest_images": {"common", "guest_images"},
    "host_setup": HOST,
    "signoff": {"common", "signoff", "verifier"},
    "tests_e2e": {"common", "host_setup", "signoff", "tests_e2e"},
    "history": {*HOST, "signoff", "history"},
    "fleet": {*HOST, "signoff", "verifier", "fleet"},
    "cli": {*HOST, "signoff", "verifier", "history", "fleet", "cli"},
}
"""The folders that each may import; only ``conftest.py`` and the tests may import from all."""
FLOORS = ("channels", "kernel", "hosts")
"""Rooms of ``host_setup`` that know no kind of host, and none of the rooms that make or use one."""


def modules() -> dict[str, Path]:
    files = [file for folder in MAY_IMPORT for file in (PROJECT / folder).rglob("*.py")]
    return {_name(file.relative_to(PROJECT)): file for file in files}


def _name(file: Path) -> str:
    return ".".join(part for part in file.with_suffix("").parts if part != "__init__")


def imports_of(source: str, ours: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in ours else node.module


def arrows() -> dict[str, set[str]]:
    """The modules that each module imports, of ours."""
    ours = modules()
    return {
        name: {imported for imported in imports_of(file.read_text(), ours) if imported in ours}
        for name, file in ours.items()
    }


ARROWS = arrows()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folder_imports_only_what_is_below_it(folder: str) -> None:
    wrong = {
        (importer, target)
        for importer, targets in ARROWS.items()
        for target in targets
        if importer.partition(".")[0] == folder and target.partition(".")[0] not in MAY_IMPORT[folder]
    }
    assert wrong == set()


def test_no_module_is_imported_by_what_it_imports() -> None:
    try:
        TopologicalSorter(ARROWS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def _room(module: str) -> str:
    """``host_setup.hosts`` of ``host_setup.hosts.base``; for other folders the folder."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "host_setup" else parts[0]


def test_no_room_is_imported_by_what_it_imports() -> None:
    rooms: dict[str, set[str]] = {}
    for importer, targets in ARROWS.items():
        rooms.setdefault(_room(importer), set()).update(_room(target) for target in targets)
    for room, targets in rooms.items():
        targets.discard(room)
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", FLOORS)
def test_ground_floor_knows_no_kind_of_host(room: str) -> None:
    kinds = {"host_setup.emulated", "host_setup.remote", "host_setup.tools", "host_setup.provision"}
    wrong = {
        (importer, target)
        for importer, targets in ARROWS.items()
        for target in targets
        if _room(importer) == f"host_setup.{room}" and _room(target) in kinds
    }
    assert wrong == set()


def test_import_inside_a_function_counts_too() -> None:
    source = "def late():\n    from signoff import plugin\n    import cli.table\n"
    assert list(imports_of(source, {"signoff.plugin": PROJECT})) == ["signoff.plugin", "cli.table"]

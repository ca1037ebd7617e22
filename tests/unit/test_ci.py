# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/ci: each command in it is one that there is, its shell is clean, and its files are what the services take.

The services' own checkers are run where they are installed; who changes a file installs them (CONTRIBUTING.md).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from common.paths import PROJECT
from history.matrix import load
from tests.unit.documented import fault_of

CI = PROJECT / "docs/ci"
CONTAINER, SERVICE, TIMER = (
    CI / name for name in ("Containerfile", "sealproof-nightly.service", "sealproof-nightly.timer")
)
GITHUB, GITLAB = CI / "github.yml", CI / "gitlab.yml"
ALL = sorted(CI.iterdir())
GITLAB_JOBS = ("quick", "night")


@cache
def document(file: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: it comes with the package pre-commit")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def scripts() -> Iterator[tuple[str, str]]:
    """All shell scripts of the files, each with its place."""
    for name, job in document(GITHUB)["jobs"].items():
        for number, step in enumerate(job["steps"]):
            if "run" in step:
                yield f"{GITHUB.name}: {name}, step {number}", step["run"]
    gitlab = document(GITLAB)
    for name in GITLAB_JOBS:
        for part in ("script", "after_script"):
            if part in gitlab[name]:
                yield f"{GITLAB.name}: {name}: {part}", "\n".join(gitlab[name][part])
    yield f"{GITLAB.name}: before_script", "\n".join(gitlab["default"]["before_script"])
    container = CONTAINER.read_text(encoding="utf-8").replace("\\\n", "")
    yield from ((CONTAINER.name, words) for words in re.findall(r"^RUN (.+)$", container, re.MULTILINE))


def ours(text: str) -> list[str]:
    """The commands of ours in a script, or in a comment."""
    text = re.sub(r'"(oci://[^"]*)"', "oci://example.org/a", text)
    text = text.replace('"$place"', "oci://example.org/a").replace('"$HISTORY"', "h.sqlite").replace("%h", "~")
    results = re.findall(
        r"^ *(?:ExecStart=)?((?:\./sealproof|~/sealproof/sealproof|make) [a-z][^|>&;\n]*)", text, re.MULTILINE
    )
    return [line.strip().replace("~/sealproof/sealproof", "./sealproof") for line in results]


def test_there_is_a_file_for_each_service() -> None:
    assert {file.name for file in ALL} == {
        *("Containerfile", "github.yml", "gitlab.yml", "matrix.toml"),
        *("sealproof-nightly.service", "sealproof-nightly.timer"),
    }


def test_each_command_is_one_that_there_is() -> None:
    listing = [line for _, text in scripts() for line in ours(text)]
    listing += ours(
        next(line for line in SERVICE.read_text(encoding="utf-8").splitlines() if line.startswith("ExecStart="))
    )
    assert len(listing) > 15
    assert {line.split()[1] for line in listing} == {"share-cache", "test", "nightly", "history"}
    assert {line: fault_of(line) for line in listing if fault_of(line)} == {}


def test_the_shell_is_clean(tmp_path: Path) -> None:
    """By shellcheck, which the lock file has."""
    program = PROJECT / ".venv/bin/shellcheck"
    if not program.exists():
        pytest.skip("shellcheck is not installed: it is in the set-up of developers")
    for number, (place, text) in enumerate(scripts()):
        file = tmp_path / f"{number}.sh"
        file.write_text(f"set -e\n{re.sub(r'[$][{][{][^}]*[}][}]', 'x', text)}\n")
        done = subprocess.run([program, "--shell=bash", file], capture_output=True, text=True, check=False)
        assert done.stdout == "", place


def test_the_matrix_is_one() -> None:
    assert [cell.name for cell in load(CI / "matrix.toml").cells] == [
        "series=protected-memory",
        "series=stock mode=plain mark=quick",
    ]


@pytest.mark.parametrize("file", [GITHUB, GITLAB], ids=lambda file: file.name)
def test_a_night_keeps_its_pages_and_its_history_also_if_it_is_red(file: Path) -> None:
    night = (document(file).get("jobs") or document(file))["night"]
    if file == GITLAB:
        assert night["artifacts"]["when"] == night["cache"]["when"] == "always"
        assert "night/reports/trend.html" in night["artifacts"]["paths"]
        assert night["cache"]["paths"] == ["night/"]
        return
    after = [step for step in night["steps"] if "nightly" in step.get("run", "")]
    later = night["steps"][night["steps"].index(after[0]) + 1 :]
    assert all(step["if"] == "always()" for step in later)
    assert any("GITHUB_STEP_SUMMARY" in step.get("run", "") for step in later)


def test_a_container_is_of_a_debian_that_the_set_up_knows_and_copies_what_there_is() -> None:
    text = CONTAINER.read_text(encoding="utf-8")
    assert re.search(r"^FROM debian:13$", text, re.MULTILINE)
    assert "sh host_setup/bootstrap.sh" in text
    assert {line.split()[0] for line in text.replace("\\\n", "").splitlines() if line and not line.startswith("#")} == {
        *("FROM", "COPY", "WORKDIR", "RUN", "ENTRYPOINT", "CMD"),
    }


# --- the services' own checkers ---------------------------------------------------------------------------------------


def check_output(*argv: str | Path, package: str, home: Path | None = None) -> str:
    """What a checker finds; skips where it is not installed."""
    if shutil.which(str(argv[0])) is None:
        pytest.skip(f"{argv[0]} is not installed ({package})")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home or Path.home()), "XDG_RUNTIME_DIR": str(home or "/tmp")}
    program = shutil.which(str(argv[0]))
    done = subprocess.run([str(program), *argv[1:]], capture_output=True, text=True, check=False, env=environment)
    return (done.stdout + done.stderr).strip() if done.returncode or home else ""


def unit_faults(home: Path, units: dict[str, str]) -> str:
    """What systemd says of units of a user whose checkout is ``~/sealproof``."""
    folder = home / ".config/systemd/user"
    folder.mkdir(parents=True)
    (home / "sealproof").symlink_to(PROJECT)
    for name, text in units.items():
        (folder / name).write_text(text)
    return check_output(
        "systemd-analyze", "--user", "verify", *(folder / name for name in units), package="systemd", home=home
    )


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    assert unit_faults(tmp_path, {file.name: file.read_text(encoding="utf-8") for file in (SERVICE, TIMER)}) == ""


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [("Type=", "Typ=", "Typ"), ("%h/sealproof/sealproof", "%h/sealproof/none", "none"), ("5min", "soon", "soon")],
)
def test_systemd_would_not_take_a_unit_that_is_wrong(tmp_path: Path, old: str, new: str, word: str) -> None:
    assert word in unit_faults(tmp_path, {SERVICE.name: SERVICE.read_text(encoding="utf-8").replace(old, new)})


def test_github_takes_the_workflow(tmp_path: Path) -> None:
    workflows = tmp_path / ".github/workflows"
    workflows.mkdir(parents=True)
    shutil.copy(GITHUB, workflows)
    assert check_output("actionlint", workflows / GITHUB.name, package="rhysd/actionlint") == ""


@pytest.mark.parametrize(
    ("file", "schema"),
    [(GITHUB, "vendor.github-workflows"), (GITLAB, "vendor.gitlab-ci")],
    ids=lambda parameter: str(parameter)[-12:],
)
def test_a_file_fits_its_services_schema(file: Path, schema: str) -> None:
    more = ["--data-transform", "gitlab-ci"] if file == GITLAB else []
    argv = ["check-jsonschema", "--builtin-schema", schema, *more, file]
    assert check_output(*argv, package="check-jsonschema, from PyPI") == ""

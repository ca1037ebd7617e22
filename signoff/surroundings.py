# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings that change pytest from outside, so that a run of the claims is not a sign-off of this project."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from common.paths import PROJECT

_VARIABLES = (
    *("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONPYCACHEPREFIX"),
    "PYTHONPLATLIBDIR",
    *("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH"),
    *("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES"),
)
"""Variables that add options, plugins or code, or take checks away."""
_OURS = ("signoff.plugin", "host_setup.plugin", "host_setup.coverage.plugin", "fleet.only")
_QUESTIONS = {
    "help": "--help",
    "version": "--version",
    "showfixtures": "--fixtures",
    "show_fixtures_per_test": "--fixtures-per-test",
    "markers": "--markers",
    "cacheshow": "--cache-show",
}
"""Options with which pytest answers and runs nothing, by the names that it keeps them under."""
_OPTIONS = ("-c", "--config-file", "-o", "--override-ini", "--rootdir", "--confcutdir", "--noconftest", "--import-mode")
"""Options that choose other settings, another root or other conftest files."""
_CHOSEN = {"inifilename": "-c", "override_ini": "-o", "rootdir": "--rootdir", "noconftest": "--noconftest"}
"""Some of them by the names under which pytest keeps them, however they were written."""
_STRICTER = {"strict_config=true", "strict_markers=true"}
"""What pytest 9 keeps of --strict-config and --strict-markers, which the project's own settings have."""
_SETTINGS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml")
"""Files of settings, any of which takes the place of those behind it."""


def refusals(environment: Mapping[str, str]) -> Iterator[str]:
    """Reasons why no claim is tried, one line each."""
    for name in _VARIABLES:
        value = environment.get(name)
        if value and not (name == "PYTHONPATH" and all(Path(word).resolve() == PROJECT for word in value.split(":"))):
            yield f"{name} is set, which changes what a sign-off runs: run it without (unset {name})"


def questions(config: pytest.Config) -> Iterator[str]:
    """Why a command that names the claims tries none: it asks pytest something. Without paths it may ask."""
    option = config.option
    attributes = [name for name in _QUESTIONS if getattr(option, name, False)]
    if attributes and any(not word.startswith("-") and _there(Path(word)) for word in config.invocation_params.args):
        name = _QUESTIONS[attributes[0]]
        yield f"{name} tries no claim and writes no report: this is not a sign-off (use: pytest {name})"


def _there(path: Path) -> bool:
    """Whether a file is there; what is no name of a file, such as a long expression of ``-k``, is not."""
    try:
        return path.exists()
    except OSError:
        return False


def asks_for_claims(config: pytest.Config, contract: Path) -> bool:
    """Whether a session is asked for tests below the contract's folder, or for all there are."""
    here = contract.parent.resolve()
    base = config.invocation_params.dir
    words = [word for word in config.invocation_params.args if not word.startswith("-")]
    paths = [path.resolve() for word in words if _there(path := base / word.partition("::")[0])]
    return not paths or any(here.is_relative_to(path) or path.is_relative_to(here) for path in paths)


def foreign(config: pytest.Config, contract: Path) -> list[str]:
    """Reasons why a run is not a sign-off: plugins, conftest files and options that are not this project's."""
    root = config.rootpath
    pinned = _plugins_in_lock(config)
    strangers = []
    for plugin in config.pluginmanager.get_plugins():
        module = str(getattr(plugin, "__name__", type(plugin).__module__))
        file = Path(str(getattr(plugin, "__file__", "") or getattr(sys.modules.get(module), "__file__", "") or ""))
        if file.name == "conftest.py":
            if _decides(file.resolve().parent, root, contract.parent.resolve()):
                strangers.append(f"{_short(file.resolve(), root)} is not the project's")
        elif plugin not in pinned and not _is_own(module, file.resolve()):
            strangers.append(
                f"the pytest plugin {config.pluginmanager.get_name(plugin) or module} is not the project's"
            )
    words = [str(word) for word in config.invocation_params.args]
    options = {word.partition("=")[0] if word.startswith("--") else word[:2] for word in words if word.startswith("-")}
    chosen = {attribute: getattr(config.option, attribute, None) for attribute in _CHOSEN}
    chosen["override_ini"] = set(chosen["override_ini"] or ()) - _STRICTER
    options |= {name for attribute, name in _CHOSEN.items() if chosen[attribute]}
    strangers += [f"option {name}" for name in _OPTIONS if name in options]
    strangers += [f"options from the file {word[1:]}" for word in words if word.startswith("@")]
    strangers += [f"the plugin {name} is loaded" for name in _loaded(words)]
    strangers += _settings(config.rootpath, config.inipath)
    if sys.flags.optimize:
        strangers.append("Python runs without assertions (-O)")
    return [f"not a sign-off: {words}" for words in strangers]


def _loaded(words: Sequence[str]) -> Iterator[str]:
    """The plugins that are not of this project, and are loaded by -p NAME, which may stand behind -h, -l and so on."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        option = re.fullmatch(r"-[hlqsvx]*p(.*)", word)
        name = (option[1] or after) if option else ""
        if name and name not in _OURS and not name.startswith("no:"):
            yield name


def _settings(root: Path, used: Path | None) -> Iterator[str]:
    """Settings that are not this project's, or that something takes the place of."""
    if root != PROJECT and root.is_relative_to(PROJECT):
        yield f"the settings are those of {_short(used or root, PROJECT)}"
    for path in (root / name for name in _SETTINGS):
        whole = path.is_file() and (path.name != "pyproject.toml" or "[tool.pytest" in path.read_text(encoding="utf-8"))
        if whole and path != used:
            yield f"the settings are those of {_short(used or root, root)}, and not of {path.name}"


def _decides(folder: Path, root: Path, claims: Path) -> bool:
    """Whether a conftest file there affects the claims' tests; the root's own does not count."""
    return folder != root and (folder.is_relative_to(claims) or not folder.is_relative_to(root))


def _is_own(module: str, file: Path) -> bool:
    """Whether a plugin is pytest's own or this project's, and lies where it belongs."""
    if module in _OURS:
        return file.is_relative_to(PROJECT)
    return module.partition(".")[0] == "_pytest" and file.is_relative_to(Path(pytest.__file__).resolve().parent.parent)


def _plugins_in_lock(config: pytest.Config) -> list[object]:
    """Plugins of packages that the lock file pins: none of them affects a verdict."""
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    names = {canonical(line.partition("=")[0]) for line in lock.splitlines() if line[:1].isalnum()}
    return [plugin for plugin, dist in config.pluginmanager.list_plugin_distinfo() if canonical(dist.name) in names]


def canonical(name: str) -> str:
    """A package's name as all ways to write it are compared (PyPA, names and normalization)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's configuration: fragments laid over ``make tinyconfig``, the last one having the last word.

Kconfig drops without a word an option whose dependencies are not met; so each wanted option is looked up afterwards.
An option that only some kernels have says so behind its value: ``CONFIG_KVM_SMM=y  # Linux >=6.2``.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from enum import StrEnum
from pathlib import Path

from common import releases
from common.errors import KernelError, UserInputError
from common.names import path_text
from common.processes import run_tree
from host_setup.kernel.series import Series

STAGE = "kernel configuration"
FOLDER = Path(__file__).with_name("config")
BASE = ("machine", "virtio", "kvm", "probes", "lean", "dwarf")
ON_OWN = ("virtio", "kvm", "probes", "own", "dwarf")
"""The base for a real machine, over its own configuration."""

_EMPTY = '""'  # as a text may also be that nothing asks for
_COMMENT = r"(?:\s+#\s*(.*))?"
_SET = re.compile(rf'(CONFIG_\w+)=("(?:[^"\\]|\\.)*"|[^\s"]\S*){_COMMENT}')
_FOR = re.compile(r"Linux\s+([<>=!].*)")
_UNSET = re.compile(rf"# (CONFIG_\w+) is not set{_COMMENT}")


class Layer(StrEnum):
    """A layer that is applied on demand."""

    INTEL = "intel"
    DEBUG = "debug"
    NUMA = "numa"
    VIRTME = "virtme"
    SELFTESTS = "selftests"
    REMOTE = "remote"
    COVERAGE = "coverage"


def parse_names(text: str) -> tuple[Layer, ...]:
    """Layers from an option's text: names with commas between them, or ``none``.

    :raises argparse.ArgumentTypeError: a name is no layer's.
    """
    names = [name.strip() for name in text.split(",")]
    if names == ["none"]:
        return ()
    if unknown := [name for name in names if name not in set(Layer)]:
        raise argparse.ArgumentTypeError(f"no layer {unknown[0]!r}; known layers: {', '.join(Layer)}, or none")
    return tuple(layer for layer in Layer if layer in names)


@dataclass(frozen=True, slots=True)
class Wish:
    """An option that a fragment asks for; the value ``n`` stands for "not set"."""

    option: str
    value: str
    fragment: Path


@dataclass(frozen=True, slots=True)
class Own:
    """What a real machine's own kernel is.

    :ivar config: its configuration. :ivar modules: those that it has loaded, as lsmod prints them: they are built in,
        so that the kernel needs neither modules nor an initramfs of its own; all others are left out.
    """

    config: str
    modules: str


def fragments(optional: Sequence[Layer], series: Series, own: Own | None = None) -> tuple[Path, ...]:
    """The files to lay over each other: the base, the layers asked for, and the series' own last."""
    names = [*(BASE if own is None else ON_OWN), *(layer.value for layer in Layer if layer in optional)]
    last = () if series.config is None else (series.config,)
    return (*(FOLDER / f"{name}.config" for name in names), *last)


def parse(text: str, release: str = "") -> dict[str, str]:
    """The options that a configuration or a fragment sets; ``n`` for one that it says is not set.

    :param release: of the kernel; options that are for other releases are left out. Empty: for any.
    :raises ValueError: a line is neither an option nor a comment; the message is the line.
    """
    options = {}
    for line in text.splitlines():
        if match := _SET.fullmatch(line.strip()):
            option, value, comment = match.groups()
        elif match := _UNSET.fullmatch(line.strip()):
            option, value, comment = match[1], "n", match[2]
        elif line.strip() and not line.strip().startswith("#"):
            raise ValueError(line.strip())
        else:
            continue
        if _is_for(comment or "", release, line.strip()):
            options[option] = value
    return options


def _is_for(comment: str, release: str, line: str) -> bool:
    """Whether an option is meant for a kernel; raises as ``parse``."""
    match = _FOR.fullmatch(comment.strip())
    if match is None:
        return True
    try:
        return not release or releases.fits(release, match[1])
    except ValueError as error:
        raise ValueError(line) from error


def wishes(files: Sequence[Path], release: str) -> list[Wish]:
    """What the fragments ask for, each option once: the last fragment that names it counts.

    :param release: of the kernel that they are for.
    :raises UserInputError: a line of a fragment is not an option.
    """
    last: dict[str, Wish] = {}
    for file in files:
        last.update((option, Wish(option, value, file)) for option, value in _read(file, release).items())
    return list(last.values())


def _read(file: Path, release: str) -> dict[str, str]:
    """The options of a fragment for a kernel; raises as ``wishes``."""
    try:
        return parse(file.read_text(encoding="utf-8-sig", errors="surrogateescape"), release)
    except ValueError as error:
        raise UserInputError(
            f"{path_text(file)}: not an option: {path_text(str(error))}",
            stage=STAGE,
            hint="write CONFIG_NAME=value, or CONFIG_NAME=value  # Linux >=6.2,<7.1",
            artefact=file,
        ) from error
    except OSError as error:
        raise UserInputError(f"{path_text(file)} cannot be read: {error.strerror}", stage=STAGE) from error


def _plain(files: Sequence[Path], release: str, folder: Path) -> list[Path]:
    """The fragments in a folder, as Kconfig reads them: no comment behind an option, and no blank in their paths."""
    folder.mkdir()
    plain = []
    for number, file in enumerate(files):
        plain.append(folder / f"{number:02}.config")
        lines = (
            f"# {option} is not set\n" if value == "n" else f"{option}={value}\n"
            for option, value in _read(file, release).items()
        )
        plain[-1].write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    return plain


def lost_options(wishes: Sequence[Wish], config: str) -> list[str]:
    """A line for each option that the final configuration has not, or has otherwise."""
    options = parse(config)
    return [
        f"{wish.option}: wanted {wish.value}, got {options.get(wish.option, 'n')} ({wish.fragment.name})"
        for wish in wishes
        if options.get(wish.option, _EMPTY if wish.value == _EMPTY else "n") != wish.value
    ]


def take(make: Sequence[str], environment: Mapping[str, str], out: Path, exact: str, log: Path) -> None:
    """Write ``out/.config`` as it is given; parameters as of ``configure``.

    :raises KernelError: Kconfig makes another one of it: it is of another source or compiler.
    """
    config = out / ".config"
    config.write_text(exact, encoding="utf-8")
    run_tree([*make, "olddefconfig"], env=environment, log=log, stage=STAGE)
    final = config.read_text(encoding="utf-8")
    if final != exact:
        before, after = exact.splitlines(), final.splitlines()
        differ = [f"  {line}" for line in unified_diff(before, after, lineterm="", n=0) if re.match(r"[-+][^-+]", line)]
        raise KernelError(
            "olddefconfig changes the configuration:\n" + "\n".join(differ[:20]),
            stage=STAGE,
            hint="was it made for this source, series and compiler?",
            artefact=log,
        )


def configure(
    make: Sequence[str],
    environment: Mapping[str, str],
    source: Path,
    out: Path,
    files: Sequence[Path],
    release: str,
    log: Path,
    own: Own | None = None,
) -> None:
    """Write ``out/.config``.

    :param make: the make command, with everything but its targets. :param environment: what it gets beside
        ``common.environment``'s. :param source: the kernel tree.
    :param release: of the kernel in that tree. :param own: what to begin with, in place of ``make tinyconfig``.
    :raises KernelError: an option did not survive.
    """
    wishes_of_files = wishes(files, release)
    config = out / ".config"
    plain = _plain(files, release, out / "fragments")
    # By sh: a file system without permissions, or a patch, may have made it one that cannot be run. The script leaves
    # a temporary file in the folder it is run in.
    script = str(source / "scripts/kconfig/merge_config.sh")
    merge = ["sh", script, "-m", "-O", str(out), str(config), *map(str, plain)]
    if own is None:
        run_tree([*make, "tinyconfig"], env=environment, log=log, stage=STAGE)
    else:
        config.write_text(own.config, encoding="utf-8")
        (out / "lsmod").write_text(own.modules, encoding="utf-8")
        # It asks about what is new since that configuration; an empty answer is the default.
        command = shlex.join([*make, f"LSMOD={out / 'lsmod'}", "localyesconfig"])
        run_tree(["sh", "-c", f"yes '' | {command}"], env=environment, log=log, stage=STAGE)
    run_tree(merge, cwd=out, log=log, stage=STAGE)
    run_tree([*make, "olddefconfig"], env=environment, log=log, stage=STAGE)
    missing = lost_options(wishes_of_files, config.read_text(encoding="utf-8"))
    if missing:
        lines = "\n".join(f"  {line}" for line in missing)
        raise KernelError(
            f"{len(missing)} of {len(wishes_of_files)} wanted options did not survive olddefconfig:\n{lines}",
            stage=STAGE,
            hint="see what each depends on ('make menuconfig', then /), and add those options to the fragment",
            artefact=log,
        )

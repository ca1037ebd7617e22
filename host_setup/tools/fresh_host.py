# SPDX-License-Identifier: GPL-2.0-or-later
"""A fresh host of QEMU's for a person, as ``make shell`` and ``make debug`` start it: their options, and its life."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import SetupError
from common.paths import cache_root, make_refuses
from common.progress import Terminal
from common.store import Store
from host_setup.emulated.host import EmulatedHost
from host_setup.emulated.snapshots import EmulatedHosts
from host_setup.kernel import layers, series, source
from host_setup.kernel.build import BuiltKernel
from host_setup.kernel.series import Protection
from host_setup.provision import KINDS, Settings, prepare
from host_setup.tools.endurance import reporting

MONITOR = "qmp.sock"
LONGEST = 100  # bytes of a socket's path, which has 108 with its end


@dataclass(frozen=True, slots=True)
class FreshHost:
    """A running host, the kernel that it runs, and a folder for what belongs to the session.

    :ivar monitor: a socket on which its QEMU answers QMP as well.
    """

    kernel: BuiltKernel
    host: EmulatedHost
    folder: Path
    monitor: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose host and kernel, as the sign-off has them."""
    parser.add_argument("--series", default=series.DEFAULT, metavar="NAME", help="patch series, a name or a folder")
    source.add_option(parser)
    parser.add_argument("--layers", default=(), type=layers.parse_names, metavar="NAMES", help="configuration layers")
    parser.add_argument(
        "--mode",
        choices=[str(mode) for mode in Protection],
        default=str(Protection.PROTECTED),
        help="plain: no protected guest",
    )
    parser.add_argument("--host", choices=KINDS, default="auto", help="kind of host")
    parser.add_argument(
        "--words",
        default="",
        type=_parse_words,
        metavar="WORDS",
        help="boot a new host with these words on its command line",
    )


def _parse_words(text: str) -> str:
    """Words for a kernel's command line.

    :raises argparse.ArgumentTypeError: they are no line of text.
    """
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not one line of text")
    return text


def settings(options: argparse.Namespace) -> Settings:
    """What the options choose."""
    return Settings(
        options.host, options.series, options.kernel_source, tuple(options.layers), mode=Protection(options.mode)
    )


def _socket(path: Path) -> Path:
    """A path where QEMU can listen.

    :raises SetupError: it is too long for a socket (unix(7)), or QEMU takes it for several words.
    """
    if len(os.fsencode(path)) >= LONGEST or make_refuses(path):
        raise SetupError(f"QEMU cannot listen at {path}", hint="point TMPDIR to a short path, for instance /tmp")
    return path


@contextmanager
def fresh_host(
    options: argparse.Namespace, name: str, terminal: Terminal, *, devices: tuple[str, ...] = ()
) -> Iterator[FreshHost]:
    """A host with its guests, from its saved state or booted anew; nothing of it is left afterwards.

    The folder with its consoles stays if it is lost meanwhile.

    :param name: of the command, for that folder. :param devices: more of them, as QEMU takes them.
    """
    with reporting(name, list, list) as folder:
        store = Store(cache_root())
        kernel, spec = prepare(settings(options), store, terminal)
        monitor = _socket(folder / MONITOR)
        hosts = EmulatedHosts(
            replace(spec, devices=devices, monitor=monitor), store, terminal, folder, note=terminal.say
        )
        host = hosts.cold(options.words) if options.words else hosts.start()
        try:
            yield FreshHost(kernel, host, folder, monitor)
        finally:
            host.close()

# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof debug``: gdb or drgn on the kernel of a fresh host, with its symbols. The host ends with the debugger.

gdb stops the host through its QEMU, and has the kernel's own commands (``lx-dmesg``, ``lx-ps``, ...). drgn reads the
memory of the host, which goes on running, through its QEMU; or a dump of it. Words after ``--`` go to the debugger, and
so does what comes from a pipe.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from common import foreground
from common.errors import MachineError, SetupError, UserInputError
from common.paths import cache_root, parse_path
from common.program import end_with
from common.progress import Terminal
from common.store import Store
from host_setup.kernel.build import BuiltKernel, module
from host_setup.kernel.patches import source_tree
from host_setup.plan import Looking, NotMadeError
from host_setup.provision import kernel_request
from host_setup.tools import pypi
from host_setup.tools.fresh_host import FreshHost, add_options, fresh_host, settings

DRGN = Path(__file__).with_name("drgn.lock")
DUMP_SECONDS = 120.0
# By it the host's kernel tells QEMU where its VMCOREINFO is, without which drgn finds no kernel (QEMU's
# docs/specs/vmcoreinfo.rst): given by hand, drgn 0.3.0 takes it with a dump, and not with a running QEMU.
TELLS_DEBUGGERS = ("vmcoreinfo",)


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof debug", description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--drgn", action="store_true", help="drgn instead of gdb, on the running host")
    which.add_argument("--dump", type=parse_path, metavar="FILE", help="drgn on a dump of the host; FILE is kept")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENTS", help="arguments for the debugger")
    return parser


def main(argv: list[str]) -> int:
    """Run it."""
    options = options_parser().parse_args(argv)
    terminal, store = Terminal(), Store(cache_root())
    if options.dump is not None:
        _require_room(options.dump)
    use_drgn = options.drgn or options.dump is not None
    if use_drgn:
        drgn = pypi.install("drgn", DRGN, ("drgn",), store, terminal) / "drgn"
    elif shutil.which("gdb") is None:
        raise SetupError("gdb is not installed", stage="debug", hint="apt-get install gdb   (as root); or --drgn")
    with fresh_host(options, "debug", terminal, devices=TELLS_DEBUGGERS if use_drgn else ()) as fresh:
        if use_drgn:
            command = _drgn(drgn, fresh, options.dump, terminal)
        else:
            tree = _tree(options, store, terminal)
            command = _gdb(fresh, gdb_scripts(fresh.kernel, fresh.folder, store, terminal), tree)
        terminal.say(f"The host, from another terminal, while it runs: {fresh.host.login_command()}")
        # A host that gdb has stopped sends no heartbeat: only its QEMU's end counts.
        status = foreground.run([*command, *options.arguments], over=lambda: fresh.host.qemu.has_ended)
        if status is None:
            raise MachineError("the debugger ended because its machine ended: QEMU has exited", stage="debug")
    return status if status >= 0 else 128 - status


def _require_room(dump: Path) -> None:
    """See that a dump can be written, before a host is booted for it.

    :raises UserInputError: it cannot, or would overwrite something.
    """
    folder = dump.resolve().parent
    if dump.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        why = "it is a folder" if dump.is_dir() else f"{folder} cannot be written to, or is not there"
        raise UserInputError(f"no dump can be written to {dump}: {why}", stage="debug", hint="name a file with --dump")
    if dump.exists():  # a disk of the user's, too
        why = f"{dump} is there already, and a dump would overwrite it"
        raise UserInputError(why, stage="debug", hint="name another file with --dump, or remove this one")


# --- gdb --------------------------------------------------------------------------------------------------------------


def gdb_scripts(kernel: BuiltKernel, folder: Path, store: Store, terminal: Terminal) -> Path:
    """The kernel's own commands for gdb, in a folder with the constants of this kernel; returns the script to load.

    They are there whether or not it was configured with CONFIG_GDB_SCRIPTS, which changes nothing else in it.

    :raises KernelError: the constants cannot be found out.
    """
    theirs, ours = kernel.build_tree.parent / "scripts/gdb", folder / "gdb"
    shutil.copytree(theirs, ours / "scripts/gdb", ignore=shutil.ignore_patterns("__pycache__"))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # By the kernel's own rule: with what is right for its version and configuration.
        sources = Path(scratch) / "gdb-constants"
        sources.mkdir()
        for name in ("Makefile", "constants.py.in"):
            shutil.copyfile(theirs / "linux" / name, sources / name)
        product = module(kernel, sources, store, terminal, product="constants.py")
    shutil.copyfile(product / "constants.py", ours / "scripts/gdb/linux/constants.py")
    script = ours / "vmlinux-gdb.py"
    shutil.copyfile(theirs / script.name, script)
    return script


def _tree(options: argparse.Namespace, store: Store, terminal: Terminal) -> Path | None:
    """The kernel's source, if the cache still has it."""
    with tempfile.TemporaryDirectory(prefix="sealproof-debug-") as scratch:
        looking = Looking(store.root, Path(scratch))
        request = kernel_request(settings(options), looking)
        try:
            return source_tree(request.source, request.series.patches, looking, terminal, Path(scratch))
        except NotMadeError:
            return None


def _gdb(fresh: FreshHost, script: Path, tree: Path | None) -> list[str]:
    """gdb's command line; QEMU listens for it."""
    socket = fresh.folder / "gdb.sock"
    qmp = fresh.host.qemu.qmp
    answer = qmp.monitor(f"gdbserver unix:{socket},server=on,wait=off")
    if not socket.exists():
        raise MachineError(f"QEMU does not listen for gdb: {answer}", stage="debug")
    # The user wants to look at a kernel that has died: its QEMU stops, where it would end.
    qmp.execute("set-action", {"reboot": "shutdown", "shutdown": "pause"})
    orders = [
        *(["set pagination off"] if not foreground.interactive() else []),
        # The debug information names files as seen from the build folder, which is right below the source.
        *([f"directory {tree / 'scripts'}"] if tree is not None else []),
        f"target remote {socket}",
        f"source {script}",
    ]
    argv = ["gdb", "--quiet", "-iex", "set auto-load off", str(fresh.kernel.vmlinux)]
    return [*argv, *(word for order in orders for word in ("-ex", order))]


# --- drgn -------------------------------------------------------------------------------------------------------------


def _drgn(drgn: Path, fresh: FreshHost, dump: Path | None, terminal: Terminal) -> list[str]:
    """drgn's command line, on the running host or on a dump that is made of it now.

    An ELF dump: drgn 0.3 cannot open the kdump-zlib dumps of QEMU 10 without being told the platform, as their header
    lacks the kernel's version; makedumpfile 1.7 cannot read QEMU's ELF dumps, and nothing here needs it to.

    :raises MachineError: QEMU cannot make the dump.
    """
    symbols = ["--symbols", str(fresh.kernel.vmlinux), "--main-symbols"]
    if dump is None:
        return [str(drgn), "--qemu", str(fresh.monitor), *symbols]
    file = dump.resolve()
    with terminal.step(f"dump the host's memory to {file}"):
        where = {"paging": False, "protocol": f"file:{file}"}
        fresh.host.qemu.qmp.execute("dump-guest-memory", where, seconds=DUMP_SECONDS)
    return [str(drgn), "--core", str(file), *symbols]


if __name__ == "__main__":
    end_with(main)

# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof rebuild REPORT``: make the kernel of a report again, elsewhere and from nothing, and compare.

Source, series and compiler come from this machine, and must be the ones that the report names. The configuration comes
from the report. Nothing comes from the cache, and ccache is off: a rebuild takes 10 to 30 minutes on two cores. With
``--folder`` an interrupted rebuild continues where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from common.errors import CommandError, KernelError, UserInputError
from common.names import path_text
from common.paths import make_refuses, parse_path
from common.processes import run_tree
from common.program import end_with
from common.progress import Terminal
from common.store import GIB, Store, digest, file_sha256, no_space
from host_setup.kernel import compiler_output, series, source
from host_setup.kernel.build import Request, facts_of, key, lay_out, site_in
from host_setup.kernel.layers import Layer
from host_setup.kernel.patches import source_tree
from host_setup.kernel.toolchain import GCC, Toolchain, parse_compiler, parse_jobs

STAGE = "rebuild"
_LINES = 2100  # of a build's output, for the first time-left
_NEEDS = 5 * GIB  # of disk, for source and objects
SAME, OTHER = 0, 1  # exit status
CONFIG = "identity/kernel.config"


class _Patch(BaseModel):
    name: str
    sha256: str


class _Kernel(BaseModel):
    """What a report says of its kernel."""

    model_config = ConfigDict(extra="ignore")

    release: str
    build_id: str
    source: str
    source_sha256: str
    config_sha256: str
    image_sha256: str
    vmlinux_sha256: str
    compiler: str
    patches: tuple[_Patch, ...]


class ReportedRun(BaseModel):
    """What is read of a report's ``record.json``."""

    model_config = ConfigDict(extra="ignore")

    run: str
    series: str
    kernel: _Kernel
    host: Mapping[str, str] = {}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that change how a kernel is made, beside its configuration."""
        names = self.host.get("kernel's layers", "").split(", ")
        return tuple(layer for layer in (Layer.COVERAGE,) if layer in names)


def read(report: Path) -> tuple[ReportedRun, str]:
    """What a report says of its kernel, and the kernel's configuration.

    :raises UserInputError: it says nothing, or its files do not go together.
    """
    try:
        record = TypeAdapter(ReportedRun).validate_json((report / "record.json").read_bytes())
    except OSError as error:
        raise UserInputError(
            f"{path_text(report)} is not the folder of a report: {error.strerror}", stage=STAGE
        ) from error
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserInputError(
            f"{path_text(report)} does not record what its kernel was made of: {where}",
            stage=STAGE,
            hint="did the run reach a host? reports older than signoff-4 do not record this",
        ) from error
    # A merged report holds it in its parts.
    for file in [report / CONFIG, *sorted(report.glob(f"parts/*/{CONFIG}"))]:
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == record.kernel.config_sha256:
            return record, _harmless(file)
    raise UserInputError(f"{path_text(report)} lacks the configuration that it names ({CONFIG})", stage=STAGE)


def _harmless(file: Path) -> str:
    """A configuration from a stranger: make reads its values, and would expand what is in them.

    :raises UserInputError: it has what no configuration has.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    if any(char in text for char in "$`\\"):
        raise UserInputError(f"{path_text(file)} has a $, ` or \\, which no kernel configuration has", stage=STAGE)
    return text


def request(record: ReportedRun, config: str, options: argparse.Namespace, store: Store) -> Request:
    """The kernel that a report names, of what this machine has.

    :raises UserInputError: it has another source or series.
    """
    kernel = record.kernel
    if options.series is None and record.series not in series.available():
        raise UserInputError(
            f"the report's series, {path_text(record.series)}, does not come with sealproof",
            stage=STAGE,
            hint="name its folder with --series",
        )
    chosen = series.load(options.series or record.series)
    have = [(patch.name, patch.sha256) for patch in chosen.patches]
    want = [(patch.name, patch.sha256) for patch in kernel.patches]
    if have != want:
        odd = min((name for name, _ in {*want} ^ {*have}), default="")
        raise UserInputError(
            f"series {path_text(chosen.name)} is not the report's: "
            f"{path_text(odd or 'the order of its patches')} differs",
            stage=STAGE,
            hint="check out the commit that the report names, or name the series with --series",
        )
    kernel_source = source.resolve(options.kernel_source, store)
    if kernel_source.identity != kernel.source_sha256:
        raise UserInputError(
            f"{kernel_source.description} has the hash {kernel_source.identity}, and the report's source "
            f"({path_text(kernel.source)}) has {kernel.source_sha256}",
            stage=STAGE,
            hint="name the report's source with --kernel",
        )
    toolchain = Toolchain(options.compiler, options.jobs)
    return Request(kernel_source, chosen, layers=record.layers, toolchain=toolchain, exact=config)


def make(kernel_request: Request, place: Path, store: Store, terminal: Terminal) -> Mapping[str, str]:
    """Make a kernel; returns what it is, by the names of a report.

    :param place: gets all objects; if an earlier call has left some of the same kernel there, it is gone on with.
    :param store: gets the source.
    :raises KernelError: a patch does not apply, an option is lost, or the code does not compile.
    """
    compiler = kernel_request.toolchain.version()
    folder = place / key(kernel_request, compiler)
    logs, ready = folder / "logs", folder / "configured"
    tree = source_tree(kernel_request.source, kernel_request.series.patches, store, terminal, logs)
    site = site_in(folder, kernel_request, store)
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        lay_out(tree, folder, kernel_request, store, logs / "configure.log")
        ready.touch()
    # Modules are not compared. They have a say in the kernel only where symbols that nobody uses are left out of it.
    target = "all" if "CONFIG_TRIM_UNUSED_KSYMS=y\n" in kernel_request.exact else "bzImage"
    log = logs / "build.log"
    # A kernel says how often it was linked, and one that was gone on with may be linked a second time.
    command = [*site.make, "KBUILD_BUILD_VERSION=1", target]
    with terminal.step("make the kernel") as step:
        progress = compiler_output.Progress(step, _LINES)
        try:
            run_tree(command, env={**site.environment, "CCACHE_DISABLE": "1"}, log=log, stage=STAGE, on_line=progress)
        except CommandError as error:
            raise KernelError(f"the code does not build\n{error.tail}", stage=STAGE) from error
    release, build_id = facts_of(site)
    return {
        "release": release,
        "compiler": compiler,
        "configuration": file_sha256(site.out / ".config"),
        "build ID": build_id,
        "image": file_sha256(site.out / "arch/x86/boot/bzImage"),
        "with symbols": file_sha256(site.out / "vmlinux"),
    }


def _require_room(place: Path, option: str) -> None:
    """See that a kernel can be made in a folder, before minutes of work; one that was begun there needs less.

    :param option: names the folder.
    :raises UserInputError: make takes no such path. :raises NoSpaceError: the disk is too small.
    """
    if make_refuses(place):
        hint = f"point {option} to a path of letters, digits and . _ - + ="
        raise UserInputError(f"make cannot build in {path_text(place)}", stage=STAGE, hint=hint)
    there = next(path for path in (place, *place.parents) if path.exists())
    if (there != place or not any(place.iterdir())) and shutil.disk_usage(there).free < _NEEDS:
        raise no_space(place, _NEEDS, option)


@contextlib.contextmanager
def _place(folder: Path | None, record: ReportedRun) -> Iterator[Path]:
    """An empty folder to make a kernel in, or the one that an interrupted rebuild for the same report has left.

    It goes afterwards; one in a folder that the user named stays if the rebuild is interrupted.

    :raises UserInputError: another rebuild works there, or make cannot. :raises NoSpaceError: the disk is too small.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="sealproof-rebuild-") as fresh:
            _require_room(Path(fresh), "TMPDIR")
            yield Path(fresh)
        return
    place = folder / f"sealproof-rebuild-{digest(record.model_dump_json())}"
    _require_room(place, "--folder")
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserInputError(f"another rebuild works in {path_text(place)}", stage=STAGE) from error
        try:
            yield place
        except KeyboardInterrupt:
            sys.stderr.write(f"{path_text(place)} stays: the same command goes on there\n")
            raise
        except BaseException:
            shutil.rmtree(place)
            raise
        shutil.rmtree(place)


def compare(record: ReportedRun, sums: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """What was told and what was made: name, the one, the other."""
    kernel = record.kernel
    reported = {
        "release": kernel.release,
        "compiler": kernel.compiler,
        "configuration": kernel.config_sha256,
        "build ID": kernel.build_id,
        "image": kernel.image_sha256,
        "with symbols": kernel.vmlinux_sha256,
    }
    for name, sum_ in reported.items():
        yield name, sum_, sums[name]


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="sealproof rebuild", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=parse_path, metavar="REPORT", help="folder of a report; verify it first")
    source.add_option(parser)
    parser.add_argument("--series", metavar="NAME", help="a name or a folder; default: the one that the report names")
    parser.add_argument("--compiler", type=parse_compiler, default=GCC.compiler, metavar="NAME", help="default: gcc")
    parser.add_argument("--jobs", type=parse_jobs, metavar="N", help="compilers at a time")
    parser.add_argument(
        "--folder",
        type=parse_path,
        metavar="DIR",
        help="folder of the build, in which an interrupted rebuild continues; 5 GiB; default: a new one in $TMPDIR",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Make it again and compare; returns the exit status."""
    options = options_parser().parse_args(argv)
    terminal = Terminal()
    record, config = read(options.report)
    with _place(options.folder, record) as place:
        store = Store(place / "source")
        sums = make(request(record, config, options, store), place, store, terminal)
        lines = list(compare(record, sums))
    return _tell(record, lines)


def _tell(record: ReportedRun, lines: Sequence[tuple[str, str, str]]) -> int:
    """Print what is the same and what differs; returns the exit status."""
    different = [name for name, theirs, other in lines if theirs != other]
    paragraphs = [
        f"The kernel of the run {record.run}, made again from the source, series and configuration that it names:"
    ]
    for name, theirs, other in lines:
        word = "DIFFERS" if name in different else "same"
        paragraphs.append(
            f"  {word:<8} {name:<14} {path_text(theirs)}{f'; here: {other}' if name in different else ''}"
        )
    paragraphs.append(f"Not the same kernel: {', '.join(different)}." if different else "The same kernel, bit for bit.")
    if "compiler" in different:
        paragraphs.append("Another compiler makes another kernel: take the one that the report names (--compiler).")
    sys.stdout.write("".join(f"{line}\n" for line in paragraphs))
    return OTHER if different else SAME


if __name__ == "__main__":
    end_with(main)

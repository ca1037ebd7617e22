# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds a kernel, and modules for it; each is kept in the cache under the hash of everything it was made from.

The entry of a kernel::

    kernel.json            what it is
    build.log              how it was made
    source/                what modules need of the source: hard links into the source's own entry
    source/build/          vmlinux, bzImage, .config, and what modules need of the build

Kbuild names all files relatively when the build folder is right below the source, so the entry can be renamed into
place, and ccache recognises the same file in another entry.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.commands import output
from common.environment import search_path, shell_line
from common.errors import CommandError, KernelError, UserInputError
from common.paths import make_refuses
from common.processes import run_tree
from common.progress import Terminal
from common.store import GIB, Store, digest, sums
from host_setup.kernel import compiler_output, layers, profile
from host_setup.kernel.layers import Own
from host_setup.kernel.patches import PATCH, source_tree
from host_setup.kernel.series import Protection, Series
from host_setup.kernel.source import Source
from host_setup.kernel.toolchain import CCACHE, GCC, STAGE, Toolchain

RECIPE = "1"  # part of each key: raise it when what is built changes though its inputs do not
_KERNEL_NEEDS = 2 * GIB  # objects and the linker's intermediate files, before they are pruned
_MODULE_NEEDS = GIB // 16
_LINES = 2.5  # of a build's output, for each option that is on; only for the first time-left, then builds tell
_CCACHE_SIZE = "3G"

# What stays of the source and of the build folder: what `make -C build M=...` reads, and what we and drgn read.
SOURCE_KEPT = ("Makefile", "Kbuild", "Kconfig", "scripts", "include", "arch/x86/include", "arch/x86/Makefile*")
BUILD_KEPT = (
    "Makefile",
    ".config",
    "Module.symvers",
    "System.map",
    "vmlinux",
    "include",
    "scripts",
    "arch/x86/include",
    "arch/x86/boot/bzImage",
    "tools/objtool/objtool",
    f"**/{profile.NOTES}",
)


@dataclass(frozen=True, slots=True)
class Request:
    """Which kernel is wanted.

    :ivar layers: configuration layers beyond the base.
    :ivar own: the real machine that it is for; None: one of QEMU's.
    :ivar exact: the whole configuration, in place of layers; empty: they make it.
    """

    source: Source
    series: Series
    layers: tuple[layers.Layer, ...] = ()
    own: Own | None = None
    toolchain: Toolchain = GCC
    exact: str = ""


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch of a kernel: its name and the SHA-256 of what arrived."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A built kernel.

    :ivar key: hash of its inputs. :ivar build_id: of its vmlinux, hexadecimal. :ivar image: the bzImage.
    :ivar compiler: as it names itself.
    :ivar build_tree: for ``make -C build_tree M=...``.
    :ivar source: one line that says where the source came from. :ivar source_identity: SHA-256 of its content.
    :ivar sums: SHA-256 of ``image``, ``vmlinux`` and ``config``, as they were built.
    """

    key: str
    release: str
    build_id: str
    compiler: str
    series: str
    mode: Protection
    layers: tuple[str, ...]
    source: str
    source_identity: str
    patches: tuple[Patch, ...]
    image: Path
    vmlinux: Path
    config: Path
    build_tree: Path
    sums: Mapping[str, str]
    toolchain: Toolchain = GCC


def key(request: Request, compiler: str) -> str:
    """The key of a kernel in the cache: the hash of everything that it is made from.

    :param compiler: as it names itself.
    """
    patches: list[str | bytes] = [part for patch in request.series.patches for part in patch.inputs]
    if patches:
        patches = [*PATCH, *patches]
    options = [f"{wish.option}={wish.value}" for wish in layers.wishes(_fragments(request), request.source.release)]
    if request.own is not None:
        options += [request.own.config, request.own.modules]
    if request.exact:
        options = ["exact", request.exact]
    options += _profile_arguments(request)
    flags = " ".join(request.toolchain.flags)
    return digest(RECIPE, flags, compiler, request.source.identity, str(len(patches)), *patches, *options)


def build(request: Request, store: Store, terminal: Terminal) -> BuiltKernel:
    """The kernel asked for, built if the cache does not have it.

    :raises KernelError: a patch does not apply, an option is lost, or the code does not compile.
    :raises NoSpaceError: the disk is too small.
    """
    request.series.check_base(request.source.release)
    _require_plain_path(store.root)
    compiler = request.toolchain.version()
    kernel_key = key(request, compiler)
    entry = store.get("kernel", kernel_key)
    if entry is None:
        with _logs(store, kernel_key) as logs:
            tree = source_tree(request.source, request.series.patches, store, terminal, logs)

            def make(folder: Path) -> None:
                _build(tree, folder, request, compiler, store, terminal, logs)

            entry = store.get_or_make("kernel", kernel_key, make, need=_KERNEL_NEEDS)
    return _kernel(entry, request)


def module_key(kernel: BuiltKernel, sources: Path) -> str:
    """The key of modules in the cache: the hash of their sources and of what they are built for."""
    files = sorted(file for file in sources.rglob("*") if file.is_file())
    content = [part for file in files for part in (str(file.relative_to(sources)), file.read_bytes())]
    return digest(RECIPE, kernel.key, *content)


def module(kernel: BuiltKernel, sources: Path, store: Store, terminal: Terminal, *, product: str = "*.ko") -> Path:
    """A folder of module sources (with its ``Kbuild``), built for a kernel.

    :param product: a pattern of what is built. :returns: a folder with these files.
    :raises KernelError: it does not compile.
    """
    if not any((sources / name).is_file() for name in ("Kbuild", "Makefile")):
        raise UserInputError(f"{sources} has no Kbuild file", stage=STAGE)
    made_key = module_key(kernel, sources)
    entry = store.get("module", made_key)
    if entry is not None:
        return entry
    with _logs(store, made_key) as logs:
        log = logs / "build.log"

        def make(folder: Path) -> None:
            work = folder / "work"
            shutil.copytree(sources, work)
            words = (f"M={work}", f"KCFLAGS=-ffile-prefix-map={work}/=", "modules")
            command = [*_make(kernel.build_tree, kernel.toolchain), *words]
            with terminal.step(f"build modules of {sources.name}"):
                try:
                    run_tree(command, env=_environment(store), log=log, stage=STAGE)
                except CommandError as error:
                    repeated = shell_line(command, _environment(store))
                    again = f"cp -r {shlex.quote(str(sources))} {logs / 'work'}; {repeated}"
                    raise _build_error(log, again.replace(str(work), str(logs / "work"))) from error
            for built in work.rglob(product):
                built.rename(folder / built.name)
            shutil.rmtree(work)
            shutil.copy2(log, folder / log.name)

        return store.get_or_make("module", made_key, make, need=_MODULE_NEEDS)


# --- how it is made ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """Where a kernel is built.

    :ivar source: its tree. :ivar out: the build folder, right below it. :ivar make: make with all but its targets.
    :ivar environment: what make gets beside ``common.environment``'s.
    """

    source: Path
    out: Path
    make: tuple[str, ...]
    environment: dict[str, str]


def lay_out(tree: Path, folder: Path, request: Request, store: Store, log: Path) -> Site:
    """A tree to build in, configured.

    :param tree: the source with its patches; it is linked to, and stays as it is. :param folder: gets ``source``.
    :raises KernelError: an option is lost.
    """
    site = site_in(folder, request, store)
    run_tree(["cp", "--archive", "--link", str(tree), str(site.source)], log=log, stage=STAGE)
    if site.out.is_dir() and not site.out.is_symlink():  # a user's own build folder of that name, or a link to it
        shutil.rmtree(site.out)
    else:
        site.out.unlink(missing_ok=True)
    site.out.mkdir()
    if request.exact:
        layers.take(site.make, site.environment, site.out, request.exact, log)
    else:
        files, release = _fragments(request), request.source.release
        layers.configure(site.make, site.environment, site.source, site.out, files, release, log, request.own)
    return site


def site_in(folder: Path, request: Request, store: Store) -> Site:
    """What ``lay_out`` has made in a folder, or is about to make."""
    source = folder / "source"
    # Objects and debug information say /linux for the folder, which has another name in every build.
    kept_name = f"-ffile-prefix-map={source}=/linux"
    flags = " ".join((*request.toolchain.flags, kept_name))
    make = (
        *_make(source, request.toolchain),
        "O=build",
        f"KCFLAGS={flags}",
        f"KAFLAGS={kept_name}",
        *_profile_arguments(request),
    )
    return Site(source, source / "build", make, _environment(store))


def facts_of(site: Site) -> tuple[str, str]:
    """Release and build ID of what was built.

    :raises KernelError: vmlinux has no build ID.
    """
    release = (site.out / "include/config/kernel.release").read_text(encoding="utf-8").strip()
    return release, _build_id(site.out / "vmlinux")


def write_facts(folder: Path, site: Site, compiler: str, lines: int, seconds: float) -> None:
    """Say in the entry of a kernel what it is.

    :param lines: that its build printed. :param seconds: that it took.
    """
    release, build_id = facts_of(site)
    facts = {
        "release": release,
        "build_id": build_id,
        "compiler": compiler,
        "lines": lines,
        "seconds": round(seconds, 1),
    }
    (folder / "kernel.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _fragments(request: Request) -> tuple[Path, ...]:
    return layers.fragments(request.layers, request.series, request.own)


def _build(
    tree: Path, folder: Path, request: Request, compiler: str, store: Store, terminal: Terminal, logs: Path
) -> None:
    """Fill the entry of a kernel."""
    log = logs / "build.log"
    begun = time.monotonic()
    site = lay_out(tree, folder, request, store, log)
    lines, seconds = _expect_duration(store, site.out / ".config")
    with terminal.step("build the kernel", expected=seconds) as step:
        progress = compiler_output.Progress(step, lines)
        try:
            run_tree([*site.make, "all"], env=site.environment, log=log, stage=STAGE, on_line=progress)
        except CommandError as error:
            script = _repeat_script(site.make, tree, site.source, site.out, site.environment, logs, log)
            raise _build_error(log, f"sh {shlex.quote(str(script))}") from error
    write_facts(folder, site, compiler, progress.lines, time.monotonic() - begun)
    name_the_source_relatively(site.out, site.source)
    _keep(site.out, BUILD_KEPT)
    _keep(site.source, (*SOURCE_KEPT, "build"))
    shutil.copy2(log, folder / log.name)


def _profile_arguments(request: Request) -> list[str]:
    """What make is told of the files that count how often their code runs, if any do."""
    is_profiled = layers.Layer.COVERAGE in request.layers
    return [profile.make_word(profile.files(request.series))] if is_profiled else []


def _make(folder: Path, toolchain: Toolchain) -> list[str]:
    """Make with everything fixed that would otherwise come from the clock, the machine's name, or a developer's own
    ``GNUmakefile`` beside the kernel's.
    """
    return [
        "make",
        "--no-print-directory",
        f"--directory={folder}",
        "--makefile=Makefile",
        "ARCH=x86_64",
        "CROSS_COMPILE=",
        *toolchain.words(),
        "KBUILD_BUILD_TIMESTAMP=1970-01-01 00:00:00 UTC",
        "KBUILD_BUILD_USER=sealproof",
        "KBUILD_BUILD_HOST=sealproof",
    ]


def _environment(store: Store) -> dict[str, str]:
    return {
        "LOCALVERSION": "",  # else kbuild adds a + when the cache lies inside somebody's git repository
        "PATH": os.pathsep.join((str(CCACHE.parent), search_path())),
        "HOME": str(store.root),  # without one, as a user without a name has none, ccache ends
        "CCACHE_DIR": str(store.root / "ccache"),
        "CCACHE_CONFIGPATH2": "/dev/null",  # the machine's own: it may name another compiler, or count less
        "CCACHE_MAXSIZE": _CCACHE_SIZE,
        "CCACHE_NOHASHDIR": "1",  # the folder's name does not get into the objects, see the prefix map
        "CCACHE_DEPEND": "1",  # else each file is preprocessed once more, which is a third of its time
    }


def _keep(folder: Path, patterns: Sequence[str]) -> None:
    """Remove everything below a folder that no pattern names, and the folders that become empty by it."""
    paths = {path for pattern in patterns for path in folder.glob(pattern)}
    parents = {parent for path in paths for parent in path.parents}

    def prune(inside: Path) -> None:
        for path in inside.iterdir():
            if path in paths:
                continue
            if path in parents:
                prune(path)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    prune(folder)


def name_the_source_relatively(out: Path, source: Path) -> None:
    """Let the build folder find its source, and itself, when both have moved.

    From some release after 6.12 on (seen in 7.3) Kbuild's ``outputmakefile`` writes the absolute paths of both.
    """
    makefile = out / "Makefile"
    text = makefile.read_text(encoding="utf-8")
    text = text.replace(f"include {source.resolve()}/Makefile", "include ../Makefile")
    text = text.replace(f"KBUILD_OUTPUT = {out.resolve()}\n", "KBUILD_OUTPUT = $(CURDIR)\n")
    makefile.write_text(text, encoding="utf-8")


def _build_id(vmlinux: Path) -> str:
    notes = output(["readelf", "--notes", "--wide", str(vmlinux)], stage=STAGE).decode()
    match = re.search(r"Build ID: ([0-9a-f]+)", notes)
    if match is None:
        raise KernelError("vmlinux has no build ID", stage=STAGE, artefact=vmlinux)
    return match[1]


def _expect_duration(store: Store, config: Path) -> tuple[int, float | None]:
    """Lines and seconds that a build may take, by the newest of about its size, or else by the nearest to it."""
    count = _options_on(config)
    nearest: tuple[float, float] | None = None
    lines, seconds = count * _LINES, None
    for entry in (store.root / "kernel").glob("*"):
        with contextlib.suppress(OSError):  # somebody cleans the cache
            options, result = _options_on(entry / "source/build/.config"), entry / "kernel.json"
            unlike = round(abs(options / count - 1), 1), -result.stat().st_mtime
            if nearest is None or unlike < nearest:
                facts = json.loads(result.read_text(encoding="utf-8"))
                nearest = unlike
                lines, seconds = (facts[fact] * (count / options) for fact in ("lines", "seconds"))
    return round(lines), seconds


def _options_on(config: Path) -> int:
    """How many options a configuration has built in, or as modules; what there is to compile grows with them."""
    return max(1, len(re.findall(r"^CONFIG_\w+=[ym]$", config.read_text(encoding="utf-8"), re.MULTILINE)))


def _kernel(entry: Path, request: Request) -> BuiltKernel:
    facts = json.loads((entry / "kernel.json").read_text(encoding="utf-8"))
    build_tree = entry / "source/build"
    image, vmlinux, config = build_tree / "arch/x86/boot/bzImage", build_tree / "vmlinux", build_tree / ".config"
    file_sums = sums(entry)
    files = {"image": image, "vmlinux": vmlinux, "config": config}
    return BuiltKernel(
        key=entry.name,
        release=facts["release"],
        build_id=facts["build_id"],
        compiler=facts["compiler"],
        series=request.series.name,
        mode=request.series.mode,
        layers=tuple(layer.value for layer in request.layers),
        source=request.source.description,
        source_identity=request.source.identity,
        patches=tuple(Patch(patch.name, patch.sha256) for patch in request.series.patches),
        image=image,
        vmlinux=vmlinux,
        config=config,
        build_tree=build_tree,
        sums={name: file_sums[str(path.relative_to(entry))] for name, path in files.items()},
        toolchain=request.toolchain,
    )


# --- when it fails ----------------------------------------------------------------------------------------------------


@contextmanager
def _logs(store: Store, key: str) -> Iterator[Path]:
    """A folder for logs that stays when the work inside fails; a success keeps its log in the entry."""
    folder = store.root / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{key}-{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # 'make clean-cache' may have been faster


def _build_error(log: Path, command: str) -> KernelError:
    text = log.read_text(encoding="utf-8", errors="replace")
    detail = compiler_output.errors(text) or "\n".join(text.splitlines()[-20:])
    return KernelError(f"the code does not build\n{detail}", stage=STAGE, artefact=log, hint=f"repeat it: {command}")


def _repeat_script(
    make: Sequence[str], tree: Path, source: Path, out: Path, environment: dict[str, str], logs: Path, log: Path
) -> Path:
    """A script that repeats a failed build in a folder beside it; the build's own folder is about to go."""
    shutil.copy2(out / ".config", logs / "config")
    again = logs / "source"
    target = compiler_output.first_failure(log.read_text(encoding="utf-8", errors="replace"))
    command = shell_line(make, environment).replace(str(source), str(again))
    script = logs / "repeat.sh"
    script.write_text(
        "# Repeats the failed build: the first target that failed, or everything with the argument 'all'.\n"
        "set -e\n"
        f"test -d {shlex.quote(str(again))} || cp -al {shlex.quote(str(tree))} {shlex.quote(str(again))}\n"
        f"mkdir -p {shlex.quote(str(again / 'build'))}\n"
        f"cp {shlex.quote(str(logs / 'config'))} {shlex.quote(str(again / 'build/.config'))}\n"
        f'{command} "${{1:-{target or "all"}}}"\n',
        encoding="utf-8",
    )
    return script


def _require_plain_path(root: Path) -> None:
    if make_refuses(root):
        raise UserInputError(
            f"the cache is at {str(root)!r}: make cannot build there",
            stage=STAGE,
            hint="point XDG_CACHE_HOME to a path of letters, digits and . _ - + =",
        )

# SPDX-License-Identifier: GPL-2.0-or-later
"""``python3 -I verifier FOLDER|ARCHIVE``: check a sealproof report, and trust nobody who made it.

With ``-I`` Python takes no code from the folder that it is called in, which may hold a stranger's files.

Exit status: 0 PROTECTED, 1 NOT PROTECTED, 2 not proven, 3 not what was signed, not consistent, or not what you trust.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

if not __package__:  # called as a folder, of which Python knows no package
    del sys.path[0]
    _SPEC = importlib.util.spec_from_file_location("verifier", Path(__file__).with_name("__init__.py"))
    if _SPEC is None:
        raise ImportError("the verifier's folder has no __init__.py")
    sys.modules["verifier"] = importlib.util.module_from_spec(_SPEC)

try:
    from verifier import contract, signature, ssh
    from verifier import run as runs
    from verifier.exports import Derivation
    from verifier.identity import SEALPROOF
    from verifier.report import NOT_PROTECTED, NOT_PROVEN, PROTECTED, UNSOUND, TrustAnchors, Verification, verify
    from verifier.text import UnsoundError, legible
    from verifier.tree import load
except ImportError as error:
    if __name__ != "__main__":
        raise
    sys.stderr.write(f"the verifier needs Python 3.11 and the package cryptography: {error}\n")
    sys.exit(2)  # nothing was checked

ALONE = "python3 -I verifier"
_I = "With ``-I``"
_HASH = re.compile(r"[0-9a-f]{64}")
_WIDTH, _MOST_ROWS = 100, 8


def screen(outcome: Verification, name: str) -> Iterator[str]:
    """One screen of words."""
    code = outcome.exit_code
    title = {PROTECTED: "PROTECTED", NOT_PROTECTED: "NOT PROTECTED", NOT_PROVEN: "NOT PROVEN", UNSOUND: "NOT SOUND"}[
        code
    ]
    yield f"{title}   {name}"
    derivation = outcome.derivation
    if derivation is not None:
        record = derivation.run.record
        kernel = record["kernel"] or {}
        counts = ", ".join(f"{count} {status}" for status, count in derivation.counts.items() if count)
        yield from _row("evidence says", f"{derivation.word}, mode {record['mode']}, tier {record['tier']}: {counts}")
        yield from _row("contract", f"{len(derivation.run.claims)} claims, sha256 {derivation.contract['sha256']}")
        yield from _row(
            "kernel", f"Linux {kernel.get('release')}, build ID {', '.join(derivation.kernels) or 'unknown'}"
        )
        yield from _row("", f"series {_plain(record['series'])} ({len(kernel.get('patches', ()))} patches), "
                            f"sha256 {runs.series_of(record)}")  # fmt: skip
        yield from _row("", f"image sha256 {kernel.get('image_sha256')}, by {kernel.get('compiler')}")
        yield from _row("source", f"{kernel.get('source')}, sha256 {kernel.get('source_sha256')}")
        yield from _row("sealproof", f"{record['commit']}, files sha256 {record['made_of'].get(SEALPROOF)}")
        yield from _row("when", f"{record['started']} to {record['ended'] or 'never'}, run {record['run']}")
        yield from _row("machine", ", ".join(map(_plain, derivation.machines)))
    yield from _row("signed by", outcome.signer or "nobody whose signature is good")
    if outcome.ssh:
        yield from _row("", f"and by the SSH key {outcome.ssh}")
    if derivation is not None and derivation.run.mode == "protected":
        yield from _proof_lines(derivation)
    yield from _several("not sound", outcome.faults)
    yield from _several("not proven", outcome.open)
    if outcome.compared:
        yield from _row("held", f"{', '.join(outcome.compared)}: as you named them")
    if outcome.unchecked:
        yield from _several("not held", [*outcome.unchecked, "all of these on the report's own word"], most=20)
    yield f"exit {code}"


def _proof_lines(derivation: Derivation) -> Iterator[str]:
    run = derivation.run
    kinds = {"attack": "attacks refused, each with its controls", "boundary": "ways documented to be open, shown so",
             "oracle": "looks at all of the memory", "legitimate": "things that go on working",
             "health": "looks at the health of host and guest"}  # fmt: skip
    for kind, words in kinds.items():
        statuses = [run.status[name] for name, claim in run.claims.items() if claim.kind == kind]
        if statuses:
            yield from _row(
                "proved" if kind == "attack" else "", f"{statuses.count('PASS')} of {len(statuses)} {words}"
            )
    boundaries = [name for name, claim in run.claims.items() if claim.kind == "boundary" and run.status[name] == "PASS"]
    yield from _several("open by design", boundaries, most=20)
    for status in ("FAIL", "ERROR", "MISS", "SKIP"):
        names = [
            f"{name}: {run.why[name].partition(chr(10))[0]}"
            for name, verdict in run.status.items()
            if verdict == status
        ]
        yield from _several(status, names, most=4 if status == "MISS" else _MOST_ROWS)


def _plain(text: object) -> str:
    """A name of the signer's choice, in which no letter of another script stands for one of ours."""
    return str(text).encode("ascii", "backslashreplace").decode()


def _several(name: str, words: Sequence[str], most: int = _MOST_ROWS) -> Iterator[str]:
    for number, word in enumerate(words[:most]):
        yield from _row("" if number else name, word)
    if len(words) > most:
        yield from _row("", f"and {len(words) - most} more")


def _row(name: str, text: object) -> Iterator[str]:
    for number, line in enumerate(textwrap.wrap(legible(text, 400), _WIDTH - 18) or [""]):
        yield f"  {'' if number else name:16}{line}".rstrip()


def _hash_or(path: str, of: str) -> str:
    """A hash as it was given, or that of a file, or of the folder of a series or a contract."""
    if (ssh.FINGERPRINT if of == "ssh key" else _HASH).fullmatch(path):
        return path
    place = Path(path)
    try:
        if of == "key":
            return signature.key_in(place)
        if of == "ssh key":
            return ssh.key_in(place)
        if of == "series" and place.is_dir():
            patches = sorted(place.glob("*.patch"))
            lines = [f"{hashlib.sha256(patch.read_bytes()).hexdigest()}  {patch.name}\n" for patch in patches]
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        if of == "contract":
            tree = contract.at(place)
            contract.load(tree)
            return contract.sha256(tree)
        return hashlib.sha256(place.read_bytes()).hexdigest()
    except (OSError, ValueError, UnsoundError) as error:
        kind = "a fingerprint (SHA256:...)" if of == "ssh key" else "64 hexadecimal digits"
        raise argparse.ArgumentTypeError(f"{path} is neither {kind} nor a readable file: {error}") from error


def _path(text: str) -> Path:
    """A path. An empty one is a variable that nobody has set, and to Python the folder that it is called in."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; the folder here is ./")
    return Path(text)


def _day(text: str) -> date:
    """A day."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day: write it as YYYY-MM-DD") from error


def _tree(text: str) -> str | Path:
    """The hash of sealproof's files, or a folder that holds them."""
    if _HASH.fullmatch(text):
        return text
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: neither 64 hexadecimal digits nor a folder")
    return Path(text)


def _name_and_hash(text: str) -> tuple[str, str]:
    """What something is made of: name and hash."""
    name, _, sha256 = text.rpartition("=")
    if not name or not _HASH.fullmatch(sha256):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHA256")
    return name, sha256


def _machine_and_key(text: str) -> tuple[str, str]:
    """The name of a machine, and the fingerprint of the key by which it signs."""
    name, _, key = text.partition("=")
    if not name or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not MACHINE=FINGERPRINT or MACHINE=FILE")
    return name, _hash_or(key, "key")


def parser(name: str = ALONE) -> argparse.ArgumentParser:
    """The command line.

    :param name: of the command, as its user calls it.
    """
    description = "\n\n".join(
        part for part in (__doc__ or "").split("\n\n") if name == ALONE or not part.startswith(_I)
    )
    options = argparse.ArgumentParser(
        prog=name, description=description.replace("``", ""), formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    options.add_argument("report", type=_path, metavar="FOLDER|ARCHIVE",
                         help="a report's folder, or a tar or zip of it")  # fmt: skip
    trust = options.add_argument_group("what you trust; get it from elsewhere than the report")
    trust.add_argument(
        "--key",
        action="append",
        default=[],
        type=lambda text: _hash_or(text, "key"),
        metavar="FINGERPRINT|FILE",
        help="fingerprint of the key that signed it, or any part of it; may be repeated",
    )
    trust.add_argument("--part-key", action="append", default=[], type=_machine_and_key,
                       metavar="MACHINE=FINGERPRINT|FILE",
                       help="key by which a machine, and no other, signs its parts; may be repeated")  # fmt: skip
    trust.add_argument("--ssh-key", action="append", default=[], type=lambda text: _hash_or(text, "ssh key"),
                       metavar="FINGERPRINT|FILE", help="SSH key that signed it too; may replace --key")  # fmt: skip
    trust.add_argument("--contract", type=lambda text: _hash_or(text, "contract"), metavar="SHA256|FOLDER|FILE",
                       help="the SHA-256 of what sha256sum prints of its files, or the contract itself")  # fmt: skip
    trust.add_argument("--commit", metavar="COMMIT", help="commit of sealproof")
    trust.add_argument("--source", metavar="HASH", help="hash of the kernel's source, as the report names it")
    trust.add_argument("--series", type=lambda text: _hash_or(text, "series"), metavar="SHA256|FOLDER",
                       help="the series' patches: the SHA-256 of what sha256sum prints, or a folder")  # fmt: skip
    trust.add_argument("--tree", type=_tree, metavar="SHA256|FOLDER",
                       help="sealproof's files: the SHA-256 of their list, or a folder with them")  # fmt: skip
    trust.add_argument("--build-id", metavar="HEX", help="build ID of the kernel under test")
    trust.add_argument("--is", action="append", default=[], dest="named", type=_name_and_hash, metavar="NAME=SHA256",
                       help="SHA-256 of something that the report was made of, by its name there, such as 'programs', "
                       "'root file system', 'image' (the kernel's) or 'configuration'; may be repeated")  # fmt: skip
    trust.add_argument("--oldest", type=_day, metavar="YYYY-MM-DD", help="earliest day on which the run may have begun")
    trust.add_argument("--youngest", type=_day, metavar="YYYY-MM-DD", help="latest day on which the run may have ended")
    return options


def main(argv: Sequence[str] | None = None, name: str = ALONE) -> int:
    """Check, say what was found; returns the exit status.

    :param name: of the command, as its user calls it.
    """
    try:
        options = parser(name).parse_args(argv)
    except SystemExit:
        return NOT_PROVEN  # nothing was checked, also where help was asked for
    anchors = TrustAnchors(
        tuple(options.key), options.contract, options.commit, options.source, options.series, options.oldest,
        options.youngest, options.tree, options.build_id, tuple(options.named), tuple(options.ssh_key),
        tuple(options.part_key),
    )  # fmt: skip
    try:
        outcome = verify(load(options.report), anchors)
    except UnsoundError as error:
        outcome = Verification(faults=[str(error)])
    except (OSError, MemoryError, RecursionError) as error:
        return _unread(options.report, error)
    return _say_outcome(outcome, legible(options.report))


def _unread(report: Path, error: BaseException) -> int:
    """Say why a report could not be read at all; returns the exit status."""
    why = error.strerror if isinstance(error, OSError) else f"it needs more than this machine has ({error or 'memory'})"
    with contextlib.suppress(OSError, AttributeError):  # there may be no standard error
        sys.stderr.write(f"{legible(report)}: {why}\n")
    return NOT_PROVEN


def _say_outcome(outcome: Verification, name: str) -> int:
    """Say what was found; returns the exit status, which is that of success only if all of it could be said."""
    try:
        lines = "".join(f"{line}\n" for line in screen(outcome, name))
    except Exception as error:  # noqa: BLE001  a stranger's report: what cannot be shown is not sound
        outcome = Verification(faults=[*outcome.faults, f"what it says cannot be shown ({type(error).__name__})"])
        lines = "".join(f"{line}\n" for line in screen(outcome, name))
    try:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(lines.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough; the exit status stands
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, AttributeError):  # a full disk, or no standard output
        with contextlib.suppress(OSError, AttributeError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return outcome.exit_code or NOT_PROVEN
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())

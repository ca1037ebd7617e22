# SPDX-License-Identifier: GPL-2.0-or-later
"""How many leading folders the names of a patch have before the top of the kernel tree begins.

``a/mm/ksm.c`` has one, a name of ``--no-prefix`` none, ``a/linux/mm/ksm.c`` two. The two names of a file say it: what
they have in common lies in the tree. The tree decides only where the names leave it open: a file of the same name in
another folder must not be taken for the one that is meant.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(rb"^(?=diff --git )", re.MULTILINE)
_GIT = re.compile(rb"diff --git ([^\n]+)")
_MOVED = re.compile(rb"^(?:rename|copy) from ([^\n]+)$", re.MULTILINE)
_PAIRS = re.compile(
    rb"^--- ([^\t\n]+)[^\n]*\n\+\+\+ ([^\t\n]+)[^\n]*\n@@ "
    rb"|^\*\*\* ([^\t\n]+)[^\n]*\n--- ([^\t\n]+)[^\n]*\n\*{15}",
    re.MULTILINE,
)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"|([^" ]+)')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_NOTHING = ["", "dev", "null"]


@dataclass(frozen=True, slots=True)
class _Change:
    """A file that a patch changes.

    :ivar names: of it, as lists of their parts. :ivar lead: how many leading folders of them are too many, by the
        names alone; None if these do not say it. :ivar created: whether the tree cannot have it yet.
    :ivar written: whether lines of text are in it afterwards.
    """

    names: tuple[list[str], ...]
    lead: int | None
    created: bool
    written: bool

    def is_in(self, tree: Path, strip: int) -> bool:
        """Whether the tree has it; a name that is absolute without these folders is no name in it."""
        rests = (name[strip:] for name in self.names)
        return any(rest and rest[0] and (tree / "/".join(rest)).is_file() for rest in rests)


def strip_of(change: bytes, tree: Path) -> int:
    """How many leading folders of its names to drop, for a patch's change in that tree."""
    changes = [*_changes(change)]
    leads = Counter(change.lead for change in changes if change.lead is not None)
    new_names = {tuple(name[lead:]) for change in changes if change.created for name in change.names for lead in leads}
    old = [change for change in changes if not change.created]

    def there(strip: int) -> int:
        return sum(
            change.is_in(tree, strip) or any(tuple(n[strip:]) in new_names for n in change.names) for change in old
        )

    if not leads:
        if old:
            return 0 if there(0) and not there(1) else 1
        return 0 if any((tree / name[0]).is_dir() for change in changes for name in change.names if name[0]) else 1
    lead = leads.most_common(1)[0][0]
    if not old or there(lead):
        return lead
    if there(0) == len(old):
        return 0
    for strip in range(lead + 1, max(len(name) for change in old for name in change.names)):
        more = {tuple(name[lead:strip]) for change in old for name in change.names}
        if len(more) == 1 and not (tree / next(iter(more))[0]).exists() and there(strip) == len(old):
            return strip
    return lead


def missing(change: bytes, tree: Path, strip: int) -> list[str]:
    """The files that a patch changes and the tree does not have, by their names in the tree."""
    changes = [*_changes(change)]
    new_names = {"/".join(name[strip:]) for each in changes if each.created for name in each.names}
    lost = ("/".join(each.names[0][strip:]) for each in changes if not each.created and not each.is_in(tree, strip))
    return [name for name in dict.fromkeys(lost) if name not in new_names]


def written(text: bytes, strip: int | None) -> frozenset[str]:
    """The text files that a patch adds or changes, by their names in the tree.

    :param strip: how many leading folders of its names to drop; None: as they show.
    """
    names = set()
    for change in _changes(text):
        name = change.names[-1]
        lead = change.lead if strip is None else strip
        if change.written:
            names.add("/".join(name[lead if lead is not None else int(name[0] == "b") :]))
    return frozenset(names)


def outside(change: bytes) -> str | None:
    """A name in a patch that leads out of the tree; None if there is none.

    A diff of two folders may have their own way, with ``..`` in it, before each name.
    """
    changes = [*_changes(change)]
    lead = max((each.lead for each in changes if each.lead is not None), default=0)
    names = (name for each in changes for name in each.names if ".." in name[lead:])
    return next(("/".join(name) for name in names), None)


def folder_of(names: Sequence[str], tree: Path) -> str | None:
    """The one folder of a tree below which all these files are; None if there is none."""
    if any(not name or name.startswith("/") or ".." in name.split("/") for name in names):
        return None
    folders: set[str] | None = None
    for name in names:
        there = tree.rglob(glob.escape(name))
        ends = {str(path.relative_to(tree))[: -len(name) - 1] for path in there if path.is_file()}
        folders = ends if folders is None else folders & ends
        if not folders:
            return None
    return next(iter(folders)) if folders and len(folders) == 1 else None


def _changes(change: bytes) -> Iterator[_Change]:
    for block in _BLOCK.split(change):
        git = _GIT.match(block)
        if git is not None:
            header = block.partition(b"\n@@ ")[0]
            first, second = _two_names(git[1])
            moved = _MOVED.search(header)
            if moved is not None:
                lead: int | None = len(first) - len(_parts(_unquoted(moved[1])))
            else:
                lead = _lead(first, second)
            text = re.search(rb"^\+\+\+ (?!/dev/null)", block, re.MULTILINE) is not None
            yield _Change((first, second), lead, b"\nnew file mode " in header, text)
            continue
        for pair in _PAIRS.finditer(block):
            names = [_parts(_unquoted(name)) for name in pair.groups() if name is not None]
            paths = tuple(name for name in names if name != _NOTHING)
            if not paths:
                continue
            lead = _lead(*paths) if len(paths) > 1 else None
            yield _Change(paths, lead, names[0] == _NOTHING, names[-1] != _NOTHING)


def _two_names(words: bytes) -> tuple[list[str], list[str]]:
    """The names in a line ``diff --git``, where blanks in a name may be unquoted."""
    if b'"' in words:
        paths = [_unquoted(whole[0]) for whole in _QUOTED.finditer(words)]
        return _parts(paths[0]), _parts(paths[-1])
    places = [place for place, letter in enumerate(words) if letter == ord(" ")]
    splits = [(_parts(words[:place]), _parts(words[place + 1 :])) for place in places]
    fitting = [split for split in splits if _lead(*split) is not None]
    return next(iter(fitting or splits), (_parts(words), _parts(words)))


def _lead(first: list[str], second: list[str]) -> int | None:
    """How many leading parts two names of a file do not have in common; None if they are of different files."""
    if len(first) != len(second):
        return None
    return next((lead for lead in range(len(first)) if first[lead:] == second[lead:]), None)


def _parts(name: bytes) -> list[str]:
    """As patch(1) counts them: several slashes are one."""
    return re.split("/+", name.decode(errors="surrogateescape"))


def _unquoted(name: bytes) -> bytes:
    if not (name.startswith(b'"') and name.endswith(b'"')):
        return name
    return _ESCAPE.sub(
        lambda escape: bytes([int(escape[1], 8) & 255]) if escape[1].isdigit() else _LETTERS.get(escape[1], escape[1]),
        name[1:-1],
    )

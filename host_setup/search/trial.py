# SPDX-License-Identifier: GPL-2.0-or-later
"""One sequence of operations, carried out on a host, and whether each answer is the model's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from common.errors import MachineError, SealproofError
from host_setup.channels.ssh import Completed
from host_setup.hosts import kernel_log
from host_setup.hosts.base import Host
from host_setup.hosts.guest_spec import HOST_PROGRAMS
from host_setup.hosts.inquest import harm_to
from host_setup.search.model import NO_BOOK, NUMBERS, OPERATIONS, Model, NoneOf, Reply, UndefinedError

TIMEOUT = 90.0  # for a sequence; the program itself gives up after 60
NAMED = 4  # differences that a message names
LOOKS = ("look", "pinned", "child", "seconds")  # operations after which all is as it was
LOOK_AT_ALL = f"look {NUMBERS.start:#x} {len(NUMBERS)} native"
Run = Callable[[str], Completed]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An answer that is not the model's.

    :ivar after: how many operations were done by then. :ivar line: what was asked.
    :ivar expected: the model's answer. :ivar answer: the program's answer, or how the host ended instead.
    """

    after: int
    line: str
    expected: str
    answer: str

    def __str__(self) -> str:
        """One line to read."""
        return f"after {self.after} operations '{self.line}' answers {self.answer}; it must answer {self.expected}"


@dataclass(slots=True)
class Tally:
    """What sequences have come to, so that a search that has looked at nothing is known.

    :ivar private: private pages of which one look found that the VMM is kept out. :ivar read: pages of which a look
        read exactly what the guest or the VMM has written. :ivar left: frames of VMMs that ended, which a look read.
    """

    sequences: int = 0
    operations: int = 0
    answers: int = 0
    private: int = 0
    read: int = 0
    left: int = 0

    def __str__(self) -> str:
        """One line to read."""
        return (
            f"{self.sequences} sequences, {self.operations} operations, {self.answers} answers; looks at pages: "
            f"{self.private} from which the VMM was kept, {self.read} that it read, {self.left} that it left"
        )


def with_looks(line: str) -> list[str]:
    """An operation with its looks: the guest's, before the operation takes its memory away, and those at the result."""
    before = [LOOK_AT_ALL] if line in ("reset", "destroy") else []
    after = [] if line.split(maxsplit=1)[0] in LOOKS else ["sweep"] if line == "destroy" else ["sweep", "book"]
    return [*before, line, *after]


def whole(operations: Sequence[str]) -> list[tuple[int, str]]:
    """All lines of a sequence: each operation with its looks, and in the end the guest's and one at what is left.

    Each line has the number of operations that come before it.
    """
    count, is_destroyed = len(operations), "destroy" in operations
    lines = [(0, "sweep"), (0, "book")]
    for done, operation in enumerate(operations):
        looks = [line for line in with_looks(operation) if not (line == "book" and "destroy" in operations[:done])]
        at = looks.index(operation)
        lines += [(done + (place > at), line) for place, line in enumerate(looks)]
    if not is_destroyed:
        lines += [(count, LOOK_AT_ALL), (count, "sweep")]
    return [*lines, (count, "end kill" if count % 2 else "end exit")]


def is_defined(operations: Sequence[str], *, offered: bool = True) -> bool:
    """Whether the model can say how a sequence must end.

    :param offered: whether the kernel knows of protection.
    """
    model = Model(offered=offered)
    try:
        for _, line in whole(operations):
            model.do(line)
    except UndefinedError:
        return False
    return True


def offers_protection(run: Run) -> bool:
    """Whether the kernel knows of protection.

    :raises MachineError: the program does not say.
    """
    done = run("book\n")
    try:
        return bool(json.loads(done.text) != NO_BOOK)
    except ValueError as error:
        complaint = done.stderr.decode(errors="replace").strip() or done.text
        raise MachineError(f"driven_vm does not report KVM's record of a VM: {complaint}", stage="search") from error


def disagreement(
    operations: Sequence[str], run: Run, tally: Tally | None = None, *, offered: bool = True
) -> Disagreement | None:
    """Carry out a sequence; returns the first answer that is not the model's.

    :param run: gives the program its input, and waits for its end. :param tally: gets what was tried.
    :param offered: whether the kernel knows of protection.
    :raises UndefinedError: the model cannot say how it must end.
    """
    model, tally = Model(offered=offered), tally or Tally()
    lines = whole(operations)
    expected = [model.do(line) for _, line in lines]
    done = run("".join(f"{line}\n" for _, line in lines))
    replies = done.text.splitlines()
    tally.sequences += 1
    tally.operations += len(operations)
    for (before, line), expected_reply, reply in zip(lines, expected, replies, strict=False):
        tally.answers += 1
        if difference := differing(expected_reply, reply):
            return Disagreement(before, line, *difference)
        if line == "sweep":
            pages = json.loads(reply)
            tally.private += sum(page.endswith(" kept") for page in pages)
            tally.read += sum(page.isdigit() and page != "0" for page in pages)
        elif line.startswith("end "):
            counts = json.loads(reply)
            tally.left += counts["frames"] - counts["kept"]
    if len(replies) < len(lines) or done.status:
        before, line = lines[min(len(replies), len(lines) - 1)]
        complaint = done.stderr.decode(errors="replace").strip()
        return Disagreement(before, line, "anything", f"nothing: status {done.status}, {complaint or 'without a word'}")
    return None


def shorten(operations: Sequence[str], check: Callable[[Sequence[str]], Disagreement | None]) -> tuple[str, ...]:
    """A failing sequence without what it fails without: operations, in large parts first, and pages of them."""

    def fails(fewer: tuple[str, ...]) -> bool:
        return is_defined(fewer) and check(fewer) is not None

    rest = tuple(operations)
    count = max(len(rest) // 2, 1)
    while count:
        for first in reversed(range(0, len(rest), count)):
            fewer = rest[:first] + rest[first + count :]
            if fails(fewer):
                rest = fewer
        count //= 2
    for at in range(len(rest)):
        for line in with_fewer_pages(rest[at]):
            fewer = (*rest[:at], line, *rest[at + 1 :])
            if fails(fewer):
                rest = fewer
                break
    return rest


def with_fewer_pages(line: str) -> Iterator[str]:
    """The same operation on fewer pages, on the fewest first."""
    words = line.split()
    kinds = OPERATIONS[words[0]].split()
    if "pages" in kinds:
        at = kinds.index("pages") + 1
        for pages in range(1, int(words[at], 0)):
            yield " ".join([*words[:at], str(pages), *words[at + 1 :]])


def differing(expected_reply: Reply, reply: str) -> tuple[str, str] | None:
    """What was expected and what came, in words, where the two differ."""
    try:
        actual = json.loads(reply)
    except ValueError:
        return json.dumps(expected_reply, default=str), reply
    if isinstance(expected_reply, NoneOf):
        marks = (
            sorted(expected_reply.secrets & set(actual["marks"]))
            if isinstance(actual, dict) and "marks" in actual
            else [reply]
        )
        return ("no private content in frames of the process that ended", f"marks {marks}") if marks else None
    if actual == expected_reply:
        return None
    if isinstance(expected_reply, list) and isinstance(actual, list) and len(expected_reply) == len(actual):
        places = [
            place
            for place, (expected, other) in enumerate(zip(expected_reply, actual, strict=True))
            if expected != other
        ]
        named = places[:NAMED]
        more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
        return (
            ", ".join(f"[{place}] {expected_reply[place]}" for place in named) + more,
            ", ".join(f"[{place}] {actual[place]}" for place in named) + more,
        )
    return json.dumps(expected_reply), json.dumps(actual)


class OnHost:
    """Runs sequences on a host.

    :param host: gives a host that lives. :param end: ends the host, which came to harm.
    """

    def __init__(self, host: Callable[[], Host], end: Callable[[], None] = lambda: None) -> None:
        self._host = host
        self._end = end

    def __call__(self, text: str) -> Completed:
        """Give the program its input; harm to the host's kernel takes the place of what it says."""
        host = self._host()
        since = len(host.kernel_log())
        try:
            done = host.ssh.run([f"{HOST_PROGRAMS}/driven_vm"], seconds=TIMEOUT, stdin=text.encode())
        except SealproofError as error:
            harm = harm_to(host, thorough=False)
            if not harm:
                raise
            self._end()
            return Completed(("driven_vm",), -1, b"", f"the host came to harm: {'; '.join(harm)}; {error}".encode())
        if splats := kernel_log.splats(host.kernel_log()[since:]):
            self._end()
            return Completed(done.argv, -1, b"", f"the host's kernel complains: {'; '.join(splats)}".encode())
        return done

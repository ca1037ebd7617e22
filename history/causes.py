# SPDX-License-Identifier: GPL-2.0-or-later
"""From a regression to the first bad patch or commit: what a night asks ``sealproof bisect``, and what that answers.

It can be asked if the kernels of the two nights differ in the patches of the series, or in the commit of a git tree.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.commands import git
from common.errors import DeadlineError, SealproofError
from common.names import shell_word
from common.processes import spawn
from common.waiting import Deadline, poll_until
from history.compare import Line
from history.model import Run
from signoff.verdict import Status

STAGE = "nightly"
_OPTIONS = ("series", "kernel", "kernel-source", "layers", "mode", "host", "compiler", "jobs", "cache-folder")
"""Of the sign-off, those that ``sealproof bisect`` has as well."""
_ENDING = 120.0  # seconds for a search that was told to end
ANSWER = "answer.json"


@dataclass(frozen=True, slots=True)
class BisectAnswer:
    """What came of a search.

    :ivar message: in a line. :ivar file: with both observations side by side; empty if there is none.
    """

    message: str
    file: str = ""


def question(
    line: Line, before: Run, after: Run, words: Sequence[str], heads: Mapping[str, tuple[str, str]]
) -> list[str] | None:
    """The arguments of ``sealproof bisect`` for a claim that regressed; None: it cannot be asked.

    :param words: the cell's options. :param heads: of git trees, by path: the commit of the night before, and of now.
    """
    if line.after is None or line.after.worst is not Status.FAIL:
        return None
    options = [word.removeprefix("--").partition("=")[::2] for word in words]
    if any(name not in _OPTIONS for name, _ in options):
        return None
    chosen = dict(options)
    kernel = chosen.get("kernel", chosen.get("kernel-source", ""))
    bisect_words = [line.claim, *words, "--trust-ends"]
    pairs = enumerate(zip(before.patches, after.patches, strict=False))
    shared = min(len(before.patches), len(after.patches))
    good = next((number for number, (old, new) in pairs if old != new), shared)
    if before.patches != after.patches:
        # So many patches are the same in both; with those alone it was good, if the others were only added.
        return [*bisect_words, f"--good={good}", f"--bad={len(after.patches)}"] if good < len(after.patches) else None
    then, now = heads.get(kernel, ("", ""))
    return [*bisect_words, f"--good={then}", f"--bad={now}"] if then and now and then != now else None


def command(bisect_words: Sequence[str]) -> str:
    """The same for a person, to be pasted into a shell."""
    return " ".join(["./sealproof", "bisect", *map(shell_word, bisect_words)])


def heads(cells: Iterable[Sequence[str]]) -> dict[str, str]:
    """The commits of the git trees that cells name as their kernel, by path; of one with local changes there is none.

    :param cells: the options of each.
    """
    commits = {}
    for words in cells:
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            if name in ("kernel", "kernel-source") and (Path(value) / ".git").exists():
                try:
                    if not git(Path(value), "status", "--porcelain", "--untracked-files=no", stage=STAGE):
                        commits[value] = git(Path(value), "rev-parse", "HEAD", stage=STAGE).decode().strip()
                except SealproofError:
                    continue  # what is wrong with it is told by the cell
    return commits


def search(bisect_words: Sequence[str], folder: Path, seconds: float) -> BisectAnswer:
    """Search for the first bad patch or commit by ``sealproof bisect``, as users do.

    :param folder: for its reports. :param seconds: until it must be done; what it has seen by then is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / bisect_words[0] / ANSWER).unlink(missing_ok=True)  # another cell's
    argv = [sys.executable, "-E", "-P", "-m", "host_setup.bisect", *bisect_words, f"--folder={folder.absolute()}"]
    log, late = folder / "bisect.log", False
    with log.open("wb") as out:
        process = spawn(argv, stdout=out, stderr=subprocess.STDOUT)
        try:
            # The night's time is over when it is, however busy this computer was.
            poll_until(
                lambda: process.poll() is not None, Deadline(seconds, uncounted=lambda: 0.0), "the first bad one",
                interval=0.5,
            )  # fmt: skip
        except DeadlineError:
            late = True
        finally:
            if process.poll() is None:  # late, or the night is interrupted: a signal to the night does not reach it
                process.terminate()
            try:
                poll_until(lambda: process.poll() is not None, Deadline(_ENDING), "the search to end", interval=0.2)
            except DeadlineError:
                process.kill()
            process.wait()
    return BisectAnswer("not found within the night's time") if late else read_answer(folder / bisect_words[0], log)


def read_answer(folder: Path, log: Path) -> BisectAnswer:
    """What a search has left in a folder.

    :param log: what it printed, which tells why there is no answer.
    """
    try:
        content = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        names = [str(name) for name in content["suspects"].values()]
    except (OSError, ValueError, KeyError, AttributeError):
        log_lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        sentence = next(
            (line for line in log_lines if line.startswith("bisect: ")), (log_lines or ["it said nothing"])[-1]
        )
        return BisectAnswer(f"not found: {sentence.removeprefix('bisect: ')[:300]}")
    sentence = names[0] if len(names) == 1 else f"one of {len(names)}: {', '.join(names[:5])}"
    return BisectAnswer(sentence, str(folder / "answer.txt"))

# SPDX-License-Identifier: GPL-2.0-or-later
"""The history: one SQLite file, with each run, how its claims ended, and what each night has done.

Several processes may write at the same time, and each may be killed: a change is one transaction, complete or not made.
The file is in WAL mode, in which readers do not wait. WAL needs a local disk; on a network file system, where SQLite
does not offer it, the file keeps SQLite's own journal, which is as safe and slower.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import SealproofError, SetupError, UserInputError
from common.names import path_text
from common.paths import state_root
from common.store import disk_errors, no_space
from common.waiting import Deadline
from history.model import STAGE, Name, Run, RunId, Text, Time
from signoff.verdict import Status

PATIENCE = 60.0  # seconds that a writer waits for another one
PAUSE = 0.05  # seconds between two tries of what SQLite does not wait for
PRIMARY = 0xFF  # of an error's code: which error it is at all
STATE = "XDG_STATE_HOME"
FULL = 1 << 20  # bytes: with less free, an error of the disk is said to be that it is full
APPLICATION = 0x5EA19700  # names our files, for SQLite's "PRAGMA application_id"
VERSION = 1
LONGEST_LINE = 32 << 20
"""Characters of a line that is imported; a run of 424 claims has 120,000."""
FORMAT = "sealproof-history-1"
_ANOTHER = "name another file with --history FILE"
MOST_RUNS = 2000
"""Runs that are looked at where nobody says how many; one takes a millisecond."""
_SCHEMA = """
CREATE TABLE run (
    id TEXT PRIMARY KEY, started TEXT NOT NULL, track TEXT NOT NULL, identity TEXT NOT NULL,
    night TEXT, cell TEXT, number INTEGER, sha256 TEXT NOT NULL, document TEXT NOT NULL
) STRICT;
CREATE INDEX run_of_track ON run (track, started);
CREATE INDEX run_of_inputs ON run (identity);
CREATE TABLE result (
    claim TEXT NOT NULL, run TEXT NOT NULL REFERENCES run (id), status TEXT NOT NULL, counts INTEGER NOT NULL,
    PRIMARY KEY (claim, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX result_of_run ON result (run);
CREATE TABLE night (id TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
CREATE TABLE attempt (
    night TEXT NOT NULL REFERENCES night (id), cell TEXT NOT NULL, number INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (night, cell, number)
) STRICT, WITHOUT ROWID;
"""


class Cause(BaseModel):
    """Which patch or commit made a claim fail.

    :ivar cell: of the claim. :ivar command: searches for it. :ivar told: what was found, or why nothing was; empty:
        nobody has searched. :ivar file: shows both observations side by side; empty: there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: Name
    claim: Name
    command: Text
    told: Text = ""
    file: Text = ""


class Night(BaseModel):
    """A night: one pass over the cells of a matrix.

    :ivar matrix: names the matrix: of another one no night is resumed. :ivar ended: None: it goes on, or was killed.
    :ivar cells: those of the matrix, in the order in which they were tried. :ivar left: those for which no time was.
    :ivar problems: what went wrong before the first cell. :ivar heads: commits of git trees, by path, when it began.
    :ivar causes: of the claims that regressed in it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: RunId
    started: Time
    matrix: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    cells: Annotated[tuple[Name, ...], Field(max_length=10000)]
    left: Annotated[tuple[Name, ...], Field(max_length=10000)] = ()
    ended: Time | None = None
    problems: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    heads: Annotated[dict[Text, Name], Field(max_length=10000)] = {}
    causes: Annotated[tuple[Cause, ...], Field(max_length=20000)] = ()


class Attempt(BaseModel):
    """A run that a night has begun.

    :ivar folder: for its reports. :ivar run: the run that it made; empty: none yet, or no report.
    :ivar why: why there is no report, or why it was ended early. :ivar claims: ids of those that are run again.
    :ivar late: it was ended early as the night's time was up. :ivar host: it came as far as a host.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    night: RunId
    cell: Name
    number: Annotated[int, Field(ge=1, le=1000)]
    started: Time
    folder: Text
    claims: Annotated[tuple[Name, ...], Field(max_length=20000)] = ()
    ended: Time | None = None
    run: RunId | Literal[""] = ""
    why: Text = ""
    late: bool = False
    host: bool = False


class _Line(BaseModel):
    """A line of an export: one of these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Run | None = None
    night: Night | None = None
    attempt: Attempt | None = None


def default_path() -> Path:
    """Where the history is if nobody says: below the user's state folder, as a cache may be emptied at any time."""
    return state_root() / "history.sqlite"


class History:
    """A history's file.

    :param path: made when missing, unless ``existing``. :param named_by: the option or variable that named it.
    :raises UserInputError: it is something else, or of a newer sealproof. :raises SetupError: it cannot be used.
    """

    def __init__(self, path: Path, *, existing: bool = False, named_by: str = "--history") -> None:
        self.path = path
        self._named_by = named_by
        if existing and not path.exists():
            raise UserInputError(
                f"there is no history {path_text(path)}",
                stage=STAGE,
                hint="record a run: ./sealproof history record REPORT",
            )
        try:
            with disk_errors(path, named_by):
                path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f"the history cannot be in {path_text(path.parent)}: {error.strerror}", stage=STAGE, hint=_ANOTHER
            ) from error
        with self._errors():
            self._database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    # --- runs ---

    def add(self, run: Run) -> bool:
        """Keep a run; returns whether it is new.

        :raises UserInputError: there is another one of this name.
        """
        with self._change() as database:
            return _add(database, run)

    def find(self, word: str) -> Run:
        """The run that a word names: ``latest``, an id, or the beginning of one.

        :raises UserInputError: there is none, or more than one.
        """
        if word == "latest":
            matching = self._runs("ORDER BY started DESC, id DESC LIMIT 1")
        else:
            matching = self._runs("WHERE substr(id, 1, ?) = ? ORDER BY id LIMIT 2", len(word), word) if word else []
        if len(matching) == 1:
            return matching[0]
        fault = (
            f"more than one run's id begins with {word}"
            if matching
            else f"no run {word[:80]} in {path_text(self.path)}"
        )
        raise UserInputError(fault, stage=STAGE, hint="name a report's folder, or a run's id, or 'latest'")

    def runs(self, track: str | None = None, *, newest: int = MOST_RUNS) -> list[Run]:
        """The runs, or those of a track, the oldest first.

        :param newest: no more than so many.
        """
        where = "" if track is None else "WHERE track = ? "
        values = () if track is None else (track,)
        return self._runs(f"{where}ORDER BY started DESC, id DESC LIMIT ?", *values, newest)[::-1]

    def of_claim(self, claim: str) -> list[Run]:
        """The runs whose contract has a claim, the oldest first."""
        return self._runs("WHERE id IN (SELECT run FROM result WHERE claim = ?) ORDER BY started, id", claim)

    def claims(self) -> list[str]:
        """The claims that any run had."""
        return [str(name) for (name,) in self._rows("SELECT DISTINCT claim FROM result ORDER BY claim")]

    def statuses(self, identity: str) -> dict[str, frozenset[Status]]:
        """For each claim the statuses that it had in runs of the same inputs."""
        by_claim: dict[str, set[Status]] = {}
        rows = self._rows(
            "SELECT claim, result.status FROM result JOIN run ON run.id = result.run WHERE identity = ? AND counts = 1",
            identity,
        )
        for claim, status in rows if identity else ():
            by_claim.setdefault(claim, set()).add(Status(status))
        return {claim: frozenset(statuses) for claim, statuses in by_claim.items()}

    # --- nights ---

    def put_night(self, night: Night) -> None:
        """Keep what is known of a night."""
        with self._change() as database:
            _put_night(database, night)

    def put_attempt(self, attempt: Attempt, run: Run | None = None) -> None:
        """Keep what is known of an attempt, and the run that came of it, in one step."""
        with self._change() as database:
            if run is not None:
                _add(database, run)
            _put_attempt(database, attempt)

    def nights(self) -> list[Night]:
        """All nights, the oldest first."""
        return [Night.model_validate_json(text) for (text,) in self._rows("SELECT document FROM night ORDER BY id")]

    def attempts(self, night: str) -> list[Attempt]:
        """A night's attempts, by cell and number."""
        rows = self._rows("SELECT document FROM attempt WHERE night = ? ORDER BY cell, number", night)
        return [Attempt.model_validate_json(text) for (text,) in rows]

    # --- export and import ---

    def export(self) -> Iterator[str]:
        """The whole history, line by line, each a JSON text."""
        yield json.dumps({"format": FORMAT})
        for kind, table, order in (("night", "night", "id"), ("run", "run", "started, id")):
            for (document,) in self._rows(f"SELECT document FROM {table} ORDER BY {order}"):
                yield f'{{"{kind}": {document}}}'
        for (document,) in self._rows("SELECT document FROM attempt ORDER BY night, cell, number"):
            yield f'{{"attempt": {document}}}'

    def take(self, lines: Iterable[str]) -> tuple[int, int]:
        """Add what an export holds, all of it or nothing; returns how many runs are new, and how many were there.

        :raises UserInputError: a line is not right, or contradicts what is kept.
        """
        new = there = number = 0
        with self._change() as database:
            for number, text in enumerate(lines, 1):
                try:
                    if number == 1:
                        _require_format(text)
                    elif text.strip():
                        run = _take_line(database, text)
                        new, there = new + (run is True), there + (run is False)
                except (ValueError, RecursionError, UserInputError, sqlite3.IntegrityError) as error:
                    words = error.message if isinstance(error, SealproofError) else _words(error)
                    raise UserInputError(
                        f"line {number} cannot be used: {words}", stage="import", hint="nothing was imported"
                    ) from error
        if number == 0:
            raise UserInputError("it is empty", stage="import")
        return new, there

    # --- inside ---

    def _open(self) -> None:
        database = self._database
        database.execute("PRAGMA foreign_keys = ON")
        # In this order: another writer may make it meanwhile, all of it in one step.
        tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        application, version = self._number("application_id"), self._number("user_version")
        if (tables and application != APPLICATION) or (not tables and application not in (0, APPLICATION)):
            raise UserInputError(f"{path_text(self.path)} is not a history of sealproof", stage=STAGE)
        if version > VERSION:
            raise UserInputError(
                f"{path_text(self.path)} was made by a newer sealproof (version {version}; this one knows {VERSION})",
                stage=STAGE,
            )
        if version == VERSION:
            return
        self._use_wal()
        with self._change():
            if self._number("user_version") == 0:  # nobody else was faster
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {VERSION}")

    def _use_wal(self) -> None:
        """Change the journal. That takes the file as a whole, and SQLite itself does not wait for others here."""
        deadline = Deadline(PATIENCE)
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & PRIMARY != sqlite3.SQLITE_BUSY or deadline.seconds_left() <= 0:
                    raise
                time.sleep(PAUSE)
            else:
                return

    def _number(self, pragma: str) -> int:
        return int(self._database.execute(f"PRAGMA {pragma}").fetchone()[0])

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: made when all went well, else never begun."""
        with self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_full(error, self.path):
                raise no_space(self.path, variable=self._named_by) from error
            raise SetupError(
                f"the history {path_text(self.path)} cannot be used: {error}",
                stage=STAGE,
                hint=f"{_ANOTHER}; an export is a copy: ./sealproof history export FILE",
            ) from error

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._errors():
            try:
                return self._database.execute(statement, values).fetchall()
            except UnicodeEncodeError:  # bytes of a command line that are no UTF-8, which no text here has
                return []

    def _runs(self, where: str, *values: object) -> list[Run]:
        rows = self._rows(f"SELECT document FROM run {where}", *values)
        return [Run.model_validate_json(text) for (text,) in rows]


def _is_full(error: sqlite3.Error, path: Path) -> bool:
    """Whether the disk is full. Where the file beside the WAL cannot grow, SQLite says SQLITE_IOERR of any kind."""
    primary = getattr(error, "sqlite_errorcode", 0) & PRIMARY
    failed = primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    if primary == sqlite3.SQLITE_FULL or not failed:
        return primary == sqlite3.SQLITE_FULL
    disk = shutil.disk_usage(path.parent)
    return disk.total > 0 and disk.free < FULL  # /proc and its like have no room at all, which nobody can free


def _add(database: sqlite3.Connection, run: Run) -> bool:
    row = database.execute("SELECT sha256 FROM run WHERE id = ?", (run.id,)).fetchone()
    if row is not None:
        if row[0] == run.sha256:
            return False
        raise UserInputError(
            f"the history has another report of run {run.id}: one of them was changed",
            stage=STAGE,
            hint="'make verify REPORT=FOLDER' says which one is unchanged since it was signed",
        )
    place = run.place
    where = (place.night, place.cell, place.number) if place else (None, None, None)
    document = run.model_dump_json()
    database.execute(
        "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (run.id, run.started, run.track, run.identity, *where, run.sha256, document),
    )
    counted = run.counted
    database.executemany(
        "INSERT INTO result VALUES (?, ?, ?, ?)",
        [(claim.id, run.id, claim.status, int(claim.id in counted)) for claim in run.claims],
    )
    return True


def _put_night(database: sqlite3.Connection, night: Night) -> None:
    database.execute(
        "INSERT INTO night VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET document = excluded.document",
        (night.id, night.model_dump_json()),
    )


def _put_attempt(database: sqlite3.Connection, attempt: Attempt) -> None:
    database.execute(
        "INSERT INTO attempt VALUES (?, ?, ?, ?)"
        " ON CONFLICT (night, cell, number) DO UPDATE SET document = excluded.document",
        (attempt.night, attempt.cell, attempt.number, attempt.model_dump_json()),
    )


def _require_format(text: str) -> None:
    if json.loads(text) != {"format": FORMAT}:
        raise ValueError(f"this is not an export: its first line must be {json.dumps({'format': FORMAT})}")


def _take_line(database: sqlite3.Connection, text: str) -> bool | None:
    """Add what a line holds; returns whether it is a new run, and None if it is no run."""
    if len(text) > LONGEST_LINE:
        raise ValueError(f"it has more than {LONGEST_LINE >> 20} MiB")
    line = _Line.model_validate_json(text)
    if len(line.model_fields_set) != 1:
        raise ValueError("it must hold one run, night or attempt")
    if line.run is not None:
        return _add(database, line.run)
    # What is known here of a night is newer than any copy of it.
    if line.night is not None and not _has(database, "night", id=line.night.id):
        _put_night(database, line.night)
    if line.attempt is not None:
        attempt = line.attempt
        if not _has(database, "attempt", night=attempt.night, cell=attempt.cell, number=attempt.number):
            _put_attempt(database, attempt)
    return None


def _has(database: sqlite3.Connection, table: str, **key: object) -> bool:
    where = " AND ".join(f"{name} = ?" for name in key)
    return database.execute(f"SELECT 1 FROM {table} WHERE {where}", tuple(key.values())).fetchone() is not None


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'/'.join(map(str, first['loc']))}: {first['msg']}"[:300]
    return str(error)[:300] or type(error).__name__

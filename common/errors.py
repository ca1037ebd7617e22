# SPDX-License-Identifier: GPL-2.0-or-later
"""One error root, so that every handler can tell the user what to do next.

::

    SealproofError            stage, hint, artefact
    +-- UserInputError        an option, a file or a tree that the user named is not usable
    +-- SetupError            this machine lacks something: a package, disk, a permission
    |   +-- NoSpaceError      the disk is full
    +-- CommandError          a command that we ran failed; carries its last lines
    +-- KernelError           a kernel cannot be built: source, patch, configuration, compiler
    +-- ImageError            an image cannot be made or is damaged
    +-- MachineError          a host or guest misbehaves
    |   +-- MachineLostError  it is gone: panic, oops, stall, death of its QEMU
    |   +-- ChannelError      it is there, but a channel to it (SSH, QMP, agent) failed
    |   +-- AccessError       it answers, and refuses us or is not who it must be; trying again is no use
    |   +-- HarmError         a fault of its kernel's: dead, hung, or no step works that works in the control
    +-- DeadlineError         a wait ran out
"""

from __future__ import annotations

from pathlib import Path


class SealproofError(Exception):
    """A failure with the stage it happened in, the next step for the user, and where the evidence is.

    :param message: what went wrong, one line or several.
    :param stage: what was being done, for instance ``kernel build``.
    :param hint: the next step for the user, a sentence or a command.
    :param artefact: a log or folder that shows more.
    """

    stage = "run"

    def __init__(
        self,
        message: str,
        *,
        stage: str | None = None,
        hint: str = "",
        artefact: Path | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.artefact = artefact
        if stage is not None:
            self.stage = stage

    def __str__(self) -> str:
        lines = [f"{self.stage}: {self.message}"]
        if self.artefact is not None:
            lines.append(f"  see:  {self.artefact}")
        if self.hint:
            lines.append(f"  next: {self.hint}")
        return "\n".join(lines)


class UserInputError(SealproofError):
    """An option, a file or a tree that the user named is not usable."""

    stage = "input"


class SetupError(SealproofError):
    """This machine lacks something that the user can supply."""

    stage = "set-up"


class NoSpaceError(SetupError):
    """The disk is full, or too full to begin."""

    stage = "disk"


class CommandError(SealproofError):
    """A command that we ran failed.

    :ivar argv: the command. :ivar returncode: its status, negative for a signal. :ivar tail: its last lines.
    """

    stage = "command"

    def __init__(self, argv: list[str], returncode: int, tail: str, *, log: Path | None, stage: str) -> None:
        status = f"signal {-returncode}" if returncode < 0 else f"status {returncode}"
        super().__init__(
            f"{argv[0]} ended with {status}\n{tail}".rstrip(),
            stage=stage,
            hint="repeat it by hand (the command is the log's first line)",
            artefact=log,
        )
        self.argv = argv
        self.returncode = returncode
        self.tail = tail


class KernelError(SealproofError):
    """A kernel cannot be built."""

    stage = "kernel"


class ImageError(SealproofError):
    """An image cannot be made, or is damaged."""

    stage = "image"


class MachineError(SealproofError):
    """A host or a guest misbehaves."""

    stage = "machine"


class MachineLostError(MachineError):
    """A machine is gone: kernel panic, oops, stall, or the death of its QEMU."""


class ChannelError(MachineError):
    """A channel to a machine failed while the machine itself was not seen to die."""

    stage = "channel"


class AccessError(MachineError):
    """A machine answers, and refuses us or is not who it must be; trying again is no use."""

    stage = "login"


class HarmError(MachineError):
    """The kernel under test is at fault, by its death or by what it refuses: a result, and no fault of the harness."""

    stage = "harm"


class DeadlineError(SealproofError):
    """A wait ran out."""

    stage = "wait"

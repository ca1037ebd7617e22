# SPDX-License-Identifier: GPL-2.0-or-later
"""QMP against a small server of our own, which errs, falls silent and goes away."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient

from common.errors import ChannelError, DeadlineError, MachineLostError
from host_setup.channels import vitals as vitals_module
from host_setup.channels.qmp import Qmp
from host_setup.channels.vitals import Vitals
from tests.unit.fake_qmp import line, serve

AT_ONCE = 20.0  # seconds, on a busy machine; the calls themselves would wait ten times as long
LONG = 200.0
EVENT = line({"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}})


class Side:
    """QEMU's side, in a thread."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.files: list[int] = []
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "query-status": lambda _: {"return": {"status": "running"}},
            "human-monitor-command": lambda request: {"return": f"you said {request['command-line']}\r\n"},
            "echo": lambda request: {"return": request},
            "silence": lambda _: None,
            "stop": lambda _: {"return": {}},
            "cont": lambda _: {"return": {}},
            "end": lambda _: self.end(),
        }

    def end(self) -> None:
        self.theirs.shutdown(socket.SHUT_RDWR)

    def serve(self, before_reply: bytes = b"") -> None:
        def run() -> None:
            with contextlib.suppress(OSError):
                serve(self.theirs, self.answers, before_reply=before_reply, files=self.files)

        threading.Thread(target=run, daemon=True).start()


@pytest.fixture
def side() -> Iterator[Side]:
    side = Side()
    yield side
    side.theirs.close()


@pytest.fixture
def vitals() -> Vitals:
    return Vitals("the host")


@pytest.fixture
def qmp(side: Side, vitals: Vitals, tmp_path: Path) -> Iterator[Qmp]:
    side.serve()
    session = Qmp(side.ours, vitals, seconds=LONG, transcript=tmp_path / "qmp.jsonl")
    yield session
    session.close()


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals_module, "SETTLE", 0.01)


@pytest.fixture
def hurry() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < AT_ONCE


def test_peer_that_ends_right_after_its_greeting_is_a_broken_session(
    vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_: object) -> None:
        raise AssertionError  # as the library's own check has it

    monkeypatch.setattr(QMPClient, "connect", connect)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises((ChannelError, MachineLostError), match=r"QMP greeting|lost"):
        Qmp(ours, vitals, seconds=5)


def test_command_gives_its_reply(qmp: Qmp) -> None:
    assert qmp.execute("query-status") == {"status": "running"}
    assert qmp.execute("echo", {"max-bandwidth": 3, "dma_mask": 64}) == {"max-bandwidth": 3, "dma_mask": 64}


def test_machine_that_was_stopped_is_known_until_it_goes_on(qmp: Qmp) -> None:
    assert not qmp.stops.runs
    for command, stopped in (("stop", True), ("query-status", True), ("cont", False)):
        qmp.execute(command)
        assert qmp.stops.runs is stopped


def test_command_wakes_the_machine(qmp: Qmp, vitals: Vitals) -> None:
    woken: list[int] = []
    vitals.asleep(lambda: woken.append(1))
    qmp.execute("query-status")
    assert woken == [1]


def test_monitor_gives_what_was_printed(qmp: Qmp) -> None:
    assert qmp.monitor("info registers") == "you said info registers"


def test_refused_command_is_told_in_qemus_words(qmp: Qmp) -> None:
    with pytest.raises(ChannelError, match="QMP fly on the host: The command fly has not been found"):
        qmp.execute("fly")
    assert qmp.execute("query-status"), "and the session goes on"


def test_event_before_a_reply_is_no_reply(side: Side, vitals: Vitals) -> None:
    side.serve(before_reply=EVENT * 3)
    session = Qmp(side.ours, vitals, seconds=LONG)
    assert session.execute("query-status") == {"status": "running"}
    session.close()


@pytest.mark.usefixtures("hurry")
def test_silence_meets_the_deadline_and_the_session_goes_on(qmp: Qmp) -> None:
    with pytest.raises(DeadlineError, match=r"waited 0\.2 s for QMP silence of the host"):
        qmp.execute("silence", seconds=0.2)
    assert qmp.execute("query-status") == {"status": "running"}


@pytest.mark.usefixtures("hurry")
def test_end_of_qemu_ends_a_command_at_once_and_each_later_one(qmp: Qmp) -> None:
    for command in ("end", "query-status"):
        with pytest.raises(ChannelError) as caught:
            qmp.execute(command, seconds=LONG)
        assert not caught.value.message.endswith(": ")


@pytest.mark.usefixtures("hurry")
def test_loss_of_the_machine_ends_a_command_at_once(qmp: Qmp, vitals: Vitals) -> None:
    threading.Timer(0.1, lambda: vitals.note_loss("kernel panic")).start()
    with pytest.raises(MachineLostError, match="kernel panic"):
        qmp.execute("silence", seconds=LONG)
    with pytest.raises(MachineLostError):
        qmp.execute("query-status", seconds=LONG)


@pytest.mark.usefixtures("hurry")
def test_loss_and_end_together_are_told_as_the_loss(qmp: Qmp, vitals: Vitals, side: Side) -> None:
    def die(_: dict[str, Any]) -> None:
        vitals.note_loss("kernel panic")
        side.end()

    side.answers["die"] = die
    with pytest.raises(MachineLostError):
        qmp.execute("die", seconds=LONG)


@pytest.mark.usefixtures("hurry")
def test_end_that_comes_before_the_news_of_the_loss_is_told_as_the_loss(
    qmp: Qmp, vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals_module, "SETTLE", LONG)
    threading.Timer(0.2, lambda: vitals.note_loss("kernel panic")).start()
    with pytest.raises(MachineLostError, match="kernel panic"):
        qmp.execute("end", seconds=LONG)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("says", [b"", b'{"QMP": {}}\r\n', b"SSH-2.0-OpenSSH_9.2\r\n", b"{}\r\n"])
def test_stranger_is_no_qmp(side: Side, vitals: Vitals, says: bytes) -> None:
    side.theirs.sendall(says)
    side.end()
    with pytest.raises(ChannelError) as caught:
        Qmp(side.ours, vitals, seconds=LONG)
    assert not caught.value.message.endswith(": ")


@pytest.mark.usefixtures("hurry")
def test_no_greeting_meets_the_deadline(side: Side, vitals: Vitals) -> None:
    with pytest.raises(DeadlineError, match="the QMP greeting"):
        Qmp(side.ours, vitals, seconds=0.2)


@pytest.mark.usefixtures("hurry")
def test_loss_of_the_machine_ends_the_wait_for_its_greeting(side: Side, vitals: Vitals) -> None:
    threading.Timer(0.1, lambda: vitals.note_loss("no such device")).start()
    with pytest.raises(MachineLostError):
        Qmp(side.ours, vitals, seconds=LONG)


def test_file_is_handed_over_before_its_name(qmp: Qmp, side: Side, tmp_path: Path) -> None:
    there_when_named: list[int] = []

    def getfd(request: dict[str, Any]) -> dict[str, Any]:
        there_when_named.extend(side.files)
        return {"return": request}

    side.answers["getfd"] = getfd
    with (tmp_path / "state").open("wb") as out:
        qmp.send_fd("state", out.fileno())
    (received,) = there_when_named
    os.write(received, b"saved")
    os.close(received)
    assert (tmp_path / "state").read_bytes() == b"saved"


def test_file_for_a_qemu_that_is_gone_is_a_fault_of_the_channel(qmp: Qmp) -> None:
    with pytest.raises(ChannelError):
        qmp.execute("end")
    with pytest.raises(ChannelError), Path(os.devnull).open() as file:
        qmp.send_fd("state", file.fileno())


def test_transcript_holds_each_command_and_its_end(qmp: Qmp, tmp_path: Path) -> None:
    qmp.execute("query-status")
    with pytest.raises(ChannelError):
        qmp.execute("fly", {"high": 1})
    with pytest.raises(DeadlineError):
        qmp.execute("silence", seconds=0.05)
    records = [json.loads(text) for text in (tmp_path / "qmp.jsonl").read_text().splitlines()]
    assert [record["execute"] for record in records] == ["query-status", "fly", "silence"]
    assert records[0]["reply"] == {"status": "running"}
    assert records[1]["arguments"] == {"high": 1}
    assert "has not been found" in records[1]["reply"]["error"]
    assert records[2]["reply"] is None


@pytest.mark.usefixtures("hurry")
def test_closing_is_quiet_whatever_happened_before(qmp: Qmp, vitals: Vitals) -> None:
    with pytest.raises(ChannelError):
        qmp.execute("end")
    vitals.note_loss("it was ended by the run")
    qmp.close()
    qmp.close()


@pytest.mark.usefixtures("hurry")
def test_sessions_do_not_wait_for_each_other(qmp: Qmp, vitals: Vitals) -> None:
    other = Side()
    other.serve()
    second = Qmp(other.ours, Vitals("the guest"), seconds=LONG)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            qmp.execute("silence", seconds=LONG)
        except MachineLostError as error:
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert second.execute("query-status") == {"status": "running"}
    vitals.note_loss("panic")
    waiting.join(AT_ONCE)
    assert caught
    assert second.execute("query-status") == {"status": "running"}
    second.close()

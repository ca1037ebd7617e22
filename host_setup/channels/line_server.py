# SPDX-License-Identifier: GPL-2.0-or-later
"""Our programs that answer a line by a line of JSON (guest_images/programs/lib/line_server.h), as seen from here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from common.errors import DeadlineError, HarmError, MachineError
from host_setup.channels.ssh import Conversation, Ssh

Reply = dict[str, Any]
PATIENCE = 60.0  # seconds for an answer, on a slow, busy machine; what hangs is noticed sooner, by its heartbeat


class LineServer:
    """One such program, started on first use.

    :param name: the program's. :param whose: which machine it serves: ``guest plain``.
    :param session: with the machine that it runs on.
    :param argv: starts it there.
    :param refusals: what the host may refuse a guest, as the program names it; such a refusal is no fault of ours.
    """

    def __init__(
        self,
        name: str,
        whose: str,
        session: Callable[[], Ssh],
        argv: Callable[[], Sequence[str]],
        refusals: tuple[str, ...] = (),
    ) -> None:
        self._name = name
        self._whose = whose
        self._session = session
        self._argv = argv
        self._refusals = refusals
        self._conversation: Conversation | None = None

    def ask(self, request: str, *, seconds: float = PATIENCE) -> Reply:
        """Ask one thing; as ``ask_all``."""
        return self.ask_all(request, seconds=seconds)[0]

    def ask_all(self, *requests: str, seconds: float = PATIENCE) -> list[Reply]:
        """Ask several things, which go there together.

        :param seconds: for which an answer is waited for.

        :raises HarmError: the host refuses what its guest may ask for. :raises MachineError: it could not be done.
        :raises DeadlineError: no answer came in time.
        """
        if self._conversation is None:
            self._conversation = self._session().converse(self._argv(), seconds=10)
        try:
            replies: list[Reply] = list(map(json.loads, self._conversation.ask(*requests, seconds=seconds)))
        except DeadlineError:
            # The answer may still come, and would be taken for that to the next request.
            self.close()
            raise
        for request, reply in zip(requests, replies, strict=True):
            if "error" in reply:
                fault = ": ".join(str(reply[part]) for part in ("error", "errno") if part in reply)
                if self._refusals and fault.startswith(self._refusals) and "errno" in reply:
                    raise HarmError(f"{self._whose} cannot {fault}")
                raise MachineError(f"{self._name} of {self._whose}, '{request.split(maxsplit=1)[0]}': {fault}")
        return replies

    def close(self) -> None:
        """End it; the next request starts it again."""
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.close()

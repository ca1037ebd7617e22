# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import threading
import time

import pytest

from common.threads import workers


def test_who_is_interrupted_does_not_wait_for_the_threads() -> None:
    end, began = threading.Event(), time.monotonic()
    with pytest.raises(KeyboardInterrupt), workers(1) as threads:
        under_way, waiting = threads.submit(end.wait, 30), threads.submit(end.wait, 30)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 10
    assert not under_way.done()
    assert waiting.cancelled()
    end.set()
    assert under_way.result() is True


@pytest.mark.parametrize("error", [None, ValueError])
def test_all_others_wait(error: type[Exception] | None) -> None:
    def work() -> None:
        try:
            with workers(2) as threads:
                futures.extend(threads.submit(time.sleep, 0.2) for _ in range(3))
                if error is not None:
                    raise error
        except ValueError:
            pass

    futures: list[object] = []
    work()
    assert all(future.done() for future in futures)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Work in several threads, for which nobody waits who is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for as long as the context lasts, which waits for them at its end.

    A thread cannot be interrupted, and may wait for minutes for a machine. So Ctrl-C does not wait for the threads: the
    machines are ended on the way out, and each wait for a machine ends with it.

    :param count: of threads at the most.
    """
    threads = ThreadPoolExecutor(count)
    wait = False
    try:
        yield threads
        wait = True
    except Exception:
        wait = True
        raise
    finally:
        threads.shutdown(wait=wait, cancel_futures=not wait)

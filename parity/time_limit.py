"""A limit on how long something may take, by the alarm signal: in the main thread of a Unix process, else none.

The signal interrupts Python between two of its instructions. What hangs inside one call of an extension is
interrupted when that call returns. Where somebody else's alarm is due earlier, as pytest-timeout's may be, that one is
left to ring.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class OutOfTime(BaseException):
    """The limit was reached. No ``Exception``, so that code which handles those does not handle it.

    ``place`` says where the program was: ``function (file, line)``.
    """

    REMEDY = "let it end, or give the pair a longer time_limit"

    def __init__(self, seconds: float, place: str) -> None:
        super().__init__(f"it took longer than {seconds:g} s; it was in {place}")
        self.place = place


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise ``OutOfTime`` when the block takes longer; with None there is no limit."""
    usable = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if seconds is None or not usable:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(seconds, _place(frame))

    started = time.monotonic()
    remaining, interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < remaining <= seconds:
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if remaining:
            left = remaining - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), interval)


def _place(frame: FrameType | None) -> str:
    """The innermost function that is not torch's."""
    while frame is not None and "/torch/" in frame.f_code.co_filename and frame.f_back is not None:
        frame = frame.f_back
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename.rpartition('/')[2]}, line {frame.f_lineno})"

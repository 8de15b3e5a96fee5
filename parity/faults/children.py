"""Running something in a forked child, which takes all that it breaks with it."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

import torch


class ChildTimeout(Exception):
    """The child was still running when its time was over; it was killed."""


class ChildDied(Exception):
    """The child ended without an answer."""


def in_child(run: Callable[[], Any], seconds: float) -> Any:
    """Run a function in a forked child and return its JSON-able answer.

    Nothing may have run ``backward`` in this process: torch refuses to do so in the child then.

    Args:
        run: the function; what it prints is lost.
        seconds: the child is killed after these.

    Raises:
        ChildTimeout: it took longer.
        ChildDied: it crashed, or raised.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _silence()
            answer = json.dumps(run())
            with os.fdopen(writing, "w") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)  # no clean-up of the parent's things
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = _read(pipe.fileno(), seconds)
    if text is None:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if text is None:
        raise ChildTimeout(f"it took longer than {seconds:g} s")
    if not text:
        raise ChildDied("the process died without an answer")
    return json.loads(text)


def _read(descriptor: int, seconds: float) -> str | None:
    """Everything that is written until the other end closes; None when that takes longer."""
    end, parts = time.perf_counter() + seconds, []
    while True:
        left = end - time.perf_counter()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        part = os.read(descriptor, 65536)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    torch.set_num_threads(1)

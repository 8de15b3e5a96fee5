"""Foreign code that calls ``sys.exit``: it must not end the process that judges it, with the exit code of a success."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from parity.compare.verdict import Misuse

_REMEDY = "raise an error instead, for that would end the process that judges it"


def left(error: SystemExit) -> str:
    """Say which code and where, for a message that names whose it is."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = frames[-1]
    place = f"{frame.name} ({frame.filename.rpartition('/')[2]}, line {frame.lineno})"
    return f"called sys.exit({error.code!r}) in {place}; {_REMEDY}"


@contextmanager
def staying(who: str) -> Iterator[None]:
    """Make an error of ``sys.exit``.

    Args:
        who: whose code is run, for the message.

    Raises:
        Misuse: the block wants to leave.
    """
    try:
        yield
    except SystemExit as error:
        raise Misuse(f"{who} {left(error)}") from error

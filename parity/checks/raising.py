"""Whose code an error is pinned on: that of what is judged, and not the code which passes it through."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import tensordict
import torch

_HERE = Path(__file__).parent
#: What foreign policies are called by, which also stands between them and torch in float64.
_ADAPTING = f"{_HERE.parent / 'api'}{os.sep}"
_JUDGING = f"{_HERE}{os.sep}"
_LIBRARIES = tuple(f"{path}{os.sep}" for library in (torch, tensordict) for path in library.__path__)

#: Code of these is not to blame for an error that passes through it, nor holds it what a component is defined by.
NOT_TO_BLAME = (*_LIBRARIES, _ADAPTING)


def blamed(frames: list[traceback.FrameSummary]) -> traceback.FrameSummary:
    """The frame that an error is pinned on.

    Args:
        frames: from the check to where it was raised.

    Returns:
        The innermost of what is judged, with a name if there is one. An error that our own code raises, as about a
        result of the wrong form, is pinned on that.
    """
    own = [frame for frame in frames if not frame.filename.startswith(NOT_TO_BLAME)]
    if own and not own[-1].filename.startswith(_JUDGING):
        theirs = [frame for frame in own if not frame.filename.startswith(_JUDGING)]
        return ([frame for frame in theirs if _is_named(frame)] or theirs)[-1]
    ours = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES) and _is_named(frame)]
    return (ours or frames)[-1]


def _is_named(frame: traceback.FrameSummary) -> bool:
    return not frame.name.startswith("<") and frame.name != "__torch_function__"  # which every call passes through

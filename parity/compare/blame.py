"""Which component is to blame: replay the reference's own input through the candidate's counterpart.

A component whose output differs may only be passing on a wrong input. Feeding it what the reference's counterpart was
fed tells the two apart: a component that then still differs is wrong itself; one that agrees was fed wrongly, and the
fault lies in the glue before it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parity.compare.bounds import rms
from parity.compare.probes import Call, feed, pull_back
from parity.compare.verdict import Divergence

#: A replayed component agrees within this share of the output's rms. A replay is one layer deep, so its rounding stays
#: far below; it decides only where to point, never whether there is a divergence.
REPLAY_SHARE = {torch.float64: 1e-10, torch.float32: 1e-4}


@dataclasses.dataclass(frozen=True)
class ComponentPair:
    """One component on both sides: its name, and the two modules."""

    name: str
    reference: nn.Module
    candidate: nn.Module
    candidate_path: str


def blame_forward(
    divergence: Divergence,
    components: dict[str, ComponentPair],
    reference_calls: Sequence[Call],
    candidate_calls: Sequence[Call],
) -> Divergence:
    """Sharpen a divergence found at a component's output in the forward pass."""
    pair = components.get(divergence.component)
    calls = list(zip(_at(reference_calls, divergence), _at(candidate_calls, divergence), strict=False))
    if pair is None or not calls:
        return divergence
    mine, theirs = next(((a, b) for a, b in calls if not _same_outputs(a, b.outputs)), calls[0])
    identical = _agree(mine.given, theirs.given)
    divergence = dataclasses.replace(
        divergence, candidate_component=pair.candidate_path, input_identical=bool(identical)
    )
    if identical:
        return divergence
    try:
        replayed = feed(pair.candidate, mine.inputs, mine.keywords)
    except Exception as error:  # a foreign module may refuse the reference's input layout
        note = f"its counterpart could not be fed the reference's input ({type(error).__name__}: {error})"
        return dataclasses.replace(divergence, notes=(*divergence.notes, note))
    if _same_outputs(mine, replayed):
        bad = _first_bad_input(mine.given, theirs.given)
        note = "on the reference's own input this component agrees: it was fed a wrong input" + bad
        return dataclasses.replace(divergence, at="input", notes=(*divergence.notes, note))
    note = "it also differs on the reference's own input"
    return dataclasses.replace(divergence, notes=(*divergence.notes, note))


def blame_backward(
    divergence: Divergence,
    components: dict[str, ComponentPair],
    reference_calls: Sequence[Call],
    later: Sequence[str],
) -> Divergence:
    """Sharpen a divergence found in a gradient.

    The gradient at a component's output is made by its consumers, so the components after it (``later``, last first)
    are replayed by a vector-Jacobian product on the reference's inputs and output gradients; the first that differs is
    to blame. If none does, the path between the component and its consumers is (a detached or dropped tensor).
    """
    for name in later:
        pair = components.get(name)
        if pair is None:
            continue
        for call in (call for call in reference_calls if call.component == name and call.gradients):
            mine = call.pulled
            if mine is None:
                mine, _ = pull_back(pair.reference, call.inputs, call.gradients, call.keywords)
            try:
                theirs, _ = pull_back(pair.candidate, call.inputs, call.gradients, call.keywords)
            except Exception as error:
                note = f"{name}: the counterpart could not be replayed backward ({type(error).__name__}: {error})"
                divergence = dataclasses.replace(divergence, notes=(*divergence.notes, note))
                continue
            if mine and not _agree(tuple(mine.values()), tuple(theirs.values())):
                return dataclasses.replace(
                    divergence,
                    component=name,
                    candidate_component=pair.candidate_path,
                    at="input",
                    notes=(*divergence.notes, "its vector-Jacobian product differs on the reference's own tensors"),
                )
    pair = components.get(divergence.component)
    path = pair.candidate_path if pair is not None else ""
    return dataclasses.replace(divergence, candidate_component=path)


def defined_at(policy: nn.Module, path: str, libraries: tuple[str, ...]) -> str:
    """Where a component's class is defined, or that of the innermost module around it which no library brings.

    Args:
        policy: the side's outermost module.
        path: module path of the component below it.
        libraries: folders whose classes are not to blame, each with a final separator.

    Returns:
        ``file:line`` below the working directory, with forward slashes; empty when the class is defined elsewhere.
    """
    modules = dict(policy.named_modules())
    names = path.split(".")
    around = [modules.get(".".join(names[:count])) for count in range(len(names), 0, -1)]
    for module in (*around, modules.get("")):  # the policy itself, and not what wraps it
        try:
            file = inspect.getsourcefile(type(module)) or ""
            if module is None or file.startswith(libraries):
                continue
            _, line = inspect.getsourcelines(type(module))
            return f"{Path(file).relative_to(Path.cwd()).as_posix()}:{line}"
        except (OSError, TypeError, ValueError):  # no file, built in, or not below the working directory
            continue
    return ""


def _at(calls: Sequence[Call], divergence: Divergence) -> list[Call]:
    """The calls of the component where the run diverged, in order; a step may hold several."""
    where = (divergence.component, divergence.phase, divergence.step, divergence.update, divergence.minibatch)
    return [
        call
        for call in calls
        if (call.component, call.place.phase, call.place.step, call.place.update, call.place.minibatch) == where
    ]


def _same_outputs(call: Call, outputs: tuple[Any, ...]) -> bool:
    return _agree(call.compared(call.outputs), call.compared(outputs))


def _agree(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    if len(first) != len(second):
        return False
    return all(_close(a, b) for a, b in zip(first, second, strict=True))


def _close(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a is b or bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    share = REPLAY_SHARE.get(a.dtype, 1e-2)
    distance = rms(a.to(torch.float64) - b.to(torch.float64))
    return distance <= share * max(rms(a), torch.finfo(a.dtype).tiny)


def _first_bad_input(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> str:
    if len(mine) != len(theirs):
        return f" ({len(theirs)} inputs instead of {len(mine)})"
    for number, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if not _close(a, b):
            return f" (input {number} differs)"
    return ""

"""Weights from a file, to judge on instead of stress weights: a state of the reference, or a trainer's checkpoint."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from parity.compare.verdict import Misuse
from parity.pairs.builds import Builds
from parity.pairs.recipe import Pair
from parity.pairs.subjects import Sides


def read_weights(path: Path, pair: Pair) -> dict[str, Tensor]:
    """Read weights for both sides of a pair, by the reference's names, rounded to float32.

    Args:
        path: a safetensors state dict of the reference, whose buffers are left as they are built; or a checkpoint of
            either side by the pair's trainer.
        pair: the pair, whose own recipe the weights must fit.

    Raises:
        Misuse: the file cannot be used, or a name or shape does not fit; the message names it.
    """
    sides = Builds(pair).sides(pair.recipe, None)
    tensors, metadata = _tensors(path)
    if pair.training is not None and "checkpoint" in metadata:
        values = _of_checkpoint(path, pair, sides)
    else:
        buffers = {name for name, _ in sides.reference.policy.named_buffers()}
        values = {name: value for name, value in tensors.items() if name not in buffers}
    _require_fit(path, values, {name: tuple(v.shape) for name, v in sides.reference.policy.named_parameters()})
    return {name: value.detach().to(torch.float32) for name, value in values.items()}


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise Misuse(f"--weights {path}: cannot be read ({error}); check the path") from error
    except SafetensorError as error:
        raise Misuse(
            f"--weights {path}: truncated or no safetensors file ({error}); save the reference's state_dict with "
            "safetensors.torch.save_file"
        ) from error


def _of_checkpoint(path: Path, pair: Pair, sides: Sides) -> dict[str, Tensor]:
    assert pair.training is not None, "asked for only where there is one"
    refusals = []
    for subject in (sides.reference.copy(), sides.candidate.copy()):
        try:
            pair.training.load(subject.policy, path)
        except Exception as error:  # what a trainer refuses with is its own affair; it names the file
            refusals.append(f"as the {subject.side}: {error}")
            continue
        subject.to_reference = getattr(sides, subject.side).to_reference
        return subject.to_reference({name: value.detach() for name, value in subject.policy.named_parameters()})
    raise Misuse(f"--weights {path}: a checkpoint that fits neither side; {'; '.join(refusals)}")


def _require_fit(path: Path, values: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        if name not in values:
            near = difflib.get_close_matches(name, values, n=1)
            hint = f"it has {near[0]!r}" if near else f"it has {', '.join(list(values)[:4]) or 'no tensor'}, ..."
            raise Misuse(
                f"--weights {path}: no value for the reference's parameter {name!r} {list(shape)}; {hint}; give a "
                "state_dict of the module that the reference's builder returns"
            )
        if tuple(values[name].shape) != shape:
            raise Misuse(
                f"--weights {path}: {name!r} has shape {list(values[name].shape)} and the reference's parameter "
                f"{list(shape)}; give weights of the recipe that the pair is built from"
            )
        if not bool(torch.isfinite(values[name]).all()):
            raise Misuse(f"--weights {path}: {name!r} holds NaN or Inf; nothing can be judged on such weights")
    extra = next((name for name in values if name not in shapes), None)
    if extra is not None:
        raise Misuse(f"--weights {path}: {extra!r} is no parameter or buffer of the reference; was it renamed?")

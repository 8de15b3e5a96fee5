"""Likely causes, read off the data of a divergence. Each names a pattern that only one kind of bug leaves behind."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parity.compare.trace import Place


def likely_cause(reference: Tensor, candidate: Tensor, place: Place) -> str:
    """Return one sentence, or an empty string when the data point nowhere.

    Args:
        reference: what is expected, any shape.
        candidate: what was found, of the same shape.
        place: where it was found.
    """
    if reference.shape != candidate.shape or reference.numel() == 0:
        return ""
    if not reference.is_floating_point():
        return _of_integers(reference, candidate)
    a, b = reference.detach().to(torch.float64), candidate.detach().to(torch.float64)
    if bool(torch.isnan(b).any()):
        return "candidate is NaN where the reference is not"
    wrong = ~torch.isclose(a, b, rtol=1e-6, atol=1e-12)
    if not bool(wrong.any()):
        return "differs by rounding only: another weight, constant or dtype in the last places"
    if bool((a >= 0).all()) and bool((a == 0).any()) and bool((b[wrong] < 0).all()):
        return "candidate is negative where the reference is clamped at 0: a ReLU is missing"
    if bool((a.abs() <= 1).all()) and bool((b.abs() > 1).any()) and torch.allclose(torch.tanh(b), a, atol=1e-6):
        return "tanh of the candidate is the reference: a tanh is missing"
    if not bool(b.any()):
        return "candidate is 0 everywhere: a detached, dropped or never written value"
    return _ratio(a, b) or _permutation(a, b) or _rows(wrong, place)


def _of_integers(reference: Tensor, candidate: Tensor) -> str:
    offset = (candidate.to(torch.int64) - reference.to(torch.int64)).flatten()
    if offset.numel() > 1 and bool((offset == offset[0]).all()):
        return f"every index is off by {int(offset[0])}"
    return ""


def _ratio(a: Tensor, b: Tensor) -> str:
    """A constant ratio over enough elements is a scale, not chance."""
    where = a != 0
    if int(where.sum()) < 3 or bool(b[~where].any()):
        return ""
    ratios = b[where] / a[where]
    ratio = float(ratios.median())
    if not torch.allclose(ratios, torch.full_like(ratios, ratio), rtol=1e-6, atol=0.0):
        return ""
    names = {math.sqrt(2): "sqrt(2): an init gain", 1 / math.sqrt(2): "1/sqrt(2): an init gain", -1.0: "-1: a sign"}
    for value, name in names.items():
        if math.isclose(ratio, value, rel_tol=1e-6):
            return f"constant ratio {name}"
    return f"constant ratio {ratio:.6g}: a scale, gain or normalisation"


def _permutation(a: Tensor, b: Tensor) -> str:
    if a.numel() < 3 or not torch.allclose(a.flatten().sort().values, b.flatten().sort().values, rtol=1e-6, atol=1e-12):
        return ""
    for first in range(a.dim()):
        for second in range(first + 1, a.dim()):
            if a.shape[first] == a.shape[second] and torch.allclose(a, b.transpose(first, second), rtol=1e-6):
                return f"equal after swapping axes {first} and {second}: transposed axes"
    for axis in range(a.dim()):
        for shift in range(1, min(a.shape[axis], 9)):
            for signed in (shift, -shift):
                if torch.allclose(a, b.roll(signed, axis), rtol=1e-6):
                    return f"equal after shifting axis {axis} by {signed}: an index offset"
    return "the same numbers in another order: a permuted index or batch and time swapped"


def _rows(wrong: Tensor, place: Place) -> str:
    if wrong.dim() < 1 or wrong.shape[0] < 2:
        return ""
    rows = wrong.flatten(1).any(1) if wrong.dim() > 1 else wrong
    bad = [int(row) for row in rows.nonzero().flatten()]
    if 0 < len(bad) < rows.numel():
        step = f" at step {place.step}" if place.step is not None else ""
        return f"only rows {bad[:6]}{step} differ: look at what distinguishes them (reset, padding, action type)"
    return ""

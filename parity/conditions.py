"""The conditions every cell is judged under, whoever starts it: profile, one thread, strict arithmetic, no warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from parity.profiles import profile_in_force


def seed_global(seed: int) -> None:
    """``torch.manual_seed``, which on a machine without accelerator notes a stack trace per call and per backend."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def judging(device: str = "cpu", *, profile: str | None = None, threads: int = 1) -> Iterator[None]:
    """Judge inside this block, so that pytest and the command line come to the same results.

    One torch thread, because reductions round differently on several, and processes side by side only slow each other
    down. TF32 off and, on ``cuda``, deterministic algorithms, because both would be taken for a difference between the
    sides. Warnings are ignored: a project that makes them errors must not change a verdict.

    Args:
        device: ``cpu`` or ``cuda``.
        profile: hypothesis profile; None keeps a chosen one and otherwise takes ``parity-ci``.
        threads: of torch; more than one shows that no verdict depends on their number.
    """
    before = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    deterministic = torch.are_deterministic_algorithms_enabled()
    with profile_in_force(profile), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        if device == "cuda":
            torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
            torch.set_num_threads(before)

"""Calling a user's builder: seeded, checked, moved to the dtype and device under test, and wrapped for the checks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from parity.api.adapter import Adapter
from parity.api.side import Side, parameters_of
from parity.compare.verdict import Misuse
from parity.leaving import staying
from parity.pairs.recipe import Recipe

_ODD = 0x5EED_0001
#: Parameters of everything that was built and still lives -> whose they are.
_BUILT = WeakIdKeyDictionary()


class SideBuilder:
    """One side's builder, as a pair wants it.

    Args:
        side: the declaration.
        pair: name of the pair, for messages.
        name: ``reference`` or ``candidate``.
    """

    def __init__(self, side: Side, pair: str, name: str) -> None:
        self.side, self.who = side, f"{name} of pair {pair!r}"

    def __call__(self, recipe: Recipe) -> nn.Module:
        """Build a policy and wrap it.

        Raises:
            Misuse: the builder raised, or returned something that cannot be judged; the message has the remedy.
        """
        policy = self._checked(self._built(recipe), recipe)
        for parameter in policy.parameters():
            _BUILT[parameter] = self.who
        try:
            with staying(f"{self.who}: initial_state(policy, batch)"):
                return Adapter(policy, self.side, self.who, recipe)
        except Misuse:
            raise
        except Exception as error:
            raise Misuse(
                f"{self.who}: initial_state(policy, batch) raised {type(error).__name__}: {error}; it must return the "
                "state of so many rows before an episode"
            ) from error

    def _built(self, recipe: Recipe) -> Any:
        system = recipe.system
        offered = {"seed": system.seed, "dtype": system.dtype, "device": system.device}
        taken = [key for key in offered if key in parameters_of(self.side.build)]
        seed = system.seed * 2 + _ODD  # one that nobody writes down, so that a builder's own seed shows
        with _seeded(seed):
            try:
                with staying(f"the builder of the {self.who}"):
                    policy = self.side.build(**{key: offered[key] for key in taken})
            except Misuse:
                raise
            except Exception as error:
                raise Misuse(
                    f"the builder of the {self.who} raised {type(error).__name__}: {error}; {_remedy(error)}"
                ) from error
            if torch.initial_seed() != seed:
                raise Misuse(
                    f"the builder of the {self.who} seeds torch's global generator, with {torch.initial_seed()}: every "
                    " seed then gives the same weights, and its caller's random numbers are lost; remove "
                    "torch.manual_seed, or take the seed as a parameter named seed and draw from a torch.Generator"
                )
        if not isinstance(policy, nn.Module):
            raise Misuse(
                f"the builder of the {self.who} returned {type(policy).__name__}; it must return the torch module, so "
                "look for a missing return"
            )
        move = {key: offered[key] for key in ("dtype", "device") if key not in taken}
        self._refuse_shared(policy)
        try:
            return policy.to(**move)
        except Exception as error:
            raise Misuse(
                f"the {self.who} cannot be moved to {system.device} and {system.dtype}: {type(error).__name__}: "
                f"{error}; build it on the CPU, or take dtype and device as parameters of the builder"
            ) from error

    def _refuse_shared(self, policy: nn.Module) -> None:
        for name, parameter in policy.named_parameters():
            if parameter in _BUILT:
                raise Misuse(
                    f"the builder of the {self.who} returned a module whose parameter {name!r} was built before, for "
                    f"the {_BUILT[parameter]}; build new parameters at every call, or return copy.deepcopy of a module"
                )

    def _checked(self, policy: nn.Module, recipe: Recipe) -> nn.Module:
        if next(policy.parameters(), None) is None:
            raise Misuse(
                f"the builder of the {self.who} returned {type(policy).__name__} without parameters; assign its layers "
                "as attributes, lists of them as nn.ModuleList"
            )
        for name, parameter in policy.named_parameters():
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise Misuse(
                    f"the {self.who} has a lazy parameter {name!r}; run it once in the builder, so that it has a shape"
                )
        return policy


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Numpy's, Python's and torch's global generators seeded; the first two put back, torch's is by the caller."""
    python, numpy = random.getstate(), np.random.get_state()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    default = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        random.setstate(python)
        np.random.set_state(numpy)


def _remedy(error: Exception) -> str:
    text = str(error)
    if ("CUDA" in text or "NVIDIA" in text) and not torch.cuda.is_available():
        return "it wants a GPU and torch finds none: build on the CPU, or take the device as a parameter named device"
    if isinstance(error, TypeError) and "argument" in text:
        return "a builder is given those of seed, dtype and device that it has parameters for, and nothing else"
    return "it must return a new torch module at every call"

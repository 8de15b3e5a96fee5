"""Building and keeping the two sides of a pair, their stress weights and their float64 counterparts.

Building is slow and policies carry state, so each build is kept and every use gets a deep copy of it.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from parity.agents.interface import ENV_OBS, FULL_LOG_PROBS, VALUES
from parity.compare.verdict import Misuse
from parity.conditions import seed_global
from parity.pairs.mapping import telling_links
from parity.pairs.parameters import ParameterLink, ParameterMap, declared_map, load_reference_weights
from parity.pairs.recipe import Pair, Recipe
from parity.pairs.stress import movable_buffers, stress_buffers, stress_weights
from parity.pairs.subjects import Sides, Subject

CALIBRATION_ROWS = 24
KEPT_BYTES = 900_000_000


class Builds:
    """Builds of one pair, kept by recipe; made anew when the pair changes (a planted fault is another pair)."""

    moves_buffers = True  # on stress weights, buffers of described pairs are others than at birth as well

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.given: dict[str, Tensor] | None = None  # reference weights to judge on instead, wherever they fit
        self.used = {"given": 0, "stress": 0}  # weights that builds were made on
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._bytes: dict[Hashable, int] = {}
        self._inferred: tuple[ParameterLink, ...] | None = None  # the inferred parameter map, once there is one

    def sides(self, recipe: Recipe, weights: int | None = 0) -> Sides:
        """Both sides on stress weights of seed ``weights``, or on fresh weights when None.

        They are kept and shared: copy what you change.
        """
        return self._keep((recipe_key(recipe), weights), lambda: self._make(recipe, weights))

    def build(self, side: str, recipe: Recipe) -> Subject:
        """Build one side afresh.

        Raises:
            Misuse: the builder returned something that is no module with parameters.
        """
        devices = [recipe.system.device] if recipe.system.device != "cpu" else []
        with torch.random.fork_rng(devices=devices):
            seed_global(recipe.system.seed)  # for builders that draw from the global generator
            before = torch.get_rng_state()
            module = getattr(self.pair, side)(recipe)
            drew = not torch.equal(before, torch.get_rng_state())
        if not isinstance(module, nn.Module) or next(module.parameters(), None) is None:
            raise Misuse(
                f"the {side} builder of pair {self.pair.name!r} returned {type(module).__name__}"
                f"{' without parameters' if isinstance(module, nn.Module) else ''}; it must return a torch module with "
                "parameters"
            )
        for hook in self.pair.fault_hooks:
            hook(side, module)
        return Subject(side, module, recipe, drew_globally=drew)

    def require_fresh(self) -> None:
        """Build each side twice, for a builder that refuses to return what it returned before, see ``parity.api``."""
        recipe = _base(self.pair.recipe)
        built = [self.build(side, recipe) for side in ("reference", "candidate", "reference", "candidate")]
        del built  # what lives no more is not held against the next build

    def parameter_map(self, reference: nn.Module, candidate: nn.Module) -> ParameterMap:
        """The declared map, checked, or the inferred one, see ``parity.pairs.mapping``."""
        if self.pair.parameters is not None and not self.pair.infer_rest:
            return declared_map(self.pair.parameters, reference, candidate)
        if self._inferred is None:
            self._inferred = telling_links(self.pair, self.build, reference, candidate)
        return declared_map(self._inferred, reference, candidate)

    def wide(self, subject: Subject) -> Subject:
        """The same side in float64, on the CPU, on the same weights and buffers cast up."""
        recipe = subject.recipe.with_system(dtype=torch.float64, device="cpu")
        kept = self._keep((recipe_key(recipe), None), lambda: self._make(recipe, None))
        built = getattr(kept, subject.side).copy()
        parameters, buffers = dict(subject.policy.named_parameters()), dict(subject.policy.named_buffers())
        with torch.no_grad():
            for name, parameter in built.policy.named_parameters():
                parameter.copy_(parameters[name])
            for name, buffer in built.policy.named_buffers():
                buffer.copy_(buffers[name])
        # one by one: a wrapper's own flag says nothing of what it wraps, nor a policy's of a layer that is frozen
        flags = {name: module.training for name, module in subject.policy.named_modules()}
        for name, module in built.policy.named_modules():
            module.training = flags[name] and not subject.evaluating
        built.policy.training = subject.policy.training and not subject.evaluating
        return dataclasses.replace(built, evaluating=subject.evaluating)

    def forget(self) -> None:
        """Drop everything that is kept, at once: gigabytes should not wait for a garbage collection."""
        self._kept.clear()
        self._bytes.clear()

    def _make(self, recipe: Recipe, weights: int | None) -> Sides:
        sides = self._fresh(recipe) if weights is None else self._stressed(recipe, weights)
        for subject in (sides.reference, sides.candidate):
            subject.keep()
        return sides

    def _fresh(self, recipe: Recipe) -> Sides:
        reference, candidate = self.build("reference", recipe), self.build("candidate", recipe)
        parameters = self.parameter_map(reference.policy, candidate.policy)
        shapes = {name: value.detach() for name, value in reference.policy.named_parameters()}
        candidate.to_reference = lambda values: parameters.to_reference(values, shapes)
        return Sides(reference, candidate, parameters)

    def _stressed(self, recipe: Recipe, weights: int) -> Sides:
        sides = self._keep((recipe_key(recipe), None), lambda: self._make(recipe, None)).copy()
        shapes = {name: value.shape for name, value in sides.reference.policy.named_parameters()}
        if self.given is not None and shapes == {name: value.shape for name, value in self.given.items()}:
            values = self.given
        else:
            values = self._keep(("stress", recipe_key(_base(recipe)), weights), lambda: self._stress(recipe, weights))
        self.used["given" if values is self.given else "stress"] += 1
        load_reference_weights(values, sides.reference.policy, sides.candidate.policy, sides.parameters)
        if self.pair.described and self.moves_buffers and values is not self.given:
            key = ("buffers", recipe_key(_base(recipe)), weights)
            moved = self._keep(key, lambda: self._buffers(recipe, weights, values))
            for subject in (sides.reference, sides.candidate):
                _move(subject.policy, moved)
        return sides

    def _buffers(self, recipe: Recipe, seed: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Buffers to judge on; none where the reference does not run on them, as on an index kept as floats."""
        recipe = _base(recipe)
        sides = self._keep((recipe_key(recipe), None), lambda: self._make(recipe, None)).copy()
        load_reference_weights(weights, sides.reference.policy, sides.candidate.policy, sides.parameters)
        moved = stress_buffers(sides.reference.policy, sides.candidate.policy, seed)
        if not moved:
            return {}
        before = self._speaks(sides.reference.copy().policy, recipe, seed)
        _move(sides.reference.policy, moved)
        return moved if before and self._speaks(sides.reference.policy, recipe, seed) else {}

    def _speaks(self, policy: nn.Module, recipe: Recipe, seed: int) -> bool:
        """Whether a policy gives numbers on a calibration batch."""
        observations = self.pair.generate(recipe.environment, rows=CALIBRATION_ROWS, seed=seed)
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = policy(TensorDict({ENV_OBS: observations}, batch_size=[CALIBRATION_ROWS]))
        except Exception:  # of foreign code; it is named when it is judged
            return False
        return not any(bool(torch.isnan(out[key]).any()) for key in (FULL_LOG_PROBS, VALUES))

    def _stress(self, recipe: Recipe, seed: int) -> dict[str, Tensor]:
        recipe = _base(recipe)
        subject = self._keep((recipe_key(recipe), None), lambda: self._make(recipe, None)).copy().reference
        observations = self.pair.generate(recipe.environment, rows=CALIBRATION_ROWS, seed=seed)

        def run(policy: nn.Module) -> None:
            policy(TensorDict({ENV_OBS: observations}, batch_size=[CALIBRATION_ROWS]))

        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return stress_weights(subject.policy, seed, run)

    def _keep(self, key: Hashable, make: Any) -> Any:
        if key not in self._kept:
            self._kept[key] = made = make()
            self._bytes[key] = _bytes(made)
            while sum(self._bytes.values()) > KEPT_BYTES and len(self._kept) > 1:
                oldest, _ = self._kept.popitem(last=False)
                del self._bytes[oldest]
        self._kept.move_to_end(key)
        return self._kept[key]


def _bytes(kept: Sides | dict[str, Tensor]) -> int:
    """What the tensors of a build, or of stress weights, take."""
    if isinstance(kept, Sides):
        modules = (kept.reference.policy, kept.candidate.policy)
        values = [value for module in modules for value in (*module.parameters(), *module.buffers())]
    else:
        values = list(kept.values())
    return sum(value.nbytes for value in values)


def _move(policy: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in movable_buffers(policy).items():
            if name in values:
                buffer.copy_(values[name])


def _base(recipe: Recipe) -> Recipe:
    return recipe.with_system(dtype=torch.float64, device="cpu")


def recipe_key(recipe: Recipe) -> str:
    """Recipes hold mappings and are not hashable; their representation is complete."""
    return repr(recipe)

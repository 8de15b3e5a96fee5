"""Faults between gradients and weights, in the trainer that both sides share, and harmless rewrites."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher
from parity.training.config import OptimizerConfig
from parity.training.optimizers import Optimizer
from parity.training.trainer import Trainer

TRACKERS = "other projects' trackers"
MUON = "documents: Muon for matrices, AdamW for the rest"
NUMBERS = "documents: the trainer's config reaches the optimizer"
CLIPPED = f"{TRACKERS}: gradient clip before accumulation"
RESUME = f"{TRACKERS}: optimizer state lost on resume"

_in_step = partial(CATALOGUE.fault, check="optimizer", phase="optimizer step", place="both")

# Numbers of the optimizer


def _configured(patcher: Patcher, change: Callable[[OptimizerConfig], dict[str, Any]]) -> None:
    """Give the optimizer other numbers than the config's."""

    def make(build: Callable[..., None]) -> Callable[..., None]:
        return lambda self, policy, config: build(self, policy, dataclasses.replace(config, **change(config)))

    patcher.wrap(Optimizer, "__init__", make)


@_in_step(origin=NUMBERS, component="cnn1")
def learning_rate_not_passed(patcher: Patcher) -> None:
    """The learning rate stays at torch's default."""
    _configured(patcher, lambda config: {"learning_rate": 0.001})


@_in_step(origin=NUMBERS, component="cnn1")
def betas_swapped(patcher: Patcher) -> None:
    """The first moment decays as the second should, and the other way round."""
    _configured(patcher, lambda config: {"beta1": config.beta2, "beta2": config.beta1})


@_in_step(origin=NUMBERS, component="cnn1")
def eps_of_1e_8(patcher: Patcher) -> None:
    """Adam's eps stays at torch's default."""
    _configured(patcher, lambda config: {"eps": 1e-8})


@_in_step(origin=f"{TRACKERS}: weight decay coupled to the gradient", component="cnn1")
def decay_coupled_beside_muon(patcher: Patcher) -> None:
    """What stands for AdamW is Adam, whose decay is part of the gradient."""
    patcher.attribute(torch.optim, "AdamW", torch.optim.Adam)


@_in_step(origin=f"{TRACKERS}: bias correction missing", component="cnn1")
def steps_not_counted(patcher: Patcher) -> None:
    """Each of Adam's steps is corrected like a first one."""

    def make(step: Callable[..., None]) -> Callable[..., None]:
        def forget(self: Optimizer) -> None:
            step(self)
            for state in self.state_dict().values():
                if "step" in state:
                    state["step"].zero_()

        return forget

    patcher.wrap(Optimizer, "step", make)


# Which parameters the optimizer has


@_in_step(origin=f"{TRACKERS}: one parameter frozen", component="fc1")
def frozen_for_a_warm_up(patcher: Patcher) -> None:
    """The optimizer freezes a layer that nobody thaws."""

    def make(build: Callable[..., None]) -> Callable[..., None]:
        def freeze(self: Optimizer, policy: nn.Module, config: OptimizerConfig) -> None:
            for name, parameter in policy.named_parameters():
                if "fc1" in name and name.endswith("weight"):
                    parameter.requires_grad_(False)
            build(self, policy, config)

        return freeze

    patcher.wrap(Optimizer, "__init__", make)


@_in_step(origin=f"{TRACKERS}: parameters missing in the optimizer", component="critic_1")
def parameter_missing_in_the_optimizer(patcher: Patcher) -> None:
    """The critic's biases are in no group."""

    def make(add: Callable[..., None]) -> Callable[..., None]:
        def leave_out(self: Optimizer, part: torch.optim.Optimizer, names: list[str]) -> None:
            kept = [number for number, name in enumerate(names) if "critic_1" not in name or "weight" in name]
            group = part.param_groups[0]
            group["params"] = [group["params"][number] for number in kept]
            add(self, part, [names[number] for number in kept])

        return leave_out

    patcher.wrap(Optimizer, "_add", make)


@_in_step(origin=f"{TRACKERS}: a parameter twice in the optimizer", component="critic_1")
def parameter_in_two_optimizers(patcher: Patcher) -> None:
    """The critic's weight takes a step of another optimizer too."""

    def make(build: Callable[..., None]) -> Callable[..., None]:
        def twice(self: Optimizer, policy: nn.Module, config: OptimizerConfig) -> None:
            build(self, policy, config)
            named = policy.named_parameters()
            own = [value for name, value in named if "critic_1" in name and "weight" in name and value.requires_grad]
            self.second = torch.optim.SGD(own, lr=config.learning_rate) if own else None  # type: ignore[attr-defined]

        return twice

    def step(original: Callable[..., None]) -> Callable[..., None]:
        def both(self: Any) -> None:
            original(self)
            if self.second is not None:
                self.second.step()

        return both

    patcher.wrap(Optimizer, "__init__", make)
    patcher.wrap(Optimizer, "step", step)


@_in_step(origin=MUON, component="_action_embeds_")
def muon_takes_embeddings(patcher: Patcher) -> None:
    """Embedding tables are matrices like any other."""

    class Untold:
        """Its names and modules tell nothing."""

        def __init__(self, policy: nn.Module) -> None:
            self.policy = policy

        def named_parameters(self) -> Iterable[tuple[str, Tensor]]:
            return ((name.replace("embed", "_____"), value) for name, value in self.policy.named_parameters())

        def modules(self) -> Iterable[nn.Module]:
            return ()

    def make(build: Callable[..., None]) -> Callable[..., None]:
        def untold(self: Optimizer, policy: nn.Module, config: OptimizerConfig) -> None:
            build(self, Untold(policy), config)
            names = {id(value): name for name, value in policy.named_parameters()}
            self.names = [[names[id(value)] for value in part.param_groups[0]["params"]] for part in self.parts]

        return untold

    patcher.wrap(Optimizer, "__init__", make)


@_in_step(origin=MUON, component="fc1")
def muon_forgotten(patcher: Patcher) -> None:
    """AdamW takes the matrices too."""

    def adamw(params: Iterable[Tensor], **numbers: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(params, lr=numbers["lr"], eps=numbers["eps"], weight_decay=numbers["weight_decay"])

    patcher.attribute(torch.optim, "Muon", adamw)


# From gradients to a step


def _minibatches(
    patcher: Patcher,
    *,
    forget: bool = False,
    mean: bool = True,
    clip_each: bool = False,
    clip: Callable[..., Tensor] | None = nn.utils.clip_grad_norm_,
    clip_late: bool = False,
) -> None:
    """Put the trainer's minibatch step in place anew, with something of it otherwise."""

    def minibatch(
        self: Trainer, number: int, advantages: Tensor, probabilities: Tensor, beta: float, norms: list[Tensor]
    ) -> Any:
        config, policy, accumulate = self.config, self.policy, self.config.gradient_accumulation_steps
        policy.reset_memory()
        indices = self.experience.draw(probabilities, config.minibatch_segments)
        losses = self._losses(self.experience.minibatch(indices, advantages, probabilities, beta))
        self.observer.on_minibatch(
            self.updates, number, self.experience.minibatch(indices, advantages, probabilities, beta), losses
        )
        if number % accumulate == 0 or forget:
            self.optimizer.zero_grad()
        (losses.total / (accumulate if mean else 1)).backward()
        largest = config.ppo.max_grad_norm
        if clip_each:
            nn.utils.clip_grad_norm_(policy.parameters(), largest)
        self.observer.on_backward(self.updates, number, policy)
        if (number + 1) % accumulate == 0:
            norms.append(torch.zeros(()))
            if clip is not None and not clip_late and not clip_each:
                clip(policy.parameters(), largest)
            self.optimizer.step()
            self.observer.on_step(self.updates, number, policy)
            if clip is not None and clip_late:
                clip(policy.parameters(), largest)
            policy.clip_weights()
            self.observer.on_clip(self.updates, number, policy)
        return losses

    patcher.attribute(Trainer, "_minibatch", minibatch)


@_in_step(origin=f"{TRACKERS}: gradients clipped one by one", component="gradient norm")
def clip_per_parameter(patcher: Patcher) -> None:
    """Each parameter's gradient is shortened by its own norm."""

    def clip(parameters: Iterable[Tensor], largest: float) -> Tensor:
        return torch.stack([nn.utils.clip_grad_norm_(parameter, largest) for parameter in parameters]).norm()

    _minibatches(patcher, clip=clip)


@_in_step(origin=f"{TRACKERS}: gradient clip after the step", component="gradient norm")
def clip_after_the_step(patcher: Patcher) -> None:
    """Gradients are shortened when they were used already."""
    _minibatches(patcher, clip_late=True)


@_in_step(origin=NUMBERS, component="gradient norm")
def gradients_not_clipped(patcher: Patcher) -> None:
    """Gradients of any length are used as they are."""
    _minibatches(patcher, clip=None)


@CATALOGUE.fault(origin=CLIPPED, check="optimizer", component="accumulation", phase="backward", place="both")
def clip_before_accumulation(patcher: Patcher) -> None:
    """Gradients are shortened after each minibatch, not when they are added up."""
    _minibatches(patcher, clip_each=True)


@CATALOGUE.fault(
    origin=f"{TRACKERS}: accumulated losses not averaged",
    check="optimizer",
    component="accumulation",
    phase="backward",
    place="both",
)
def accumulation_without_the_mean(patcher: Patcher) -> None:
    """Losses of an accumulation are added instead of averaged."""
    _minibatches(patcher, mean=False)


@CATALOGUE.fault(
    origin=f"{TRACKERS}: zero_grad in every minibatch",
    check="optimizer",
    component="accumulation",
    phase="backward",
    place="both",
)
def gradients_forgotten_between_minibatches(patcher: Patcher) -> None:
    """Only the last minibatch of an accumulation counts."""
    _minibatches(patcher, forget=True)


# The optimizer's state in other hands


def _adopting(patcher: Patcher, change: Callable[[dict[str, dict[str, Tensor]]], dict[str, Any]]) -> None:
    """Let an optimizer adopt something else than the state it is given."""

    def make(load: Callable[..., None]) -> Callable[..., None]:
        return lambda self, state: load(self, change(state))

    patcher.wrap(Optimizer, "load_state_dict", make)


@_in_step(origin=RESUME, component="cnn1")
def optimizer_state_not_adopted(patcher: Patcher) -> None:
    """Moments and steps begin anew."""
    _adopting(patcher, lambda state: {})


@_in_step(origin=RESUME, component="cnn1")
def step_counter_not_adopted(patcher: Patcher) -> None:
    """Moments go on, their bias correction begins anew."""
    _adopting(
        patcher,
        lambda state: {
            name: {key: torch.zeros_like(value) if key == "step" else value for key, value in own.items()}
            for name, own in state.items()
        },
    )


@_in_step(origin=f"{TRACKERS}: parameter group order changed", component="_core_")
def states_of_equal_shapes_swapped(patcher: Patcher) -> None:
    """The two biases of an LSTM layer get each other's moments."""

    def swap(state: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
        names = {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}
        other = {
            name: next((name.replace(old, new) for old, new in names.items() if old in name), name) for name in state
        }
        return {name: state.get(other[name], own) for name, own in state.items()}

    _adopting(patcher, swap)


# Harmless rewrites


@CATALOGUE.control(why="the same formula, over all parameters at once")
def adam_over_lists_of_tensors(patcher: Patcher) -> None:
    """Adam and AdamW take their multi-tensor form."""
    for name in ("Adam", "AdamW"):
        patcher.attribute(torch.optim, name, partial(getattr(torch.optim, name), foreach=True))


@CATALOGUE.control(why="the same norm, added up in another order")
def norm_of_each_gradient_by_itself(patcher: Patcher) -> None:
    """The global norm is made of the parameters' norms, last first."""

    def clip(parameters: Iterable[Tensor], largest: float) -> Tensor:
        return torch.nn.utils.clip_grad.clip_grad_norm_(list(parameters)[::-1], largest, foreach=False)

    patcher.attribute(nn.utils, "clip_grad_norm_", clip)


@CATALOGUE.control(why="states are known by the names of their parameters")
def states_listed_backwards(patcher: Patcher) -> None:
    """An optimizer's state begins with the last parameter."""

    def make(read: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda self: dict(reversed(read(self).items()))

    patcher.wrap(Optimizer, "state_dict", make)

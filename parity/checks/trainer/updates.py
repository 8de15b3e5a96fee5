"""What one update of the trainer makes of its minibatches' gradients, against sums and formulas of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.checks.case import Case
from parity.checks.oracles.optimizers import Moments, Numbers, adam, clipped_by_norm
from parity.compare.trace import Trace
from parity.pairs.subjects import Subject

#: A training with four minibatches in an update.
SMALLEST = {"total_updates": 4, "num_agents": 2, "bptt_horizon": 2, "batch_size": 16, "minibatch_size": 4}
ACCUMULATED = 2
#: With an eps this large Adam's steps depend on how long gradients are, not on their direction alone.
NUMBERS = Numbers(learning_rate=0.01, beta1=0.9, beta2=0.999, eps=1e-3, weight_decay=0.0)


@dataclass
class _Step:
    """What was seen around one optimizer step, by parameter."""

    losses: list[dict[str, Tensor]] = field(default_factory=list)  # gradient of each minibatch's loss, by itself
    before: dict[str, Tensor] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    clipped: dict[str, Tensor] = field(default_factory=dict)
    after: dict[str, Tensor] = field(default_factory=dict)


class _Watch:
    """Keeps what the optimizer steps of an update begin with and end in."""

    def __init__(self, policy: nn.Module) -> None:
        self.parameters = dict(policy.named_parameters())
        self.steps = [_Step()]

    def on_rollout_step(self, update: int, step: int, td: TensorDictBase) -> None:
        """Nothing."""

    def on_advantages(self, update: int, advantages: Tensor, probabilities: Tensor) -> None:
        """Nothing."""

    def on_minibatch(self, update: int, minibatch: int, data: Any, losses: Any) -> None:
        """Differentiate the loss once more, past what is accumulated."""
        trained = {name: value for name, value in self.parameters.items() if value.requires_grad}
        found = torch.autograd.grad(losses.total, list(trained.values()), retain_graph=True, allow_unused=True)
        gradients = dict(zip(trained, found, strict=True))
        self.steps[-1].losses.append(
            {
                name: torch.zeros_like(value) if (gradient := gradients.get(name)) is None else gradient
                for name, value in self.parameters.items()
            }
        )

    def on_backward(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """What was added up so far."""
        self.steps[-1].added, self.steps[-1].before = self._gradients(), self._weights()

    def on_step(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """What the optimizer was given, and what it made of it."""
        self.steps[-1].clipped, self.steps[-1].after = self._gradients(), self._weights()
        self.steps.append(_Step())

    def on_clip(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Nothing."""

    def on_update(self, update: int, metrics: Mapping[str, Any]) -> None:
        """The step that did not come."""
        self.steps.pop()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def _gradients(self) -> dict[str, Tensor]:
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in self.parameters.items()}


class Update:
    """One update of one side: ``actual`` is what was seen, ``expected`` what follows from the minibatches' losses.

    Args:
        case: the cell being judged.
        seed: of the training.
        max_grad_norm: what the gradients' common norm is clipped to.
    """

    def __init__(self, case: Case, seed: int, max_grad_norm: float) -> None:
        self.case, self.largest = case, max_grad_norm
        self.settings = {
            **SMALLEST,
            "seed": seed,
            "gradient_accumulation_steps": ACCUMULATED,
            "ppo": {"max_grad_norm": max_grad_norm},
            "optimizer": {"type": "adam", **vars(NUMBERS)},
        }
        self._seen: dict[tuple[str, int | None], list[_Step]] = {}

    def actual(self, subject: Subject, trace: Trace) -> None:
        """What the trainer did."""
        steps = self._steps(subject)
        trace.fact("minibatches per optimizer step", [len(step.losses) for step in steps], component="accumulation")
        for number, step in enumerate(steps):
            trace.minibatch = ACCUMULATED * (number + 1) - 1
            self._record(subject, trace, "backward", step.added, "accumulation")
            self._record(subject, trace, "optimizer step", step.clipped, "gradient norm")
            self._record(subject, trace, "optimizer step", step.after)

    def expected(self, subject: Subject, trace: Trace) -> None:
        """The mean of the minibatches' gradients, shortened together, and Adam's step on them."""
        steps = self._steps(subject)
        count = SMALLEST["batch_size"] // SMALLEST["minibatch_size"] // ACCUMULATED
        trace.fact("minibatches per optimizer step", [ACCUMULATED] * count, component="accumulation")
        seen = {name: Moments() for name in steps[0].before} if steps else {}
        for number, step in enumerate(steps):
            trace.minibatch = ACCUMULATED * (number + 1) - 1
            added = {
                name: torch.stack([loss[name] / ACCUMULATED for loss in step.losses]).sum(0) for name in step.before
            }
            clipped = clipped_by_norm(added, self.largest)
            after = {
                name: adam(step.before[name], clipped[name], seen[name], NUMBERS, decoupled=False) for name in clipped
            }
            self._record(subject, trace, "backward", added, "accumulation")
            self._record(subject, trace, "optimizer step", clipped, "gradient norm")
            self._record(subject, trace, "optimizer step", after)

    def _record(
        self, subject: Subject, trace: Trace, phase: str, values: Mapping[str, Tensor], component: str = ""
    ) -> None:
        trace.phase = phase
        for name, value in subject.to_reference(dict(values)).items():
            trace.record(name, value, component=component or self.case.pair.home(name))

    def _steps(self, subject: Subject) -> list[_Step]:
        """The steps of the update; both programs look at one run."""
        key = subject.side, subject.nudge
        if key not in self._seen:
            training = self.case.pair.training
            assert training is not None, "the capability says that there is one"
            watch = _Watch(subject.policy)
            trainer = training.start(subject.policy, subject.recipe.environment, self.settings, watcher=watch)
            trainer.rollout()
            trainer.update()
            self._seen[key] = watch.steps
        return self._seen[key]

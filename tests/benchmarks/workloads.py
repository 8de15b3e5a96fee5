"""What is timed on one side of a pair, in float32 on stress weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from parity.agents.interface import ENV_OBS
from parity.checks.draw import legal_actions
from parity.compare.probes import Probes
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair
from parity.pairs.subjects import Subject
from parity.pairs.training import Trainer

MOST_ROWS = 256


def weigh(log_prob: Tensor, value: Tensor, entropy: Tensor) -> Tensor:
    """A loss that every output takes part in."""
    return log_prob.sum() + value.sum() + entropy.sum()


class Workload:
    """One side, with observations and actions for up to 256 rows."""

    def __init__(self, pair: Pair, subject: Subject) -> None:
        environment = subject.recipe.environment
        self.side, self.policy = subject.side, subject.copy().policy
        self.observations = pair.generate(environment, rows=MOST_ROWS, seed=1)
        self.action = legal_actions(environment, (MOST_ROWS,), 1)
        self._build = lambda: getattr(pair, subject.side)(subject.recipe)
        self._paths = pair.paths(subject.side)
        self._start = lambda: start_training(pair, subject, agents=16, steps=16, minibatch=128)

    @functools.cached_property
    def trainer(self) -> Trainer:
        """A training of 16 agents in segments of 16 steps, a copy of the side's policy in it."""
        return self._start()

    def rollout_update(self) -> None:
        """One rollout and the update on it: two minibatches of 128 rows."""
        self.trainer.rollout()
        self.trainer.update()

    @torch.no_grad()
    def act(self, rows: int) -> None:
        """Inference ``[rows]`` from a zero state."""
        self.policy.reset_memory()
        self.policy(TensorDict({ENV_OBS: self.observations[:rows]}, batch_size=[rows]))

    def evaluate(self, batch: int, steps: int) -> TensorDict:
        """The training forward ``[batch, steps]``."""
        rows, shape = batch * steps, (batch, steps)
        td = TensorDict({ENV_OBS: self.observations[:rows].unflatten(0, shape)}, batch_size=shape)
        return self.policy(td, action=self.action[:rows].unflatten(0, shape))

    @torch.no_grad()
    def forward(self, batch: int, steps: int) -> None:
        """The training forward without gradients."""
        self.evaluate(batch, steps)

    @torch.no_grad()
    def probed_forward(self, batch: int, steps: int) -> None:
        """The same with every component of the pair probed."""
        with Probes(self.policy, self._paths, Trace()):
            self.evaluate(batch, steps)

    def forward_backward(self, batch: int, steps: int) -> None:
        """The training forward and the gradients of all parameters."""
        self.policy.zero_grad(set_to_none=True)
        out = self.evaluate(batch, steps)
        weigh(out["act_log_prob"], out["value"], out["entropy"]).backward()

    def build(self) -> None:
        """Build the side afresh and initialise it to its environment."""
        self._build()


def start_training(pair: Pair, subject: Subject, *, agents: int, steps: int, minibatch: int) -> Trainer:
    """A training of a copy of one side, whose steps are too small to change what later rounds compute with."""
    assert pair.training is not None
    settings = {
        "num_agents": agents,
        "bptt_horizon": steps,
        "batch_size": agents * steps,
        "minibatch_size": minibatch,
        "total_updates": 1_000,
        "optimizer": {"learning_rate": 1e-12},
    }
    return pair.training.start(subject.copy().policy, subject.recipe.environment, settings)


#: Measure -> the run that is timed.
MEASURES: Mapping[str, Callable[[Workload], object]] = {
    "forward_1": lambda work: work.act(1),
    "forward_64": lambda work: work.act(64),
    "forward_256": lambda work: work.act(256),
    "forward_16x16": lambda work: work.forward(16, 16),
    "forward_backward_4x8": lambda work: work.forward_backward(4, 8),
    "forward_backward_16x16": lambda work: work.forward_backward(16, 16),
    "rollout_update_16x16": lambda work: work.rollout_update(),
    "build": lambda work: work.build(),
    "clip": lambda work: work.policy.clip_weights(),
    "weight_metrics": lambda work: work.policy.compute_weight_metrics(),
}

"""A training watched from outside: its policy, environment and optimizer are asked, not the trainer's code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    DONES,
    ENTROPY,
    ENV_ID_START,
    ENV_OBS,
    MEMORY_H,
    TRUNCATEDS,
    VALUE,
    VALUES,
)
from parity.checks.registry import Example
from parity.checks.trainer.seen import L2_INIT, REWARDS, Act, SeenMinibatch, SeenUpdate, Values
from parity.compare.trace import Trace
from parity.pairs.subjects import Subject
from parity.pairs.training import Trainer, Training

#: What else a trainer hands over of a minibatch, beside the policy's own entries.
HANDED = (ACTIONS, ACT_LOG_PROB, VALUES, REWARDS, DONES, TRUNCATEDS, "advantages", "weights")
#: Policy methods whose order counts.
NOTED = ("reset_memory", "clip_weights", "update_l2_init_weight_copy", "compute_weight_metrics")


class Enough(Exception):
    """Ends a training that has shown what was asked for."""


def watch(
    training: Training, subject: Subject, settings: Mapping[str, Any], example: Example, trace: Trace, *,
    updates: int = 1, until: str = "",
) -> list[SeenUpdate]:  # fmt: skip
    """Train a subject, which it uses up, and return what was seen of each update.

    Rewards, dones and truncateds are drawn from the example instead of the world's, so that episodes end in every way.

    Args:
        training: the pair's.
        subject: a copy.
        settings: of the training.
        example: has ``seed``, ``rebase_every`` and ``measure_every``.
        trace: its cursor is moved along, for errors to have a place.
        updates: how many.
        until: end with the first ``act`` or ``evaluate``.
    """
    policy = subject.policy
    policy.l2_init_weight_update_interval = example["rebase_every"]
    policy.analyze_weights_interval = example["measure_every"]
    watcher = _Watcher(subject, example["seed"], trace, until)
    trace.phase = "build"
    trainer = training.start(policy, subject.recipe.environment, settings, watcher=watcher)
    watcher.attach(trainer)
    try:
        for update in range(updates):
            watcher.begin(update)
            trainer.rollout()
            watcher.updates[-1].metrics = trainer.update()
    except Enough:
        pass
    finally:
        watcher.detach()
    trace.update = trace.minibatch = None
    return watcher.updates


class _Watcher:
    """Sits on one policy, its environment and its optimizer."""

    def __init__(self, subject: Subject, seed: int, trace: Trace, until: str) -> None:
        self.policy, self.trace, self.until = subject.policy, trace, until
        self.cuda = subject.device != "cpu"
        self.random = torch.Generator().manual_seed(seed)
        self.updates: list[SeenUpdate] = []
        self.evaluated: Values = {}
        self.gradients: Values = {}
        self.squares: dict[str, Tensor] = {}
        self.hooks: list[RemovableHandle] = []
        self.trainer: Trainer

    @property
    def now(self) -> SeenUpdate:
        """The update under way."""
        return self.updates[-1]

    def attach(self, trainer: Trainer) -> None:
        """Wrap what is called."""
        self.trainer = trainer
        policy = self.policy
        for name in NOTED:
            setattr(policy, name, self._noting(name, getattr(policy, name)))
        self.l2_init_loss = policy.l2_init_loss
        policy.l2_init_loss = self._l2_init_loss
        policy.register_forward_pre_hook(self._before, with_kwargs=True)
        policy.register_forward_hook(self._after, with_kwargs=True)
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(
                    lambda p, name=name: self.squares.update({name: _square(p.grad)})
                )
                self.hooks.append(hook)
        trainer.optimizer.step = self._stepping(trainer.optimizer.step)
        trainer.environment.step = self._answering(trainer.environment.step)

    def detach(self) -> None:
        """Take the hooks off the parameters: torch holds them where no garbage collector looks."""
        for hook in self.hooks:
            hook.remove()

    def begin(self, update: int) -> None:
        """Open the next update."""
        self.trace.update, self.trace.minibatch, self.trace.phase = update, None, "rollout"
        self.updates.append(SeenUpdate(generator=self.trainer.experience.generator.get_state()))

    def _noting(self, name: str, original: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.now.calls.append(name)
            return original(*args, **kwargs)

        return noted

    def _stepping(self, original: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.now.calls.append("step")
            self.now.minibatches[-1].norms["at the step"] = _norm(self._squares())
            return original(*args, **kwargs)

        return step

    def _answering(self, original: Any) -> Any:
        def step(actions: Tensor) -> Any:
            self.now.taken.append(actions.clone())
            answer = original(actions)
            count = len(answer.rewards)
            drawn = torch.rand(2, count, generator=self.random) < 0.2
            rewards = torch.randn(count, generator=self.random)
            answer = dataclasses.replace(answer, rewards=rewards, dones=drawn[0], truncateds=drawn[1])
            keys = {ENV_OBS: "observations", REWARDS: "rewards", DONES: "dones", TRUNCATEDS: "truncateds"}
            self.now.steps.append({key: getattr(answer, name).clone() for key, name in keys.items()})
            return answer

        return step

    def _before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        td: TensorDictBase = args[0]
        if kwargs.get("action") is not None:
            self.now.calls.append("evaluate")
            return
        self.now.calls.append("act")
        random = torch.cuda.get_rng_state() if self.cuda else torch.get_rng_state()
        start = td.get(ENV_ID_START, None)
        env_id = 0 if start is None else int(start.flatten()[0])
        given = {key: td[key].clone() for key in (ENV_OBS, DONES, TRUNCATEDS)}
        state = self.policy.get_memory().get(env_id) if MEMORY_H in self.trainer.experience.buffer else None
        self.now.acts.append(Act(env_id, state, random, given, {}))

    def _after(self, _: Any, args: Any, kwargs: dict[str, Any], td: TensorDictBase) -> None:
        if kwargs.get("action") is None:
            self.now.acts[-1].made = {key: td[key].clone() for key in (ACTIONS, ACT_LOG_PROB, VALUES)}
            if self.until == "act":
                raise Enough
            return
        outputs = {key: td[key] for key in (ACT_LOG_PROB, ENTROPY, VALUE)}
        self.evaluated = {key: value.detach().clone() for key, value in outputs.items()}
        with torch.no_grad():
            self.evaluated[L2_INIT] = self.l2_init_loss()
        self.gradients = {key: torch.zeros_like(value) for key, value in self.evaluated.items()}
        for key, value in outputs.items():
            self._keep_gradient(key, value)

    def _l2_init_loss(self) -> Tensor:
        loss = self.l2_init_loss()
        self._keep_gradient(L2_INIT, loss)
        return loss

    def _keep_gradient(self, key: str, value: Tensor) -> None:
        kept = self.gradients
        if value.requires_grad:
            value.register_hook(lambda gradient: kept.update({key: gradient.clone()}))

    def _squares(self) -> dict[str, Tensor]:
        named = self.policy.named_parameters()
        return {name: _square(value.grad) for name, value in named if value.grad is not None}

    def on_advantages(self, update: int, advantages: Tensor, probabilities: Tensor) -> None:
        """Keep what everything that follows is computed from."""
        seen, experience = self.now, self.trainer.experience
        seen.buffer = {key: value.clone() for key, value in experience.buffer.items()}
        seen.generator = experience.generator.get_state()
        seen.advantages, seen.probabilities = advantages.clone(), probabilities.clone()
        self.trace.phase = "forward"

    def on_rollout_step(self, update: int, step: int, td: Any) -> None:
        """What the policy and the environment have told already."""
        self.now.told.setdefault("on_rollout_step", []).append((update, step))

    def on_minibatch(self, update: int, minibatch: int, data: Any, losses: Any) -> None:
        """Keep it, and wait for its gradients."""
        self.now.told.setdefault("on_minibatch", []).append((update, minibatch))
        handed = {**{key: data.inputs[key].clone() for key in sorted(data.inputs.keys())},
                  **{key: getattr(data, key).clone() for key in HANDED}}  # fmt: skip
        seen = SeenMinibatch(data.indices.clone(), handed, self.evaluated, losses.detached(), self.gradients, {})
        self.now.minibatches.append(seen)
        self.trace.minibatch, self.trace.phase = minibatch, "backward"
        if self.until == "evaluate":
            raise Enough

        def begins(_: Tensor) -> None:
            self.now.calls.append("backward")
            self.squares = self._squares()
            seen.norms["before backward"] = _norm(self.squares)

        losses.total.register_hook(begins)

    def on_backward(self, update: int, minibatch: int, policy: Any) -> None:
        """Gradients were seen as each arrived, before anything else could change them."""
        norms = self.now.minibatches[-1].norms
        if "before backward" in norms:
            norms["after backward"] = _norm(self.squares)

    def on_nothing(self, *_: Any, **__: Any) -> None:
        """The figures are kept where the update returns them."""

    def on_step(self, update: int, minibatch: int, policy: Any) -> None:
        """What the optimizer has told already."""
        self.now.told.setdefault("on_step", []).append((update, minibatch))

    def on_clip(self, update: int, minibatch: int, policy: Any) -> None:
        """What the policy has told already."""
        self.now.told.setdefault("on_clip", []).append((update, minibatch))

    on_update = on_nothing


def _square(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.detach().square().sum()


def _norm(squares: Mapping[str, Tensor]) -> Tensor:
    """Root of the sum, in the order of names, so that equal gradients have equal norms."""
    total = torch.zeros((), dtype=torch.float64)
    for name in sorted(squares):
        total = total + squares[name].to(total)
    return total.sqrt()

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from training_samples import SIDES, Counting, agent, config, stressed

from parity.agents.errors import ConfigError
from parity.agents.interface import MEMORY_H, Policy
from parity.environments.interface import Step
from parity.training.experience import Minibatch
from parity.training.losses import Losses
from parity.training.observer import Recorder, Replay, ReplayError, TrainingObserver
from parity.training.trainer import Trainer


class Spy(TrainingObserver):
    """Writes down who was called, and keeps copies of what was handed over."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.ratios: list[Tensor] = []
        self.opens_inside: list[bool] = []
        self.memory: list[float] = []
        self.gradients: dict[str, list[dict[str, Tensor]]] = {"backward": [], "step": []}
        self.weights: dict[str, list[dict[str, Tensor]]] = {"backward": [], "step": [], "clip": []}
        self.minibatches: list[Minibatch] = []
        self.losses: list[Losses] = []

    def on_minibatch(self, update: int, minibatch: int, data: Minibatch, losses: Losses) -> None:
        self.events.append("minibatch")
        self.minibatches.append(data)
        self.losses.append(losses)
        self.opens_inside.append(bool((data.dones + data.truncateds)[:, 1:].any()))
        self.memory.append(float(data.inputs[MEMORY_H].abs().max()))

    def on_backward(self, update: int, minibatch: int, policy: nn.Module) -> None:
        self._keep("backward", policy)

    def on_step(self, update: int, minibatch: int, policy: nn.Module) -> None:
        self._keep("step", policy)

    def on_clip(self, update: int, minibatch: int, policy: nn.Module) -> None:
        self._keep("clip", policy)

    def _keep(self, point: str, policy: nn.Module) -> None:
        self.events.append(point)
        self.weights[point].append({name: value.detach().clone() for name, value in policy.named_parameters()})
        if point in self.gradients:
            grads = {name: value.grad.clone() for name, value in policy.named_parameters() if value.grad is not None}
            self.gradients[point].append(grads)


def parameters(policy: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in policy.named_parameters()}


def same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# The first minibatch


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("chunk", [0, 2])
def test_the_first_ratio_is_one_at_every_step(side: str, dtype: torch.dtype, chunk: int) -> None:
    spy = Spy()
    settings = config(minibatch_size=48, forward_pass_minibatch=chunk)
    policy = stressed(side, dtype)
    trainer = Trainer(policy, Counting(4), settings, observer=spy)
    trainer.rollout()
    trainer.update()
    data = spy.minibatches[0]
    assert spy.opens_inside[0] and spy.memory[0] > 0.01  # boundaries inside, and second segments start mid-memory
    assert sorted(data.indices.tolist()) == list(range(8))
    fresh = Trainer(stressed(side, dtype), Counting(4), settings)
    evaluated = fresh.policy(data.inputs, action=data.actions)
    ratio = (evaluated["act_log_prob"] - data.act_log_prob).exp().detach()
    slack = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=slack)
    assert float(spy.losses[0].clipfrac) == 0.0 and abs(float(spy.losses[0].approx_kl)) < slack
    # The stored memory is what makes it so for second segments, the stored flags for boundaries.
    for key in ("memory_h", "dones", "truncateds"):
        blind = data.inputs.clone()
        blind[key] = torch.zeros_like(blind[key])
        changed = (fresh.policy(blind, action=data.actions)["act_log_prob"] - data.act_log_prob).abs().max()
        assert float(changed.detach()) > 1e-3, key


# The order of calls


class Recording(Policy):
    """One weight, no observation: every call of the trainer is written down."""

    clip_range, analyze_weights_interval, l2_init_weight_update_interval = 0.0, 3, 2

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls
        self.weight = nn.Parameter(torch.tensor(0.3))

    def forward(self, td: TensorDictBase, state: None = None, action: Tensor | None = None) -> TensorDictBase:
        shape = td.batch_size
        if action is None:
            self.calls.append("act")
            td["actions"] = torch.zeros(*shape, 2, dtype=torch.int32)
            td["act_log_prob"], td["values"] = torch.zeros(shape), torch.zeros(shape)
            return td
        self.calls.append("evaluate")
        value = self.weight.expand(shape)
        return TensorDict({"act_log_prob": value - value, "entropy": value, "value": value}, batch_size=shape)

    def l2_init_loss(self) -> Tensor:
        self.calls.append("l2_init_loss")
        return self.weight.square()

    def compute_weight_metrics(self, delta: float = 0.01) -> list[dict[str, float | str]]:
        self.calls.append("weight metrics")
        return [{"name": "w"}]

    def get_agent_experience_spec(self) -> dict[str, Any]:
        return {}

    def get_memory(self) -> dict[int, tuple[Tensor, Tensor]]:
        return {}


def _noting(name: str) -> Callable[..., Any]:
    return lambda self, *_: self.calls.append(name)


for _name in Policy.__abstractmethods__ - set(vars(Recording)):
    setattr(Recording, _name, _noting(_name))
Recording.__abstractmethods__ = frozenset()


def record_calls(monkeypatch: pytest.MonkeyPatch, updates: int = 1, **changes: Any) -> list[str]:
    calls: list[str] = []
    policy = Recording(calls)  # pyright: ignore[reportAbstractUsage] - its methods were added above
    trainer = Trainer(policy, Counting(4), config(bptt_horizon=12, batch_size=48, **changes))
    part = trainer.optimizer.parts[0]
    for owner, name, label in (
        (part, "zero_grad", "zero_grad"),
        (part, "step", "step"),
        (torch.Tensor, "backward", "backward"),
        (torch.nn.utils, "clip_grad_norm_", "clip_grad_norm"),
    ):
        original = getattr(owner, name)

        def wrapped(*args: Any, _original: Any = original, _label: str = label, **kwargs: Any) -> Any:
            calls.append(_label)
            return _original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)
    for _ in trainer.run(updates):
        pass
    return calls


STEP = ["zero_grad", "backward", "clip_grad_norm", "step", "clip_weights"]


def test_memory_is_reset_before_the_rollout_and_each_minibatch_and_weights_clipped_after_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minibatch = ["reset_memory", "evaluate", *STEP]
    assert record_calls(monkeypatch) == ["reset_memory", *["act"] * 12, *minibatch, *minibatch]


def test_accumulated_minibatches_share_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record_calls(monkeypatch, gradient_accumulation_steps=2)
    both = ["reset_memory", "evaluate", "zero_grad", "backward", "reset_memory", "evaluate", *STEP[1:]]
    assert calls[13:] == both


def test_rebasing_and_weight_metrics_come_when_due(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record_calls(monkeypatch, updates=6, minibatch_size=48, ppo={"l2_init_loss_coef": 0.1})
    wanted = ("clip_weights", "l2_init_loss", "update_l2_init_weight_copy", "weight metrics")
    one, rebase, metrics = ["l2_init_loss", "clip_weights"], ["update_l2_init_weight_copy"], ["weight metrics"]
    expected = [*one, *one, *rebase, *one, *metrics, *one, *rebase, *one, *one, *rebase, *metrics]
    assert [call for call in calls if call in wanted] == expected


def test_a_large_divergence_ends_the_update() -> None:
    def minibatches(target: float | None) -> int:
        settings = config(update_epochs=5, ppo={"target_kl": target}, optimizer={"learning_rate": 0.05, "eps": 1.0e-5})
        (metrics,) = Trainer(agent("candidate"), Counting(4), settings).run(1)
        return metrics["minibatches"]

    assert minibatches(None) == minibatches(1e9) == 10
    assert minibatches(1e-9) in (2, 4)


# What an update does


@pytest.mark.parametrize("side", SIDES)
def test_the_observer_sees_each_point_of_a_step(side: str) -> None:
    spy = Spy()
    settings = config(ppo={"max_grad_norm": 1e-3}, optimizer={"learning_rate": 1e-2, "eps": 1.0e-8})
    policy = agent(side, clip_range=0.5)
    trainer = Trainer(policy, Counting(4), settings, observer=spy)
    before = parameters(policy)
    trainer.rollout()
    trainer.update()
    assert spy.events == ["minibatch", "backward", "step", "clip"] * 2

    def norm(gradients: dict[str, Tensor]) -> float:
        return float(torch.stack([value.norm() for value in gradients.values()]).norm())

    assert norm(spy.gradients["backward"][0]) > 1e-2
    assert norm(spy.gradients["step"][0]) == pytest.approx(1e-3, rel=1e-3)
    assert same_bits(spy.weights["backward"][0], before)
    assert not same_bits(spy.weights["step"][0], before)
    assert not same_bits(spy.weights["clip"][0], spy.weights["step"][0])
    assert same_bits(spy.weights["backward"][1], spy.weights["clip"][0])
    assert same_bits(spy.weights["clip"][1], parameters(policy))


def test_accumulation_takes_the_step_of_one_large_minibatch() -> None:
    # Normalising is per minibatch; and a clipped norm would hide a wrong scale from Adam.
    settings = {"optimizer": {"eps": 1.0e-5}, "ppo": {"norm_adv": False, "max_grad_norm": 1e9}}

    def first_step(**changes: Any) -> tuple[dict[str, Tensor], float]:
        policy = agent("candidate")
        halves = torch.arange(8).split(config(**changes).minibatch_segments)
        recorder = Recorder()
        Trainer(agent("candidate"), Counting(4), config(), observer=recorder).rollout()
        trainer = Trainer(policy, Counting(4), config(**settings, **changes), replay=Replay(recorder.actions, halves))
        trainer.rollout()
        norm = trainer.update()["gradient_norm"]
        return parameters(policy), norm

    whole, norm = first_step(minibatch_size=48)
    halved, halved_norm = first_step(gradient_accumulation_steps=2)
    assert halved_norm == pytest.approx(norm, rel=1e-9)
    for name, value in whole.items():
        torch.testing.assert_close(halved[name], value, rtol=1e-9, atol=1e-9)


class Bandit(Counting):
    """Type 1 is always right."""

    def step(self, actions: Tensor) -> Step:
        return replace(super().step(actions), rewards=(actions[:, 0] == 1).float())


@pytest.mark.parametrize("kind", ["adam", "muon"])
@pytest.mark.parametrize("side", SIDES)
def test_a_rewarded_action_is_taken_more_and_more(side: str, kind: str) -> None:
    settings = config(
        total_updates=40,
        update_epochs=2,
        optimizer={"type": kind, "learning_rate": 1e-2},
        prioritized_experience_replay={"prio_alpha": 0.5},
    )
    rewards = [metrics["reward"] for metrics in Trainer(agent(side), Bandit(4), settings).run()]
    assert sum(rewards[:3]) / 3 < 0.4 and sum(rewards[-5:]) / 5 > 0.9


def test_the_importance_exponent_grows_to_one() -> None:
    seen: list[float] = []

    class Weights(TrainingObserver):
        def on_minibatch(self, update: int, minibatch: int, data: Minibatch, losses: Losses) -> None:
            segments = trainer.experience.segments
            wanted = trainer.experience.probabilities(self.advantages, 1.0)[data.indices] * segments
            seen.append(float((-data.weights.squeeze(1).log() / wanted.log()).median()))

        def on_advantages(self, update: int, advantages: Tensor, probabilities: Tensor) -> None:
            self.advantages = advantages

    settings = config(
        total_updates=3, minibatch_size=48, prioritized_experience_replay={"prio_alpha": 1.0, "prio_beta0": 0.4}
    )
    trainer = Trainer(agent("candidate"), Counting(4), settings, observer=Weights())
    for _ in trainer.run():
        pass
    assert seen == pytest.approx([0.4, 0.7, 1.0], rel=1e-6)


# Randomness


def test_one_seed_decides_everything_and_interleaved_trainers_do_not_disturb_each_other() -> None:
    def build(seed: int) -> Trainer:
        return Trainer(agent("candidate"), Counting(4), config(seed=seed))

    alone = build(1)
    list(alone.run(3))
    torch.manual_seed(99)
    outside = torch.get_rng_state()
    one, other = build(1), build(2)
    for first, second in zip(one.run(3), other.run(3), strict=True):
        assert first["update"] == second["update"]
    assert torch.equal(torch.get_rng_state(), outside)
    assert same_bits(parameters(one.policy), parameters(alone.policy))
    assert not same_bits(parameters(other.policy), parameters(alone.policy))


@pytest.mark.parametrize("side", SIDES)
def test_a_replay_repeats_a_run_of_another_seed(side: str) -> None:
    recorder, again = Recorder(), Recorder()
    first = Trainer(agent(side), Counting(4), config(seed=1), observer=recorder)
    list(first.run(2))
    second = Trainer(agent(side), Counting(4), config(seed=2), observer=again, replay=recorder.replay())
    list(second.run(2))
    assert all(torch.equal(a, b) for a, b in zip(recorder.actions, again.actions, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(recorder.indices, again.indices, strict=True))
    assert same_bits(parameters(first.policy), parameters(second.policy))
    with pytest.raises(ReplayError, match="actions ended"):
        second.rollout()


def test_both_sides_train_alike() -> None:
    settings = config(optimizer={"eps": 1.0e-5})
    found = [list(Trainer(agent(side), Counting(4), settings).run()) for side in SIDES]
    for left, right in zip(*found, strict=True):
        for key in ("loss_total", "loss_policy", "loss_value", "loss_entropy", "gradient_norm", "reward"):
            assert left[key] == pytest.approx(right[key], rel=1e-9, abs=1e-9), key


# Misuse


def test_agents_that_do_not_match_the_environment_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_agents is 4, but the environment has 3"):
        Trainer(agent("candidate"), Counting(3), config())


def test_both_modes_run_compiled_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def compiled(module: nn.Module, *, backend: str) -> Callable[..., Any]:
        def run(td: TensorDictBase, **kwargs: Any) -> TensorDictBase:
            calls.append(f"{backend} {'evaluate' if kwargs else 'act'}")
            return module(td, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    list(Trainer(agent("candidate"), Counting(4), config(compile="aot_eager")).run(1))
    assert calls == ["aot_eager act"] * 12 + ["aot_eager evaluate"] * 2

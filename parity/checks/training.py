"""training: updates from one seed, weights and losses compared after each; the first that diverges is looked into."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.agents.interface import ACT_LOG_PROB, ACTIONS, FULL_LOG_PROBS, VALUES
from parity.checks.case import Case, Program
from parity.checks.draw import SEEDS, SIZES, WEIGHTS, sized
from parity.checks.registry import Check, Example, nightly
from parity.compare.bounds import BOUNDS, rms
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject

LONG_UPDATES = 20
#: Of narrow floats: Adam, for Muon orthogonalises in bfloat16, where float32 rounding now and then flips a quantum on
#: either side; and with an ``eps`` above a gradient's rounding. Under the default, 1e-12, a step is the sign of its
#: gradient, and one of a hundred thousand may lie within rounding of 0: of 147 trainings of equal `latent_attn_small`
#: 3 went apart there, of 150 with this ``eps`` none. The check ``optimizer`` judges both, from equal gradients.
STEADY = {"type": "adam", "eps": 1e-5}
INDICES = "indices"  # of the segments in a minibatch


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    long = nightly()
    return st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "seed": SEEDS,
            "sizes": SIZES if long else st.just("varied"),
            "updates": st.sampled_from([2, 3, LONG_UPDATES] if long else [2, 3]),
            "clip_range": st.sampled_from([1.0, 0.5, 0.0]),
            "settings": training_settings(),
        }
    )


def training_settings() -> st.SearchStrategy[dict[str, Any]]:
    """Strategy of trainings: four agents, segments of four steps, everything an update does switched on."""
    return st.fixed_dictionaries(
        {
            "seed": SEEDS,
            "num_agents": st.just(4),
            "bptt_horizon": st.just(4),
            "batch_size": st.just(32),
            "minibatch_size": st.just(16),
            "forward_pass_minibatch": st.sampled_from([0, 2]),
            "update_epochs": st.sampled_from([1, 2]),
            "gradient_accumulation_steps": st.sampled_from([1, 2]),
            "total_updates": st.just(LONG_UPDATES),
            "optimizer": st.fixed_dictionaries({"type": st.sampled_from(["adam", "adam", "muon"])}),
            "ppo": st.fixed_dictionaries({"l2_init_loss_coef": st.sampled_from([0.01, 0.0])}),
            "prioritized_experience_replay": st.fixed_dictionaries({"prio_alpha": st.sampled_from([0.6, 0.0])}),
        }
    )


def _judge(case: Case, example: Example) -> None:
    training = case.pair.training
    assert training is not None, "the capability says that there is one"
    recipe = sized(case.recipe(), case.pair, example["sizes"])
    recipe = dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, clip_range=example["clip_range"]))
    sides = case.builds.sides(recipe, example["weights"])
    choices = _Choices()
    settings = example["settings"]
    if case.dtype != torch.float64:
        settings = {**settings, "optimizer": STEADY}

    def train(only: int | None) -> Program:
        """The training; with ``only`` that update alone is recorded, in every detail."""

        def program(subject: Subject, trace: Trace) -> None:
            # narrow floats fork at the first draw beside a tie, so they make the choices of the first reference run
            free = case.dtype == torch.float64 or not choices.known
            watch = _Watch(case, subject, trace, only, settings["minibatch_size"])
            replay = None if free else training.replay(choices.actions, choices.indices)
            trainer = training.start(subject.policy, subject.recipe.environment, settings, watcher=watch, replay=replay)
            for update in range(example["updates"] if only is None else only + 1):
                watch.begin(update)
                trainer.rollout()
                trainer.update()

        return program

    case.parity(train(None), sides, pin=lambda found: train(found.update or 0), chosen=choices.read)


class _Choices:
    """What the first reference run drew."""

    def __init__(self) -> None:
        self.actions: list[Tensor] = []
        self.indices: list[Tensor] = []
        self.known = False

    def read(self, trace: Trace) -> None:
        """Take them from the trace of the whole training."""
        for key, found in ((ACTIONS, self.actions), (INDICES, self.indices)):
            found += [entry.value for place, entry in trace if place.key == key]
        self.known = True


class _Watch:
    """Records one side's training: after each update its weights and losses, or everything about one update."""

    def __init__(self, case: Case, subject: Subject, trace: Trace, only: int | None, minibatch: int) -> None:
        self.case, self.subject, self.trace, self.only, self.minibatch = case, subject, trace, only, minibatch

    def begin(self, update: int) -> None:
        """Move the cursor to an update."""
        self.trace.update, self.trace.minibatch, self.trace.phase = update, None, "rollout"
        self.trace.muted = self.only is not None and update != self.only
        # until the first optimizer step nothing has been trained, and the tighter bounds hold
        self.trace.judged = "ensemble" if update else "value"

    def on_rollout_step(self, update: int, step: int, td: TensorDictBase) -> None:
        """What the policy did and thought of it."""
        self.trace.step = step
        self.trace.record(ACTIONS, td[ACTIONS], judged="sampled")
        scale = float(td[FULL_LOG_PROBS].abs().max())
        for key in (ACT_LOG_PROB, VALUES):
            self.trace.record(key, td[key], scale=scale if key == ACT_LOG_PROB else None)

    def on_advantages(self, update: int, advantages: Tensor, probabilities: Tensor) -> None:
        """What the experience came to."""
        self.trace.step, self.trace.phase, self.trace.judged = None, "advantages", "ensemble"
        self.trace.sequence = (advantages.shape[0], advantages.shape[1])
        self.trace.record("advantages", advantages)
        self.trace.record("sampling probabilities", probabilities)
        self.trace.sequence = (self.minibatch // advantages.shape[1], advantages.shape[1])
        self.trace.minibatch, self.trace.phase = 0, "forward"

    def on_minibatch(self, update: int, minibatch: int, data: Any, losses: Any) -> None:
        """Which segments, and the losses."""
        self.trace.minibatch, self.trace.phase = minibatch, "forward"
        self.trace.record(INDICES, data.indices, judged="sampled")
        for name, value in losses.detached().items():
            # ratios and normalised advantages, whose means these are, lie around 1
            self.trace.record(name, value, component="losses", scale=max(1.0, abs(float(value))))
        self.trace.phase = "backward"

    def on_backward(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Gradients, from the loss backwards, when an update is looked into; null ones are listed."""
        named = dict(policy.named_parameters())
        raw = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in named.items()}
        if self.only is None and (update or minibatch or self.subject.side != "reference"):
            return
        gradients = self.subject.to_reference(raw)
        if self.only is None:
            self._list_null(gradients)
            return
        for name, home in self._backwards(gradients):
            if self.trace.probes is not None and home in self.case.pair.paths("reference"):
                self.trace.probes.record_gradients(home)
            self.trace.record(name, gradients[name], component=home)

    def on_step(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Weights, when an update is looked into."""
        self.trace.phase = "optimizer step"
        if self.only is not None:
            self._record_weights(policy)

    def on_clip(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Weights, when an update is looked into."""
        self.trace.phase = "clip"
        if self.only is not None:
            self._record_weights(policy)
        self.trace.minibatch, self.trace.phase = minibatch + 1, "forward"

    def on_update(self, update: int, metrics: Mapping[str, Any]) -> None:
        """Weights at the update's end."""
        self.trace.minibatch, self.trace.phase = None, "clip"
        if self.only is None:
            self._record_weights(self.subject.policy)

    def _record_weights(self, policy: nn.Module) -> None:
        for name, value in self.subject.to_reference(dict(policy.named_parameters())).items():
            self.trace.record(name, value, component=self.case.pair.home(name))

    def _backwards(self, gradients: Mapping[str, Tensor]) -> list[tuple[str, str]]:
        order = {home: number for number, home in enumerate(reversed(self.case.pair.paths("reference")))}
        named = [(name, self.case.pair.home(name)) for name in gradients]
        return sorted(named, key=lambda entry: order.get(entry[1], len(order)))

    def _list_null(self, gradients: Mapping[str, Tensor]) -> None:
        if self.subject.dtype != torch.float64 or self.subject.nudge is not None:
            return
        sizes = {name: rms(value) for name, value in gradients.items()}
        largest = max(sizes.values())
        null = {name for name, size in sizes.items() if size < BOUNDS.null_gradient * largest}
        self.case.outcome.null_gradients |= null


CHECK = Check(
    name="training",
    summary="updates from one seed: actions, losses and weights after each, within the drift of equal trainings",
    examples=_examples,
    judge=_judge,
    dtypes=("float64", "float32"),
    needs=frozenset({"training"}),
    share=0.15,
)

"""distributed: two ranks that share the agents train as one process that has them all, and agree bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from parity.agents.interface import EnvironmentDescription
from parity.checks.case import Case
from parity.checks.draw import SEEDS, WEIGHTS, legal_actions, sized
from parity.checks.registry import Check, Example
from parity.checks.trainer.processes import run_ranks
from parity.compare.bounds import same_bits
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject
from parity.pairs.training import Trainer, Training

RANKS, UPDATES = 2, 2
AGENTS, STEPS, SEGMENTS, MINIBATCH = 4, 4, 8, 4
#: Means over the agents of an update: ranks of equal sizes have them on average.
FIGURES = ("loss_policy", "loss_value", "loss_entropy", "loss_l2_init", "gradient_norm", "reward")
AGREED = "the same on all ranks"


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    settings = {
        "seed": SEEDS,
        "num_agents": st.just(AGENTS),
        "bptt_horizon": st.just(STEPS),
        "batch_size": st.just(SEGMENTS * STEPS),
        "minibatch_size": st.just(MINIBATCH * STEPS),
        "update_epochs": st.just(2),
        "gradient_accumulation_steps": st.sampled_from([1, 2]),
        "total_updates": st.just(UPDATES),
        "optimizer": st.just({"eps": 1e-8}),
        "ppo": st.sampled_from([{"l2_init_loss_coef": 0.01}, {"l2_init_loss_coef": 0.01, "target_kl": 1e-9}]),
        "prioritized_experience_replay": st.just({"prio_alpha": 0.6, "prio_beta0": 0.4}),
    }
    return st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "seed": SEEDS,
            "sizes": st.just("varied"),
            "clip_range": st.sampled_from([1.0, 0.0]),
            "settings": st.fixed_dictionaries(settings),
        }
    )


def _judge(case: Case, example: Example) -> None:
    training = case.pair.training
    assert training is not None, "the capability says that there is one"
    recipe = sized(case.recipe(), case.pair, example["sizes"])
    recipe = dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, clip_range=example["clip_range"]))
    sides = case.builds.sides(recipe, example["weights"])

    def share(subject: Subject) -> Share:
        return Share(training, subject.policy, recipe.environment, example["settings"], example["seed"])

    def alone(subject: Subject, trace: Trace) -> None:
        trainer = share(subject).trainer(None)
        for update in range(UPDATES):
            trainer.rollout()
            metrics = trainer.update()
            weights = _Weights(subject.policy)
            _record(case, subject, trace, update, [metrics], [weights])

    def ranks(subject: Subject, trace: Trace) -> None:
        with tempfile.TemporaryDirectory(prefix="parity-") as name:
            folder = Path(name)
            run_ranks(share(subject), RANKS, folder)
            for update in range(UPDATES):
                files = [folder / f"{rank}-{update}" for rank in range(RANKS)]
                metrics = [json.loads(file.with_suffix(".json").read_text(encoding="utf-8")) for file in files]
                weights = [_Weights(subject.policy, load_file(file.with_suffix(".safetensors"))) for file in files]
                _record(case, subject, trace, update, metrics, weights)

    case.contract(
        alone, ranks, sides, cause=f"{RANKS} ranks do not train as one process does that has all their agents"
    )


@dataclass(frozen=True)
class Share:
    """What a rank does: it trains a copy of the policy on its share of the agents, and writes what came of it.

    Actions and minibatches are given, because each rank draws its own.
    """

    training: Training
    policy: Any
    environment: EnvironmentDescription
    settings: Mapping[str, Any]
    seed: int

    def trainer(self, rank: int | None) -> Trainer:
        """The trainer of one rank, or with None of all their agents."""
        count = 1 if rank is None else RANKS
        mine = AGENTS // count
        agents = slice((rank or 0) * mine, (rank or 0) * mine + mine)
        calls = SEGMENTS // AGENTS * STEPS
        actions = legal_actions(self.environment, (UPDATES, calls, AGENTS), self.seed)[:, :, agents].flatten(0, 1)
        # segments are numbered as they are filled, so that equal shares of them hold equal stretches of time
        minibatches = torch.arange(SEGMENTS // count).split(MINIBATCH // count)
        indices = [*minibatches] * self.settings["update_epochs"] * UPDATES
        replay = self.training.replay(list(actions.to(torch.int32)), indices)
        return self.training.start_ranks(
            self.policy, self.environment, self.settings, ranks=RANKS, rank=rank, replay=replay
        )

    def __call__(self, rank: int, folder: Path) -> None:
        """Train, as one of several processes."""
        # spawned processes are given tensors in shared memory, and must not train them together
        own = dataclasses.replace(self, policy=copy.deepcopy(self.policy))
        trainer = own.trainer(rank)
        for update in range(UPDATES):
            trainer.rollout()
            metrics = trainer.update()
            file = folder / f"{rank}-{update}"
            kept = {key: metrics[key] for key in (*FIGURES, "minibatches")}
            file.with_suffix(".json").write_text(json.dumps(kept), encoding="utf-8")
            save_file(_tensors(own.policy), file.with_suffix(".safetensors"))


def _tensors(policy: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in (*policy.named_parameters(), *policy.named_buffers())
    }


class _Weights:
    """Parameters and buffers of a policy, or of a file that holds a rank's."""

    def __init__(self, policy: nn.Module, found: dict[str, Tensor] | None = None) -> None:
        found = _tensors(policy) if found is None else found
        self.parameters = {name: found[name] for name, _ in policy.named_parameters()}
        self.buffers = {name: found[name] for name, _ in policy.named_buffers()}


def _record(
    case: Case, subject: Subject, trace: Trace, update: int, metrics: list[Mapping[str, Any]], ranks: list[_Weights]
) -> None:
    """Record one update: whether its ranks agree, what they report on average, and the first one's weights."""
    trace.update, trace.judged = update, "ensemble"
    trace.phase = "optimizer step"
    parameters = [subject.to_reference(rank.parameters) for rank in ranks]
    for found, side in ((parameters, "reference"), ([rank.buffers for rank in ranks], subject.side)):
        for name in found[0]:
            trace.fact(name, _agreement([each[name] for each in found]), component=case.pair.home(name, side))
    trace.phase = "forward"
    trace.fact("minibatches", sorted({each["minibatches"] for each in metrics}), component="losses")
    for name in FIGURES:
        mean = torch.tensor([each[name] for each in metrics], dtype=torch.float64).mean()
        trace.record(name, mean, component="losses")
    trace.phase = "optimizer step"
    for name, value in parameters[0].items():
        trace.record(name, value, component=case.pair.home(name))


def _agreement(values: list[Tensor]) -> str:
    others = [rank for rank, value in enumerate(values) if not same_bits(value, values[0])]
    if not others:
        return AGREED
    worst = max(float((values[rank].double() - values[0].double()).abs().max()) for rank in others)
    return f"up to {worst:.3g} apart on ranks 0 and {others[0]}"


CHECK = Check(
    name="distributed",
    summary="2 ranks (gloo) = 1 rank on the same global batch, within the drift of equal trainings; ranks agree",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"training"}),
    share=0.05,
    devices=("cpu",),
    nightly_pairs=("example", "latent_attn_*"),
)

"""experience: what a trainer stores, weighs, draws and loses, and in which order, recomputed by plain loops."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from parity.agents.interface import ACT_LOG_PROB, ENV_OBS
from parity.checks.case import Case, Program
from parity.checks.draw import SEEDS, SIZES, WEIGHTS, sized
from parity.checks.registry import Check, Example, nightly
from parity.checks.trainer.recomputed import Leaf, Plan, recomputed
from parity.checks.trainer.seen import SeenUpdate
from parity.checks.trainer.storing import HANDLING, handling, ring
from parity.checks.trainer.watched import watch
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject
from parity.pairs.training import Training

UPDATES = 2
#: Updates of a training that its settings planned for one less.
BEYOND = 3

_LAYOUTS = [
    # agents, agents per policy call, horizon, segments per agent, segments of a minibatch
    {"num_agents": 4, "forward_pass_minibatch": 2, "bptt_horizon": 3, "laps": 2, "minibatch": 4},
    {"num_agents": 3, "forward_pass_minibatch": 0, "bptt_horizon": 5, "laps": 2, "minibatch": 3},
    {"num_agents": 2, "forward_pass_minibatch": 1, "bptt_horizon": 2, "laps": 4, "minibatch": 2},
]


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    long = nightly()
    return st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "seed": SEEDS,
            "sizes": SIZES if long else st.just("varied"),
            "settings": _settings(),
            "extra_steps": st.integers(1, 9),
            "beyond": st.sampled_from([True, False]),
            "rebase_every": st.sampled_from([2, 1, 0]),
            "measure_every": st.sampled_from([2, 1, 0]),
        }
    )


def _settings() -> st.SearchStrategy[dict[str, Any]]:
    """Strategy of trainings; none of the numbers is a default or stands in for another."""

    def one(*values: Any) -> st.SearchStrategy[Any]:
        return st.sampled_from(values)

    rest = st.fixed_dictionaries(
        {
            "seed": SEEDS,
            "total_updates": one(3, 2),
            "update_epochs": one(2, 1),
            "gradient_accumulation_steps": one(2, 1),
            "optimizer": st.fixed_dictionaries({"learning_rate": one(0.02, 0.005), "eps": st.just(1e-5)}),
            "ppo": st.fixed_dictionaries(
                {
                    "gamma": one(0.9, 0.97, 1.0),
                    "gae_lambda": one(0.7, 0.8, 1.0),
                    "clip_coef": one(0.2, 0.05),
                    "vf_clip_coef": one(0.3, 0.06),
                    "clip_vloss": one(True, True, False),
                    "vf_coef": one(0.4, 0.6),
                    "ent_coef": one(0.03, 0.01),
                    "l2_init_loss_coef": one(0.001, 0.01, 0.0),
                    "max_grad_norm": one(0.5, 0.01, 1e6),
                    "norm_adv": one(True, True, False),
                    "target_kl": one(None, 0.05),
                }
            ),
            "vtrace": st.fixed_dictionaries({"vtrace_rho_clip": one(1.1, 0.9), "vtrace_c_clip": one(0.8, 1.2)}),
            "prioritized_experience_replay": st.fixed_dictionaries(
                {"prio_alpha": one(0.6, 1.0, 0.0), "prio_beta0": one(0.4, 0.8)}
            ),
        }
    )
    return st.tuples(st.sampled_from(_LAYOUTS), rest).map(lambda drawn: _laid_out(*drawn))


def _laid_out(layout: dict[str, int], rest: dict[str, Any]) -> dict[str, Any]:
    horizon = layout["bptt_horizon"]
    return {
        **{key: layout[key] for key in ("num_agents", "forward_pass_minibatch", "bptt_horizon")},
        "batch_size": layout["num_agents"] * layout["laps"] * horizon,
        "minibatch_size": layout["minibatch"] * horizon,
        **rest,
    }


def _judge(case: Case, example: Example) -> None:
    training, settings = case.pair.training, example["settings"]
    assert training is not None, "the capability says that there is one"
    sides = case.builds.sides(sized(case.recipe(), case.pair, example["sizes"]), example["weights"])
    case.facts(lambda subject: handling(training, subject.copy(), settings), HANDLING, sides, phase="build")
    case.contract(
        lambda subject, trace: ring(training, subject, example, trace, by_loop=True),
        lambda subject, trace: ring(training, subject, example, trace, by_loop=False),
        sides,
        cause="a full segment gives way to the oldest of the ring, agent by agent, and nothing stored is shared",
    )
    runs, whole = _Runs(training, example), _whole(settings)
    planned = settings, UPDATES
    if example["beyond"]:
        unbounded = {**settings, "update_epochs": 2, "ppo": {**settings["ppo"], "target_kl": None}}
        case.contract(runs.expected(unbounded, 1), runs.found(unbounded, 1), sides)
        # of a copy: where contracts are asked of the candidate alone, this is the first to train the reference
        planned = runs.near(sides.reference.copy(), unbounded), BEYOND
    case.contract(runs.expected(*planned), runs.found(*planned), sides)
    case.contract(runs.expected(whole, 1), runs.found(whole, 1), sides)
    case.contract(
        lambda subject, trace: _ones(subject, trace, whole),
        lambda subject, trace: runs.first_ratio(subject, trace, whole),
        sides,
        cause="training must see what the rollout saw: memory before the segment, resets inside it, the same actions",
    )
    case.facts(lambda subject: runs.streams(subject, *planned), _STREAMS, sides, phase="rollout", component="seed")


def _whole(settings: dict[str, Any]) -> dict[str, Any]:
    """Every segment in one minibatch, a divergence that any step exceeds, and no pull where there was one."""
    pull = 0.0 if settings["ppo"]["l2_init_loss_coef"] else 0.001
    ppo = {**settings["ppo"], "target_kl": 1e-9, "l2_init_loss_coef": pull}
    sizes = {"minibatch_size": settings["batch_size"], "gradient_accumulation_steps": 1, "update_epochs": 3}
    return {**settings, **sizes, "ppo": ppo}


_STREAMS = {
    **{f"{stream} of the same seed": "the same" for stream in ("observations", "actions", "minibatches")},
    **{f"{stream} of another seed": "others" for stream in ("observations", "actions", "minibatches")},
    **{f"{stream} of the next update": "others" for stream in ("actions", "minibatches")},
}


class _Runs:
    """The trainings of one example: each is run once per side, and looked at by several programs."""

    def __init__(self, training: Training, example: Example) -> None:
        self.training, self.example = training, example
        self.seen: dict[tuple[str, int, float | None], list[SeenUpdate]] = {}  # by side, number of updates and bound

    def near(self, subject: Subject, unbounded: dict[str, Any]) -> dict[str, Any]:
        """Settings whose divergence bound lies above the mean of the second epoch, and below its sum; a third follows.

        Until the first step of the optimizer nothing diverges: what accumulates over a whole epoch needs a second.
        """
        (first,) = self.watched(subject, unbounded, 1, Trace())
        count = Plan(unbounded).minibatches
        mean = sum(float(each.losses["approx_kl"]) for each in first.minibatches[-count:]) / count
        ppo = {**unbounded["ppo"], "target_kl": max(1.3 * mean, 1e-12)}
        return {**unbounded, "ppo": ppo, "update_epochs": 3, "total_updates": BEYOND - 1}

    def watched(self, subject: Subject, settings: dict[str, Any], updates: int, trace: Trace) -> list[SeenUpdate]:
        """What was seen of a side's training."""
        key = (subject.side, updates, settings["ppo"]["target_kl"])
        if key not in self.seen:
            self.seen[key] = watch(self.training, subject, settings, self.example, trace, updates=updates)
        return self.seen[key]

    def expected(self, settings: dict[str, Any], updates: int) -> Program:
        """What plain loops make of what was seen; on twins, of the same moved by an ulp."""

        def program(subject: Subject, trace: Trace) -> None:
            seen = self.watched(subject, settings, updates, trace)
            if subject.nudge is not None:
                seen = [update.moved(subject.nudge) for update in seen]
            for leaf in recomputed(seen, settings, self.example):
                _write(trace, leaf, leaf.expected)

        return program

    def found(self, settings: dict[str, Any], updates: int) -> Program:
        """What the trainer made of it."""

        def program(subject: Subject, trace: Trace) -> None:
            for leaf in recomputed(self.watched(subject, settings, updates, trace), settings, self.example):
                _write(trace, leaf, leaf.found)

        return program

    def first_ratio(self, subject: Subject, trace: Trace, settings: dict[str, Any]) -> None:
        """New over old probability before anything was learned, over the whole experience."""
        first = watch(self.training, subject, settings, self.example, trace, until="evaluate")[0].minibatches[0]
        trace.phase, trace.update, trace.minibatch = "forward", 0, 0
        trace.record("ratio", (first.evaluated[ACT_LOG_PROB] - first.data[ACT_LOG_PROB]).exp())

    def streams(self, subject: Subject, settings: dict[str, Any], updates: int) -> dict[str, Any]:
        """Whether what is random comes from the seed, and goes on from update to update."""
        first, second = (_random(update) for update in self.watched(subject, settings, updates, Trace())[:2])
        found = {}
        for name, seed in (("the same seed", settings["seed"]), ("another seed", settings["seed"] + 1)):
            again = {**settings, "seed": seed}
            (start,) = watch(self.training, subject.copy(), again, self.example, Trace(), until="act")
            found |= {f"{key} of {name}": _compared(value, first[key]) for key, value in _random(start).items()}
        return found | {f"{key} of the next update": _compared(second[key], first[key]) for key in second}


def _random(seen: SeenUpdate) -> dict[str, Tensor]:
    act = seen.acts[0]
    return {"observations": act.given[ENV_OBS], "actions": act.random, "minibatches": seen.generator}


def _compared(one: Tensor, other: Tensor) -> str:
    return "the same" if torch.equal(one, other) else "others"


def _ones(subject: Subject, trace: Trace, settings: dict[str, Any]) -> None:
    plan = Plan(settings)
    trace.phase, trace.update, trace.minibatch = "forward", 0, 0
    ones = torch.ones(plan.segments, plan.horizon, dtype=subject.dtype, device=subject.device)
    trace.record("ratio", ones)


def _write(trace: Trace, leaf: Leaf, value: Any) -> None:
    trace.phase, trace.update, trace.minibatch = leaf.phase, leaf.update, leaf.minibatch
    if isinstance(value, Tensor):
        trace.record(leaf.key, value, component=leaf.component, judged=leaf.judged)
    else:
        trace.fact(leaf.key, value, component=leaf.component)


CHECK = Check(
    name="experience",
    summary="what the trainer stores, weighs, draws and loses, and in which order, against plain loops; first ratio 1",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"training"}),
    share=0.2,
)

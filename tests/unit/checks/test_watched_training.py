from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from parity.checks.draw import sized
from parity.checks.trainer.recomputed import recomputed
from parity.checks.trainer.seen import SeenUpdate
from parity.checks.trainer.watched import watch
from parity.compare.trace import Trace
from parity.pairs.builds import Builds
from parity.pairs.registry import registered_pairs
from parity.pairs.subjects import Subject


@pytest.fixture(scope="module", params=["reference", "candidate"])
def subject(request: pytest.FixtureRequest) -> Subject:
    pair = registered_pairs()["fast"]
    recipe = sized(pair.recipe.with_system(dtype=torch.float64), pair, "varied")
    return getattr(Builds(pair).sides(recipe, 0), request.param)


SETTINGS = {
    "seed": 5,
    "num_agents": 4,
    "forward_pass_minibatch": 2,
    "bptt_horizon": 3,
    "batch_size": 24,
    "minibatch_size": 12,
    "total_updates": 2,
    "update_epochs": 1,
    "gradient_accumulation_steps": 1,
    "optimizer": {"eps": 1e-5},
    "ppo": {
        "gamma": 0.9,
        "gae_lambda": 0.8,
        "clip_coef": 0.2,
        "vf_clip_coef": 0.3,
        "clip_vloss": True,
        "vf_coef": 0.4,
        "ent_coef": 0.03,
        "l2_init_loss_coef": 0.01,
        "max_grad_norm": 0.5,
        "norm_adv": True,
        "target_kl": None,
    },
    "vtrace": {"vtrace_rho_clip": 1.1, "vtrace_c_clip": 0.8},
    "prioritized_experience_replay": {"prio_alpha": 0.6, "prio_beta0": 0.4},
}
EXAMPLE = {"seed": 9, "rebase_every": 2, "measure_every": 0}


def watched(subject: Subject) -> list[SeenUpdate]:
    training = registered_pairs()["fast"].training
    assert training is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return watch(training, subject, SETTINGS, EXAMPLE, Trace(), updates=2)


def test_watching_changes_no_bit(subject: Subject) -> None:
    first, second = subject.copy(), subject.copy()
    answers = [answer for update in watched(first) for answer in update.steps]
    training = registered_pairs()["fast"].training
    assert training is not None
    second.policy.l2_init_weight_update_interval, second.policy.analyze_weights_interval = 2, 0
    trainer = training.start(second.policy, second.recipe.environment, SETTINGS)
    original = trainer.environment.step

    def answering(actions: torch.Tensor) -> Any:
        answer = answers.pop(0)
        flags = {key: answer[key] for key in ("rewards", "dones", "truncateds")}
        return dataclasses.replace(original(actions), **flags)

    trainer.environment.step = answering
    for _ in range(2):
        trainer.rollout()
        trainer.update()
    assert answers == []
    untouched = dict(subject.policy.named_parameters())
    for (name, left), (_, right) in zip(first.policy.named_parameters(), second.policy.named_parameters(), strict=True):
        assert torch.equal(left, right), name
    assert any(not torch.equal(untouched[name], value) for name, value in first.policy.named_parameters())


def test_episodes_end_in_every_way_and_memory_is_carried(subject: Subject) -> None:
    seen = watched(subject.copy())
    flags = torch.stack([torch.stack([step["dones"], step["truncateds"]]) for update in seen for step in update.steps])
    dones, truncateds = flags.unbind(1)
    assert bool((dones & truncateds).any() and (dones & ~truncateds).any() and (~dones & truncateds).any())
    second = seen[0].buffer["memory_h"][4:]
    assert float(second.abs().max()) > 0.01
    ratio = seen[0].minibatches[1].losses["ratio"]
    assert abs(float(ratio) - 1.0) > 1e-9


def test_an_ulp_moves_what_is_recomputed_by_rounding_only(subject: Subject) -> None:
    seen = watched(subject.copy())
    base = list(recomputed(seen, SETTINGS, EXAMPLE))
    twin = list(recomputed([update.moved(1) for update in seen], SETTINGS, EXAMPLE))
    moved = set()
    for one, other in zip(base, twin, strict=True):
        assert (one.phase, one.key, one.update, one.minibatch) == (
            other.phase,
            other.key,
            other.update,
            other.minibatch,
        )
        if not isinstance(one.expected, torch.Tensor) or not one.expected.is_floating_point():
            continue
        distance = float((one.expected - other.expected).abs().max())
        assert distance <= 1e-12 * max(1.0, float(one.expected.abs().max())), one
        if distance > 0.0:
            moved.add(one.component)
    assert moved >= {"advantages", "sampling probabilities", "policy loss", "value loss", "act_log_prob gradient"}

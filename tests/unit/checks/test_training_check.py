from __future__ import annotations

import dataclasses

import pytest

from parity.conditions import judging
from parity.faults.plant import planted
from parity.faults.registry import load_catalogues
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.results import Cell, Result
from parity.runner import Session, replay

#: One gradient is -3e-8 on one side and 3e-9 on the other, which Adam with an eps of 1e-12 takes for -1 and 1.
EXAMPLE = {
    "weights": 1,
    "updates": 2,
    "sizes": "varied",
    "seed": 0,
    "clip_range": 1.0,
    "settings": {
        "seed": 65536,
        "batch_size": 32,
        "update_epochs": 1,
        "bptt_horizon": 4,
        "minibatch_size": 16,
        "gradient_accumulation_steps": 1,
        "num_agents": 4,
        "total_updates": 20,
        "ppo": {"l2_init_loss_coef": 0.0},
        "prioritized_experience_replay": {"prio_alpha": 0.0},
        "forward_pass_minibatch": 0,
        "optimizer": {"type": "adam"},
    },
}


def judge(pair: Pair) -> Result:
    with judging():
        return replay(Session(pair), Cell(pair.name, "training", "cpu", "float32"), EXAMPLE)


@pytest.fixture
def small() -> Pair:
    return registered_pairs()["latent_attn_small"]


def test_in_float32_a_gradient_near_zero_does_not_fork_a_training(small: Pair) -> None:
    result = judge(small)
    assert result.verdict.passed, result.divergence


def test_in_float32_a_fault_is_still_pinned(small: Pair) -> None:
    with planted(load_catalogues()[small.name].faults["cls_detached"].plant) as patcher:
        found = judge(dataclasses.replace(small, fault_hooks=tuple(patcher.hooks))).divergence
    assert found is not None
    assert (found["component"], found["phase"]) == ("obs_latent_self_attn", "backward")

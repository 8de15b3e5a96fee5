"""Twenty updates of every pair at its own sizes in float64, with clipping on: longer than a pull request may take."""

from __future__ import annotations

import pytest

from parity.compare.verdict import Verdict
from parity.conditions import judging
from parity.pairs.registry import registered_pairs
from parity.results import Cell
from parity.runner import Session, replay

SETTINGS = {
    "seed": 1,
    "num_agents": 4,
    "bptt_horizon": 4,
    "batch_size": 32,
    "minibatch_size": 16,
    "forward_pass_minibatch": 2,
    "update_epochs": 2,
    "gradient_accumulation_steps": 1,
    "total_updates": 20,
    "ppo": {"l2_init_loss_coef": 0.01},
    "prioritized_experience_replay": {"prio_alpha": 0.6},
}


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize("name", sorted(registered_pairs()))
def test_both_sides_train_alike_for_twenty_updates(name, optimizer, record_property):
    example = {
        "weights": 0,
        "seed": 1,
        "sizes": "default",
        "updates": 20,
        "clip_range": 0.5,
        "settings": {**SETTINGS, "optimizer": {"type": optimizer}},
    }
    with judging():
        result = replay(Session(registered_pairs()[name]), Cell(name, "training", "cpu", "float64"), example)
    record_property("null_gradients", result.null_gradients)
    print(f"{name} {optimizer}: {result.rung}, margin {result.margin:.2g}, no gradient: {result.null_gradients}")
    assert result.verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT), result

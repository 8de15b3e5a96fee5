from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_samples import config

from parity.agents.errors import ConfigError
from parity.training.config import load_trainer_config, trainer_config

SIZES = {"total_updates": 1, "num_agents": 4, "batch_size": 48, "bptt_horizon": 6, "minibatch_size": 24}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 50}, ["batch_size is 50", "num_agents * bptt_horizon", "24"]),
        ({"minibatch_size": 20}, ["minibatch_size is 20", "bptt_horizon", "6"]),
        ({"batch_size": 72, "minibatch_size": 48}, ["batch_size is 72", "minibatch_size, 48"]),
        ({"forward_pass_minibatch": 3}, ["num_agents is 4", "forward_pass_minibatch, 3"]),
        ({"gradient_accumulation_steps": 3}, ["gradient_accumulation_steps is 3", "2 minibatches"]),
        ({"num_agents": 0}, ["num_agents is 0", "at least 1"]),
        ({"num_agents": 4.0}, ["num_agents is 4.0", "whole number"]),
        ({"num_agents": True}, ["num_agents is True"]),
        ({"compile": True}, ["compile is True", "inductor"]),
        ({"optimizer": {"type": "sgd"}}, ["optimizer.type is 'sgd'", "'muon'"]),
        ({"optimizer": {"eps": "1e-12"}}, ["optimizer.eps is '1e-12'", "1.0e-12"]),
        ({"optimizer": {"learning_rate": 0}}, ["optimizer.learning_rate is 0", "above 0"]),
        ({"optimizer": {"beta2": 1.0}}, ["optimizer.beta2 is 1.0"]),
        ({"ppo": {"gamma": 1.5}}, ["ppo.gamma is 1.5", "up to 1"]),
        ({"ppo": {"gamma": float("nan")}}, ["ppo.gamma is nan"]),
        ({"ppo": {"norm_adv": 1}}, ["ppo.norm_adv is 1", "true or false"]),
        ({"ppo": {"target_kl": 0}}, ["ppo.target_kl is 0", "above 0"]),
        ({"ppo": {"clip": 1}}, ["unknown key 'ppo.clip'", "clip_coef"]),
        ({"ppo": 3}, ["ppo is 3", "mapping"]),
        ({"epochs": 1}, ["unknown key 'epochs'", "update_epochs"]),
    ],
)
def test_a_bad_value_is_refused_by_key_value_and_remedy(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        config(**changes)
    for word in words:
        assert word in str(refused.value)


def test_a_missing_size_is_named() -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: trainer config: missing key 'batch_size'"):
        trainer_config({key: value for key, value in SIZES.items() if key != "batch_size"}, source="run.yaml")


def test_yaml_reaches_every_section(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    sizes = "".join(f"{key}: {value}\n" for key, value in SIZES.items())
    path.write_text(
        f"{sizes}ppo: {{gamma: 1, target_kl: 0.5}}\noptimizer: {{type: muon}}\nvtrace: {{vtrace_c_clip: 2}}\n"
    )
    read = load_trainer_config(path)
    assert (read.ppo.gamma, read.ppo.target_kl, read.optimizer.type, read.vtrace.vtrace_c_clip) == (1, 0.5, "muon", 2)
    assert (read.segments, read.minibatch_segments, read.minibatches) == (8, 4, 2)
    assert read.optimizer.eps == 1e-12

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed_rank
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_samples import Counting, agent, config

from parity.agents.errors import ConfigError
from parity.training.distributed import World, join_world
from parity.training.observer import Recorder
from parity.training.trainer import Trainer


def run_ranks(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, distributed_rank.__file__, str(folder)],
            env={**os.environ, **settings, "RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors.decode()


def test_two_ranks_train_as_one_with_all_agents(tmp_path: Path) -> None:
    recorder, policy = Recorder(), agent("candidate")
    settings = config(num_agents=4, batch_size=24, minibatch_size=24, **distributed_rank.SETTINGS)
    alone = list(Trainer(policy, Counting(4), settings, observer=recorder).run(2))
    save_file({str(i): actions for i, actions in enumerate(recorder.actions)}, tmp_path / "actions.safetensors")
    run_ranks(tmp_path)

    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, value in policy.state_dict().items():
        torch.testing.assert_close(first[name], value, rtol=1e-9, atol=1e-9)
    moved = [not torch.equal(first[name], value) for name, value in agent("candidate").state_dict().items()]
    assert any(moved)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [update["minibatches"] for update in alone] == [2, 2]  # stopped by the divergence, before the third epoch
    for together, *apart in zip(alone, *ranks, strict=True):
        assert [update["minibatches"] for update in apart] == [2, 2]
        assert sum(update["loss_policy"] for update in apart) / 2 == pytest.approx(together["loss_policy"], rel=1e-9)
        assert [update["gradient_norm"] for update in apart] == pytest.approx([together["gradient_norm"]] * 2)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world, policy = join_world(), agent("candidate")
    assert world == World(0, 1)
    assert world.wrap(policy) is policy
    assert world.total(torch.tensor(3.0)) == 3.0


def test_an_incomplete_torchrun_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="RANK"):
        join_world()


def test_several_ranks_need_a_policy_that_shares_gradients() -> None:
    with pytest.raises(ConfigError, match=r"MettaAgent in a world of 2; use World\.wrap"):
        Trainer(agent("candidate"), Counting(4), config(), world=World(0, 2))

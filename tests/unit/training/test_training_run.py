from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_samples import Counting, agent, config, parameters_of

from parity.training.checkpoint import CheckpointManager
from parity.training.metrics import JsonLines
from parity.training.run import train
from parity.training.trainer import Trainer


def run(folder: Path, interval: int = 2, total: int = 5) -> Trainer:
    trainer = Trainer(agent("candidate"), Counting(4), config(total_updates=total, checkpoint_interval=interval))
    with JsonLines(folder / "metrics.jsonl") as figures:
        train(trainer, figures=figures, checkpoints=CheckpointManager(folder))
    return trainer


def updates(folder: Path) -> list[int]:
    return [json.loads(line)["update"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("interval", "saved"), [(2, [2, 4, 5]), (0, [])])
def test_figures_and_checkpoints_are_written_when_due(interval: int, saved: list[int], tmp_path: Path) -> None:
    run(tmp_path, interval)
    assert updates(tmp_path) == [1, 2, 3, 4, 5]
    assert [path.name for path in sorted(tmp_path.glob("*.safetensors"))] == [
        f"update_{number:08d}.safetensors" for number in saved
    ]


def test_a_killed_run_is_taken_up_where_its_last_checkpoint_was(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    broken = tmp_path / "broken"
    run(broken)
    (broken / "update_00000005.safetensors").unlink()
    again = run(broken)
    assert updates(broken) == [1, 2, 3, 4, 5, 5]
    assert parameters_of(again.policy) == parameters_of(whole.policy)
    run(broken)
    assert updates(broken) == [1, 2, 3, 4, 5, 5]

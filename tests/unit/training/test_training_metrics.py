from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import SIDES, Counting, agent, config

from parity.training.metrics import JsonLines, Trace
from parity.training.trainer import Trainer


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("side", SIDES)
def test_every_update_writes_a_line_at_once_with_weight_metrics_when_due(side: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    policy = agent(side)
    with JsonLines(path) as out:
        for metrics in Trainer(policy, Counting(4), config()).run():
            out.write(metrics)
            assert lines(path)[-1]["update"] == metrics["update"]
    written = lines(path)
    assert [line["update"] for line in written] == [1, 2, 3, 4]
    assert [line["agent_steps"] for line in written] == [48, 96, 144, 192]
    assert ["weights" in line for line in written] == [False, True, False, True]
    assert written[-1]["weights"] == policy.compute_weight_metrics()


def test_what_json_lacks_becomes_null_and_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for value in (float("nan"), 2.0):
        with JsonLines(path) as out:
            out.write({"loss": [value, {"inner": float("inf")}]})
    assert lines(path) == [{"loss": [None, {"inner": None}]}, {"loss": [2.0, {"inner": None}]}]


@pytest.mark.parametrize("left", [b"", b'{"update": 1}\n', b'{"update": 1}\n{"upd', b'{"upd'])
def test_a_line_cut_off_by_a_kill_is_removed(left: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(left)
    with JsonLines(path) as out:
        out.write({"update": 2})
    assert lines(path) == [{"update": 1}] * left.count(b"\n") + [{"update": 2}]


def test_the_trace_tells_shapes_and_recurrent_states(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    policy = agent("candidate")
    with JsonLines(path) as out:
        trainer = Trainer(policy, Counting(4), config(forward_pass_minibatch=2), observer=Trace(out, policy))
        trainer.rollout()
    written = lines(path)
    assert [line["step"] for line in written] == list(range(24))
    assert written[0]["entries"]["env_obs"] == ["uint8", 2, 5, 3]
    assert written[0]["entries"]["memory_h"] == ["float64", 2, 2, 8]
    assert [sorted(line["memory"]) for line in written[:2]] == [["0"], ["0", "2"]]
    h, _ = policy.get_memory()[2]
    found = written[-1]["memory"]["2"]["h"]
    assert found == pytest.approx({"mean": h.mean(), "std": h.std(correction=0), "largest": h.abs().max()})
    assert torch.isfinite(h).all()

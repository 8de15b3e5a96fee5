"""``train --lockstep``: every update from equal state, judged by how far rounding alone carries it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parity.agents.pytorch.fast import Fast
from parity.cli import main

TINY = ["--agents", "4", "--set", "batch_size=32", "--set", "minibatch_size=16", "--set", "bptt_horizon=4"]


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def lockstep(*options: str) -> int:
    arguments = ["train", "fast", "--environment", "token_grid", "--dtype", "float64", "--lockstep", *TINY, *options]
    return main(arguments)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_clean_sides_agree_in_every_update(capsys, optimizer):
    assert lockstep("--updates", "4", "--set", f"optimizer.type={optimizer}", "--json", "out.json") == 0
    assert "the sides agree" in capsys.readouterr().out
    content = json.loads(Path("out.json").read_text())
    assert content["agree"]
    assert [entry["update"] for entry in content["updates"]] == [1, 2, 3, 4]
    for entry in content["updates"]:
        assert 0 < entry["rounding"] < 1e-6
        assert entry["distance"] <= content["allowed"]


def test_a_difference_of_a_millionth_is_seen(capsys, monkeypatch):
    decode = Fast.decode_actions

    def decode_slightly_more(self, hidden):
        logits, value = decode(self, hidden)
        return logits, value * (1 + 1e-6)

    monkeypatch.setattr(Fast, "decode_actions", decode_slightly_more)
    assert lockstep("--updates", "2") == 1
    assert "DO NOT AGREE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folder", "run"], "leave --folder out"),
        (["--resume"], "leave --resume out"),
        (["--trace"], "leave --trace out"),
        (["--side", "candidate"], "leave --side out"),
    ],
)
def test_what_it_cannot_do_is_refused(capsys, options, message):
    assert lockstep(*options) == 2
    assert message in capsys.readouterr().err

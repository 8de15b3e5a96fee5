"""``train`` on a tiny setting: what it writes, how it goes on, how it compares the sides, and what it refuses."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from parity.cli import main
from parity.cli.figures import apart, read_figures
from parity.cli.progress import Status
from parity.environments import metta_grid

TINY = ["--agents", "4", "--set", "batch_size=32", "--set", "minibatch_size=16", "--set", "bptt_horizon=4"]


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def train(*options: str, environment: str = "token_grid", sizes: list[str] = TINY) -> int:
    return main(["train", "fast", "--environment", environment, *sizes, *options])


def figures(folder: str, side: str) -> list[dict[str, Any]]:
    """Metrics as written, without the times."""
    lines = [json.loads(line) for line in (Path(folder) / side / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("seconds")} for line in lines]


def test_both_sides_are_trained_and_agree_in_float64(capsys):
    assert train("--updates", "2", "--dtype", "float64", "--folder", "run", "--json", "out.json") == 0
    captured = capsys.readouterr()
    assert [line.split("   ")[0] for line in captured.err.splitlines()] == [
        "reference  update 1/2",
        "reference  update 2/2",
        "candidate  update 1/2",
        "candidate  update 2/2",
    ]
    assert "\x1b" not in captured.err + captured.out
    for side in ("reference", "candidate"):
        assert f"{side}  2 updates, 64 agent steps: mean reward" in captured.out
        assert [path.name for path in Path("run", side, "checkpoints").iterdir()] == ["update_00000002.safetensors"]
    content = json.loads(Path("out.json").read_text())
    assert content["settings"]["total_updates"] == 2
    ours, theirs = content["sides"]["reference"], content["sides"]["candidate"]
    assert ours["rewards"] == theirs["rewards"]
    assert ours["reward"] == ours["rewards"][-1]
    assert [entry["update"] for entry in content["apart"]] == [1, 2]
    assert max(entry["distance"] for entry in content["apart"]) < 1e-9
    assert "metrics of the sides differ by at most" in captured.out
    assert f"normalised return {ours['normalised_return']:.3f}" in captured.out


def test_each_update_is_one_line_of_metrics():
    assert train("--updates", "3", "--side", "candidate", "--folder", "run") == 0
    lines = figures("run", "candidate")
    assert [(line["update"], line["agent_steps"], line["minibatches"]) for line in lines] == [
        (1, 32, 6),
        (2, 64, 6),
        (3, 96, 6),
    ]
    needed = {"reward", "value", "episodes", "gradient_norm", "loss_total", "loss_policy", "loss_value", "loss_entropy"}
    for line in lines:
        assert needed <= line.keys()
        assert all(math.isfinite(value) for value in line.values())
    assert not Path("run/reference").exists()
    assert not Path("run/candidate/trace.jsonl").exists()


def test_a_resumed_run_goes_on_as_if_never_ended():
    assert train("--updates", "3", "--side", "candidate", "--folder", "whole") == 0
    assert train("--updates", "1", "--side", "candidate", "--folder", "run") == 0
    assert train("--updates", "3", "--side", "candidate", "--folder", "run", "--resume") == 0
    assert figures("run", "candidate") == figures("whole", "candidate")


def test_a_run_is_not_overwritten(capsys):
    assert train("--updates", "1", "--side", "candidate", "--folder", "run") == 0
    before = figures("run", "candidate")
    assert train("--updates", "2", "--folder", "run") == 2
    assert "run/candidate holds a run already; give --resume" in capsys.readouterr().err
    assert figures("run", "candidate") == before
    assert not Path("run/reference").exists()


def test_another_run_is_not_gone_on_with(capsys):
    assert train("--updates", "1", "--side", "candidate", "--folder", "run") == 0
    assert train("--updates", "2", "--side", "candidate", "--folder", "run", "--resume", "--seed", "1") == 2
    assert "of a run with seed 0, not 1" in capsys.readouterr().err


def test_a_trace_has_a_line_per_policy_call():
    assert train("--updates", "1", "--side", "candidate", "--folder", "run", "--trace") == 0
    lines = Path("run/candidate/trace.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(8))


def test_weight_metrics_come_when_the_policy_wants_them(monkeypatch):
    monkeypatch.setattr("parity.agents.metta_agent.MettaAgent.analyze_weights_interval", 2)
    assert train("--updates", "2", "--side", "candidate", "--folder", "run") == 0
    first, second = figures("run", "candidate")
    assert "weights" not in first
    assert [layer["name"] for layer in second["weights"]] == ["critic_1", "actor_1"]


@pytest.mark.filterwarnings("ignore::parity.agents.errors.IgnoredTokensWarning")
def test_a_recording_can_be_trained_on_and_has_no_scale(capsys):
    assert train("--updates", "1", "--side", "candidate", "--json", "out.json", environment="recorded:yard") == 0
    out = capsys.readouterr().out
    assert "normalised" not in out
    assert "reports/train/fast-recorded-yard-float32-seed0" in out
    assert json.loads(Path("out.json").read_text())["sides"]["candidate"]["normalised_return"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "ppo.gama=0.9"], "--set 'ppo.gama=0.9' names no setting; did you mean 'ppo.gamma'?"),
        (["--set", "ppo=1"], "--set 'ppo=1' names no setting"),
        (["--set", "seed.more=1"], "--set 'seed.more=1' names no setting"),
        (["--set", "seed"], "--set 'seed' gives no value"),
        (["--set", "ppo.gamma=2"], "ppo.gamma is 2; give a finite number of at least 0 and up to 1"),
        (["--set", "batch_size=33"], "batch_size is 33; give a multiple of"),
        (["--set", "optimizer.type=sgd"], "optimizer.type is 'sgd'; give 'adam' or 'muon'"),
        (["--folder", "file"], "cannot write file/reference"),
        (["--environment", "tokn_grid"], "no environment is named 'tokn_grid'; did you mean 'token_grid'?"),
        (["--environment", "recorded:yrd"], "did you mean 'recorded:yard'?"),
    ],
)
def test_misuse_exits_2_and_leaves_nothing_behind(capsys, options, message):
    Path("file").write_text("")
    assert train("--updates", "1", *options) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "internal error" not in err
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_the_nearest_agent_is_named(capsys):
    assert main(["train", "fst", "--environment", "token_grid"]) == 2
    assert "no pair matches 'fst'; did you mean 'fast'?" in capsys.readouterr().err
    assert main(["train", "latent*", "--environment", "token_grid"]) == 2
    assert "matches latent_attn_med, latent_attn_small, latent_attn_tiny; name one" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    def absent() -> None:
        raise ImportError("No module named 'mettagrid'")

    monkeypatch.setattr(metta_grid, "import_mettagrid", absent)
    assert train("--updates", "1", environment="metta_grid") == 2
    assert "run: pip install 'parity[mettagrid]'" in capsys.readouterr().err


def test_numbers_are_read_as_json_and_the_rest_as_text():
    options = ["--set", "optimizer.learning_rate=1e-3", "--set", "optimizer.type=muon", "--set", "ppo.target_kl=null"]
    assert train("--updates", "1", "--side", "candidate", "--json", "out.json", *options) == 0
    settings = json.loads(Path("out.json").read_text())["settings"]
    assert (settings["optimizer"]["learning_rate"], settings["optimizer"]["type"]) == (0.001, "muon")


def test_the_metric_that_lies_furthest_apart_is_found():
    ours = {1: {"a": 1.0, "b": 2.0, "seconds_update": 1.0}, 2: {"a": 0.0, "b": -2.0}, 3: {"a": 1.0}}
    theirs = {1: {"a": 1.0, "b": 2.0, "seconds_update": 9.0}, 2: {"a": 0.0, "b": -1.5}, 4: {"a": 1.0}}
    assert apart(ours, theirs) == [
        {"update": 1, "metric": "", "distance": 0.0},
        {"update": 2, "metric": "b", "distance": 0.25},
    ]


def test_what_one_side_lacks_or_could_not_compute_is_infinitely_apart():
    for missing in ({}, {"b": None}):
        assert apart({1: {"a": 1.0, "b": 2.0}}, {1: {"a": 1.0, **missing}})[0] == {
            "update": 1,
            "metric": "b",
            "distance": math.inf,
        }
        assert apart({1: {"a": 1.0, **missing}}, {1: {"a": 1.0, "b": 2.0}})[0]["distance"] == math.inf


def test_of_two_lines_for_one_update_the_later_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1, "a": 1}\n{"update": 2, "a": 2}\n{"update": 2, "a": 3}\n')
    assert read_figures(path) == {1: {"update": 1, "a": 1}, 2: {"update": 2, "a": 3}}


def test_a_terminal_shows_one_line_that_is_rewritten(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Status() as status:
        status.show("one")
        status.show("two")
    assert screen.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"

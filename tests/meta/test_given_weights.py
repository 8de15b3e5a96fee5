"""``run --weights``: trained weights beside stress weights, from a state or a checkpoint of either side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from parity.cli import main
from parity.compare.verdict import Misuse
from parity.faults.plant import planted
from parity.faults.registry import load_catalogues
from parity.pairs import registry
from parity.pairs.builds import Builds
from parity.pairs.recipe import Pair
from parity.pairs.weights import read_weights

FC1 = "policy.components.fc1.net.weight"


@pytest.fixture(scope="module")
def fast() -> Pair:
    return registry.registered_pairs()["fast"]


@pytest.fixture(scope="module")
def state(fast: Pair) -> dict[str, Tensor]:
    """Stress weights stand for trained ones: they are not what a build begins with."""
    reference = Builds(fast).sides(fast.recipe, 7).reference.policy
    return {name: value.detach().clone() for name, value in reference.state_dict().items()}


@pytest.fixture
def saved(state: dict[str, Tensor], tmp_path: Path) -> Callable[..., Path]:
    def save(**changes: Tensor | None) -> Path:
        changed = {name.replace("__", "."): value for name, value in changes.items()}
        content = {
            name: value.contiguous().clone() for name, value in {**state, **changed}.items() if value is not None
        }
        save_file(content, tmp_path / "state.safetensors")
        return tmp_path / "state.safetensors"

    return save


def test_a_state_is_read_by_the_references_names_without_its_buffers(fast: Pair, state: dict[str, Tensor], saved):
    values = read_weights(saved(), fast)
    assert torch.equal(values[FC1], state[FC1])
    assert set(values) == {
        name for name, _ in Builds(fast).sides(fast.recipe, None).reference.policy.named_parameters()
    }


@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_a_checkpoint_of_either_side_gives_the_references_weights(
    fast: Pair, state: dict[str, Tensor], tmp_path: Path, side: str
):
    assert fast.training is not None
    subject = getattr(Builds(fast).sides(fast.recipe, 7), side).copy()
    settings = {"num_agents": 2, "bptt_horizon": 2, "batch_size": 4, "minibatch_size": 4, "total_updates": 1}
    trainer = fast.training.start(subject.policy, fast.recipe.environment, settings)
    values = read_weights(fast.training.save(trainer, tmp_path), fast)
    assert torch.equal(values[FC1], state[FC1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {FC1: None},
            rf"no value for the reference's parameter '{FC1}' \[128, 64\]; it has 'policy",
        ),
        ({FC1: torch.zeros(128, 65)}, rf"'{FC1}' has shape \[128, 65\] and the reference's parameter \[128, 64\]"),
        ({FC1: torch.full((128, 64), float("nan"))}, rf"'{FC1}' holds NaN or Inf"),
        (
            {"policy.components.fc9": torch.zeros(1)},
            "'policy.components.fc9' is no parameter or buffer",
        ),
    ],
    ids=["missing", "shape", "nan", "extra"],
)
def test_weights_that_do_not_fit_are_named(fast: Pair, saved, changes: dict[str, Tensor | None], message: str):
    with pytest.raises(Misuse, match=message):
        read_weights(saved(**{name.replace(".", "__"): value for name, value in changes.items()}), fast)


def test_files_that_hold_no_weights_are_refused(fast: Pair, tmp_path: Path):
    with pytest.raises(Misuse, match=r"--weights .*gone: cannot be read"):
        read_weights(tmp_path / "gone", fast)
    (tmp_path / "text").write_text("weights")
    with pytest.raises(Misuse, match="truncated or no safetensors file"):
        read_weights(tmp_path / "text", fast)


def test_both_sides_are_judged_on_them_and_a_fault_is_seen(
    saved, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    run = ["run", "fast", "--check", "forward", "--examples", "2", "--weights", str(saved())]
    assert main(run) == 0
    out = capsys.readouterr().out
    assert f"on weights of {saved()}: " in out
    assert "planned 2, ran 2: 2 equivalent" in out
    with planted(load_catalogues()["fast"].faults["relu_missing_after_fc1"].plant) as patcher:
        hooked = {**vars(registry.registered_pairs()["fast"]), "fault_hooks": tuple(patcher.hooks), "name": "broken"}
        monkeypatch.setattr(registry, "_by_hand", {"broken": Pair(**hooked)})
        assert main([run[0], "broken", *run[2:]]) == 1
        out = capsys.readouterr().out
        assert "first divergence  fc1   (component 'fc1', candidate 'policy.fc1')" in out
        command = next(line for line in out.splitlines() if "reproduce" in line).split()[4:]
        assert command[-2:] == ["--weights", str(saved())]
        assert main(command) == 1
    assert main(["run", "*", "--weights", str(saved())]) == 2
    assert main(["run", "fast", "--check", "throughput", "--weights", str(saved())]) == 2
    assert "leaves none of the checks that judge on weights" in capsys.readouterr().err

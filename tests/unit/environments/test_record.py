"""The recorder, where MettaGrid is installed, and the recordings that the project ships."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from parity.environments import record as recorder
from parity.environments.recorded import Recording, RecordingError, load_recording, save_recording
from parity.resources import fixture

NAMES = [plan.name for plan in recorder.PLANS]


def needs_mettagrid() -> None:
    pytest.importorskip("mettagrid", reason=f"recording needs the optional package: pip install {recorder.METTAGRID}")


@pytest.fixture(scope="module", params=NAMES)
def shipped(request: pytest.FixtureRequest) -> Recording:
    return load_recording(fixture("observations", f"{request.param}.safetensors"))


def test_shipped_recordings_describe_the_released_environment(shipped: Recording) -> None:
    environment = shipped.environment
    assert (environment.obs_width, environment.obs_height, environment.num_tokens) == (13, 13, 500)
    assert environment.action_names == ("noop", "move_north", "move_south", "move_west", "move_east")
    assert environment.max_action_args == (0,) * 5
    assert len(environment.features) == environment.num_layers == 52
    assert shipped.provenance["version"] == "0.26.22"


def test_shipped_recordings_hold_real_tokens_and_both_kinds_of_boundary(shipped: Recording) -> None:
    byte, feature = shipped.env_obs[..., 0], shipped.env_obs[..., 1]
    assert bool((byte == 0xFE).any(dim=-1).all()), "each row has global tokens"
    assert bool((byte == 0xFF).any(dim=-1).all()), "each row has padding"
    assert len(feature[byte != 0xFF].unique()) > 10
    assert len(shipped.env_obs.flatten(0, 1).flatten(1).unique(dim=0)) == shipped.steps * shipped.agents
    assert bool(shipped.dones.any())
    assert bool(shipped.truncateds.any())
    assert not bool((shipped.dones & shipped.truncateds).any())
    assert not bool((shipped.dones | shipped.truncateds)[0].any())
    assert bool((shipped.rewards > 0).any())


def test_a_flagged_observation_is_the_first_of_its_episode(shipped: Recording) -> None:
    progress = shipped.environment.features["episode_completion_pct"].id
    is_progress = (shipped.env_obs[..., 0] == 0xFE) & (shipped.env_obs[..., 1] == progress)
    value = (shipped.env_obs[..., 2].long() * is_progress).sum(dim=-1)
    opens = shipped.dones | shipped.truncateds
    opens[0] = True
    assert torch.equal(value == 0, opens)


def test_shipped_recordings_are_complete_small_and_described() -> None:
    folder = fixture("observations")
    files = sorted(folder.glob("*.safetensors"))
    assert sorted(file.stem for file in files) == sorted(NAMES)
    assert sum(file.stat().st_size for file in files) <= 3_000_000
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for file in files:
        assert f"`{file.name}`" in readme
        assert f"{file.stat().st_size:,}" in readme
    assert len({plan.seed for plan in recorder.PLANS}) == len(files) >= 3


def test_recording_again_gives_the_shipped_beginning_and_the_same_bytes(tmp_path: Path) -> None:
    needs_mettagrid()
    plan = recorder.PLANS[0]
    for name in ("first", "second"):
        recording, provenance = recorder.record(plan, steps=40)
        save_recording(recording, tmp_path / name, provenance)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    recording, shipped = load_recording(tmp_path / "first"), load_recording(fixture("observations", "yard.safetensors"))
    assert bool(recording.dones.any())
    assert bool(recording.truncateds.any())
    if recording.provenance["version"] == shipped.provenance["version"]:
        for key in ("env_obs", "dones", "truncateds", "rewards"):
            assert torch.equal(getattr(recording, key), getattr(shipped, key)[:40]), key


def test_the_command_writes_every_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_mettagrid()
    assert recorder.main(["--out", str(tmp_path), "--steps", "2"]) == 0
    assert [load_recording(tmp_path / f"{name}.safetensors").steps for name in NAMES] == [2] * len(NAMES)
    assert "2 steps x 4 agents, 1 episodes" in capsys.readouterr().out


def test_without_mettagrid_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mettagrid.builder.envs", None)
    assert recorder.main(["--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: recording needs the package mettagrid")
    assert 'pip install "mettagrid==0.26.22"' in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_steps_must_be_positive() -> None:
    with pytest.raises(RecordingError, match="steps is 0; give"):
        recorder.record(recorder.PLANS[0], steps=0)

"""Recordings: round trip, segments, and a refusal by name for every file that is not an intact recording."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from parity.agents.interface import EnvironmentDescription, Feature
from parity.environments.generated import generate_tokens
from parity.environments.recorded import Recording, RecordingError, load_recording, save_recording

STEPS, AGENTS, TOKENS = 9, 3, 12
PROVENANCE = {"package": "none", "seed": 4, "map": {"side": 3}}


def make_recording(**changes: Any) -> Recording:
    features = {"zeta": Feature(9, 2.5), "alpha": Feature(0, 255.0)}  # not in alphabetical order, on purpose
    environment = EnvironmentDescription(4, 3, TOKENS, ("noop", "move"), (0, 1), features)
    tokens = generate_tokens(environment, rows=STEPS * AGENTS, seed=1).view(STEPS, AGENTS, TOKENS, 3).clone()
    tokens[:, :, -2:] = 0xFF
    random = torch.Generator().manual_seed(0)
    settings: dict[str, Any] = {
        "name": "sample",
        "environment": environment,
        "env_obs": tokens,
        "dones": torch.rand(STEPS, AGENTS, generator=random) < 0.3,
        "truncateds": torch.rand(STEPS, AGENTS, generator=random) < 0.3,
        "rewards": torch.randn(STEPS, AGENTS, generator=random),
    }
    return Recording(**settings | changes)


def forced(**changes: Any) -> Recording:
    """A recording whose own checks were passed by, to write files that only loading can refuse."""
    recording = make_recording()
    for key, value in changes.items():
        object.__setattr__(recording, key, value)
    return recording


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "made on demand" / "sample.safetensors"
    save_recording(make_recording(), target, PROVENANCE)
    return target


def test_round_trip(path: Path) -> None:
    original, loaded = make_recording(), load_recording(path)
    for key in ("env_obs", "dones", "truncateds", "rewards"):
        assert getattr(loaded, key).dtype == getattr(original, key).dtype
        assert torch.equal(getattr(loaded, key), getattr(original, key))
    assert loaded.name == "sample"
    assert loaded.provenance == PROVENANCE
    assert dataclasses.replace(loaded.environment, source="") == original.environment
    assert list(loaded.environment.features) == ["zeta", "alpha"]
    assert loaded.environment.source == str(path)


def test_only_padding_round_trips(tmp_path: Path) -> None:
    blank = torch.full((2, 1, TOKENS, 3), 0xFF, dtype=torch.uint8)
    flags = torch.zeros(2, 1, dtype=torch.bool)
    recording = make_recording(env_obs=blank, dones=flags, truncateds=flags, rewards=torch.zeros(2, 1))
    save_recording(recording, tmp_path / "blank", {})
    assert torch.equal(load_recording(tmp_path / "blank").env_obs, blank)


def test_same_content_same_bytes_and_nothing_left_over(path: Path) -> None:
    first = path.read_bytes()
    save_recording(make_recording(), path, PROVENANCE)
    assert path.read_bytes() == first
    assert os.listdir(path.parent) == [path.name]


def test_a_failed_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_recording(make_recording(name="other"), path, {})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_segments_are_windows_of_one_agent() -> None:
    recording = make_recording()
    env_obs, dones, truncateds = recording.segment(batch=8, steps=4, seed=2)
    assert env_obs.shape == (8, 4, TOKENS, 3)
    found = set()
    for row in range(8):
        matches = [
            (start, agent)
            for start in range(STEPS - 3)
            for agent in range(AGENTS)
            if torch.equal(recording.env_obs[start : start + 4, agent], env_obs[row])
            and torch.equal(recording.dones[start : start + 4, agent], dones[row])
            and torch.equal(recording.truncateds[start : start + 4, agent], truncateds[row])
        ]
        assert len(matches) == 1
        found.add(matches[0])
    assert len(found) == 8
    assert len({start for start, _ in found}) > 1
    assert len({agent for _, agent in found}) > 1


def test_segments_follow_the_seed_and_are_copies() -> None:
    recording = make_recording()
    first = recording.segment(batch=5, steps=3, seed=0)
    assert all(map(torch.equal, first, recording.segment(batch=5, steps=3, seed=0)))
    assert not torch.equal(first[0], recording.segment(batch=5, steps=3, seed=1)[0])
    first[0].zero_()
    assert torch.equal(recording.env_obs, make_recording().env_obs)


def test_a_batch_larger_than_the_windows_repeats_them() -> None:
    env_obs, *_ = make_recording().segment(batch=10, steps=STEPS, seed=0)
    assert len(env_obs) == 10
    assert len(env_obs.flatten(1).unique(dim=0)) <= AGENTS


@pytest.mark.parametrize(("batch", "steps"), [(0, 1), (1, 0), (1, STEPS + 1)])
def test_impossible_segments_are_named(batch: int, steps: int) -> None:
    with pytest.raises(RecordingError, match=f"'sample'.*batch {batch} x steps {steps}.*1 to {STEPS} steps"):
        make_recording().segment(batch=batch, steps=steps, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dones": torch.zeros(STEPS, AGENTS)}, "dones is torch.float32; give torch.bool"),
        ({"rewards": torch.zeros(AGENTS, STEPS)}, r"rewards has shape \[3, 9\]; give \[S, N\] = \[9, 3\]"),
        ({"env_obs": torch.zeros(STEPS, AGENTS, 5, 3, dtype=torch.uint8)}, r"env_obs has shape \[9, 3, 5, 3\].*M = 12"),
        ({"env_obs": torch.zeros(0, AGENTS, TOKENS, 3, dtype=torch.uint8)}, r"env_obs has shape \[0, 3, 12, 3\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordingError, match=message):
        make_recording(**changes)


def rewrite(path: Path, edit: Callable[[bytes], bytes]) -> None:
    path.write_bytes(edit(path.read_bytes()))


def flip(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 0x10
    return bytes(changed)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda _: b"", "no intact safetensors file"),
        (lambda content: content[:5], "no intact safetensors file"),
        (lambda content: content[: len(content) // 2], "no intact safetensors file"),
        (lambda content: content[:-1], "no intact safetensors file"),
        (lambda content: content + b"more", "no intact safetensors file"),
        (lambda _: b"PK\x03\x04 a zip archive, as torch.save would write", "no intact safetensors file"),
        (lambda content: flip(content, -7), "damaged"),
        (lambda content: content.replace(b"zeta", b"beta"), "damaged"),
        (
            lambda content: content.replace(b"parity-recording/1", b"parity-recording/9"),
            "format is 'parity-recording/9'",
        ),
        (lambda content: content.replace(rb"{\"format\"", rb"[\"format\""), "metadata is not JSON"),
        (lambda content: content.replace(b"sha256", b"SHA256"), "sha256 = None"),
    ],
    ids=[
        *("empty", "stub", "half", "one byte short", "trailing bytes", "foreign"),
        *("data byte", "metadata byte", "other format", "no JSON", "no checksum"),
    ],
)
def test_a_changed_file_is_refused(path: Path, edit: Callable[[bytes], bytes], message: str) -> None:
    rewrite(path, edit)
    with pytest.raises(RecordingError, match=message) as caught:
        load_recording(path)
    assert str(path) in str(caught.value)
    assert "python -m parity.environments.record" in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"absent\.safetensors: cannot be read \(No such file"):
        load_recording(tmp_path / "absent.safetensors")
    with pytest.raises(RecordingError, match="cannot be read"):
        load_recording(tmp_path)


def test_someone_elses_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model", metadata={"format": "pt"})
    with pytest.raises(RecordingError, match="a safetensors file, but no recording"):
        load_recording(tmp_path / "model")


def test_missing_and_unknown_tensors_are_refused(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    flags = {"dones": torch.zeros(1, 1, dtype=torch.bool), "truncateds": torch.zeros(1, 1, dtype=torch.bool)}
    tokens = {"env_obs": torch.zeros(1, 1, 1, 3, dtype=torch.uint8)}
    other = tmp_path / "other"
    save_file(flags | tokens, other, metadata=header["__metadata__"])
    with pytest.raises(RecordingError, match="lacks the tensor 'rewards'"):
        load_recording(other)
    rewards = {"rewards": torch.zeros(1, 1), "surplus": torch.zeros(1)}
    save_file(flags | tokens | rewards, other, metadata=header["__metadata__"])
    with pytest.raises(RecordingError, match="unknown tensor 'surplus'"):
        load_recording(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": torch.zeros(STEPS, AGENTS, dtype=torch.float64)}, "rewards is torch.float64; give torch.float32"),
        ({"dones": torch.zeros(STEPS, 1, dtype=torch.bool)}, r"dones has shape \[9, 1\]"),
        (
            {"env_obs": torch.zeros(STEPS, AGENTS, TOKENS + 1, 3, dtype=torch.uint8)},
            r"env_obs has shape \[9, 3, 13, 3\]",
        ),
        ({"env_obs": torch.zeros(STEPS, AGENTS, TOKENS, 2, dtype=torch.uint8)}, r"env_obs has shape \[9, 3, 12, 2\]"),
    ],
)
def test_intact_files_with_ill_fitting_tensors_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_recording(forced(**changes), tmp_path / "odd", {})
    with pytest.raises(RecordingError, match=rf"odd: recording 'sample': {message}.*record it again"):
        load_recording(tmp_path / "odd")


def test_an_intact_file_with_an_illegal_environment_is_refused(tmp_path: Path) -> None:
    recording = make_recording()
    object.__setattr__(recording.environment, "obs_width", 17)
    save_recording(recording, tmp_path / "wide", {})
    with pytest.raises(RecordingError, match=r"wide: its environment is illegal .*obs_width is 17"):
        load_recording(tmp_path / "wide")

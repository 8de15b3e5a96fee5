"""Generated observations: reproducible, legal without noise, and rich in the cases that break encoders with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from parity.agents.config import load_environment
from parity.agents.interface import EnvironmentDescription, Feature
from parity.environments.generated import generate_tokens
from parity.resources import fixture

ROWS = 120


def description(
    *, width: int = 5, height: int = 3, num_tokens: int = 30, ids: tuple[int, ...] = (2, 7, 40)
) -> EnvironmentDescription:
    features = {f"feature {number}": Feature(number) for number in ids}
    return EnvironmentDescription(width, height, num_tokens, ("noop",), (0,), features)


DEFAULT = load_environment(fixture("environments", "default.yaml"))
SPARSE = description()
ENVIRONMENTS = {
    "default": DEFAULT,
    "sparse": SPARSE,
    "largest box, all ids": description(width=16, height=16, num_tokens=500, ids=tuple(range(255))),
    "single token": description(width=1, height=1, num_tokens=1, ids=(254,)),
}


def real_tokens(rows: Tensor) -> Tensor:
    return rows[rows[..., 0] != 0xFF].long()


def counts(rows: Tensor) -> Tensor:
    return (rows[..., 0] != 0xFF).sum(dim=1)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_shape_dtype_and_repetition(environment: EnvironmentDescription, noise: bool) -> None:
    before = torch.random.get_rng_state()
    first = generate_tokens(environment, rows=20, seed=3, noise=noise)
    assert first.shape == (20, environment.num_tokens, 3)
    assert first.dtype == torch.uint8
    assert first.is_contiguous()
    assert torch.equal(first, generate_tokens(environment, rows=20, seed=3, noise=noise))
    assert not torch.equal(first, generate_tokens(environment, rows=20, seed=4, noise=noise))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_without_noise_every_token_is_legal(environment: EnvironmentDescription) -> None:
    rows = generate_tokens(environment, rows=ROWS, seed=5, noise=False)
    tokens = real_tokens(rows)
    assert bool((tokens[:, 0] >> 4 < environment.obs_width).all())
    assert bool((tokens[:, 0] & 15 < environment.obs_height).all())
    assert set(tokens[:, 1].tolist()) <= {feature.id for feature in environment.features.values()}
    assert bool((rows[rows[..., 0] == 0xFF] == 0xFF).all())


@pytest.mark.parametrize("noise", [False, True])
def test_rows_are_empty_full_and_between_and_differ(noise: bool) -> None:
    rows = generate_tokens(DEFAULT, rows=ROWS, seed=6, noise=noise)
    held = counts(rows)
    assert int((held == 0).sum()) == ROWS // 10
    assert int((held == DEFAULT.num_tokens).sum()) == ROWS // 10
    assert len(held.unique()) > 40
    with_tokens = rows[held > 0]
    assert len(with_tokens.flatten(1).unique(dim=0)) == len(with_tokens)


def test_a_single_row_can_be_of_every_kind() -> None:
    held = {int(counts(generate_tokens(SPARSE, rows=1, seed=seed))) for seed in range(60)}
    assert {0, SPARSE.num_tokens} < held


def test_padding_stands_between_tokens_in_most_rows_and_behind_them_in_others() -> None:
    rows = generate_tokens(DEFAULT, rows=ROWS, seed=7)
    held = counts(rows)
    between = (held > 5) & (held < DEFAULT.num_tokens)
    is_token = rows[between][..., 0] != 0xFF
    at_the_front = (is_token == (torch.arange(DEFAULT.num_tokens) < held[between, None])).all(dim=1)
    assert 0.15 < at_the_front.float().mean() < 0.55


@pytest.mark.parametrize("environment", [DEFAULT, SPARSE], ids=["default", "sparse"])
def test_axes_are_asymmetric_and_the_corner_is_common(environment: EnvironmentDescription) -> None:
    rows = generate_tokens(environment, rows=ROWS, seed=8, noise=False)
    tokens = real_tokens(rows)
    x = (tokens[:, 0] >> 4).float() / (environment.obs_width - 1)
    y = (tokens[:, 0] & 15).float() / (environment.obs_height - 1)
    assert x.mean() + 0.15 < y.mean()
    lowest = min(feature.id for feature in environment.features.values())
    corner = (rows[..., 0] == 0) & (rows[..., 1] == lowest) & (rows[..., 2] > 0)
    assert corner.any(dim=1).float().mean() > 0.4


def test_values_reach_both_ends_and_are_mostly_small() -> None:
    values = real_tokens(generate_tokens(DEFAULT, rows=ROWS, seed=9))[:, 2]
    assert values.min() == 0
    assert values.max() == 255
    assert values.median() < 16
    assert len(values.unique()) > 200


def test_noise_holds_every_kind_of_token_that_is_ignored() -> None:
    tokens = real_tokens(generate_tokens(SPARSE, rows=ROWS, seed=10))
    byte, feature = tokens[:, 0], tokens[:, 1]
    x_out, y_out = byte >> 4 >= SPARSE.obs_width, byte & 15 >= SPARSE.obs_height
    unused = (feature < SPARSE.num_layers) & (feature != 2) & (feature != 7) & (feature != 40)
    kinds = {
        "global": byte == 0xFE,
        "only x outside": x_out & ~y_out,
        "only y outside": y_out & ~x_out,
        "id 255": feature == 255,
        "id without a layer": (feature >= SPARSE.num_layers) & (feature < 255),
        "id with a layer and no feature": unused,
    }
    for kind, found in kinds.items():
        assert found.float().mean() > 0.01, kind
    ignored = x_out | y_out | (feature >= SPARSE.num_layers) | unused
    assert 0.1 < ignored.float().mean() < 0.4


def test_noise_repeats_a_cell_and_feature_with_another_value() -> None:
    rows = generate_tokens(DEFAULT, rows=20, seed=11)
    conflicting = 0
    for row in rows:
        values: dict[tuple[int, int], set[int]] = {}
        for byte, feature, value in real_tokens(row).tolist():
            values.setdefault((byte, feature), set()).add(value)
        conflicting += any(len(found) > 1 for found in values.values())
    assert conflicting > 10


def test_noise_gives_padding_that_reads_like_a_token() -> None:
    rows = generate_tokens(DEFAULT, rows=20, seed=12)
    padding = rows[rows[..., 0] == 0xFF]
    like_a_token = (padding[:, 1] < DEFAULT.num_layers).float().mean()
    assert 0.2 < like_a_token < 0.4
    assert bool((padding[:, 1:] == 0xFF).all(dim=1).any())


@pytest.mark.parametrize(
    ("rows", "seed", "message"), [(0, 0, "rows is 0; give"), (-2, 0, "rows is -2; give"), (1, -1, "seed is -1; give")]
)
def test_bad_arguments_are_named(rows: int, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_tokens(SPARSE, rows=rows, seed=seed)

"""Tokens to box against a plain loop, ignored tokens, and normalisation."""

from __future__ import annotations

import warnings

import pytest
import torch
from component_builders import SMALL, component, tokens
from torch import Tensor

from parity.agents.errors import IgnoredTokensWarning


def looped_box(observation: Tensor) -> Tensor:
    box = torch.zeros(len(observation), SMALL.num_layers, SMALL.obs_width, SMALL.obs_height)
    for n, row in enumerate(observation.tolist()):
        for byte, feature, value in row:
            x, y = divmod(byte, 16)
            if byte == 255 or x >= SMALL.obs_width or y >= SMALL.obs_height or feature >= SMALL.num_layers:
                continue
            box[n, feature, x, y] = max(box[n, feature, x, y].item(), value)
    return box


@pytest.mark.parametrize("seed", range(3))
def test_box_against_a_loop(seed: int) -> None:
    observation = tokens(200, seed=seed)
    before = observation.clone()
    shaper = component("ObsTokenToBoxShaper", [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        box = shaper(observation)
    assert box.equal(looped_box(observation)) and observation.equal(before)
    assert shaper.double()(observation).dtype == torch.float64


def test_any_bytes_at_all_against_a_loop() -> None:
    observation = torch.randint(0, 256, (300, SMALL.num_tokens, 3), dtype=torch.uint8)
    observation[:, 0] = torch.tensor([0, 0, 200])  # the cell that ignored tokens must not touch
    with pytest.warns(IgnoredTokensWarning):
        box = component("ObsTokenToBoxShaper", [])(observation)
    assert box.equal(looped_box(observation)) and (box[:, 0, 0, 0] >= 200).all()


@pytest.mark.parametrize("token", [(0x00, 5, 9), (0x40, 0, 9), (0x03, 0, 9), (0xFE, 0, 9)])
def test_tokens_outside_the_box_are_ignored_with_one_warning(token: tuple[int, int, int]) -> None:
    shaper = component("ObsTokenToBoxShaper", [])
    observation = torch.full((2, 6, 3), 255, dtype=torch.uint8)
    observation[1, 4] = torch.tensor(token)
    with pytest.warns(IgnoredTokensWarning, match=f"{token[0]:#04x}, feature {token[1]}, value 9") as caught:
        assert not shaper(observation).any()
        assert not shaper(observation).any()
    assert len(caught) == 1


def test_padding_is_ignored_in_silence_whatever_it_holds() -> None:
    observation = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
    observation[..., 0] = 255
    assert not component("ObsTokenToBoxShaper", [])(observation).any()


def test_the_normalizer_divides_each_layer() -> None:
    normalizer = component("ObservationNormalizer", [(5, 4, 3)]).double()
    box = torch.rand(2, 5, 4, 3, dtype=torch.float64)
    assert normalizer(box).equal(box)
    normalizer.set_normalizations({0: 2.0, 4: 10.0, 7: 3.0})  # 7 has no layer
    assert normalizer(box).equal(box / torch.tensor([2.0, 1, 1, 1, 10], dtype=torch.float64).view(5, 1, 1))
    normalizer.set_normalizations({1: 4.0})
    assert normalizer(box)[:, 0].equal(box[:, 0] / 2)

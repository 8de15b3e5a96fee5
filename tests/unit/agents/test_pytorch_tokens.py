from __future__ import annotations

import itertools
import math
import warnings

import pytest
import torch
from pytorch_samples import component
from torch import Tensor

from parity.agents.errors import IgnoredTokensWarning
from parity.agents.pytorch.tokens import FourierTokens, TokenStrip, ValueNormalizer


def fourier(embed: int, count: int, width: int = 11, height: int = 11) -> FourierTokens:
    settings = component("obs_fourier", sizes={"attr_embed_dim": embed, "num_freqs": count})
    return FourierTokens(settings, width, height, seed=1, dtype=torch.float64)


def random_tokens(*lead: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*lead, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize(("layers", "width", "height"), [(25, 11, 11), (3, 5, 2), (1, 1, 1), (255, 16, 16)])
@pytest.mark.parametrize("remapped", [False, True])
def test_strip_equals_the_loop_on_any_bytes(layers: int, width: int, height: int, remapped: bool) -> None:
    tokens = random_tokens(6, 90, seed=layers)
    tokens[0, :, 0] = 0
    tokens[1, :, 0] = 0xFF
    tokens[:, 70:, 0] = 0xFF
    tokens[3, :, 1] %= layers
    generator = torch.Generator().manual_seed(layers)
    remap = torch.randperm(256, generator=generator).tolist() if remapped else list(range(256))
    strip = TokenStrip(layers, width, height)
    strip.set_feature_remap(remap)
    before = tokens.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IgnoredTokensWarning)
        stripped, mask = strip(tokens)
    length = 1
    for row, slot in itertools.product(range(6), range(90)):
        place, feature, _ = tokens[row, slot].tolist()
        real = place != 0xFF and place // 16 < width and place % 16 < height and remap[feature] < layers
        length = max(length, slot + 1) if real else length
        if slot < stripped.shape[1]:
            assert mask[row, slot].item() == real
            assert stripped[row, slot].tolist() == [place, remap[feature], tokens[row, slot, 2].item()]
    assert stripped.shape == (6, length, 3) and mask.shape == (6, length)
    assert (stripped.dtype, mask.dtype) == (torch.uint8, torch.bool) and torch.equal(tokens, before)


def test_strip_keeps_one_column_of_nothing_and_every_column_of_a_full_row() -> None:
    strip = TokenStrip(3, 11, 11)
    strip.set_feature_remap(range(256))
    padding = torch.full((2, 5, 3), 0xFF, dtype=torch.uint8)
    stripped, mask = strip(padding)
    assert stripped.shape == (2, 1, 3) and not mask.any()
    padding[1] = 1
    stripped, mask = strip(padding)
    assert stripped.shape == (2, 5, 3) and mask.tolist() == [[False] * 5, [True] * 5]


@pytest.mark.parametrize("token", [(0x20, 0, 9), (0x02, 0, 9), (0x00, 3, 9), (0xFE, 0, 9), (0x00, 255, 0)])
def test_strip_warns_once_of_ignored_tokens(token: tuple[int, int, int]) -> None:
    strip = TokenStrip(3, 2, 2)
    strip.set_feature_remap(range(256))
    tokens = torch.tensor([[[0x11, 2, 7], token]], dtype=torch.uint8)
    with pytest.warns(IgnoredTokensWarning, match=r"2 x 2 box.*feature id of 3 or more"):
        stripped, mask = strip(tokens)
    assert stripped.tolist() == [[[0x11, 2, 7]]] and mask.tolist() == [[True]]
    strip(tokens)  # a second warning would be an error here


def test_normalizer_divides_by_the_features_own_and_keeps_the_others() -> None:
    normalizer = ValueNormalizer(dtype=torch.float64)
    normalizer.set_normalizations({0: 3.0, 254: 255.0})
    normalizer.set_normalizations({0: 10.0})
    tokens = torch.tensor([[[1, 0, 7], [2, 254, 200], [3, 9, 8]]], dtype=torch.uint8)
    mask = torch.tensor([[True, False, True]])
    coordinates, ids, values, same = normalizer(tokens, mask)
    assert coordinates.tolist() == [[1, 2, 3]] and ids.tolist() == [[0, 254, 9]] and same is mask
    assert coordinates.dtype == ids.dtype == torch.uint8
    assert values.tolist() == [[7 / 10, 200 / 255, 8.0]]
    assert ValueNormalizer(dtype=torch.float32).double()(tokens, mask)[2].dtype == torch.float64


@pytest.mark.parametrize(("width", "height"), [(11, 11), (16, 5), (1, 9), (7, 1)])
def test_fourier_equals_the_loop(width: int, height: int) -> None:
    embed, count = 3, 4
    encoder = fourier(embed, count, width, height)
    tokens = random_tokens(4, 6)
    tokens[..., 0] = (tokens[..., 0] // 16 % width) * 16 + tokens[..., 0] % 16 % height
    values = torch.randn(4, 6, dtype=torch.float64)
    mask = torch.ones(4, 6, dtype=torch.bool)
    features, same = encoder(tokens[..., 0], tokens[..., 1], values, mask)
    assert features.shape == (4, 6, encoder.width) == (4, 6, embed + 4 * count + 1) and same is mask
    for row, slot in itertools.product(range(4), range(6)):
        place, feature, _ = tokens[row, slot].tolist()
        x = 2 * (place // 16) / (width - 1) - 1 if width > 1 else 0.0
        y = 2 * (place % 16) / (height - 1) - 1 if height > 1 else 0.0
        waves = [wave(axis * 2**k) for axis in (x, y) for wave in (math.cos, math.sin) for k in range(count)]
        expected = [*encoder.attr_embeds.weight[feature].tolist(), *waves, values[row, slot].item()]
        assert features[row, slot].tolist() == pytest.approx(expected, rel=1e-14, abs=1e-14)


def test_unknown_features_embed_to_zero_for_good() -> None:
    encoder = fourier(3, 1)
    weight = encoder.attr_embeds.weight
    assert weight.shape == (256, 3) and not weight[255].any() and bool(weight[:255].any(1).all())
    assert 0.015 < weight[:255].std() < 0.025
    ids = torch.tensor([[255, 7, 255]], dtype=torch.uint8)
    features, _ = encoder(ids, ids, torch.ones(1, 3, dtype=torch.float64), ids > 0)
    features.sum().backward()
    assert weight.grad is not None and weight.grad.any(1).nonzero().tolist() == [[7]]


def test_moving_to_a_wider_dtype_loses_nothing() -> None:
    settings = component("obs_fourier", sizes={"attr_embed_dim": 2, "num_freqs": 8})
    narrow = FourierTokens(settings, 11, 11, seed=1, dtype=torch.float32).double()
    place = torch.arange(176, dtype=torch.uint8)[None]
    inputs = (place, place, torch.zeros(1, 176, dtype=torch.float64), place >= 0)
    wide = FourierTokens(settings, 11, 11, seed=1, dtype=torch.float64)
    assert torch.equal(narrow(*inputs)[0], wide(*inputs)[0])

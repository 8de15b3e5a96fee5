"""Token rows drawn from a seed: dense in the cases that break observation encoders, and never the same row twice.

What a uniform draw would almost never show is drawn on purpose: a real token in cell (0, 0) for the lowest feature id
(padding written to cell 0 erases it), tokens on the middle cell, where the agent itself is, x skewed low and y skewed
high (swapped axes move the mass), rows without any token, rows without padding, and padding in the middle of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parity.agents.interface import PADDING_BYTE, UNKNOWN_FEATURE_ID, EnvironmentDescription

GLOBAL_BYTE = 0xFE

#: Of this many consecutive rows (the order is shuffled) one holds no token and one holds M.
_KINDS_PERIOD = 10
#: Share of a noisy row's tokens that repeat another token's cell and feature with another value.
_REPEATED = 0.10
#: Shares of a noisy row's tokens that no encoder may write as they stand.
_GLOBAL, _OUTSIDE, _UNKNOWN, _UNUSED = 0.05, 0.07, 0.07, 0.05

_Bytes = NDArray[np.uint8]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass
class _Tokens:
    """One array per column of the tokens, each ``[rows, M]``; row r's tokens are its first ``count[r]`` entries."""

    coordinate: _Bytes
    feature: _Bytes
    value: _Bytes


def generate_tokens(environment: EnvironmentDescription, *, rows: int, seed: int, noise: bool = True) -> Tensor:
    """Draw observations for ``environment``, the same ones for the same arguments.

    Of ten rows, one is all padding, one all tokens, and the rest lie between; in two thirds of them padding stands
    between the tokens. Rows that hold a token differ from one another, save by a rare coincidence in tiny environments.

    Args:
        environment: gives the box, M and the feature ids; ids may be sparse.
        rows: how many rows, at least 1.
        seed: a whole number >= 0.
        noise: also draw what an encoder must ignore or resolve: repeated (cell, feature) pairs with other values,
            global tokens (0xFE), coordinates outside the box, ids at or above ``num_layers`` (255 among them), ids
            below it that no feature holds, and padding whose other two numbers are not 0xFF. Without noise each token
            lies in the box and has a feature's id, and padding is 0xFF throughout; a cell and feature may still
            repeat.

    Returns:
        ``[rows, M, 3]`` uint8 on the CPU.

    Raises:
        ValueError: ``rows`` or ``seed`` is out of range.
    """
    if rows < 1:
        raise ValueError(f"generate_tokens: rows is {rows!r}; give a whole number of at least 1")
    if seed < 0:
        raise ValueError(f"generate_tokens: seed is {seed!r}; give a whole number >= 0")
    random = np.random.default_rng(seed)
    count = _token_counts(random, rows, environment.num_tokens)
    tokens = _valid_tokens(random, environment, rows)
    planted = _plant(random, environment, tokens)
    if noise:
        _add_noise(random, environment, tokens, count, planted)
    return torch.from_numpy(_lay_out(random, environment, tokens, count, noise))


def _token_counts(random: np.random.Generator, rows: int, num_tokens: int) -> _Ints:
    """Tokens per row, ``[rows]`` in 0..M: some rows none, some M, most between and rather sparse."""
    between = 1 + np.floor((num_tokens - 1) * random.beta(1.5, 3.0, rows)).astype(np.int64)
    # A random start lets a single row be of any kind, while any ten rows hold every kind.
    kind = (random.permutation(rows) + random.integers(_KINDS_PERIOD)) % _KINDS_PERIOD
    return np.select([kind == 0, kind == 1], [np.zeros_like(between), np.full_like(between, num_tokens)], between)


def _valid_tokens(random: np.random.Generator, environment: EnvironmentDescription, rows: int) -> _Tokens:
    """Tokens inside the box, for ids that features hold."""
    shape = (rows, environment.num_tokens)
    x = np.floor(environment.obs_width * random.random(shape) ** 1.7).astype(np.int64)
    y = np.floor(environment.obs_height * (1.0 - random.random(shape) ** 1.7)).astype(np.int64)
    y = np.minimum(y, environment.obs_height - 1)  # 1 - 0.0 ** 1.7 is 1
    coordinate = (x << 4) | y
    coordinate[random.random(shape) < 0.06] = 0
    coordinate[coordinate == PADDING_BYTE] -= 1  # only a 16 x 16 box has that cell, and no token can name it
    ids = np.array(sorted(feature.id for feature in environment.features.values()))
    feature = ids[random.integers(len(ids), size=shape)]
    feature[random.random(shape) < 0.12] = ids[0]
    return _Tokens(coordinate.astype(np.uint8), feature.astype(np.uint8), _values(random, shape))


def _values(random: np.random.Generator, shape: tuple[int, int]) -> _Bytes:
    """Token values: mostly small counts and flags, as in real observations, with a tail over all of 0..255."""
    small = np.minimum(random.geometric(0.35, shape), 255)
    wide = random.integers(256, size=shape)
    edge = np.array([0, 1, 127, 128, 254, 255])[random.integers(6, size=shape)]
    share = random.random(shape)
    return np.select([share < 0.6, share < 0.9], [small, wide], edge).astype(np.uint8)


def _plant(random: np.random.Generator, environment: EnvironmentDescription, tokens: _Tokens) -> _Flags:
    """Give the first tokens of many rows, at random, a non-zero value where it tells most.

    The first lies in cell (0, 0), the second and third in the middle cell; the first two are of the lowest id.

    Returns:
        Which tokens these are, ``[rows, M]``; the noise leaves them alone.
    """
    rows, num_tokens = tokens.value.shape
    planted = np.zeros((rows, num_tokens), dtype=np.bool_)
    chosen = (random.random((rows, 3)) < (0.5, 0.35, 0.2))[:, :num_tokens]
    planted[:, :3] = chosen
    middle = (environment.obs_width // 2) << 4 | environment.obs_height // 2
    places = np.array([0, middle, middle], dtype=np.uint8)[: chosen.shape[1]]
    tokens.coordinate[:, :3] = np.where(chosen, places, tokens.coordinate[:, :3])
    lowest = min(feature.id for feature in environment.features.values())
    tokens.feature[:, :2][chosen[:, :2]] = lowest
    tokens.value[planted] = np.maximum(tokens.value[planted], 1)
    return planted


def _add_noise(
    random: np.random.Generator,
    environment: EnvironmentDescription,
    tokens: _Tokens,
    count: _Ints,
    planted: _Flags,
) -> None:
    """Turn some of the other tokens into repeated, misplaced and unknown ones, in place."""
    shape = tokens.value.shape
    repeated = ~planted & (random.random(shape) < _REPEATED)
    # A repetition copies from a token that is none itself, so that the value it must differ from stays put.
    source = np.floor(random.random(shape) * count[:, None]).astype(np.int64)
    repeated &= ~np.take_along_axis(repeated, source, axis=1)
    for column in (tokens.coordinate, tokens.feature):
        column[repeated] = np.take_along_axis(column, source, axis=1)[repeated]
    shift = random.integers(1, 256, size=shape).astype(np.uint8)
    tokens.value[repeated] = (np.take_along_axis(tokens.value, source, axis=1) + shift)[repeated]  # wraps: never equal

    free = ~planted & ~repeated
    share = random.random(shape)
    low = 0.0
    for column, choices, part in (
        (tokens.coordinate, [GLOBAL_BYTE], _GLOBAL),
        (tokens.coordinate, _outside(environment), _OUTSIDE),
        (tokens.feature, _unknown_ids(environment), _UNKNOWN),
        (tokens.feature, _unused_ids(environment), _UNUSED),
    ):
        chosen = free & (share >= low) & (share < low + part)
        low += part
        if choices:
            column[chosen] = random.choice(np.array(choices, dtype=np.uint8), size=int(chosen.sum()))


def _outside(environment: EnvironmentDescription) -> list[int]:
    """Coordinate bytes of cells beyond the box; none for a 16 x 16 box."""
    cells = range(GLOBAL_BYTE)
    return [cell for cell in cells if cell >> 4 >= environment.obs_width or cell & 15 >= environment.obs_height]


def _unknown_ids(environment: EnvironmentDescription) -> list[int]:
    """Ids without a layer; 255, which the feature remapping uses, counts as often as all others together."""
    high = list(range(environment.num_layers, UNKNOWN_FEATURE_ID))
    return high + [UNKNOWN_FEATURE_ID] * max(1, len(high))


def _unused_ids(environment: EnvironmentDescription) -> list[int]:
    """Ids that have a layer but no feature; none when the ids are dense."""
    used = {feature.id for feature in environment.features.values()}
    return [number for number in range(environment.num_layers) if number not in used]


def _lay_out(
    random: np.random.Generator, environment: EnvironmentDescription, tokens: _Tokens, count: _Ints, noise: bool
) -> _Bytes:
    """Place each row's first ``count`` tokens among padding: ``[rows, M, 3]``."""
    rows, num_tokens = tokens.value.shape
    laid = np.stack([tokens.coordinate, tokens.feature, tokens.value], axis=-1)
    padding = np.arange(num_tokens) >= count[:, None]
    laid[padding] = PADDING_BYTE
    if noise:
        # Padding that, but for its coordinate byte, reads like a token of some layer.
        dirty = padding & (random.random(padding.shape) < 0.3)
        laid[dirty, 1] = random.integers(environment.num_layers, size=int(dirty.sum()))
        laid[dirty, 2] = random.integers(256, size=int(dirty.sum()))
    order = random.random((rows, num_tokens)).argsort(axis=1)
    order[random.random(rows) < 1 / 3] = np.arange(num_tokens)
    return np.take_along_axis(laid, order[:, :, None], axis=1)

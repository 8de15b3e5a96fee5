"""Merge layers and the centre cell against plain torch, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from component_builders import SMALL, component, small_components
from torch import Tensor

from parity.agents.component import ComponentPolicy
from parity.agents.component.registry import KINDS
from parity.agents.errors import ConfigError

PLAIN = {
    "Add": lambda a, b: a + b,
    "Subtract": lambda a, b: a - b,
    "Mean": lambda a, b: (a + b) / 2,
    "Concat": lambda a, b: torch.cat([a, b], dim=1),
}


def sources(*options: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": f"source{i}", **each} for i, each in enumerate(options)]


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 3, *shape, dtype=torch.float64)
    return first, second


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("shape", [(4,), (2, 5, 3)])
def test_merging_whole_sources(kind: str, shape: tuple[int, ...]) -> None:
    layer, (a, b) = component(kind, [shape, shape]), pair(*shape)
    expected = PLAIN[kind](a, b)
    torch.testing.assert_close(layer(a, b), expected, rtol=1e-15, atol=0)
    assert layer.output_shape == tuple(expected.shape[1:]) and not list(layer.parameters())


@pytest.mark.parametrize("kind", PLAIN)
def test_merging_slices(kind: str) -> None:
    layer = component(kind, [(6,), (4,)], sources=sources({"slice": [3, 5]}, {"slice": [0, 2], "dim": -1}))
    a, b = torch.randn(3, 6), torch.randn(3, 4)
    expected = PLAIN[kind](a[:, 3:5], b[:, 0:2])
    assert layer(a, b).equal(expected) and layer.output_shape == tuple(expected.shape[1:])


def test_slicing_and_concatenating_along_another_axis() -> None:
    layer = component("Concat", [(2, 5), (2, 3)], sources=sources({"dim": 2, "slice": [1, 5]}, {"dim": -1}))
    a, b = torch.randn(3, 2, 5), torch.randn(3, 2, 3)
    assert layer(a, b).equal(torch.cat([a[:, :, 1:], b], dim=2)) and layer.output_shape == (2, 7)
    differing = component("Add", [(2, 5), (5, 2)], sources=sources({"dim": 2, "slice": [0, 2]}, {"slice": [3, 5]}))
    a, b = torch.randn(3, 2, 5), torch.randn(3, 5, 2)
    assert differing(a, b).equal(a[:, :, :2] + b[:, 3:])


def test_any_number_of_sources() -> None:
    rows = [torch.randn(3, 4, dtype=torch.float64) for _ in range(3)]
    for kind, expected in (("Add", rows[0] + rows[1] + rows[2]), ("Mean", (rows[0] + rows[1] + rows[2]) / 3)):
        torch.testing.assert_close(component(kind, [(4,)] * 3)(*rows), expected)
    assert component("Concat", [(4,)] * 3)(*rows).equal(torch.cat(rows, dim=1))
    assert component("Concat", [(4,)])(rows[0]).equal(rows[0])


@pytest.mark.parametrize(
    ("kind", "shapes", "options", "part"),
    [
        (
            "Concat",
            [(2, 5), (2, 4)],
            [{}, {}],
            "[2, 5] (source0), [2, 4] (source1) per row; they may differ along dim 1",
        ),
        ("Concat", [(2, 5), (5,)], [{}, {}], "they may differ along dim 1 only"),
        ("Concat", [(2, 5), (2, 5)], [{"dim": 1}, {"dim": 2}], "its sources' dim are axes [1, 2]"),
        (
            "Add",
            [(4,), (5,)],
            [{}, {}],
            "its sources give [4] (source0), [5] (source1) per row; they must have one shape",
        ),
        ("Mean", [(4,), (4,)], [{}, {"slice": [0, 3]}], "they must have one shape"),
        ("Subtract", [(4,), (4, 1)], [{}, {}], "they must have one shape"),
        (
            "Add",
            [(4,)],
            [{"slice": [2, 5]}],
            "slice of source 'source0' is [2, 5]; give [start, stop] with 0 <= start <",
        ),
        ("Add", [(4,)], [{"slice": [2, 2]}], "slice of source 'source0' is [2, 2]"),
        ("Add", [(4,)], [{"slice": [-1, 2]}], "slice of source 'source0' is [-1, 2]"),
        ("Add", [(4,)], [{"slice": [0, 2.0]}], "slice of source 'source0' is [0, 2.0]"),
        ("Add", [(4,)], [{"slice": 2}], "slice of source 'source0' is 2"),
        ("Add", [(4,)], [{"slice": [1]}], "stop <= 4, its size along dim 1"),
        ("Add", [(4,)], [{"dim": 0}], "dim of source 'source0' is 0, but it gives [4] per row; give 1 to 1"),
        ("Add", [(4,)], [{"dim": 2}], "dim of source 'source0' is 2"),
        ("Add", [(4,)], [{"dim": "x"}], "dim of source 'source0' is 'x'"),
        ("Add", [(4,)], [{"slices": [0, 2]}], "unknown key 'slices' in source 'source0'; did you mean 'slice'?"),
        ("CenterCell", [(4,)], [{}], "takes a box [layers, width, height], but its source gives [4] per row"),
    ],
)
def test_refusals(kind: str, shapes: list[tuple[int, ...]], options: list[dict[str, Any]], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        component(kind, shapes, sources=sources(*options))
    assert str(caught.value).startswith("test.yaml: component 'unit': ") and part in str(caught.value)


def test_subtraction_takes_two_sources_and_every_merge_takes_one_at_least() -> None:
    components = small_components()
    components["merged"] = {"_target_": "Subtract", "sources": [{"name": "flat"}] * 3}
    with pytest.raises(ConfigError, match=r"'merged': Subtract takes 2 source\(s\), but sources names 3"):
        ComponentPolicy(SMALL, components=components)
    components["merged"] = {"_target_": "Mean", "sources": None}
    with pytest.raises(ConfigError, match="'merged': Mean takes at least one source, but sources names 0"):
        ComponentPolicy(SMALL, components=components)


@pytest.mark.parametrize("kind", PLAIN)
def test_upstreams_names_are_the_same_kinds(kind: str) -> None:
    assert KINDS[f"{kind}MergeLayer"] is KINDS[kind]
    components = small_components()
    target = f"metta.agent.lib.merge_layer.{kind}MergeLayer"
    components["merged"] = {"_target_": target, "sources": [{"name": "flat"}, {"name": "flat", "slice": [0, 18]}]}
    components["_core_"]["sources"] = [{"name": "merged"}]
    policy = ComponentPolicy(SMALL, components=components)
    assert type(policy.components["merged"]) is KINDS[kind]


@pytest.mark.parametrize(("width", "height"), [(4, 3), (11, 11), (1, 2)])
def test_centre_cell(width: int, height: int) -> None:
    layer, box = component("CenterCell", [(5, width, height)]), torch.randn(3, 5, width, height)
    expected = torch.stack([box[n, :, width // 2, height // 2] for n in range(3)])
    assert layer(box).equal(expected) and layer.output_shape == (5,)

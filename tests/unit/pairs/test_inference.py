"""Which parameter is which: found by initial values, by shape and by what it does, and said how surely."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from parity.pairs.inference import Inferred, infer
from parity.pairs.parameters import ParameterLink

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
INPUT = torch.randn(7, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def drawn(seed: int, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def infer_between(
    mine: dict[str, Tensor], theirs: dict[str, Tensor], reference: Forward, candidate: Forward
) -> Inferred:
    forward = {"reference": reference, "candidate": candidate}
    return infer(mine, theirs, lambda side, weights: forward[side](weights, INPUT).flatten())


def links(inferred: Inferred) -> set[ParameterLink]:
    return {found.link for found in inferred.links}


def two_layers(first: str, second: str) -> Forward:
    return lambda w, x: torch.tanh(x @ w[first].T) @ w[second].T


def test_equal_initial_values_decide_where_shapes_repeat():
    mine = drawn(0, a=(4, 4), b=(4, 4))
    found = infer_between(mine, {"x": mine["b"], "y": mine["a"]}, two_layers("a", "b"), two_layers("y", "x"))
    assert links(found) == {ParameterLink("a", "y"), ParameterLink("b", "x")}
    assert found.complete
    assert {item.why for item in found.links} == {"initial values equal"}


def test_a_shape_that_occurs_once_decides_without_running_anything():
    def nothing(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        raise AssertionError("needs no run")

    found = infer_between(drawn(0, a=(4, 4), b=(3, 4)), drawn(1, x=(4, 4, 1), y=(4, 3)), nothing, nothing)
    assert links(found) == {ParameterLink("b", "y", permute=(1, 0))}
    assert found.left == {"reference": ["a"], "candidate": ["x"]}
    assert not found.complete


def test_fingerprints_decide_where_shapes_repeat_and_initial_values_differ():
    """Names that mislead: what is called first on one side is second on the other."""
    found = infer_between(
        drawn(0, first=(4, 4), second=(4, 4)),
        drawn(1, first=(4, 4), second=(4, 4)),
        two_layers("first", "second"),
        two_layers("second", "first"),
    )
    assert links(found) == {ParameterLink("first", "second"), ParameterLink("second", "first")}
    assert [item.why for item in found.links] == ["fingerprint", "fingerprint"]
    assert found.complete


@pytest.mark.parametrize("same_start", [True, False])
def test_a_square_matrix_stored_the_other_way_round_is_a_transposition(same_start: bool):
    mine = drawn(0, a=(4, 4), b=(4, 4))
    theirs = {"x": mine["a"].T.contiguous(), "y": mine["b"]} if same_start else drawn(1, x=(4, 4), y=(4, 4))
    found = infer_between(mine, theirs, two_layers("a", "b"), lambda w, x: torch.tanh(x @ w["x"]) @ w["y"].T)
    assert links(found) == {ParameterLink("a", "x", permute=(1, 0)), ParameterLink("b", "y")}
    assert found.complete


def attention(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    q, k, v = (x @ w[name].T for name in "qkv")
    return torch.softmax(q @ k.T * 0.1, -1) @ v


def fused_attention(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    v, q, k = (x @ w["fused"].T).chunk(3, -1)  # not in the order of the names
    return torch.softmax(q @ k.T * 0.1, -1) @ v


FUSED = {
    ParameterLink("q", "fused", candidate_region=((4, 8),)),
    ParameterLink("k", "fused", candidate_region=((8, 12),)),
    ParameterLink("v", "fused", candidate_region=((0, 4),)),
}


@pytest.mark.parametrize("same_start", [True, False])
def test_a_fused_projection_is_taken_apart_by_the_candidate_or_by_the_reference(same_start: bool):
    mine = drawn(0, q=(4, 4), k=(4, 4), v=(4, 4))
    theirs = {"fused": torch.cat([mine["v"], mine["q"], mine["k"]])} if same_start else drawn(1, fused=(12, 4))
    found = infer_between(mine, theirs, attention, fused_attention)
    assert {_first(link) for link in links(found)} == FUSED
    assert found.complete
    back = infer_between(theirs, mine, fused_attention, attention)
    assert {
        _first(ParameterLink(link.candidate, link.reference, link.candidate_region, link.reference_region))
        for link in links(back)
    } == FUSED
    assert back.complete


def _first(link: ParameterLink) -> ParameterLink:
    assert not link.reference_region
    return link


def test_parameters_that_do_the_same_are_told_apart_by_name_or_not_at_all():
    def summed(first: str, second: str) -> Forward:
        return lambda w, x: torch.tanh(x + w[first] + w[second])

    named = infer_between(drawn(0, **{"m.hh": (4,), "m.ih": (4,)}), drawn(1, **{"n.ih": (4,), "n.hh": (4,)}),
                          summed("m.hh", "m.ih"), summed("n.hh", "n.ih"))  # fmt: skip
    assert links(named) == {ParameterLink("m.hh", "n.hh"), ParameterLink("m.ih", "n.ih")}
    assert {item.why for item in named.links} == {"the same effect as 1 more, told apart by name"}
    assert named.complete

    nameless = infer_between(drawn(0, a=(4,), b=(4,)), drawn(1, x=(4,), y=(4,)), summed("a", "b"), summed("x", "y"))
    assert nameless.links[0].why == "ambiguous between x, y: the same effect"
    assert not nameless.complete


def test_sides_that_compute_different_things_leave_their_links_unsure():
    found = infer_between(drawn(0, a=(4, 4), b=(4, 4)), drawn(1, x=(4, 4), y=(4, 4)), two_layers("a", "b"),
                          lambda w, x: torch.sin(x @ w["x"].T) - x @ w["y"].T)  # fmt: skip
    assert not found.complete
    assert any(item.why.startswith(("closest fingerprint", "ambiguous")) for item in found.links)

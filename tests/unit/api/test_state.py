"""Recurrent states of foreign layouts: the batch axis is found, rows are put back, and checks see one layout."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from parity.api.state import Layout, leaves, rebuilt
from parity.compare.verdict import Misuse

Pair = namedtuple("Pair", ("h", "c"))


def initial(batch: int):
    return {"lstm": Pair(torch.zeros(2, batch, 5), torch.ones(2, batch, 5)), "count": [torch.zeros(batch)]}


def test_any_nesting_is_taken_apart_and_put_together():
    state = initial(3)
    again = rebuilt(state, [leaf + 1 for leaf in leaves(state)])
    assert isinstance(again["lstm"], Pair)
    assert float(again["count"][0][0]) == 1.0
    assert [leaf.shape for leaf in leaves(again)] == [leaf.shape for leaf in leaves(state)]


def test_the_batch_axis_is_found_and_what_is_stored_comes_back():
    layout = Layout.of(initial, "the candidate")
    assert layout.axes == (1, 1, 0)
    assert layout.rows == ((2, 5), (2, 5), (1, 1))
    state = rebuilt(initial(3), [torch.randn(leaf.shape) for leaf in leaves(initial(3))])
    stored = layout.stored(state)
    assert [tuple(leaf.shape) for leaf in stored] == [(2, 3, 5), (2, 3, 5), (1, 3, 1)]
    back = layout.loaded(initial(3), stored)
    assert all(torch.equal(a, b) for a, b in zip(leaves(state), leaves(back), strict=True))


def test_rows_are_reset_along_their_own_axis():
    layout = Layout.of(initial, "the candidate")
    state = rebuilt(initial(3), [torch.full(leaf.shape, 7.0) for leaf in leaves(initial(3))])
    masked = layout.masked(state, initial(3), torch.tensor([False, True, False]))
    assert masked["lstm"].h[:, 1].eq(0).all()
    assert masked["lstm"].c[:, 1].eq(1).all()
    assert masked["lstm"].h[:, [0, 2]].eq(7).all()
    assert masked["count"][0].tolist() == [7.0, 0.0, 7.0]


def test_a_state_for_another_batch_is_refused():
    layout = Layout.of(initial, "the candidate")
    with pytest.raises(ValueError, match="a stored state of 3 rows was given for a batch of 2"):
        layout.loaded(initial(2), layout.stored(initial(3)))
    with pytest.raises(Misuse, match="exactly one axis must be the batch"):
        Layout.of(lambda batch: torch.zeros(batch, batch), "the candidate")

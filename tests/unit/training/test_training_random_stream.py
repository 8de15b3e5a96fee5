from __future__ import annotations

import pytest
import torch

from parity.training.random_stream import RandomStream, derived_seed


def test_a_stream_goes_on_where_it_was_left_and_leaves_the_outside_alone() -> None:
    torch.manual_seed(7)
    outside = torch.rand(4).tolist()
    torch.manual_seed(7)
    stream, drawn, around = RandomStream(3), [], []
    for _ in range(2):
        with stream:
            drawn += torch.rand(2).tolist()
        around += torch.rand(2).tolist()
    assert around == outside
    torch.manual_seed(3)
    assert drawn == torch.rand(2).tolist() + torch.rand(2).tolist()


def test_the_outside_comes_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), RandomStream(3):
        torch.rand(1)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_derived_seeds_differ_by_purpose_and_seed() -> None:
    seeds = [derived_seed(seed, purpose) for seed in range(50) for purpose in ("a", "b")]
    assert len(set(seeds)) == 100 and all(0 <= seed < 2**31 for seed in seeds)
    assert derived_seed(4, "a") == derived_seed(4, "a")

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from parity.pairs.copying import Original


class Tied(nn.Module):
    """What is hard to copy: shared storage, a tied parameter, hooks, local functions, memory, a plain counter."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.whole = nn.Buffer(torch.arange(6.0))
        self.part = nn.Buffer(self.whole[2:4])
        self.states = {3: (torch.ones(2), torch.zeros(2))}
        self.count = [0]
        self.twice = lambda x: 2 * x


def test_a_copy_is_what_deepcopy_makes():
    module = Tied()
    found, expected = Original(module).copy(), copy.deepcopy(module)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())
    assert found.second.weight is found.first.weight
    assert found.lstm._flat_weights[0] is found.lstm.weight_ih_l0
    found.whole[2] = 99.0
    assert found.part[0] == 99.0
    assert found.twice is module.twice
    assert isinstance(found.first.weight, nn.Parameter)


def test_nothing_is_shared_with_the_original():
    module = Tied()
    original = Original(module)
    found = original.copy()
    with torch.no_grad():
        for value in (*found.parameters(), *found.buffers(), *found.states[3]):
            value.add_(1.0)
    found.count.append(1)
    found.states[4] = found.states[3]
    found.first.register_forward_hook(lambda *_: None)
    again = original.copy()
    for other in (module, again):
        assert torch.equal(other.whole, torch.arange(6.0))
        assert torch.equal(other.states[3][0], torch.ones(2))
        assert (other.count, list(other.states)) == ([0], [3])
        assert not other.first._forward_hooks
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


def test_a_parameter_goes_on_sharing_storage_with_what_views_it():
    module = nn.Linear(3, 3)
    module.start = nn.Buffer(module.weight.detach())
    module.row = nn.Buffer(module.weight.detach()[1])
    found = Original(module).copy()
    with torch.no_grad():
        found.weight.fill_(5.0)
    assert bool((found.start == 5.0).all()) and bool((found.row == 5.0).all())
    assert not bool((module.weight == 5.0).any())
    assert found.weight.requires_grad and not found.start.requires_grad


def test_values_are_those_of_the_moment():
    module = Tied()
    original = Original(module)
    with torch.no_grad():
        module.first.bias.fill_(7.0)
    assert bool((original.copy().first.bias == 7.0).all())


def test_local_classes_come_along_and_gradients_do_not():
    class Local(nn.Linear):
        pass

    module = nn.Sequential(Local(2, 2))
    module(torch.ones(1, 2)).sum().backward()
    found = Original(module).copy()
    assert type(found[0]) is Local
    assert found[0].weight.grad is None
    assert copy.deepcopy(module)[0].weight.grad is None


def test_what_cannot_be_pickled_is_left_to_deepcopy():
    class Stubborn(nn.Linear):
        def __reduce_ex__(self, protocol: object) -> str:
            raise TypeError("not like this")

        def __deepcopy__(self, memo: object) -> Stubborn:
            return Stubborn(self.in_features, self.out_features)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stream = (number for number in range(3))

    assert Original(Stubborn(2, 3)).copy().out_features == 3
    with pytest.raises(TypeError):
        Original(Outer()).copy()  # as deepcopy itself


def test_tensors_without_data_share_nothing_by_chance():
    module = nn.Module()
    module.first, module.second = (nn.Buffer(torch.empty(size, device="meta")) for size in (2, 3))
    module.none, module.nothing = nn.Buffer(torch.empty(0)), nn.Buffer(torch.empty(0, 4))
    found = Original(module).copy()
    assert [tuple(value.shape) for value in found.buffers()] == [(2,), (3,), (0,), (0, 4)]
    assert [value.device.type for value in found.buffers()] == ["meta", "meta", "cpu", "cpu"]

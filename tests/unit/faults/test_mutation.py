"""Mutants: which there are, how one is planted and taken out again, and what becomes of it."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest
import torch

from parity.faults.children import ChildDied, ChildTimeout, in_child
from parity.faults.mutation.mutants import Mutant, NotPlanted, _parsed, mutants_of, mutated

SOURCE = '''
    """Some functions."""

    import torch

    LIMIT = 3


    class Shelf:
        def __init__(self, width: int = 2) -> None:
            super().__init__()
            self.width = width

        @property
        def area(self) -> int:
            return self.width * 4

        @torch.no_grad()
        def grown(self, value):
            return value + 1

        @staticmethod
        def both(a, b):
            if a and not b:
                raise ValueError(f"{a + b} is wrong")
            return a - b


    def outer(values, *, start=0.5):
        """Text is left alone: 1 + 1."""
        def inner(value):
            return value < LIMIT
        return [max(value, start) for value in values if inner(value)]


    def power(base, exponent):
        return pow(base, exponent)


    def paired(first, second):
        return list(zip(first, second, strict=True))


    def moved(value, device):
        empty = torch.empty(0, dtype=torch.int64, device=device)
        there = torch.zeros(2, dtype=torch.float32, device=device)
        return value.to(there.device).cpu(), empty, torch.ones(2, device="meta")


    def last(values):
        return values[-1], -values
'''


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    (tmp_path / "shelves.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shelves")
    del sys.modules["shelves"]
    _parsed.cache_clear()


def named(rule: str, function: str) -> list[Mutant]:
    return [mutant for mutant in mutants_of("shelves") if (mutant.rule, mutant.function) == (rule, function)]


def test_every_rule_finds_its_places(shelves):
    found = {(mutant.function, mutant.rule, mutant.before, mutant.after) for mutant in mutants_of("shelves")}
    assert {
        ("Shelf.__init__", "default", "2", "3"),
        ("Shelf.__init__", "statement dropped", "self.width = width", ""),
        ("Shelf.area", "operator", "self.width * 4", "self.width / 4"),
        ("Shelf.area", "constant", "self.width * 4", "self.width * 5"),
        ("Shelf.both", "and/or", "a and (not b)", "a or not b"),
        ("Shelf.both", "not dropped", "not b", "b"),
        ("Shelf.both", "operator", "a - b", "a + b"),
        ("outer", "comparison", "value < LIMIT", "value <= LIMIT"),
        ("outer", "default", "0.5", "1.0"),
        ("power", "arguments swapped", "pow(base, exponent)", "pow(exponent, base)"),
    } <= found
    assert ("Shelf.grown", "decorator dropped") in {(function, rule) for function, rule, *_ in found}
    assert ("outer", "arguments swapped") not in {(function, rule) for function, rule, *_ in found}
    assert {rule for function, rule, *_ in found if function == "paired"} == {"arguments swapped"}
    assert not any(before in ("a + b", "1 + 1", "'a is wrong'") for _, _, before, _ in found)
    assert len({mutant.name for mutant in mutants_of("shelves")}) == len(mutants_of("shelves"))


def test_a_device_is_changed_to_one_without_values(shelves):
    assert {(mutant.rule, mutant.after) for mutant in mutants_of("shelves") if mutant.function == "moved"} == {
        ("device changed", "torch.zeros(2, dtype=torch.float32, device='meta')"),
        ("name", "torch.ones(2, dtype=torch.float32, device=device)"),
        ("name", "torch.zeros(2, dtype=torch.float64, device=device)"),
        ("constant", "torch.zeros(3, dtype=torch.float32, device=device)"),
        ("device changed", "value.to(there.device).to('meta')"),
        ("device changed", "value.to('meta')"),
        ("name", "torch.zeros(2, device='meta')"),
        ("constant", "torch.ones(3, device='meta')"),
    }


def test_the_sign_of_a_place_is_the_end_it_is_counted_from(shelves):
    assert {mutant.after for mutant in named("sign", "last")} == {"(values[-1], values)", "(values[0], -values)"}


def test_a_mutant_is_there_for_the_block_alone(shelves):
    (product,) = named("operator", "Shelf.area")
    (comparison,) = named("comparison", "outer")
    shelf, outer = shelves.Shelf(), shelves.outer
    with mutated(product):
        assert shelf.area == 0.5
        with mutated(comparison):
            assert outer([1, 3]) == [1, 3]  # a reference from before sees it too
    assert (shelf.area, outer([1, 3])) == (8, [1])


def test_defaults_and_decorators_change_and_come_back(shelves):
    (default,) = named("default", "Shelf.__init__")
    with mutated(default):
        assert shelves.Shelf().width == 3
    assert shelves.Shelf().width == 2
    (decorator,) = named("decorator dropped", "Shelf.grown")
    weight = torch.ones(1, requires_grad=True)
    with mutated(decorator):
        assert shelves.Shelf().grown(weight).requires_grad
    assert not shelves.Shelf().grown(weight).requires_grad


def test_what_cannot_stand_in_is_not_planted(shelves):
    dropped = next(mutant for mutant in named("statement dropped", "Shelf.__init__") if "super" in mutant.before)
    with pytest.raises(NotPlanted, match="closes over other variables"), mutated(dropped):
        pass
    assert shelves.Shelf().width == 2


def test_a_child_answers_or_is_missed():
    assert in_child(lambda: {"a": [1, None]}, 30) == {"a": [1, None]}
    with pytest.raises(ChildDied):
        in_child(lambda: 1 / 0, 30)
    with pytest.raises(ChildTimeout):
        in_child(lambda: [None for _ in iter(int, 1)], 0.5)

"""Which pairs are found, and how a broken offer is refused."""

from __future__ import annotations

import dataclasses
from importlib.metadata import EntryPoint

import pytest

from parity.compare.verdict import Misuse
from parity.pairs import registry
from parity.pairs.recipe import Pair
from parity.pairs.registry import register, registered_pairs, select_names, select_pairs


def stub(name: str) -> Pair:
    return Pair(name, recipe=None, reference=None, candidate=None, components=(), generate=None)  # type: ignore[arg-type]


def another(name: str) -> Pair:
    return dataclasses.replace(stub(name), capabilities=frozenset({"memory"}))


MINE, YOURS, NUMBER = stub("mine"), stub("yours"), 3


def make_yours() -> Pair:
    return YOURS


def fail() -> Pair:
    raise FileNotFoundError("weights.bin")


@pytest.fixture(autouse=True)
def offer(monkeypatch):
    """Offer attributes of this module as entry points, and nothing else."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "_by_hand", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: points)

    def add(*attributes: str) -> None:
        points.extend(EntryPoint(attribute, f"{__name__}:{attribute}", registry.GROUP) for attribute in attributes)

    return add


def test_pairs_come_from_attributes_functions_and_by_hand(offer):
    offer("MINE", "make_yours")
    third = register(stub("third"))
    assert register(third) is third
    assert registered_pairs() == {"mine": MINE, "yours": YOURS, "third": third}
    assert select_pairs("*r*") == [YOURS, third]


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("fail", r"entry point 'fail' = .* failed with FileNotFoundError: weights\.bin"),
        ("absent", r"entry point 'absent' = .* failed with AttributeError"),
        ("NUMBER", r"entry point 'NUMBER' = .* failed with TypeError"),
        ("stub", r"entry point 'stub' = .* failed with TypeError"),
        ("offer_nothing", r"entry point 'offer_nothing' = .* gives NoneType"),
    ],
)
def test_a_broken_entry_point_is_named(offer, attribute, message):
    offer(attribute)
    with pytest.raises(Misuse, match=message):
        registered_pairs()


def offer_nothing() -> None:
    return None


def test_two_pairs_of_one_name_are_refused(offer):
    offer("MINE")
    register(another("mine"))
    with pytest.raises(Misuse, match=r"two pairs are named 'mine': from entry point 'MINE' .* and from register\(\)"):
        registered_pairs()
    with pytest.raises(Misuse, match="'mine' is registered already"):
        register(stub("mine"))


def test_a_pair_that_is_offered_and_registered_is_one_pair(offer):
    offer("MINE")
    register(MINE, source="mine.py")
    assert list(registered_pairs()) == ["mine"]
    assert registered_pairs()["mine"].source == ""


def test_a_selection_that_matches_nothing_names_the_nearest():
    with pytest.raises(Misuse, match=r"no pair matches 'fsat'; did you mean 'fast'\?"):
        select_names("fsat", ["example", "fast"], "pair")
    with pytest.raises(Misuse, match="no pair matches 'zzz'; there are example, fast"):
        select_names("zzz", ["example", "fast"], "pair")
    with pytest.raises(Misuse, match="there is none at all"):
        select_pairs("*")

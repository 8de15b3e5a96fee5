"""Every declared fault is caught where its declaration says, and no harmless rewrite is taken for a fault."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator

import pytest

from parity.checks.catalogue import CHECKS
from parity.faults.registry import Control, Fault, load_catalogues
from parity.faults.run import run_control, run_fault
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.profiles import profile_in_force

CATALOGUES = load_catalogues()
FAULTS = [fault for catalogue in CATALOGUES.values() for fault in catalogue.faults.values()]
CONTROLS = [control for catalogue in CATALOGUES.values() for control in catalogue.controls.values()]

#: A rewrite that is wrongly blamed shows on the first few examples of the check that does so.
CONTROL_EXAMPLES = 2

#: Checks that take seconds whatever they judge; by night the controls go through them too.
SLOW = ("compile", "distributed", "throughput")

#: Pair -> at least so many faults and controls.
LEAST = {
    "fast": (250, 20),
    "example": (30, 3),
    "latent_attn_tiny": (80, 8),
    "latent_attn_small": (20, 5),
    "latent_attn_med": (6, 3),
}


def named(entries: list[Fault] | list[Control]) -> list[str]:
    return [f"{entry.pair}-{entry.name}" for entry in entries]


@pytest.fixture(scope="module", autouse=True)
def same_examples_every_time() -> Iterator[None]:
    with profile_in_force("parity-ci"):
        yield


def clean(entry: Fault | Control) -> Pair:
    """The pair of a fault or control, without it."""
    return registered_pairs()[entry.pair]


@pytest.mark.parametrize("entry", FAULTS, ids=named(FAULTS))
def test_fault_is_caught_where_declared(entry: Fault) -> None:
    found = run_fault(clean(entry), entry, checks=[entry.check])
    divergence = found.result.divergence
    assert divergence is not None, f"{entry.check} ends {found.result.verdict}: {found.result.reason}"
    assert (divergence["component"], divergence["phase"]) == (entry.component, entry.phase)
    assert found.as_declared
    assert (divergence["kind"] == "raised") == entry.raises, divergence["candidate"]
    assert found.side_right, f"planted on {entry.place}, blamed on {divergence['side']}"


@pytest.mark.parametrize("entry", CONTROLS, ids=named(CONTROLS))
def test_control_stays_green(entry: Control) -> None:
    stays_green(entry, [name for name in CHECKS if name not in SLOW])


@pytest.mark.nightly
@pytest.mark.parametrize("entry", CONTROLS, ids=named(CONTROLS))
def test_control_stays_green_in_slow_checks(entry: Control) -> None:
    stays_green(entry, [name for name in SLOW if not (entry.slower and name == "throughput")])


def stays_green(entry: Control, checks: list[str]) -> None:
    results = run_control(clean(entry), entry, checks=checks, max_examples=CONTROL_EXAMPLES)
    assert [str(result.cell) for result in results if not result.verdict.passed] == []
    assert len(results) == sum(len(CHECKS[name].dtypes) for name in checks)


@pytest.mark.parametrize("name", LEAST)
def test_catalogue_is_complete(name: str) -> None:
    catalogue = CATALOGUES[name]
    assert catalogue.pair == name
    least_faults, least_controls = LEAST[name]
    assert len(catalogue.faults) >= least_faults
    assert len(catalogue.controls) >= least_controls
    for fault in catalogue.faults.values():
        assert fault.origin.strip()
        assert fault.check in CHECKS
        assert inspect.getdoc(fault.plant)
    for control in catalogue.controls.values():
        assert control.why.strip()


def test_names_are_unique() -> None:
    counts = Counter((entry.pair, entry.name) for entry in (*FAULTS, *CONTROLS))
    assert [name for name, count in counts.items() if count > 1] == []


def test_every_pair_has_a_catalogue() -> None:
    assert set(registered_pairs()) <= set(CATALOGUES)

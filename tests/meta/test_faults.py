"""Every declared fault is caught where its declaration says, and no harmless rewrite is taken for a fault."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator

import pytest

from parity.checks.catalogue import CHECKS
from parity.faults.registry import Catalogue, Control, Fault, load_catalogues
from parity.faults.run import run_control, run_fault
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.profiles import profile_in_force

CATALOGUES = load_catalogues()
FAULTS = [fault for catalogue in CATALOGUES.values() for fault in catalogue.faults.values()]
CONTROLS = [control for catalogue in CATALOGUES.values() for control in catalogue.controls.values()]

#: A rewrite that is wrongly blamed shows on the first few examples of the check that does so.
CONTROL_EXAMPLES = 2


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
    assert found.side_right, f"planted on {entry.place}, blamed on {divergence['side']}"


@pytest.mark.parametrize("entry", CONTROLS, ids=named(CONTROLS))
def test_control_stays_green(entry: Control) -> None:
    results = run_control(clean(entry), entry, max_examples=CONTROL_EXAMPLES)
    assert [str(result.cell) for result in results if not result.verdict.passed] == []
    assert len(results) == sum(len(check.dtypes) for check in CHECKS.values())


@pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)
def test_catalogue_is_complete(catalogue: Catalogue) -> None:
    assert len(catalogue.faults) >= 40
    assert len(catalogue.controls) >= 8
    for fault in catalogue.faults.values():
        assert fault.origin.strip()
        assert fault.check in CHECKS
        assert inspect.getdoc(fault.plant)
    for control in catalogue.controls.values():
        assert control.why.strip()


def test_names_are_unique() -> None:
    counts = Counter((entry.pair, entry.name) for entry in (*FAULTS, *CONTROLS))
    assert [name for name, count in counts.items() if count > 1] == []


def test_there_is_a_catalogue() -> None:
    assert "fast" in CATALOGUES

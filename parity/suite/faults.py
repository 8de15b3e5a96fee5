"""A test for each fault that is declared for some pairs: it must be found where it was declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from parity.conditions import judging
from parity.faults.registry import Fault, load_catalogues
from parity.faults.run import run_fault
from parity.pairs.recipe import Pair
from parity.report.describe import describe


def fault_tests(pairs: Iterable[Pair]) -> dict[str, Callable[..., None]]:
    """``test_fault`` with a case for each fault, such as ``test_fault[mine-relu_missing]``; nothing without faults."""
    catalogues = load_catalogues()
    cases = [
        pytest.param(pair, fault, id=f"{pair.name}-{fault.name}")
        for pair in pairs
        if pair.name in catalogues
        for fault in catalogues[pair.name].faults.values()
    ]
    if not cases:
        return {}

    @pytest.mark.parametrize(("parity_pair", "parity_fault"), cases)
    def test_fault(parity_pair: Pair, parity_fault: Fault) -> None:
        with judging():
            found = run_fault(parity_pair, parity_fault, checks=[parity_fault.check])
        if not found.as_declared or not found.side_right:
            place = f"{parity_fault.component} in {parity_fault.phase}, {parity_fault.place}"
            pytest.fail(
                f"fault {parity_fault.name!r} was not found as declared: by {parity_fault.check} at {place}\n"
                f"{describe(found.result)}",
                pytrace=False,
            )

    return {"test_fault": test_fault}

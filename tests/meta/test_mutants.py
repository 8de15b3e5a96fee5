"""A sample of the mutants that ``make faults`` judges: checks see them, or they are listed as equivalent."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

import pytest

from parity.faults.campaign import chosen, perform, start_process, tasks
from parity.faults.registry import load_catalogues
from parity.pairs.registry import registered_pairs

SAMPLE, SEED = 24, 20_261_129
#: 97 % of those that are not listed as equivalent must be seen: of so few, all but one.
MOST_SURVIVORS = 1


@pytest.mark.timeout(600)
def test_a_sample_of_the_mutants_is_seen() -> None:
    found = random.Random(SEED).sample(tasks(registered_pairs(), kinds=["mutant"]), SAMPLE)
    # a process of its own: where a test ran backward before, torch would refuse it in the forked children
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=start_process) as pool:
        (original,) = pool.map(perform, [("original", "fast", "original")])
        answers = list(pool.map(perform, found))
    assert original["fate"] == "survived", original  # or no kill would mean anything
    survivors = [answer for answer in answers if answer["fate"] == "survived"]
    assert len(survivors) <= MOST_SURVIVORS, [(mutant["name"], mutant["before"]) for mutant in survivors]
    assert sum(answer["fate"] == "divergence" for answer in answers) >= SAMPLE // 4


def test_equivalents_are_mutants_that_exist() -> None:
    found = [mutant for catalogue in load_catalogues().values() for mutant in chosen(catalogue, every=True)]
    listed = {entry for catalogue in load_catalogues().values() for entry in catalogue.equivalent}
    assert [entry for entry in listed if not any(entry.covers(mutant) for mutant in found)] == []
    assert all(entry.why.strip() for entry in listed)

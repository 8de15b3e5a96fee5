"""A sample of the mutants that ``make faults`` judges: checks see them, or they are listed as equivalent."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

import pytest

from parity.faults.campaign import chosen, perform, start_process, tasks
from parity.faults.registry import load_catalogues
from parity.pairs.registry import registered_pairs

SAMPLE, SEED = 72, 20_261_121
#: Of those that are not listed as equivalent, as in ``make faults``.
LEAST_SEEN = 0.97
#: Of all mutants two fifths are seen by a divergence: of 72 that another seed draws, a quarter or more in 999 of 1,000.
LEAST_BY_DIVERGENCE = SAMPLE // 4


@pytest.mark.timeout(600)
def test_a_sample_of_the_mutants_is_seen() -> None:
    found = random.Random(SEED).sample(tasks(registered_pairs(), kinds=["mutant"]), SAMPLE)
    # a process of its own: where a test ran backward before, torch would refuse it in the forked children
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=start_process) as pool:
        (original,) = pool.map(perform, [("original", "fast", "original")])
        answers = list(pool.map(perform, found))
    assert original["fate"] == "survived", original  # or no kill would mean anything
    judged = [answer for answer in answers if answer["fate"] not in ("listed", "not planted")]
    survivors = [answer for answer in judged if answer["fate"] == "survived"]
    allowed = (1 - LEAST_SEEN) * len(judged)
    assert len(survivors) <= allowed, [(answer["name"], answer["before"]) for answer in survivors]
    assert sum(answer["fate"] == "divergence" for answer in answers) >= LEAST_BY_DIVERGENCE


def test_equivalents_are_mutants_that_exist() -> None:
    found = [mutant for catalogue in load_catalogues().values() for mutant in chosen(catalogue, every=True)]
    listed = {entry for catalogue in load_catalogues().values() for entry in catalogue.equivalent}
    assert [entry for entry in listed if not any(entry.covers(mutant) for mutant in found)] == []
    assert all(entry.why.strip() for entry in listed)

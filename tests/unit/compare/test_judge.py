"""The ladder on hand-made traces: what it must see, and what it must let pass."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from parity.compare.judge import judge
from parity.compare.reruns import distances
from parity.compare.trace import Trace
from parity.compare.verdict import Inconclusive, Rung


def trace(**leaves: Tensor | object) -> Trace:
    made = Trace()
    for key, value in leaves.items():
        if isinstance(value, Tensor):
            made.record(key, value)
        else:
            made.fact(key, value)
    return made


def moved(value: Tensor, by: float) -> Callable[[int], Trace]:
    """A reference whose reruns move by ``by``."""
    return lambda number: trace(x=value + by)


VALUE = torch.linspace(-1, 1, 50, dtype=torch.float64)


def test_equal_bits_end_the_question_without_a_rerun():
    outcome = judge(trace(x=VALUE), trace(x=VALUE.clone()))
    assert (outcome.rung, outcome.margin, outcome.divergence) == (Rung.BITS, 0.0, None)


def test_rounding_is_equivalent_and_says_how_near_the_bound_it_came():
    outcome = judge(trace(x=VALUE), trace(x=VALUE * (1 + 2**-52)), rerun=moved(VALUE, 1e-16))
    assert outcome.divergence is None
    assert outcome.rung == Rung.FLOAT64
    assert 0 < outcome.margin < 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1e-16, 1e-7, 1e-3])
def test_distances_of_reruns_decide_as_the_reruns_themselves(dtype: torch.dtype, size: float):
    """A recording keeps no reruns, only how far each was from what it is measured against."""
    reference, wide = trace(x=VALUE.to(dtype)), trace(x=VALUE)
    candidate = trace(x=(VALUE + size).to(dtype))
    reruns = [trace(x=VALUE.to(dtype) * (1 + by * torch.finfo(dtype).eps)) for by in (1, -2, 3, 1, 1)]
    kept = [distances(reference, rerun, wide if dtype == torch.float32 else None) for rerun in reruns]
    by_traces = judge(reference, candidate, rerun=reruns.__getitem__, wide=lambda: wide)
    by_distances = judge(reference, candidate, rerun=kept.__getitem__, wide=lambda: wide)
    assert by_distances == by_traces
    assert (by_traces.divergence is not None) == (size > 10 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("size", [1e-13, 1e-6, 1.0])
def test_one_wrong_element_is_found_and_named(size):
    wrong = VALUE.clone()
    wrong[17] += size
    found = judge(trace(x=VALUE), trace(x=wrong), rerun=moved(VALUE, 1e-17)).divergence
    assert found is not None
    assert (found.key, found.index, found.row, found.differing, found.elements) == ("x", (17,), 17, 1, 50)
    assert found.reference == float(VALUE[17])
    assert found.candidate == float(wrong[17])
    assert found.absolute == pytest.approx(size, rel=0.01)


def test_a_chaotic_reference_cannot_buy_more_than_the_cap():
    found = judge(trace(x=VALUE), trace(x=VALUE + 1e-8), rerun=moved(VALUE, 1.0)).divergence
    assert found is not None
    assert found.allowed is not None
    assert found.allowed <= 1e-9


def test_reruns_widen_the_bound():
    candidate = trace(x=VALUE + 1e-14)
    assert judge(trace(x=VALUE), candidate, rerun=moved(VALUE, 0.0)).divergence is not None
    assert judge(trace(x=VALUE), candidate, rerun=moved(VALUE, 5e-15)).divergence is None


def test_at_most_five_reruns_are_made():
    numbers = []

    def rerun(number: int) -> Trace:
        numbers.append(number)
        return trace(x=VALUE)

    judge(trace(x=VALUE), trace(x=VALUE + 1e-12), rerun=rerun)
    assert numbers == [0, 1, 2, 3, 4]
    judge(trace(x=VALUE), trace(x=VALUE + 1.0), rerun=rerun)  # over the cap, which no rerun can lift
    assert numbers == [0, 1, 2, 3, 4]


def test_the_first_divergence_in_order_is_reported():
    found = judge(trace(a=VALUE, b=VALUE, c=VALUE), trace(a=VALUE, b=VALUE + 1, c=VALUE + 2)).divergence
    assert found is not None
    assert found.key == "b"


@pytest.mark.parametrize(
    ("candidate", "note"),
    [
        (VALUE.reshape(1, -1), "shape"),
        (VALUE.to(torch.float32), "dtype"),
        (torch.broadcast_to(VALUE, (2, 50)), "shape"),
    ],
)
def test_shape_and_dtype_come_before_values(candidate, note):
    found = judge(trace(x=VALUE), trace(x=candidate)).divergence
    assert found is not None
    assert found.kind == "structure"
    assert note in found.notes[0]


def test_a_missing_and_an_extra_leaf_are_found():
    missing = judge(trace(x=VALUE, y=VALUE), trace(x=VALUE)).divergence
    extra = judge(trace(x=VALUE), trace(x=VALUE, y=VALUE)).divergence
    assert missing is not None and extra is not None
    assert (missing.key, missing.candidate) == ("y", "missing")
    assert (extra.key, extra.candidate) == ("y", "present")


def test_a_value_that_differs_before_a_structure_that_differs_comes_first():
    found = judge(trace(x=VALUE, y=VALUE), trace(x=VALUE + 1, y=VALUE[:3])).divergence
    assert found is not None
    assert found.key == "x"


def test_facts_are_compared():
    found = judge(trace(keys=["a", "b"]), trace(keys=["a"])).divergence
    assert found is not None
    assert (found.kind, found.reference, found.candidate) == ("fact", ["a", "b"], ["a"])


def test_equal_infinities_pass_and_others_do_not():
    masked = VALUE.clone()
    masked[3] = -math.inf
    assert judge(trace(x=masked), trace(x=masked.clone())).divergence is None
    for wrong in (math.inf, math.nan, 0.0):
        other = masked.clone()
        other[3] = wrong
        found = judge(trace(x=masked), trace(x=other)).divergence
        assert found is not None, wrong
        assert (found.kind, found.index) == ("non_finite", (3,))


def test_an_infinity_does_not_hide_a_wrong_neighbour():
    masked = VALUE.clone()
    masked[3] = -math.inf
    other = masked.clone()
    other[4] += 0.5
    found = judge(trace(x=masked), trace(x=other)).divergence
    assert found is not None
    assert found.index == (4,)


def test_a_reference_that_is_nan_judges_nothing():
    with pytest.raises(Inconclusive, match=r"NaN in 50 of 50"):
        judge(trace(x=VALUE * math.nan), trace(x=VALUE * math.nan))


def test_integers_must_be_equal():
    index = torch.arange(5)
    assert judge(trace(x=index), trace(x=index.clone())).rung == Rung.BITS
    found = judge(trace(x=index), trace(x=index + 1)).divergence
    assert found is not None
    assert found.cause == "every index is off by 1"


def test_float32_is_judged_against_the_float64_reference():
    wide = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mine, theirs = wide.to(torch.float32), (wide * (1 + 1e-9)).to(torch.float32)
    outcome = judge(trace(x=mine), trace(x=theirs), rerun=lambda n: trace(x=mine), wide=lambda: trace(x=wide))
    assert outcome.divergence is None
    wrong = (wide * (1 + 1e-5)).to(torch.float32)
    found = judge(trace(x=mine), trace(x=wrong), rerun=lambda n: trace(x=mine), wide=lambda: trace(x=wide)).divergence
    assert found is not None
    assert found.rung == Rung.NOISE_FLOOR


def test_float32_without_a_float64_reference_judges_nothing():
    value = VALUE.to(torch.float32)
    with pytest.raises(Inconclusive, match="no float64 reference"):
        judge(trace(x=value), trace(x=value + 1))


def test_a_sampled_leaf_is_judged_in_float64_alone():
    for dtype, caught in ((torch.float64, True), (torch.float32, False)):
        mine, theirs = Trace(), Trace()
        for made, index in ((mine, 1), (theirs, 2)):
            made.record("logits", torch.ones(3, dtype=dtype))
            made.record("actions", torch.tensor([index]), judged="sampled")
        outcome = judge(mine, theirs, wide=lambda base=mine: base)
        assert (outcome.divergence is not None) is caught


def test_a_null_gradient_is_judged_absolutely_and_listed():
    mine, theirs = Trace(), Trace()
    mine.record("bias", torch.tensor([1e-17], dtype=torch.float64), absolute=1e-12)
    theirs.record("bias", torch.tensor([-3e-16], dtype=torch.float64))
    outcome = judge(mine, theirs)
    assert outcome.divergence is None
    assert outcome.null_gradients == {"bias"}
    theirs = Trace()
    theirs.record("bias", torch.tensor([1e-6], dtype=torch.float64))
    assert judge(mine, theirs).divergence is not None


def test_probes_that_fire_another_number_of_times_are_left_out():
    mine, theirs = Trace(), Trace()
    mine.record("output", VALUE, component="core", from_probe=True)
    for _ in range(2):
        theirs.record("output", VALUE, component="core", from_probe=True)
    for made in (mine, theirs):
        made.record("value", VALUE)
    assert judge(mine, theirs).divergence is None


def test_rounding_errors_are_counted_not_elements():
    """A wide leaf made from few numbers scatters as those few do, and gets their limit."""
    wide = torch.ones(2000, dtype=torch.float64)
    mine, theirs = ((wide * (1 + d)).to(torch.float32) for d in (1e-6, 5e-6))
    verdicts = []
    for independent in (None, 20):
        reference, candidate = Trace(), Trace()
        reference.record("x", mine, independent=independent)
        candidate.record("x", theirs)
        outcome = judge(reference, candidate, wide=lambda: trace(x=wide))
        verdicts.append(outcome.divergence is None)
    assert verdicts == [False, True]

"""Student's distribution against closed forms and brute force, and equivalence against examples worked by hand."""

from __future__ import annotations

import math

import pytest

from parity.compare.equivalence import ALPHA, equivalence, student_t, student_t_quantile


def four_degrees(t: float) -> float:
    square = t * t / (1 + t * t / 4)
    return 0.5 + 3 / 8 * t / math.sqrt(1 + t * t / 4) * (1 - square / 12)


@pytest.mark.parametrize("t", [-3.0, -0.2, 0.0, 0.7, 2.5, 12.0, 400.0])
@pytest.mark.parametrize(
    ("freedom", "exact"),
    [
        (1.0, lambda t: 0.5 + math.atan(t) / math.pi),
        (2.0, lambda t: 0.5 + t / (2 * math.sqrt(2 + t * t))),
        (4.0, four_degrees),
    ],
)
def test_the_distribution_has_its_closed_forms(t, freedom, exact):
    assert student_t(t, freedom) == pytest.approx(exact(t), abs=1e-12)


@pytest.mark.parametrize("freedom", [1.3, 4.7, 60.5])
def test_degrees_of_freedom_need_not_be_whole(freedom):
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    width = 1e-4
    area = sum((1 + ((step + 0.5) * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for step in range(15_000)) * width
    assert student_t(1.5, freedom) == pytest.approx(0.5 + scale * area, abs=1e-8)


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [(0.95, 1, 6.313752), (0.95, 8, 1.859548), (0.95, 30, 1.697261), (0.975, 8, 2.306004), (0.999, 1, 318.3088)],
)
def test_quantiles_are_those_of_the_tables(probability, freedom, quantile):
    assert student_t_quantile(probability, freedom) == pytest.approx(quantile, rel=2e-6)


def test_equal_samples_by_hand():
    # variances 1 and 1 over 3: standard error sqrt(2 / 3), 4 degrees of freedom, t = 2 / 0.8165 = sqrt(6)
    found = equivalence([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], bound=2.0)
    assert found.difference == 0.0
    assert found.p == pytest.approx(1 - four_degrees(math.sqrt(6)), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((-1.740646, 1.740646), abs=1e-5)  # 2.131847 * 0.816497
    assert found.equivalent


def test_variances_need_not_be_equal():
    # only one sample varies: standard error sqrt(1 / 3), its 2 degrees of freedom
    found = equivalence([1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0], bound=3.0)
    t = 3 * math.sqrt(3)
    assert found.p == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), abs=1e-9)


def test_a_shift_counts_in_both_directions():
    base = [0.50, 0.52, 0.48, 0.51, 0.49]
    for shift, equivalent in ((0.3, False), (-0.3, False), (0.1, True), (-0.1, True)):
        found = equivalence([value + shift for value in base], base, bound=0.2)
        assert found.difference == pytest.approx(shift)
        assert found.outcome == ("equivalent" if equivalent else "different")
    assert equivalence([value + 0.3 for value in base], base, bound=0.2).p > 0.99


def test_noise_is_no_proof_of_equivalence():
    noisy = [0.1, 0.9, 0.5, 0.0, 1.0]
    found = equivalence(noisy, noisy, bound=0.2)
    assert found.difference == 0.0
    assert found.outcome == "undecided"


@pytest.mark.parametrize("bound", [0.05, 0.1, 0.15, 0.2, 0.3])
def test_the_interval_lies_within_the_bound_exactly_when_both_tests_refuse(bound):
    found = equivalence([0.50, 0.61, 0.48, 0.55], [0.46, 0.52, 0.44, 0.57, 0.50], bound=bound)
    assert found.equivalent == (-bound < found.low and found.high < bound)
    assert found.equivalent == (found.p < ALPHA)


@pytest.mark.parametrize(("shift", "equivalent"), [(0.1, True), (0.2, False)])
def test_samples_without_variance_are_compared_as_they_are(shift, equivalent):
    assert equivalence([shift, shift], [0.0, 0.0], bound=0.2).equivalent is equivalent


@pytest.mark.parametrize("sample", [[], [0.5], [0.5, math.nan]])
def test_what_is_no_sample_is_refused(sample):
    with pytest.raises(ValueError, match="at least two finite numbers"):
        equivalence(sample, [0.5, 0.6], bound=0.2)
    with pytest.raises(ValueError, match="at least two finite numbers"):
        equivalence([0.5, 0.6], sample, bound=0.2)

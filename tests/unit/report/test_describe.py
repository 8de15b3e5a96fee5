"""The text block of a result, word for word: it is what a person sees first."""

from __future__ import annotations

import dataclasses

from parity.compare.verdict import Divergence, Verdict
from parity.report.describe import describe
from parity.results import Result

RELU = Divergence(
    kind="value",
    phase="forward",
    component="fc1",
    key="output",
    candidate_component="policy.fc1",
    row=2,
    shape=(8, 128),
    index=(2, 17),
    reference=0.0,
    candidate=-0.83,
    differing=241,
    elements=1024,
    absolute=0.83,
    ulp=4.6e18,
    measured=0.41,
    allowed=2.5e-15,
    input_identical=True,
    cause="candidate is negative where the reference is clamped at 0: a ReLU is missing",
)


def result_of(divergence: Divergence | None, check: str = "forward", **changes: object) -> Result:
    result = Result(
        pair="fast",
        check=check,
        device="cpu",
        dtype="float64",
        verdict=Verdict.DIVERGENT,
        rung="float64",
        margin=1.6e14,
        examples=3,
        seconds=1.5,
        divergence=divergence.to_json() if divergence is not None else None,
        reproduce="python -m parity run fast --check forward --example reports/cases/fast-forward-3f2a.json",
        example={"batch": 2, "steps": 4, "seed": 0},
    )
    return dataclasses.replace(result, **changes)  # type: ignore[arg-type]


def test_a_value_that_differs():
    assert describe(result_of(RELU)) == (
        "DIVERGENT  fast / forward   cpu float64, batch 2 x 4\n"
        "  first divergence  fc1   (component 'fc1', candidate 'policy.fc1')   input identical\n"
        "    output [8, 128]  241 of 1024 differ   worst |d| 0.83 at [2, 17]: reference 0, candidate -0.83\n"
        "    measured 0.41, allowed 2.5e-15 (float64)\n"
        "    likely cause: candidate is negative where the reference is clamped at 0: a ReLU is missing\n"
        "  reproduce  python -m parity run fast --check forward --example reports/cases/fast-forward-3f2a.json"
    )


def test_a_difference_in_the_last_places_shows_all_of_them():
    divergence = dataclasses.replace(
        RELU, reference=1.0, candidate=1.0000000000000002, absolute=2.2e-16, relative=2.2e-16, ulp=1.0, cause=""
    )
    block = describe(result_of(divergence))
    assert "reference 1.0, candidate 1.0000000000000002" in block
    assert "allowed 2.5e-15 (float64)   relative 2.2e-16   1 ulp\n" in block


def test_a_fact_that_both_sides_get_wrong():
    divergence = Divergence(
        kind="fact",
        phase="build",
        component="clip_range",
        key="clip_range",
        side="both",
        reference=0.75,
        candidate=0.0,
        rung="bits",
        cause="a config key never arrived at the policy",
        notes=("the fault is shared",),
    )
    assert describe(result_of(divergence, check="construction", example={"seed": 0}, reproduce="")) == (
        "DIVERGENT  fast / construction   cpu float64\n"
        "  first divergence  clip_range   on both sides   in build\n"
        "    clip_range: expected 0.75, found 0\n"
        "    likely cause: a config key never arrived at the policy\n"
        "    note: the fault is shared"
    )


def test_a_wrong_input_and_the_moment_are_named():
    divergence = dataclasses.replace(RELU, phase="rollout", step=3, at="input", input_identical=False)
    assert "\n  first divergence  input of fc1   (component 'fc1', candidate 'policy.fc1')   in rollout, step 3   " in (
        describe(result_of(divergence))
    )


def test_what_could_not_be_judged_says_why():
    result = result_of(None, verdict=Verdict.INCONCLUSIVE, reason="unmapped parameter 'a'", example=None)
    assert describe(dataclasses.replace(result, reproduce="run it", expected_failure="known.txt:1: later")) == (
        "INCONCLUSIVE  fast / forward   cpu float64\n"
        "  reason  unmapped parameter 'a'\n"
        "  expected  known.txt:1: later\n"
        "  reproduce  run it"
    )


def test_a_stored_divergence_with_fewer_fields_and_long_values_is_shown():
    found = {"kind": "fact", "phase": "build", "component": "c", "key": "k", "reference": "x" * 999, "candidate": [1]}
    block = describe(dataclasses.replace(result_of(None), divergence=found))
    assert "k: reference xxx" in block
    assert "candidate [1]" in block
    assert len(block) < 600

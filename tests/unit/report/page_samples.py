"""Reports to make pages of: one that passes, one that fails in every way, one that means harm."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import torch

from parity.compare.picture import pictures
from parity.compare.verdict import Divergence, Verdict
from parity.results import Report, Result

PLATFORM = {"versions": {"python": "3.11", "torch": "2.13"}, "threads": 1, "device": "cpu", "tf32": {"matmul": False}}
EVIL = "<script>alert(1)</script><img src=x onerror='alert(1)'>\"'&{{ 7 * 7 }}"


def result(check: str = "forward", **changes: Any) -> Result:
    values: dict[str, Any] = {
        "pair": "fast", "check": check, "device": "cpu", "dtype": "float64", "verdict": Verdict.EQUIVALENT,
        "rung": "float64", "margin": 0.25, "examples": 3, "seconds": 1.0, "margin_place": "fc1/output",
    }  # fmt: skip
    return Result(**{**values, **changes})


def relu(difference: torch.Tensor, sequence: tuple[int, int] | None = None, **changes: Any) -> dict[str, Any]:
    found = Divergence(
        kind="value", phase="forward", component="fc1", key="output", candidate_component="policy.fc1", row=2,
        shape=tuple(difference.shape), index=(2, 17), reference=0.0, candidate=-0.83, differing=241, elements=1024,
        absolute=0.83, ulp=4.6e18, measured=0.41, allowed=2.5e-15, input_identical=True, cause="a ReLU is missing",
        notes=("it also differs on the reference's own input",), source="agents/fast.py:7",
        pictures=pictures(difference, sequence),
    )  # fmt: skip
    # as it comes back from a worker or a file
    return json.loads(json.dumps(dataclasses.replace(found, **changes).to_json()))


def training(*margins: float, noise: float = 1e-15) -> dict[str, Any]:
    points = [
        {"update": update, "phase": phase, "place": f"{phase}/x", "measured": margin * 10 * noise, "noise": noise,
         "allowed": 10 * noise}
        for update, margin in enumerate(margins)
        for phase in ("rollout", "clip")
    ]  # fmt: skip
    return {"reruns": 2, "points": points}


def green() -> Report:
    found = [
        result(check, pair=pair, dtype=dtype, margin=margin, rung=rung)
        for pair in ("fast", "latent_attn_small", "a_pair_with_quite_a_long_name")
        for check, margin in (("forward", 0.4), ("gradients", 0.1))
        for dtype, rung in (("float64", "float64"), ("float32", "noise_floor"))
    ]
    found.append(result("training", trajectory=training(0.01, 0.1, 0.5), rung="ensemble", margin=0.5))
    found.append(result("fields", verdict=Verdict.IDENTICAL, rung="bits", margin=0.0, margin_place=""))
    found.append(result("device", verdict=Verdict.NOT_APPLICABLE, rung=None, margin=0.0, reason="cuda is absent"))
    return Report(len(found), found, 12.3, PLATFORM)


def failing() -> Report:
    generator = torch.Generator().manual_seed(0)
    difference = torch.rand(8, 128, generator=generator, dtype=torch.float64)
    bad: dict[str, Any] = {"verdict": Verdict.DIVERGENT, "margin": 1.6e14}
    found = [
        result("forward", **bad, divergence=relu(difference, (2, 4)), example={"batch": 2, "steps": 4}, seconds=2.0,
               reproduce="python -m parity run fast --check forward --example reports/cases/fast-forward-3f2a.json"),
        result("forward", **bad, dtype="float32", divergence=relu(difference), reproduce="run it"),
        result("memory", **bad, divergence=relu(torch.tensor([0.0, torch.inf, torch.nan, 1.0]), phase="rollout",
                                                step=3, at="input", input_identical=False)),
        result("training", **bad, divergence=relu(difference, phase="clip", update=1),
               trajectory=training(0.1, 1e9)),
        result("fields", **bad, divergence=Divergence(
            kind="fact", phase="build", component="bptt", key="bptt", side="both", reference=2, candidate=3,
            rung="bits").to_json()),
        result("compile", verdict=Verdict.INCONCLUSIVE, rung=None, margin=0.0, reason="nothing was compiled"),
        result("clipping", verdict=Verdict.ERROR, rung=None, margin=0.0, reason="RuntimeError: no such layer"),
        result("device", **bad, expected_failure="known.txt:1: old bug"),
        result("gradients"),
    ]  # fmt: skip
    return Report(len(found) + 1, found, 12.3, PLATFORM, ["incomplete: 1 of 10 planned cells did not run"])


def evil() -> Report:
    """Every text that a report takes from a subject or a file means harm."""
    divergence = relu(torch.ones(2, 2), component=EVIL, candidate_component=EVIL, key=EVIL, cause=EVIL, notes=(EVIL,),
                      source=f"{EVIL}:1", reference=EVIL, candidate=EVIL, phase=EVIL)  # fmt: skip
    found = [
        result(EVIL, pair=EVIL, verdict=Verdict.DIVERGENT, divergence=divergence, reproduce=EVIL, reason=EVIL,
               margin_place=EVIL, null_gradients=(EVIL,), example={EVIL: EVIL}),
        result(EVIL, pair=EVIL, verdict=Verdict.NOT_APPLICABLE, reason=EVIL, device=EVIL, rung=None),
        result(EVIL, pair=EVIL, verdict=Verdict.DIVERGENT, expected_failure=EVIL, dtype="float32"),
        result(EVIL, pair="fast", margin_place=EVIL, trajectory=training(0.1, 0.2)),
    ]  # fmt: skip
    return Report(len(found), found, 1.0, {"versions": {EVIL: EVIL}, EVIL: EVIL}, [EVIL])


def faults(name: str = "relu_missing") -> dict[str, Any]:
    """What ``make faults`` stores, cut short."""
    from parity.report.power import figures

    answers = [
        {"kind": "fault", "pair": pair, "name": f"{name}_{number}", "caught_by": caught, "pinned": bool(caught),
         "rivals": ["means"] if number else [], "found": "", "component": "fc1", "phase": "forward"}
        for pair in ("example", "fast")
        for number, caught in enumerate((["forward", "memory"], ["memory"], []))
    ]  # fmt: skip
    answers.append({"kind": "mutant", "pair": "fast", "name": f"m:{name}:1", "fate": "survived", "equivalent": "",
                    "line": 3, "before": "a < b", "after": "a <= b"})  # fmt: skip
    content = {"figures": figures(answers), "answers": answers, "date": "2026-01-02", "seconds": 60.0}
    return {**content, "platform": PLATFORM}

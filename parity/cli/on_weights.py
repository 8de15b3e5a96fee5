"""``run --weights``: judge on weights from a file, such as trained ones, beside stress weights."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import time
from pathlib import Path
from typing import Any

from parity.checks.catalogue import CHECKS
from parity.checks.registry import Check
from parity.cli.progress import Progress
from parity.compare.verdict import Misuse
from parity.conditions import judging
from parity.execution import Executor
from parity.pairs.recipe import Pair
from parity.pairs.weights import read_weights
from parity.platform_info import platform_info
from parity.profiles import profile_in_force
from parity.report.cases import load_case
from parity.results import Report
from parity.runner import plan

#: Checks that judge on weights; the others build anew, and would only repeat what every run does.
ON_WEIGHTS = (
    "fields",
    "forward",
    "actions",
    "memory",
    "gradients",
    "weight_metrics",
    "features",
    "metamorphic",
    "compile",
)


def judge_on(arguments: argparse.Namespace, pairs: list[Pair], cases: Path) -> Report:
    """Judge one pair's checks that run on weights, at the sizes that the weights are for."""
    if len(pairs) > 1:
        raise Misuse(f"--weights are of one pair, and {arguments.pair!r} matches {len(pairs)}; name one")
    if arguments.budget is not None:
        raise Misuse("--weights and --budget do not go together; give --examples")
    started, (pair,) = time.perf_counter(), pairs
    with judging(arguments.device, profile=arguments.profile):
        values = read_weights(arguments.weights, pair)
        platform = platform_info((arguments.device,))
    executor = Executor(cases, profile=arguments.profile, weights={pair.name: values})
    with profile_in_force(arguments.profile):
        cells = plan(pairs, checks=arguments.check, devices=(arguments.device,))
    cells = [cell for cell in cells if cell.check in ON_WEIGHTS]
    stored = load_case(arguments.example) if arguments.example is not None else None
    if stored is not None:
        cells = [cell for cell in cells if cell == stored.cell]
    if not cells:
        raise Misuse(
            f"--check {arguments.check} leaves none of the checks that judge on weights: {', '.join(ON_WEIGHTS)}"
        )
    results = []
    with Progress(len(cells)) as progress:
        for cell in cells:
            progress.starts(cell)
            check = _at_own_sizes(CHECKS[cell.check])
            if stored is not None and arguments.example is not None:
                result = executor.replay(pair, cell, stored.example, arguments.example, check=check)
            else:
                result = executor.run(pair, cell, check=check, seed=arguments.seed, max_examples=arguments.examples)
            if result.reproduce:
                command = f"{result.reproduce} --weights {shlex.quote(str(arguments.weights))}"
                result = dataclasses.replace(result, reproduce=command)
            progress.ended(result)
            results.append(result)
    used = executor.weights_used(pair.name)
    note = f"on weights of {arguments.weights}: {used['given']} builds"
    if used["stress"]:
        note += f"; {used['stress']} builds of other sizes or environments, which they do not fit, on stress weights"
    problems = (
        [] if used["given"] else [f"no build took the weights of {arguments.weights}: nothing was judged on them"]
    )
    return Report(len(cells), results, time.perf_counter() - started, platform, problems, [note])


def _at_own_sizes(check: Check) -> Check:
    """A check that draws no other sizes or environments than the pair's own."""
    return dataclasses.replace(check, examples=lambda pair, recordings: check.examples(pair, recordings).map(_own))


def _own(example: Any) -> Any:
    if not isinstance(example, dict):
        return example
    fixed = {"sizes": "default", "environment": None}
    return {key: fixed[key] if key in fixed else _own(value) for key, value in example.items()}

"""``false-alarms``: clean pairs over many seeds. Whatever fails there is a fault of the harness."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import secrets
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from parity.checks.catalogue import CHECKS
from parity.cli.progress import Progress
from parity.compare.verdict import Misuse
from parity.conditions import judging
from parity.execution import Executor
from parity.pairs.registry import registered_pairs, select_names, select_pairs
from parity.platform_info import platform_info
from parity.report.describe import describe
from parity.report.files import write_json
from parity.results import Cell, Result
from parity.runner import plan

CONFIDENCE = 0.95

_executor: Executor | None = None  # one per process


def false_alarms(arguments: argparse.Namespace) -> int:
    """Judge every check with every seed, its examples divided among its dtypes; 1 when anything failed."""
    select_names(arguments.check, CHECKS, "check")
    cells = plan(select_pairs(arguments.pair), checks=arguments.check)
    first = secrets.randbelow(2**31) if arguments.first_seed is None else arguments.first_seed
    seeds = list(range(first, first + arguments.seeds))
    results = _judge(cells, seeds, arguments.examples, arguments.processes, arguments.out.parent / "cases")
    failed = [result for result in results if not result.verdict.passed]
    content = summary(results, seeds)
    write_json(arguments.out, content)
    for result in failed:
        print(describe(result), end="\n\n")
    print(
        f"{content['failures']} of {content['examples']} examples failed; with {CONFIDENCE:.0%} confidence at most "
        f"{content['upper_bound_95']:.2g} of all do   seeds {seeds[0]} to {seeds[-1]}, written to {arguments.out}"
    )
    return 1 if failed else 0


def summary(results: list[Result], seeds: list[int]) -> dict[str, Any]:
    """The content of ``false-alarms.json``; a failed cell counts as one failed example, the last one it judged."""
    per_check: dict[str, dict[str, Any]] = {}
    for result in results:
        counts = per_check.setdefault(result.check, {"examples": 0, "failures": 0, "worst_margin": {}})
        margins = counts["worst_margin"]  # dtype -> how near the bound a clean pair came, in shares of it
        margins[result.dtype] = max(margins.get(result.dtype, 0.0), result.margin)
        # a cell that could not be judged at all has no example, and must not look better than one that has
        counts["examples"] += result.examples if result.verdict.passed else max(1, result.examples)
        counts["failures"] += not result.verdict.passed
    examples = sum(counts["examples"] for counts in per_check.values())
    failures = sum(counts["failures"] for counts in per_check.values())
    with judging():
        platform = platform_info()
    return {
        "examples": examples,
        "failures": failures,
        "upper_bound_95": upper_bound(failures, examples),
        "per_check": per_check,
        "seeds": seeds,
        "platform": platform,
        "failed": [result.to_json() for result in results if not result.verdict.passed],
    }


def upper_bound(failures: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """One-sided exact (Clopper-Pearson) upper bound of a rate; 1.0 when nothing was tried.

    It is the rate at which seeing no more than ``failures`` in ``trials`` has probability ``1 - confidence``.
    """
    if failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(100):  # bisection; the probability falls as the rate grows
        middle = (low + high) / 2
        if _at_most(failures, trials, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(failures: int, trials: int, rate: float) -> float:
    """Probability of at most ``failures`` in ``trials`` at a rate inside (0, 1)."""
    log_all = math.lgamma(trials + 1)
    return sum(
        math.exp(
            log_all
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(rate)
            + (trials - k) * math.log1p(-rate)
        )
        for k in range(failures + 1)
    )


def _judge(cells: list[Cell], seeds: list[int], examples: int, processes: int, cases: Path) -> list[Result]:
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited: processes side by side would fight for the cores
    # spawned, because forking a process in which torch has started threads can hang
    context = multiprocessing.get_context("spawn")
    results = []
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(cases,)) as pool:
        # seed by seed, so that a run that is interrupted has seen every check
        per_check = Counter((cell.pair, cell.check, cell.device) for cell in cells)
        tasks = [
            pool.submit(_judge_one, cell, seed, _share(cell, examples / per_check[cell.pair, cell.check, cell.device]))
            for seed in seeds
            for cell in cells
        ]
        try:
            with Progress(len(tasks)) as progress:
                for task in as_completed(tasks):
                    seed, result = task.result()
                    progress.ended(result, f"   seed {seed}")
                    results.append(result)
        except BrokenProcessPool as error:
            raise Misuse("a process died while judging, perhaps for want of memory; try --processes 1") from error
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def _share(cell: Cell, examples: float) -> int:
    """Fewer of a check that draws fewer: its examples are dear, or exhaustive."""
    return max(1, math.ceil(examples * CHECKS[cell.check].share))


def _start(cases: Path) -> None:
    global _executor
    _executor = Executor(cases)


def _judge_one(cell: Cell, seed: int, examples: int) -> tuple[int, Result]:
    assert _executor is not None, "the pool's initializer sets it"
    return seed, _executor.run(registered_pairs()[cell.pair], cell, seed=seed, max_examples=examples)

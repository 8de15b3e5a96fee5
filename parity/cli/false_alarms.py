"""``false-alarms``: clean pairs and harmless rewrites over many seeds. What fails there is a fault of the harness."""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from parity.checks.catalogue import CHECKS
from parity.cli.progress import Progress
from parity.compare.verdict import Misuse
from parity.conditions import judging
from parity.execution import Executor
from parity.faults.plant import planted
from parity.faults.registry import load_catalogues
from parity.pairs.registry import registered_pairs, select_names, select_pairs
from parity.platform_info import platform_info
from parity.report.describe import describe
from parity.report.files import write_json
from parity.results import Cell, Result
from parity.runner import Session, plan, run_cell

CONFIDENCE = 0.95
#: Torch threads, from seed to seed in turn.
THREADS = (1, 2)
#: Examples of each check of a negative control, times its share.
CONTROL_EXAMPLES = 5
#: Examples per example asked for, where it is not the check's own share: a rate wants many examples, so of what is
#: cheap there are more than in the suite, and fewer of what is dear.
SHARES = {
    "construction": 1.5,
    "initialization": 0.4,
    "fields": 0.15,
    "actions": 0.4,
    "gradients": 1.0,
    "optimizer": 0.2,
    "clipping": 0.8,
    "weight_metrics": 1.0,
    "features": 1.0,
    "experience": 0.1,
    "checkpoint": 0.05,
    "compile": 0.02,
    "distributed": 0.02,
}


@dataclass(frozen=True)
class Task:
    """One cell to judge on examples of one seed; ``control`` names the harmless rewrite in its candidate, if any."""

    cell: Cell
    seed: int
    examples: int
    threads: int
    control: str = ""


Judged = tuple[Task, Result]

_executor: Executor | None = None  # one per process


def false_alarms(arguments: argparse.Namespace) -> int:
    """Judge every check with every seed, its examples divided among its dtypes; 1 when anything failed."""
    select_names(arguments.check, CHECKS, "check")
    cells = plan(select_pairs(arguments.pair), checks=arguments.check)
    first = secrets.randbelow(2**31) if arguments.first_seed is None else arguments.first_seed
    seeds = list(range(first, first + arguments.seeds))
    tasks = _tasks(cells, seeds, arguments.examples)
    judged = _judge(tasks, arguments.processes, arguments.out.parent / "cases")
    failed = [(task, result) for task, result in judged if not result.verdict.passed]
    content = summary(judged, seeds)
    write_json(arguments.out, content)
    for task, result in failed:
        print(f"seed {task.seed}, {task.threads} thread(s)" + (f", control {task.control}" if task.control else ""))
        print(describe(result), end="\n\n")
    print(
        f"{content['failures']} of {content['examples']} examples failed; with {CONFIDENCE:.0%} confidence at most "
        f"{content['upper_bound_95']:.2g} of all do   seeds {seeds[0]} to {seeds[-1]}, written to {arguments.out}"
    )
    return 1 if failed else 0


def summary(judged: Sequence[Judged], seeds: list[int]) -> dict[str, Any]:
    """The content of ``false-alarms.json``; a failed cell counts as one failed example, the last one it judged."""
    results = [result for _, result in judged]
    per_check: dict[str, dict[str, Any]] = {}
    for result in results:
        counts = per_check.setdefault(result.check, {"examples": 0, "failures": 0, "worst_margin": {}})
        margins = counts["worst_margin"]  # dtype -> how near the bound a clean pair came, in shares of it
        margins[result.dtype] = max(margins.get(result.dtype, 0.0), result.margin)
        counts["examples"] += _examples(result)
        counts["failures"] += not result.verdict.passed
    examples = sum(counts["examples"] for counts in per_check.values())
    failures = sum(counts["failures"] for counts in per_check.values())
    with judging():
        platform = platform_info()
    by: dict[str, Counter[str]] = {"pair": Counter(), "dtype": Counter(), "threads": Counter()}
    for task, result in judged:
        for kind, name in (("pair", result.pair), ("dtype", result.dtype), ("threads", str(task.threads))):
            by[kind][name] += _examples(result)
    return {
        "examples": examples,
        "failures": failures,
        "upper_bound_95": upper_bound(failures, examples),
        "examples_by": by,
        "controls": len({(result.pair, task.control) for task, result in judged if task.control}),
        "examples_of_controls": sum(_examples(result) for task, result in judged if task.control),
        "per_check": per_check,
        "seeds": seeds,
        "platform": platform,
        "failed": [
            {**result.to_json(), "control": task.control} for task, result in judged if not result.verdict.passed
        ],
    }


def _examples(result: Result) -> int:
    # a cell that could not be judged at all has no example, and must not look better than one that has
    return result.examples if result.verdict.passed else max(1, result.examples)


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


def _tasks(cells: list[Cell], seeds: list[int], examples: int) -> list[Task]:
    """Seed by seed, so that a run that is interrupted has seen every check; then the controls."""
    dtypes = Counter((cell.pair, cell.check, cell.device) for cell in cells)

    def share(cell: Cell, examples: float) -> int:
        of_check = SHARES.get(cell.check, CHECKS[cell.check].share)
        return max(1, math.ceil(examples / dtypes[cell.pair, cell.check, cell.device] * of_check))

    found = [
        Task(cell, seed, share(cell, examples), THREADS[number % len(THREADS)])
        for number, seed in enumerate(seeds)
        for cell in cells
    ]
    for name, catalogue in load_catalogues().items():
        for number, control in enumerate(catalogue.controls.values()):
            seed, threads = seeds[number % len(seeds)], THREADS[number % len(THREADS)]
            found += [
                Task(cell, seed, share(cell, CONTROL_EXAMPLES), threads, control.name)
                for cell in cells
                if cell.pair == name and not (control.slower and cell.check == "throughput")
            ]
    return found


def _judge(tasks: list[Task], processes: int, cases: Path) -> list[Judged]:
    # inherited: processes side by side would fight for the cores, at length where threads that wait keep one busy
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    # spawned, because forking a process in which torch has started threads can hang
    context = multiprocessing.get_context("spawn")
    judged = []
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(cases,)) as pool:
        waiting = [pool.submit(_judge_group, group) for group in _groups(tasks)]
        try:
            with Progress(len(tasks)) as progress:
                for done in as_completed(waiting):
                    for task, result in done.result():
                        progress.ended(result, f"   seed {task.seed}   {task.control}")
                        judged.append((task, result))
        except BrokenProcessPool as error:
            raise Misuse("a process died while judging, perhaps for want of memory; try --processes 1") from error
        finally:
            pool.shutdown(cancel_futures=True)
    return judged


def _groups(tasks: list[Task]) -> list[list[Task]]:
    """The tasks of one pair and seed together: they share what is built."""
    return [list(group) for _, group in groupby(tasks, lambda task: (task.cell.pair, task.seed, task.control))]


def _start(cases: Path) -> None:
    global _executor
    _executor = Executor(cases)


def _judge_group(group: list[Task]) -> list[Judged]:
    assert _executor is not None, "the pool's initializer sets it"
    pair, control = registered_pairs()[group[0].cell.pair], group[0].control
    if not control:
        return [
            (task, _executor.run(pair, task.cell, threads=task.threads, seed=task.seed, max_examples=task.examples))
            for task in group
        ]
    judged = []
    with planted(load_catalogues()[pair.name].controls[control].plant) as patcher:
        session = Session(dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks)))
        for task in group:
            with judging(task.cell.device, threads=task.threads):
                judged.append((task, run_cell(session, task.cell, seed=task.seed, max_examples=task.examples)))
    return judged

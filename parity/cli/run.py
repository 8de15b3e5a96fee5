"""``run``: judge pairs without pytest, or one stored case."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from parity.checks.catalogue import all_checks
from parity.cli.on_weights import judge_on
from parity.cli.progress import Progress
from parity.compare.verdict import Misuse
from parity.conditions import judging
from parity.execution import Executor
from parity.faults.plant import planted
from parity.faults.registry import load_catalogues
from parity.pairs.recipe import Pair
from parity.pairs.registry import select_names, select_pairs
from parity.platform_info import platform_info
from parity.profiles import profile_in_force
from parity.report.annotations import error_lines
from parity.report.cases import load_case
from parity.report.model import write_report
from parity.report.terminal import render
from parity.report.written import write_all
from parity.results import Report, Result
from parity.runner import plan, require_cells
from parity.suite.budget import Judged, spend, together
from parity.suite.options import DEFAULT_REPORTS


def run(arguments: argparse.Namespace) -> int:
    """Judge, show and store; the exit code is the report's."""
    if arguments.against is not None or arguments.against_revision is not None:
        from parity.cli.against import judge_against

        return _finish(judge_against(arguments), arguments)
    started = time.perf_counter()
    pairs = select_pairs(arguments.pair)
    select_names(arguments.check, all_checks(), "check")
    cases = (arguments.report or DEFAULT_REPORTS) / "cases"
    if arguments.weights is not None:
        return _finish(judge_on(arguments, pairs, cases), arguments)
    executor = Executor(cases, profile=arguments.profile)
    with _planted(arguments.fault, pairs) as pairs:
        if arguments.example is not None:
            results = [_replay(arguments, pairs, executor)]
            planned, device, notes = 1, results[0].device, []
        else:
            planned, results, notes = _judge(arguments, pairs, executor)
            device = arguments.device
    if arguments.fault is not None:
        again = f" --fault {arguments.fault}"
        results = [dataclasses.replace(r, reproduce=r.reproduce + again) if r.reproduce else r for r in results]
    with judging(device, profile=arguments.profile):
        platform = platform_info((device,))
    return _finish(Report(planned, results, time.perf_counter() - started, platform, notes=notes), arguments)


@contextmanager
def _planted(name: str | None, pairs: list[Pair]) -> Iterator[list[Pair]]:
    """The pair with a fault of its catalogue, or all pairs as they are without one."""
    if name is None:
        yield pairs
        return
    pair = pairs[0]
    catalogue = load_catalogues().get(pair.name)
    if len(pairs) > 1 or catalogue is None:
        raise Misuse(f"--fault {name} is planted in one pair that has a catalogue; name that pair, not {pair.name!r}")
    select_names(name, catalogue.faults, "fault")
    with planted(catalogue.faults[name].plant) as patcher:
        yield [dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks))]


def _finish(report: Report, arguments: argparse.Namespace) -> int:
    print(render(report))
    if arguments.json is not None:
        write_report(report, arguments.json)
    if arguments.report is not None:
        write_all(report, arguments.report / "parity")
    for line in error_lines(report):
        print(line)
    return report.exit_code


def _judge(arguments: argparse.Namespace, pairs: list[Pair], executor: Executor) -> tuple[int, list[Result], list[str]]:
    """How many cells were planned, their results, and notes on them."""
    until = time.perf_counter() + (arguments.budget or 0)
    by_name = {pair.name: pair for pair in pairs}
    with profile_in_force(arguments.profile):  # by night more is planned
        cells = plan(pairs, checks=arguments.check, devices=(arguments.device,))
    require_cells(cells, arguments.check)
    results = []
    with Progress(len(cells)) as progress:
        for cell in cells:
            progress.starts(cell)
            result = executor.run(by_name[cell.pair], cell, seed=arguments.seed, max_examples=arguments.examples)
            progress.ended(result)
            results.append(result)
    if arguments.budget is None:
        return len(cells), results, []
    extra = spend([Judged(r, partial(executor.run, by_name[r.pair], r.cell)) for r in results], until)
    beyond = {result.cell: result for result in extra.results}
    results = [together(result, beyond[result.cell]) if result.cell in beyond else result for result in results]
    return len(cells), results, [extra.describe()]


def _replay(arguments: argparse.Namespace, pairs: list[Pair], executor: Executor) -> Result:
    file: Path = arguments.example
    if any(given is not None for given in (arguments.seed, arguments.examples, arguments.budget)):
        raise Misuse(f"--example {file} fixes the example; leave --seed and --examples out, and --budget")
    stored = load_case(file)
    cell = stored.cell
    pair = next((pair for pair in pairs if pair.name == cell.pair), None)
    if pair is None:
        raise Misuse(f"{file} holds a case of pair {cell.pair!r}, not of {arguments.pair!r}; name that pair")
    if not fnmatchcase(cell.check, arguments.check):
        raise Misuse(f"{file} holds a case of check {cell.check!r}, not of {arguments.check!r}; name that check")
    select_names(cell.check, all_checks(), "check")
    with Progress(1) as progress:
        progress.starts(cell)
        result = executor.replay(pair, cell, stored.example, file)
        progress.ended(result)
    return result

"""``faults``: how much the checks see, and what today's means see of the same."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from typing import Any

from parity.cli.progress import Status
from parity.compare.verdict import Misuse
from parity.conditions import judging
from parity.faults.campaign import Task, perform, start_process, tasks
from parity.pairs.registry import select_pairs
from parity.platform_info import platform_info
from parity.report.files import write_json, write_text
from parity.report.power import figures, index, reached, summary, to_markdown

#: What is asked for -> kinds of tasks; controls and clean pairs are there for false alarms, originals to show
#: that what kills a mutant is the mutation.
_KINDS = {
    None: ("fault", "control", "clean", "original", "mutant"),
    "fault": ("fault", "control", "clean"),
    "mutant": ("original", "mutant"),
}


def faults(arguments: argparse.Namespace) -> int:
    """Plant, judge and report; 1 when fewer are seen than promised."""
    pairs = [pair.name for pair in select_pairs(arguments.pair)]
    found = tasks(pairs, kinds=_KINDS[arguments.only], every=arguments.every, seed=arguments.seed)
    part, parts = arguments.shard
    found = found[part - 1 :: parts]
    if not found:
        raise Misuse(f"there is nothing to plant for {arguments.pair!r} in shard {part}/{parts}")
    started = time.perf_counter()
    answers = _perform(found, arguments.processes, arguments.imports)
    with judging():
        platform = platform_info()
    content: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pairs": pairs,
        "shard": [part, parts],
        "seed": arguments.seed,
        "every": arguments.every,
        "seconds": time.perf_counter() - started,
        **index(answers),
        "figures": figures(answers),
        "answers": sorted(answers, key=lambda answer: (answer["kind"], answer["pair"], answer["name"])),
        "platform": platform,
    }
    write_json(arguments.out, content)
    write_text(arguments.out.with_suffix(".md"), to_markdown(content))
    print(summary(content))
    print(f"written to {arguments.out} and {arguments.out.with_suffix('.md')}")
    return 0 if reached(content) else 1


def _perform(found: list[Task], processes: int, imports: list[str]) -> list[dict[str, Any]]:
    # spawned, because forking a process in which torch has started threads can hang
    context = multiprocessing.get_context("spawn")
    answers = []
    with (
        ProcessPoolExecutor(processes, context, initializer=start_process, initargs=(imports,)) as pool,
        Status() as status,
    ):
        waiting = [pool.submit(perform, task) for task in found]
        try:
            for task in as_completed(waiting):
                answer = task.result()
                answers.append(answer)
                if len(answers) % 10 == 0 or len(answers) == len(found):
                    status.show(f"{len(answers)}/{len(found)}   {answer['kind']} {answer['pair']} {answer['name']}")
        except BrokenProcessPool as error:
            raise Misuse("a process died, perhaps for want of memory; try --processes 1") from error
        finally:
            pool.shutdown(cancel_futures=True)
    return answers

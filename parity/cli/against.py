"""``run --against``: judge today's code by a recording, or by another revision that is recorded first."""

from __future__ import annotations

import argparse
import shlex
import tempfile
import time
from pathlib import Path

from parity.cli.progress import Progress, Status
from parity.cli.record import the_pair
from parity.compare.verdict import Misuse
from parity.golden.judge import Recording, judge_by
from parity.golden.repository import repository_of, root_of
from parity.golden.revision import record_revision
from parity.pairs.recipe import Pair
from parity.platform_info import platform_info
from parity.results import Report, Result


def judge_against(arguments: argparse.Namespace) -> Report:
    """Judge the pair's side by what ``--against`` or ``--against-revision`` names."""
    for option in ("example", "seed", "budget", "weights"):
        if getattr(arguments, option) is not None:
            raise Misuse(f"a recording fixes examples and weights; leave --{option} out")
    if arguments.device != "cpu":
        raise Misuse(f"recordings are made and judged on the CPU; leave --device {arguments.device} out")
    pair = the_pair(arguments.pair)
    if arguments.against is not None:
        if arguments.examples is not None:
            raise Misuse("--against FILE fixes the examples; give --examples to `record`")
        return _judge(arguments, pair, arguments.against, f"--against {shlex.quote(str(arguments.against))}")
    with tempfile.TemporaryDirectory(prefix="parity-recording-") as folder:
        path = Path(folder, "recording.safetensors")
        _record(arguments, pair, path)
        return _judge(arguments, pair, path, f"--against-revision {shlex.quote(arguments.against_revision)}")


def _record(arguments: argparse.Namespace, pair: Pair, path: Path) -> None:
    side = arguments.side or "candidate"
    root = repository_of(pair, side) if arguments.repository is None else root_of(arguments.repository)
    if root is None:
        raise Misuse(f"--repository {arguments.repository} is in no git work tree; name the folder of a clone")
    options = ["--check", arguments.check]
    if arguments.examples is not None:
        options += ["--examples", str(arguments.examples)]
    with Status() as status:
        status.show(f"recording {side} of {pair.name} at {arguments.against_revision}")
        record_revision(
            pair,
            side,
            root,
            arguments.against_revision,
            path,
            imports=arguments.imports,
            options=options,
            seconds=arguments.time_limit,
        )


def _judge(arguments: argparse.Namespace, pair: Pair, path: Path, source: str) -> Report:
    started = time.perf_counter()
    recording = Recording(path, pair)
    if arguments.side not in (None, recording.side):
        raise Misuse(f"{path} is a recording of the {recording.side}; leave --side {arguments.side} out")
    print(recording.describe())
    command = f"python -m parity run {shlex.quote(pair.name)} {source}"
    command += "".join(f" --import {shlex.quote(module)}" for module in arguments.imports)
    if arguments.against_revision is not None and arguments.side is not None:
        command += f" --side {arguments.side}"
    command += "".join(f" --renamed {shlex.quote(entry)}" for entry in arguments.renamed)
    progress: list[Progress] = []

    def starts(planned: int, cell: object) -> None:
        if not progress:
            progress.append(Progress(planned))
        progress[0].starts(cell)

    def ended(result: Result) -> None:
        progress[0].ended(result)

    results = judge_by(
        recording,
        pair,
        checks=arguments.check,
        renamed=_renamed(arguments.renamed),
        reproduce=command,
        starts=starts,
        ended=ended,
    )
    return Report(len(results), results, time.perf_counter() - started, platform_info())


def _renamed(entries: list[str]) -> dict[str, str]:
    found = {}
    for entry in entries:
        old, equals, new = entry.partition("=")
        if not (old and equals and new):
            raise Misuse(f"--renamed {entry}: write the parameter's recorded name, =, and today's")
        found[old] = new
    return found

"""``train``: train one side of a pair, or both and compare their figures."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from parity.agents.errors import AgentError
from parity.cli.figures import Figures, apart, read_figures
from parity.cli.lockstep import lockstep
from parity.cli.progress import Status
from parity.compare.verdict import Misuse
from parity.pairs.builds import Builds
from parity.pairs.recipe import Pair
from parity.pairs.registry import select_pairs
from parity.pairs.training import METRICS, Training, World
from parity.platform_info import platform_info
from parity.report.curves import late_mean
from parity.report.files import write_json
from parity.runner import DTYPES
from parity.suite.options import DEFAULT_REPORTS


def train(arguments: argparse.Namespace) -> int:
    """Train and show how it went; the exit code is 0 whatever was learned, but for ``--lockstep``."""
    pair = trainable_pair(arguments.agent)
    training = training_of(pair)
    settings = _settings(arguments, training.defaults())
    if arguments.lockstep:
        return lockstep(arguments, pair, training, settings)
    name = f"{pair.name}-{arguments.environment.replace(':', '-')}-{arguments.dtype}-seed{arguments.seed}"
    folder: Path = arguments.folder or DEFAULT_REPORTS / "train" / name
    sides = ("reference", "candidate") if arguments.side == "both" else (arguments.side,)
    for side in sides:
        if not arguments.resume and (folder / side / METRICS).exists():
            raise Misuse(f"{folder / side} holds a run already; give --resume to go on with it, or another --folder")
    reports: dict[str, Any] = {}
    figures: dict[str, Figures] = {}
    started = time.perf_counter()
    for side in sides:
        try:
            with Status() as status:
                world = train_side(
                    pair,
                    side,
                    arguments.environment,
                    settings,
                    lambda metrics, side=side: status.show(_line(side, metrics, settings)),
                    dtype=DTYPES[arguments.dtype],
                    folder=folder / side,
                    trace=arguments.trace,
                )
        except OSError as error:
            raise Misuse(f"cannot write {folder / side}: {error.strerror or error}; give another --folder") from error
        figures[side] = read_figures(folder / side / METRICS)
        reports[side] = _summary(training, world, figures[side])
        print(f"{side.ljust(9)}  {_sentence(reports[side])}")
    content = {
        "pair": pair.name,
        "environment": arguments.environment,
        "dtype": arguments.dtype,
        "seed": arguments.seed,
        "settings": settings,
        "folder": str(folder),
        "sides": reports,
        "seconds": time.perf_counter() - started,
        "platform": platform_info(),
    }
    if len(sides) == 2:
        content["apart"] = distances = apart(figures["reference"], figures["candidate"])
        print(_comparison(distances, arguments.dtype))
    print(f"metrics and checkpoints are in {folder}")
    if arguments.json is not None:
        write_json(arguments.json, content)
    return 0


def trainable_pair(name: str) -> Pair:
    """The one pair of that name.

    Raises:
        Misuse: there is none, several match, or it offers no training.
    """
    pairs = select_pairs(name)
    if len(pairs) > 1:
        raise Misuse(f"{name!r} matches {', '.join(pair.name for pair in pairs)}; name one of them")
    training_of(pairs[0])
    return pairs[0]


def training_of(pair: Pair) -> Training:
    """The pair's training loop.

    Raises:
        Misuse: it has none.
    """
    if pair.training is None:
        raise Misuse(f"pair {pair.name!r} offers no training; set Pair.training, or name another pair")
    return pair.training


def train_side(
    pair: Pair,
    side: str,
    environment: str,
    settings: Mapping[str, Any],
    tell: Callable[[Mapping[str, Any]], None],
    *,
    dtype: torch.dtype = torch.float32,
    folder: Path | None = None,
    trace: bool = False,
) -> World:
    """Build one side and train it, all from ``settings["seed"]``.

    Args:
        pair: whose side.
        side: ``reference`` or ``candidate``.
        environment: name of the environment.
        settings: all of them, as ``Training.defaults`` gives them.
        tell: is given the metrics of each update.
        dtype: of the policy.
        folder: as for ``Training.run``; likewise ``trace``.
        trace: see ``folder``.

    Returns:
        The environment, at the end of the run.

    Raises:
        Misuse: environment, settings or what the folder holds are refused; the message names them.
    """
    training = training_of(pair)
    try:
        world = training.world(environment, agents=settings["num_agents"])
        recipe = dataclasses.replace(pair.recipe, environment=world.description)
        policy = Builds(pair).build(side, recipe.with_system(seed=settings["seed"], dtype=dtype)).policy
        training.run(policy, world, settings, tell, folder=folder, trace=trace)
    except AgentError as error:
        raise Misuse(str(error)) from error
    return world


def _settings(arguments: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The defaults, changed by the options that name a setting, then by ``--set``."""
    settings["seed"] = arguments.seed
    if arguments.updates is not None:
        settings["total_updates"] = arguments.updates
    if arguments.agents is not None:
        settings["num_agents"] = arguments.agents
    for text in arguments.set:
        path, equals, value = text.partition("=")
        if not equals:
            raise Misuse(f"--set {text!r} gives no value; write key=value, such as ppo.gamma=0.9")
        *sections, key = path.split(".")
        place = settings
        for section in sections:
            place = place.get(section)
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or key not in place or isinstance(place[key], dict):
            known = _paths(settings)
            near = difflib.get_close_matches(path, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise Misuse(f"--set {text!r} names no setting; {hint}")
        place[key] = _value(value)
    return settings


def _paths(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in settings.items():
        found += _paths(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return found


def _value(text: str) -> Any:
    """JSON where it is JSON, which unlike YAML reads 1e-3 as a number; otherwise the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _line(side: str, metrics: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    seconds = metrics["seconds_rollout"] + metrics["seconds_update"]
    return (
        f"{side}  update {metrics['update']}/{settings['total_updates']}   reward {metrics['reward']:.4f}   "
        f"entropy {metrics['loss_entropy']:.2f}   {metrics['agent_steps']:,} agent steps   {seconds:.2f} s"
    )


def _summary(training: Training, world: World, figures: Figures) -> dict[str, Any]:
    rewards = [figures[update]["reward"] for update in sorted(figures)]
    reward = late_mean(rewards)
    return {
        "updates": len(rewards),
        "agent_steps": max(metrics["agent_steps"] for metrics in figures.values()),
        "reward": reward,
        "normalised_return": training.normalised_return(world, reward),
        "rewards": rewards,
    }


def _sentence(report: Mapping[str, Any]) -> str:
    share = report["normalised_return"]
    scale = "" if share is None else f", normalised return {share:.3f} (0 random, 1 scripted optimum)"
    return (
        f"{report['updates']} updates, {report['agent_steps']:,} agent steps: mean reward {report['reward']:.4f} per "
        f"step over the last quarter{scale}"
    )


def _comparison(distances: list[dict[str, Any]], dtype: str) -> str:
    if dtype != "float64":
        return f"in {dtype} rounding soon flips a sampled action, and the runs fork; --dtype float64 compares the sides"
    worst = max(distances, key=lambda entry: entry["distance"])
    shown = [f"{entry['distance']:.0e}" if entry["distance"] else "0" for entry in distances]
    rows = ["  " + " ".join(text.rjust(5) for text in shown[start : start + 10]) for start in range(0, len(shown), 10)]
    place = f" ({worst['metric']}, update {worst['update']})" if worst["metric"] else ""
    return "\n".join(
        [
            f"metrics of the sides differ by at most {worst['distance']:.1e} of their value{place}; per update",
            *rows,
            "rounding grows from update to update, until samples differ; --lockstep begins each from equal state",
        ]
    )

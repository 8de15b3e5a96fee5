"""What a run plans: the cells of the collected tests, and what is wrong with the plan itself. Does not import torch."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pytest

from parity.results import Cell
from parity.suite import manifest
from parity.suite.options import Options

#: ``-m`` expressions of the project's own commands; none of them deselects a parity test.
_WHOLE = ("", "parity", "not nightly")


@dataclass
class Plan:
    """Cells that must end in a verdict, counts of those left out, and the plan's own problems and remarks."""

    cells: list[Cell] = field(default_factory=list)
    unselected: int = 0  # cells of a device that was not selected
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left_out: str = ""  # which pairs a change does not touch

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping, to cross from a worker."""
        return {**vars(self), "cells": [vars(cell) for cell in self.cells]}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Plan:
        """The inverse of ``to_json``."""
        return cls(**{**content, "cells": [Cell(**cell) for cell in content["cells"]]})


def cells_of(item: pytest.Item) -> list[Cell]:
    """The cells a test judges; none for a test that no check generated."""
    marker = item.get_closest_marker("parity")
    return list(marker.kwargs.get("cells", ())) if marker is not None else []


def is_of_registered(item: pytest.Item) -> bool:
    """True when a test was generated for all registered pairs, so that a manifest can say what is missing."""
    marker = item.get_closest_marker("parity")
    return marker is not None and bool(marker.kwargs.get("registered"))


def group_by_pair(items: list[pytest.Item]) -> None:
    """Put the tests of a pair side by side, so that few processes build it; other tests stay where they are."""
    places = [index for index, item in enumerate(items) if cells_of(item)]
    keys = [(items[index].path, cells_of(items[index])[0].pair) for index in places]
    first = {key: number for number, key in reversed(list(enumerate(keys)))}
    grouped = [items[index] for _, index in sorted(zip(keys, places, strict=True), key=lambda entry: first[entry[0]])]
    for index, item in zip(places, grouped, strict=True):
        items[index] = item


def deselect_by_options(config: pytest.Config, items: list[pytest.Item], options: Options) -> str:
    """Deselect tests that the pair and check options leave out, and skip those of devices that are not selected.

    Returns:
        What is wrong when there are parity tests and the options leave none; it names the nearest.
    """
    kept, dropped = [], []
    for item in items:
        cells = cells_of(item)
        (kept if not cells or options.names(cells[0]) else dropped).append(item)
        reason = options.unselected(cells[0].device) if cells else ""
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    if not dropped:
        return ""
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept
    if any(cells_of(item) for item in kept):
        return ""
    return _nothing_left([cell for item in dropped for cell in cells_of(item)], options)


def _nothing_left(cells: list[Cell], options: Options) -> str:
    given = (
        ("--parity-pairs", options.pairs, dict.fromkeys(cell.pair for cell in cells)),
        ("--parity-checks", options.checks, dict.fromkeys(cell.check for cell in cells)),
    )
    parts = []
    for option, pattern, there in given:
        if not any(fnmatchcase(name, pattern) for name in there):
            near = difflib.get_close_matches(pattern, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
            parts.append(f"{option}={pattern!r} matches nothing; {hint}")
    return "; ".join(parts) or "--parity-pairs and --parity-checks have no cell in common"


def make_plan(config: pytest.Config, items: Iterable[pytest.Item], collected: list[Cell], options: Options) -> Plan:
    """Plan the selected tests.

    Args:
        config: pytest's.
        items: the tests left after every deselection.
        collected: the cells of all tests that were collected, deselected ones included.
        options: the plugin's.
    """
    items = [item for item in items if cells_of(item)]
    cells = [cell for item in items for cell in cells_of(item)]
    chosen = [cell for cell in cells if not options.unselected(cell.device)]
    plan = Plan(chosen, unselected=len(cells) - len(chosen))
    twice = [str(cell) for cell, count in Counter(chosen).items() if count > 1]
    if twice:
        plan.remarks.append(
            f"planned more than once: {some(twice)}; their tests are collected several times, by importnb's pytest "
            "plugin where mettagrid is installed (leave it out with -p no:importnb)"
        )
    by_id = any("::" in argument for argument in config.args)
    if collected and not by_id:
        plan.problems += [
            f"{line} matches no cell; correct or remove the line"
            for line in options.expected
            if not any(line.matches(cell) for cell in collected)
        ]
    if not by_id and not _filtered(config, options) and any(is_of_registered(item) for item in items):
        _compare_with_manifest(plan, chosen, options)
    return plan


def _filtered(config: pytest.Config, options: Options) -> bool:
    """True when the user asked for some of the tests only."""
    given = [getattr(config.option, name, None) for name in ("keyword", "deselect", "lf", "stepwise", "ignore")]
    globs = (options.checks, options.pairs) != ("*", "*")
    return any(given) or globs or options.changed is not None or getattr(config.option, "markexpr", "") not in _WHOLE


def _compare_with_manifest(plan: Plan, cells: list[Cell], options: Options) -> None:
    from parity.checks.registry import nightly

    committed = manifest.read_manifest()
    for device in options.devices:
        of_device = [cell for cell in cells if cell.device == device]
        missing = manifest.lost(committed, of_device)
        if missing:
            plan.problems.append(
                f"not planned on {device} and in the manifest: {some(missing)}; bring it back, or, if it is meant to "
                f"go, run `{manifest.UPDATE}`"
            )
        new = manifest.gained(committed, of_device)
        if new and device == options.devices[0] and not nightly():  # by night more is planned
            plan.remarks.append(
                f"planned and not in the manifest: {some(new)}; run `{manifest.UPDATE}`, lest it vanish unseen"
            )


def some(names: list[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more

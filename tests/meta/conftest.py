"""A project of a stranger: stub pairs and checks in a test module, judged by a pytest of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

# pytest run inside this process forgets the modules it imported; torch must not be among them
import parity.api
import parity.checks.registry
import parity.compare.watched
import parity.execution
import parity.faults.registry
import parity.pairs.registry
import parity.suite.generate

STUBS = """
import torch
from hypothesis import strategies as st

from parity.checks.registry import Check
from parity.compare.picture import pictures
from parity.compare.verdict import Divergence, DivergenceFound
from parity.pairs.recipe import Pair
from parity.suite.generate import parity_tests


def find(case, example):
    case.outcome.margin, case.outcome.margin_place = 0.25, "fc1/output"
    if case.pair.name == "bad" and example["number"] > 2:
        raise DivergenceFound(
            Divergence("fact", "forward", "fc1", "size", reference=1, candidate=example["number"], rung="bits",
                       pictures=pictures(torch.tensor([[0.0, 1.5], [float("inf"), 2.5]])))
        )


def draw(pair, recordings):
    return st.fixed_dictionaries({"number": st.integers(0, 9)})


def stub(name):
    return Pair(name, recipe=None, reference=None, candidate=None, components=(), generate=None)


CHECKS = {
    "plain": Check("plain", "", draw, find, dtypes=("float64", "float32")),
    "quiet": Check("quiet", "", draw, lambda case, example: None),
    "needy": Check("needy", "", draw, find, needs=frozenset({"memory"})),
}
"""

#: Where a process keeps what was declared by hand.
_DECLARED = (
    (parity.checks.registry, "_own"),
    (parity.compare.watched, "_watched"),
    (parity.faults.registry, "_by_hand"),
    (parity.pairs.registry, "_by_hand"),
)


@pytest.fixture
def nothing_declared(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in; what is declared and imported there is forgotten afterwards."""
    for owner, name in _DECLARED:
        monkeypatch.setattr(owner, name, {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield pytester.path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(pytester.path)):
            del sys.modules[name]


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run_stubs(pytester: pytest.Pytester) -> Run:
    """Run pytest on a module of stub pairs: ``run_stubs("good", "bad", args=["-x"])``; ``body`` is appended to it."""

    def run(*pairs: str, args: tuple[str, ...] = (), body: str = "", expected: str = "") -> pytest.RunResult:
        names = ", ".join(f"stub({pair!r})" for pair in pairs)
        generated = f"globals().update(parity_tests([{names}], checks=CHECKS))\n" if pairs else ""
        pytester.makepyfile(test_stubs=STUBS + generated + body)
        if expected:
            Path(pytester.path, "expected.txt").write_text(expected, encoding="utf-8")
            args = (*args, "--parity-expected-failures=expected.txt")
        arguments = (*plugins(), "-p", "no:cacheprovider", *args)
        if any(argument.startswith("-n") for argument in args):  # workers are processes, and may be meant to die
            return pytester.runpytest_subprocess(*arguments, timeout=120)
        return pytester.runpytest_inprocess(*arguments)

    return run


def plugins() -> tuple[str, ...]:
    """Arguments that load this plugin where it is not installed, and keep a broken foreign one out."""
    installed = any(point.value == "parity.pytest_plugin" for point in entry_points(group="pytest11"))
    return ("-p", "no:importnb", *(() if installed else ("-p", "parity.pytest_plugin")))


@pytest.fixture
def stub_plugins() -> tuple[str, ...]:
    """Arguments for a pytest started by hand."""
    return plugins()

"""``--parity-changed`` and ``--parity-budget``: what is left out and what is added is said, and nothing looks green."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: Workers are processes of their own, and import everything anew.
SERIAL_AND_XDIST = pytest.mark.parametrize(
    "args", [pytest.param((), id="serial"), pytest.param(("-n1",), id="xdist", marks=pytest.mark.nightly)]
)

AGENT = """
from torch import nn


class Net(nn.Linear):
    pass


def build(recipe):
    return Net(2, 2)
"""

PAIRS = """
import far
import near
from parity.agents.interface import AgentConfig, EnvironmentDescription, Feature
from parity.pairs.recipe import Recipe

RECIPE = Recipe(AgentConfig(components={}), EnvironmentDescription(3, 3, 4, ("noop",), (0,), {"a": Feature(0)}))


def built(name, module):
    return Pair(name, recipe=RECIPE, reference=module.build, candidate=module.build, components=(), generate=None)


PLAIN = {"plain": CHECKS["plain"]}
globals().update(parity_tests([built("near", near), built("far", far)], checks=PLAIN))
"""


@pytest.fixture
def run_two(pytester: pytest.Pytester, run_stubs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run pytest on two pairs of modules ``near`` and ``far``, in a repository with one commit."""
    monkeypatch.syspath_prepend(pytester.path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("near", "far"):
        (pytester.path / f"{name}.py").write_text(AGENT)

    def run(*args: str) -> pytest.RunResult:
        for name in ("near", "far"):
            sys.modules.pop(name, None)
        return run_stubs(args=("--parity-report=out", *args), body=PAIRS)

    run_stubs(args=("--collect-only", "-q"), body=PAIRS)  # writes the test file
    (pytester.path / ".gitignore").write_text("out\n.hypothesis\n__pycache__\nrunpytest-*\nstdout\nstderr\n")
    git(pytester.path, "init", "-q", "-b", "main")
    git(pytester.path, "add", "-A")
    git(pytester.path, "commit", "-q", "-m", "x")
    return run


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def test_pairs_that_nothing_touched_are_left_out_by_name(pytester, run_two):
    (pytester.path / "near.py").write_text(AGENT + "# changed\n")
    result = run_two("--parity-changed")
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1, deselected=2)
    line = "left out: far: nothing they import or read changed since *; judged: near (by near.py)"
    result.stdout.fnmatch_lines(["planned 2, ran 2: 2 identical", line])
    report = json.loads((pytester.path / "out/parity.json").read_text())
    assert re.match(r"left out: far: nothing they import or read changed since \w+; judged: near", report["notes"][0])
    assert "left out: far" in (pytester.path / "out/parity.md").read_text()


@SERIAL_AND_XDIST
def test_a_change_that_touches_no_pair_ends_well_and_says_that_nothing_was_judged(pytester, run_two, args):
    (pytester.path / "notes.md").write_text("not read by any builder\n")
    expected = [
        "planned 0, ran 0",
        "NOTHING JUDGED, no pair is touched; left out: near, far: nothing they import or read changed since HEAD (*)",
    ]
    result = run_two("--parity-changed=HEAD", *args)
    assert result.ret == 0
    result.stdout.fnmatch_lines(expected)
    assert not re.search(r"\d passed", result.stdout.str())


def test_without_any_parity_test_pytest_still_says_that_there_was_no_test(pytester, run_stubs):
    pytester.makepyfile(test_nothing="")
    git(pytester.path, "init", "-q")
    result = run_stubs(args=("--parity-changed", "-k", "nothing_of_that_name"))
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_places_and_bases_that_are_none_are_refused(pytester, run_two, run_stubs, tmp_path_factory, monkeypatch):
    result = run_two("--parity-changed=nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --parity-changed=nowhere: *has no revision 'nowhere'; give a commit*"])
    result = run_two("--parity-changed=near.py")
    result.stderr.fnmatch_lines(["ERROR: *; to name tests, write --parity-changed= before near.py"])
    (pytester.path / ".git").rename(pytester.path / "no git")
    result = run_two("--parity-changed")
    result.stderr.fnmatch_lines(["ERROR: --parity-changed: * is in no git work tree; leave the option out"])


SNIPPET = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.mark.nightly
def test_the_hook_of_the_documentation_lets_go_what_touches_nothing_and_stops_what_fails(
    pytester, run_two, stub_plugins
):
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", SNIPPET.read_text(encoding="utf-8"), flags=re.S)
    hook = pytester.path / ".git/hooks/pre-push"
    hook.write_text(script)
    hook.chmod(0o755)
    folder = Path(sys.executable).parent
    remote = pytester.path.parent / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTEST_ADDOPTS": " ".join(stub_plugins),
    }

    def push() -> subprocess.CompletedProcess[str]:
        command = ["git", "push", str(remote), "HEAD:refs/heads/main"]
        return subprocess.run(command, cwd=pytester.path, env=environment, capture_output=True, text=True, check=False)

    first = push()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "NOTHING JUDGED" in first.stdout + first.stderr
    text = (pytester.path / "test_stubs.py").read_text().replace('built("near", near)', 'built("bad", near)')
    (pytester.path / "test_stubs.py").write_text(text)
    git(pytester.path, "commit", "-q", "-a", "-m", "a fault", "--no-verify")
    (pytester.path / "near.py").write_text(AGENT + "# changed\n")
    second = push()
    assert second.returncode != 0
    assert "DIVERGENT  bad / plain" in second.stdout + second.stderr


RARE = """
def rare(case, example):
    seen = SEEN.setdefault(case.pair.name, [])
    seen.append(example)
    if case.pair.name == "bad" and len(seen) > 12 and example["number"] > 2:  # ten are planned
        found = Divergence("fact", "forward", "fc1", "size", reference=1, candidate=example["number"], rung="bits")
        raise DivergenceFound(found)


SEEN = {}
CHECKS["plain"] = Check("plain", "", draw, rare)
globals().update(parity_tests([stub("bad")], checks={"plain": CHECKS["plain"]}))
"""


@SERIAL_AND_XDIST
def test_a_failure_in_the_time_that_is_left_fails_the_run_and_is_stored(pytester, run_stubs, args):
    """Nothing is left to judge once it has failed, so that the time is not waited for."""
    result = run_stubs(args=("--parity-report=out", "--parity-budget=100", "-m", "not gpu", *args), body=RARE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.re_match_lines(
        [
            r"DIVERGENT  bad / plain   cpu float64",
            r"  reproduce  python -m parity run bad --check plain --example out/cases/bad-plain-....\.json",
            r"planned 1, ran 1: 1 divergent",
            r"beyond the plan: \d+ more examples in \d+ s of the budget, of 1 cells; 1 of them failed",
            r"parity failed",
        ]
    )
    report = json.loads((pytester.path / "out/parity.json").read_text())
    (entry,) = report["results"]
    assert entry["verdict"] == "divergent"
    assert entry["examples"] > 10
    (case,) = (pytester.path / "out/cases").iterdir()
    assert json.loads(case.read_text())["example"]["number"] > 2

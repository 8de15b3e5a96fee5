"""The snippets of docs/own-policies.md, run as they stand, and what own checks, probes and faults do when they fail."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

import parity.api
from parity.cli import main

GUIDE = (Path(__file__).parents[2] / "docs/own-policies.md").read_text(encoding="utf-8")
FILES = {match[1]: match[2] for match in re.finditer(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, flags=re.S)}
COMMANDS = re.findall(r"^\$ (.*)$", GUIDE, flags=re.M)
AGENT = Path(__file__).with_name("projects") / "my_agent.py"
QUICK = ("-p", "no:cacheprovider", "-p", "no:importnb", "-k", "not compile and not throughput")


@pytest.fixture(autouse=True)
def project(nothing_declared: Path) -> Path:
    """The guide's files beside the agent."""
    shutil.copy(AGENT, nothing_declared)
    for name, text in FILES.items():
        (nothing_declared / name).write_text(text, encoding="utf-8")
    return nothing_declared


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def failures(pytester: pytest.Pytester, *arguments: str) -> list[dict[str, Any]]:
    assert pytester.runpytest_inprocess(*QUICK, "--parity-report=r", *arguments).ret == 1
    results = json.loads((pytester.path / "r/parity.json").read_text())["results"]
    return [result for result in results if result["verdict"] == "divergent"]


def test_every_snippet_is_taken_up() -> None:
    assert GUIDE.count("```python") == len(FILES) == 4
    assert GUIDE.count("```console") == 1


def test_the_snippets_are_green(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_inprocess(*QUICK)
    assert done.ret == 0
    # the own check, judged of the pair that declares what it needs, and listed for the others
    done.stdout.fnmatch_lines(["trunk * bits / bits * n/a / n/a * n/a / n/a"])
    outcomes = done.parseoutcomes()
    assert (outcomes["passed"], outcomes["deselected"]) == (9 + 7 + 6, 3 * 2 * 2)


def test_the_commands_run(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        python, flag, module, *arguments = shlex.split(command)
        assert (python, flag, module) == ("python", "-m", "parity")
        assert main(arguments) == 0
    listed = r"relu_missing +more, candidate: caught by forward at pi, forward"
    assert re.search(listed, capsys.readouterr().out)


def test_judging_without_pytest(monkeypatch: pytest.MonkeyPatch, project: Path, capsys: Any) -> None:
    monkeypatch.syspath_prepend(project)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(project / "judge.py"))
    assert ended.value.code == 0
    assert re.search(r"planned 4, ran 4: 2 identical, 2 not_applicable", capsys.readouterr().out)


def test_an_own_check_fails_pins_and_replays_as_the_others_do(
    pytester: pytest.Pytester, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(project / "my_agent.py", "return self.trunk(x)", "return self.trunk(x) * 1.001")
    failed = failures(pytester, "test_more.py", "--parity-checks=trunk")
    assert {result["check"] for result in failed} == {"trunk"}
    divergence = failed[0]["divergence"]
    assert (divergence["component"], divergence["phase"]) == ("features", "trunk")
    capsys.readouterr()
    assert main(shlex.split(failed[0]["reproduce"])[3:]) == 1
    assert "constant ratio 1.001" in capsys.readouterr().out


def test_a_probe_names_a_value_that_no_hook_sees(pytester: pytest.Pytester, project: Path) -> None:
    change(project / "my_agent.py", "(q @ k.transpose(1, 2) / 2)", "(q @ k.transpose(1, 2) / 4)")  # of no other effect
    failed = failures(pytester, "test_tensordict.py", "--parity-checks=forward")
    assert {result["divergence"]["component"] for result in failed} == {"scores"}


def test_a_declared_component_must_agree_itself(pytester: pytest.Pytester, project: Path) -> None:
    change(project / "my_agent.py", '"policy": self.actor(x)', '"policy": self.actor(2 * x)')
    failed = failures(pytester, "test_tensordict.py", "--parity-checks=forward")
    assert failed[0]["divergence"]["component"] == "policy head"
    assert failed[0]["divergence"]["at"] == "input"


def test_a_fault_that_is_not_found_as_declared_fails_its_test(pytester: pytest.Pytester, project: Path) -> None:
    change(project / "test_more.py", 'component="pi"', 'component="fc"')
    done = pytester.runpytest_inprocess(*QUICK, "test_more.py", "-k", "fault")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*fault 'relu_missing' was not found as declared: by forward at fc in forward*"])


def test_a_check_that_records_nothing_is_an_error(pytester: pytest.Pytester, project: Path) -> None:
    change(project / "test_more.py", 'record("features", policy.features(observation))', "pass")
    done = pytester.runpytest_inprocess(*QUICK, "test_more.py", "--parity-checks=trunk")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*check 'trunk' recorded nothing, so it proves nothing*"])


def test_the_names_are_offered_lazily_and_documented() -> None:
    for name in parity.api.__all__:
        assert getattr(parity, name) is getattr(parity.api, name)
        assert name == "CAPABILITIES" or getattr(parity, name).__doc__
    assert set(parity.api.__all__) == set(parity._OFFERED)  # pyright: ignore[reportAttributeAccessIssue]
    stub = Path(parity.api.__file__).parents[1] / "__init__.pyi"
    assert set(re.findall(r"import (\w+) as \1", stub.read_text())) == set(parity.api.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'piar'"):
        _ = parity.piar  # type: ignore[attr-defined]

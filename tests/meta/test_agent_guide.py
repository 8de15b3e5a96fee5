"""The guide of parity/agents/README.md, run as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from guide import FILES, write_project

from parity.agents.metta_agent import AGENT_TYPES
from parity.compare.verdict import Verdict
from parity.conditions import judging
from parity.pairs.recipe import Pair
from parity.results import Result
from parity.runner import Session, plan, run_cell


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    write_project(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    AGENT_TYPES.pop("glance", None)


def judge(pair: Pair, check: str) -> list[Result]:
    session = Session(pair)
    with judging():
        return [run_cell(session, cell, max_examples=2, shrink=False) for cell in plan([pair], checks=check)]


def test_an_agent_takes_fewer_than_forty_lines():
    lines = [line for line in FILES["glance.py"].splitlines() if line.strip()]
    assert len(lines) < 40


def test_the_pair_of_the_guide_is_proven_by_every_check_and_a_bug_in_it_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import glance  # pyright: ignore[reportMissingImports]

    results = judge(glance.pair, "*")
    found = {str(result.cell): f"{result.verdict} {result.reason}" for result in results if not result.verdict.passed}
    assert found == {}
    judged = {result.check for result in results if result.verdict is not Verdict.NOT_APPLICABLE}
    assert judged >= {"construction", "forward", "memory", "gradients", "training"}

    monkeypatch.setattr(
        glance.Glance, "encode_observations", lambda self, tokens: self.look(self.flat(self.box(tokens)))
    )
    result = judge(glance.pair, "forward")[0]
    assert result.verdict is Verdict.DIVERGENT
    assert result.divergence is not None
    assert (result.divergence["component"], result.divergence["at"]) == ("flat", "input")

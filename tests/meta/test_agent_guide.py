"""The guide of parity/agents/README.md, run as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import parity.agents
from parity.agents.metta_agent import AGENT_TYPES
from parity.compare.verdict import Verdict
from parity.conditions import judging
from parity.pairs.recipe import Pair
from parity.resources import fixture
from parity.results import Result
from parity.runner import Session, plan, run_cell

GUIDE = Path(parity.agents.__file__).with_name("README.md").read_text(encoding="utf-8")
FILES = {match[1]: match[2] for match in re.finditer(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, flags=re.S)}
SMALL = {"look": {"out_features": 24}, "critic_1": {"out_features": 32}, "actor_1": {"out_features": 16}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The guide's files, and a YAML such as its reader has: `fast` without its convolutions, small."""
    content = yaml.safe_load(fixture("agents", "fast.yaml").read_text(encoding="utf-8"))
    kept = content["components"]
    names = ("_core_", "critic_1", "_value_", "actor_1", "_action_embeds_", "_action_")
    components = {
        "_obs_": {"_target_": "ObsTokenToBoxShaper", "sources": None},
        "norm": {"_target_": "ObservationNormalizer", "sources": [{"name": "_obs_"}]},
        "flat": {"_target_": "Flatten", "sources": [{"name": "norm"}]},
        "look": {"_target_": "Linear", "sources": [{"name": "flat"}]},
        **{name: kept[name] for name in names},
    }
    components["_core_"] = {**kept["_core_"], "sources": [{"name": "look"}], "output_size": 16}
    for name, sizes in SMALL.items():
        components[name]["nn_params"] = sizes
    (tmp_path / "glance.yaml").write_text(yaml.safe_dump({**content, "components": components}), encoding="utf-8")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
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

"""``--import``: pairs of modules and files that no installed package offers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.cli import main
from parity.pairs import registry

STUB = "Pair({name!r}, recipe=None, reference=None, candidate=None, components=(), generate=None)"
HEAD = "from parity.pairs.recipe import Pair\n"


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setattr(registry, "_by_hand", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["list", "--json", *arguments]) == 0
    return [pair["name"] for pair in json.loads(capsys.readouterr().out)["pairs"]]


def test_a_module_brings_the_pairs_that_it_registers_and_those_it_holds(capsys, project: Path):
    registers = f"from parity.pairs.registry import register\nregister({STUB.format(name='first')})\n"
    (project / "one.py").write_text(HEAD + registers + f"second = {STUB.format(name='second')}\n")
    assert listed(capsys, "--import", "one") == ["first", "second"]
    assert {pair.source for pair in registry.registered_pairs().values()} == {"one"}


def test_a_file_in_a_package_is_imported_by_its_place_in_it(capsys, project: Path):
    package = project / "tests" / "deep"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text("NAME = 'third'\n")
    (package / "conftest.py").write_text(HEAD + f"from .names import NAME\npair = {STUB.replace('{name!r}', 'NAME')}\n")
    assert listed(capsys, "--import", "tests/deep/conftest.py", "--import", "tests/deep/conftest.py") == ["third"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "--import nowhere: failed with ModuleNotFoundError"),
        ("nowhere.py", "--import nowhere.py: there is no such file"),
        ("broken.py", "--import broken.py: failed with ZeroDivisionError: division by zero"),
        ("empty.py", "--import empty.py: it registers no pair and none is an attribute of it"),
    ],
)
def test_what_brings_no_pair_is_named(capsys, project: Path, given: str, message: str):
    (project / "broken.py").write_text("1 / 0\n")
    (project / "empty.py").write_text("")
    assert main(["list", "--import", given]) == 2
    assert message in capsys.readouterr().err

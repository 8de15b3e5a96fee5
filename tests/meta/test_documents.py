"""The pages for people: what they show runs, what they quote is said, what they count is so, their links resolve.

Blocks are judged by their fence. ``python`` is run. ``console`` is run, and what stands under a ``$`` must come out.
Everything else that begins with ``python -m parity``, ``pytest`` or ``make`` takes too long to be run here, or needs a
failure to look at: the parser or the Makefile must know it, so that no option and no name in it is invented.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import runpy
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import parity.suite.options
from parity.checks.catalogue import CHECKS
from parity.cli import main
from parity.cli.arguments import parser
from parity.compare.bounds import BOUNDS
from parity.compare.verdict import RUNG_ORDER, Verdict
from parity.conditions import judging
from parity.faults.registry import Fault, load_catalogues
from parity.faults.run import run_fault
from parity.pairs.registry import registered_pairs
from parity.profiles import PROFILES
from parity.report.describe import describe

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*GUIDES, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "parity/agents/README.md"))]
LINKED += [ROOT / folder / "README.md" for folder in ("reports", "reports/sample", "fixtures/observations")]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", flags=re.M | re.S)
COMMAND = re.compile(r"^((?:python -m parity|pytest|make) .*)$", flags=re.M)

#: Faults whose message is not made again here, and why; ``test_faults`` plants them all.
NOT_PLANTED = {"compile": "tracing takes four seconds", "throughput": "where time goes depends on the machine"}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block."""
    return [(found[2], textwrap.dedent(found[3])) for found in FENCE.finditer(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def run_by_another_test(page: Path) -> bool:
    """Whether a test takes the page's blocks out and runs them, beside the files that they need."""
    others = (path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py") if path != Path(__file__))
    return any(f'/ "{named(page)}"' in text and "```" in text for text in others)


def of_guides(*languages: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{named(page)}-{number}")
        for page in GUIDES
        if not run_by_another_test(page)
        for number, (language, text) in enumerate(blocks(page))
        if language in languages
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader may stand: a folder with the report of a run."""
    (tmp_path / "reports").mkdir()
    shutil.copy(ROOT / "reports/sample/parity.json", tmp_path / "reports")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


# What is shown runs.


@pytest.mark.parametrize("text", of_guides("python"))
def test_python_runs(text: str, folder: Path) -> None:
    (folder / "snippet.py").write_text(text, encoding="utf-8")
    runpy.run_path(str(folder / "snippet.py"), run_name="__main__")


@pytest.mark.parametrize("text", of_guides("console"))
def test_a_console_shows_what_comes_out(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for session in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, shown = session.partition("\n")
        arguments = shlex.split(command)
        assert arguments[:3] == ["python", "-m", "parity"], f"{command!r} cannot be run here; put it into a sh block"
        code = main(arguments[3:])
        said = "".join(capsys.readouterr())
        assert code == (2 if shown.startswith("parity:") else 0), said
        assert_said(shown, said)


def assert_said(shown: str, said: str) -> None:
    """Every line that is shown was said, in that order; whatever the numbers, and whatever stands in for dots."""
    lines = iter([loosely(line) for line in said.splitlines()])
    for line in shown.splitlines():
        if line.strip() not in ("", "..."):
            pattern = ".*".join(re.escape(part) for part in loosely(line).split("..."))
            assert any(re.fullmatch(pattern, other) for other in lines), f"{line!r} is not in\n{said}"


def loosely(line: str) -> str:
    """A line without its numbers, however many stand in a list, and without the width of its gaps."""
    numbers = re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "#", " ".join(line.split()))
    return re.sub(r"#(, #)+", "#", numbers)


def commands() -> Iterator[tuple[Path, str]]:
    for page in GUIDES:
        for language, text in blocks(page):
            if language in ("sh", "bash"):
                strange = [line for line in text.splitlines() if not re.match(r"#|$", line) and not COMMAND.match(line)]
                assert not strange, f"{named(page)}: no rule for {strange}"
            if language in ("", "sh", "bash"):
                yield from ((page, found[1]) for found in COMMAND.finditer(text))


def test_commands_can_be_given(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(commands())
    assert len(found) > 10
    for page, command in found:
        program, *arguments = shlex.split(command, comments=True)
        try:
            if program == "make":
                assert arguments[0] in targets()
            elif program == "pytest":
                pytester.parseconfig("-p", "no:importnb", *arguments)
            else:
                known(parser().parse_args(arguments[2:]))
        except (AssertionError, SystemExit, pytest.UsageError) as error:
            pytest.fail(f"{named(page)}: {command!r} cannot be given: {error} {capsys.readouterr().err}")


def known(arguments: Any) -> None:
    """Refuse pairs and checks that there are not; which pairs an import brings, its reader knows."""
    there: dict[str, Any] = {"check": CHECKS}
    if not getattr(arguments, "imports", None):
        there |= {"pair": registered_pairs(), "agent": registered_pairs()}
    for name, names in there.items():
        glob = getattr(arguments, name, None)
        assert glob is None or any(fnmatchcase(each, glob) for each in names), f"there is no {name} {glob!r}"


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))


@pytest.mark.parametrize("page", LINKED, ids=named)
def test_what_is_named_in_passing_exists(page: Path) -> None:
    text = prose(page)
    actions: Any = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for command, rest in re.findall(r"`python -m parity ([a-z-]+)([^`]*)`", text):
        assert command in actions, f"python -m parity {command}"
        assert set(re.findall(r"--[a-z-]+", rest)) <= set(actions[command]._option_string_actions), rest
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets()
    declared = re.findall(r'"(--parity-[a-z-]+)"', inspect.getsource(parity.suite.options))
    assert set(re.findall(r"--parity-[a-z-]+", text)) <= set(declared)


# Where pages point is something.


@pytest.mark.parametrize("page", LINKED, ids=named)
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Headings as links spell them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [named(page) for page in GUIDES[1:] if f"({named(page)})" not in readme] == []


# checks.md


CHECKS_PAGE = ROOT / "docs/checks.md"
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", CHECKS_PAGE.read_text(encoding="utf-8"), flags=re.M | re.S))


def test_every_check_has_its_section_and_every_section_its_check() -> None:
    assert list(SECTIONS) == list(CHECKS)
    for name, section in SECTIONS.items():
        wanted = ("Proves", "* **Draws**", "* **Compares**", "* **Catches**", "* **Blind to**", "```text\n")
        assert [part for part in wanted if part not in section] == [], name


def test_the_table_of_checks_says_what_the_checks_declare() -> None:
    found = re.findall(r"^\| \[(\w+)\]\(#\1\) \| (.*) \| [^|]+ \|$", prose(CHECKS_PAGE), flags=re.M)
    rows = []
    for check in CHECKS.values():
        examples = max(1, math.ceil(PROFILES["parity-ci"]["max_examples"] * check.share))
        needs = ", ".join(f"`{need}`" for need in sorted(check.needs))
        cells = (str(examples), ", ".join(check.dtypes), needs, ", ".join(check.devices))
        rows.append((check.name, re.sub(" +", " ", " | ".join(cells))))
    assert [(name, re.sub(" +", " ", row)) for name, row in found] == rows


def fault_of(name: str) -> Fault | None:
    """The fault that a check's section names; None where the catalogue has none for it."""
    faults = [fault for catalogue in load_catalogues().values() for fault in catalogue.faults.values()]
    found = re.search(r"\*\*Catches\*\* `(\w+)`(?:\s+\(of `(\w+)`\))?", SECTIONS[name])
    if found is None:
        assert "no fault of the catalogue" in SECTIONS[name] and name not in {fault.check for fault in faults}
        return None
    return next(fault for fault in faults if (fault.name, fault.pair) == (found[1], found[2] or "fast"))


@pytest.mark.parametrize("name", SECTIONS)
def test_a_check_shows_what_it_says_of_a_planted_fault(name: str) -> None:
    fault = fault_of(name)
    if fault is None:
        return
    shown = FENCE.search(SECTIONS[name])
    assert shown is not None
    headline = shown[3].splitlines()[0]
    assert fault.check == name
    assert re.match(rf"first divergence  (input of )?{re.escape(fault.component)}   ", headline)
    assert f"in {fault.phase}" in headline or fault.phase == name
    if name not in NOT_PLANTED:
        with judging(profile="parity-ci"):
            found = run_fault(registered_pairs()[fault.pair], fault, checks=[name])
        assert_said(shown[3], describe(found.result))


# verdicts.md


VERDICTS = ROOT / "docs/verdicts.md"


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the tables below a heading of the page, without their heads."""
    text = prose(VERDICTS).partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip(" `") for cell in line] for line in lines]


def test_every_verdict_is_told_with_its_exit_code() -> None:
    told = [(row[0], int(row[-1])) for row in rows_of("## Verdicts and exit codes")]
    assert told == [(str(verdict), verdict.exit_code) for verdict in Verdict]


def test_the_constants_are_those_of_the_code() -> None:
    rows = rows_of("## Constants")
    told = {row[0]: ast.literal_eval(row[1]) for row in rows}
    own = {name: value for name, value in told.items() if "." not in name}
    assert own == vars(BOUNDS)
    for name in told.keys() - own.keys():
        assert said_by_code(name) == told[name], name


def said_by_code(name: str) -> Any:
    """The value of ``package.module.NAME``, or of ``package.module.NAME[key]``."""
    module, _, constant = re.sub(r"\[.*", "", name).rpartition(".")
    value = getattr(import_module(module), constant)
    key = re.search(r"\[torch\.(\w+)\]", name)
    return value if key is None else value[getattr(torch, key[1])]


def test_the_ladder_is_told_with_the_numbers_in_force() -> None:
    rows = rows_of("## The ladder")
    assert [row[0] for row in rows] == [str(rung) for rung in RUNG_ORDER]
    (many, wide), (few, wider), (_, widest) = BOUNDS.noise_limits
    allowed = {row[0]: row[-1] for row in rows}
    most = f"{BOUNDS.float64_cap:g}".replace("e-0", "e-")
    assert allowed["float64"] == f"{BOUNDS.float64_factor:g} x floor, at most {most} x rms(reference)"
    limits = f"{wide:g} x floor; {wider:g} x under {many} independent elements, {widest:g} x under {few}"
    assert allowed["noise_floor"] == limits
    assert allowed["ensemble"] == f"{BOUNDS.ensemble_factor:g} x floor, without a cap"
    words = {3: "three", 5: "five"}
    text = " ".join(prose(VERDICTS).split())
    assert f"up to {words[BOUNDS.float64_reruns]} reruns of the reference" in text
    assert f"up to {words[BOUNDS.noise_reruns]} ulp-moved twins" in text
    assert f"Up to {words[BOUNDS.float64_reruns]} trainings of the reference" in text


# troubleshooting.md


TROUBLES = ROOT / "docs/troubleshooting.md"
PREFIX = re.compile(r"^(PROBLEM  |NOTE  |likely cause: )")
LEAST = 12  # letters of its own that a message has at least, beside what is filled in


@cache
def messages() -> list[tuple[str, ...]]:
    """Everything the code can say: the fixed parts of each text, what is filled in stands between them."""
    found = set()
    for path in (ROOT / "parity").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts: list[str] = [""]
                for value in node.values:
                    if isinstance(value, ast.Constant):
                        parts[-1] += str(value.value)
                    else:
                        parts.append("")
                found.add(tuple(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add((node.value,))
    return [parts for parts in found if sum(map(len, parts)) >= LEAST]


QUOTED = [line for language, text in blocks(TROUBLES) if language == "text" for line in text.splitlines()]


@pytest.mark.parametrize("line", QUOTED, ids=range(len(QUOTED)))
def test_a_quoted_message_is_one_that_the_code_can_say(line: str) -> None:
    message = PREFIX.sub("", line)
    fits = (".*".join(map(re.escape, parts)) for parts in messages() if max(parts, key=len) in message)
    assert any(re.fullmatch(pattern, message) for pattern in fits), message


def test_the_table_of_profiles_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(parity-\w+)`[^|]*\| (\d+) \| ([^|]+) \| ([^|]+) \|$", prose(TROUBLES), flags=re.M)
    told = {name: (int(count), draws.strip(), kept.strip(" `")) for name, count, draws, kept in rows}
    assert told == {
        name: (
            values["max_examples"],
            "the same every time" if values["derandomize"] else "fresh",
            "none" if "database" in values else ".hypothesis/",
        )
        for name, values in PROFILES.items()
    }

"""Which pairs a change touches: those that import a changed file, read one, or are judged by a changed harness."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from parity.compare.verdict import Misuse
from parity.golden.repository import HARNESS, JUDGED, code_of, commit_of, foreign, git
from parity.golden.sides import SIDES
from parity.pairs.recipe import Pair

#: Tried in this order where no base is given.
MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")

#: What no builder reads. Any other file that is not Python may be read by any pair.
_PROSE = {".md", ".rst", ".svg", ".png", ".jpg", ".gif", ".html", ".css"}
_NAMES = {"LICENSE", "Makefile"}


@dataclass(frozen=True)
class Change:
    """What changed in a repository since a commit: committed or not, untracked files included."""

    root: Path
    base: str  # for people
    files: frozenset[Path]


def change_since(root: Path, base: str = "") -> Change:
    """What changed since ``base``, by default since the work left the main branch, or else since the last commit.

    Raises:
        Misuse: there is no such revision.
    """
    name = base or _left_main(root)
    commit = commit_of(root, name)
    listed = git(root, "diff", "--name-only", "--no-renames", "-z", commit)
    listed += git(root, "ls-files", "--others", "--exclude-standard", "-z")
    files = frozenset(root / part for part in listed.split("\0") if part)
    return Change(root, commit[:9] if commit.startswith(name) else f"{name} ({commit[:9]})", files)


def _left_main(root: Path) -> str:
    for main in MAIN:
        try:
            return git(root, "merge-base", "HEAD", main).strip()
        except Misuse:  # no such branch
            continue
    return "HEAD"


def touched(
    pairs: Iterable[Pair], change: Change, *, also: Mapping[str, Iterable[Path]] | None = None
) -> dict[str, str]:
    """The pairs that a change may have changed.

    Args:
        pairs: all that are judged.
        change: what changed.
        also: pair -> further files that touch it, such as the test file that it is declared in; what these import
            counts where the pair's builders or classes come from there.

    Returns:
        Pair -> the file that touches it, or why nobody can tell.
    """
    pairs = list(pairs)
    own = {pair.name: _files_of(pair) for pair in pairs}
    claimed = frozenset().union(*own.values())
    own = {name: files.union((also or {}).get(name, ())) for name, files in own.items()}
    found = {}
    for pair in pairs:
        reached = _reached(pair, change.root)
        if isinstance(reached, str):
            found[pair.name] = reached
            continue
        for file in sorted(change.files):
            if file in own[pair.name] or file in reached or _touches_all(file, change.root, claimed):
                found[pair.name] = str(file.relative_to(change.root))
                break
    return found


def _touches_all(file: Path, root: Path, claimed: frozenset[Path]) -> bool:
    """True for the harness, for Python files that are gone, and for files that any builder may read."""
    inside = file.relative_to(root)
    if any(part.startswith(".") for part in inside.parts):
        return False
    if file.suffix == ".py":
        return not file.exists() or _judges(file)
    return file not in claimed and file.suffix not in _PROSE and file.name not in _NAMES


def _files_of(pair: Pair) -> frozenset[Path]:
    """The files that a pair's recipe was read from."""
    recipe = pair.recipe
    sources = (recipe.config.source, recipe.environment.source) if recipe is not None else ()
    return frozenset(Path(source).resolve() for source in sources if source)


def _reached(pair: Pair, root: Path) -> frozenset[Path] | str:
    """Every Python file of the repository that the pair's sides import, directly or not; or why nobody knows."""
    start: list[Path] = []
    for side in SIDES:
        try:
            start += code_of(pair, side)
        except Misuse as error:
            return str(error)
    return imported(start, root)


def imported(start: Iterable[Path], root: Path) -> frozenset[Path]:
    """These files, and what they import of the repository, at whatever place in them and through whatever files.

    An import by a computed name is not seen; the classes of a built policy are where it leads, so start from these.
    """
    seen: set[Path] = set()
    places = _places(root)
    waiting = [file for file in start if file.is_file() and file.is_relative_to(root) and not foreign(file)]
    while waiting:
        file = waiting.pop()
        if file not in seen and not _judges(file):  # the harness touches every pair by itself
            seen.add(file)
            waiting += _imports(file, places)
    return frozenset(seen)


def _judges(file: Path) -> bool:
    """True for files of the harness, which is no part of what is judged."""
    return file.is_relative_to(HARNESS) and not any(file.is_relative_to(HARNESS / part) for part in JUDGED)


def _places(root: Path) -> tuple[Path, ...]:
    """Folders of a repository that modules are imported from."""
    entries = (Path(entry).resolve() for entry in sys.path if entry)
    inside = (entry for entry in entries if entry.is_relative_to(root) and not foreign(entry))
    return tuple(dict.fromkeys([root, *inside]))


@cache
def _imports(file: Path, places: tuple[Path, ...]) -> tuple[Path, ...]:
    """The files of a repository behind a file's own import statements, their packages' ``__init__`` included."""
    return tuple(dict.fromkeys(found for found in _statements(file, places) if found.is_file()))


def _statements(file: Path, places: tuple[Path, ...]) -> Iterator[Path]:
    folder, parts = file.parent, [] if file.name == "__init__.py" else [file.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    package = parts if file.name == "__init__.py" else parts[:-1]
    places = tuple(dict.fromkeys([folder, *places]))
    yield from _located(".".join(package), places)
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # then whatever imports it fails, and says so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _located(alias.name, places)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for name in (base, *(f"{base}.{alias.name}" for alias in node.names)):
                yield from _located(name, places)


def _located(name: str, places: Iterable[Path]) -> Iterator[Path]:
    """Where the files of a dotted name and of the packages above it may be."""
    parts = [part for part in name.split(".") if part]
    for length in range(1, len(parts) + 1):
        relative = Path(*parts[:length])
        for place in places:
            yield from (place / relative.with_suffix(".py"), place / relative / "__init__.py")

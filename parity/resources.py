"""Finding the project's fixtures, whether it runs from an installed wheel or from a source checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
#: Where a wheel carries the fixtures as package data, and where a source checkout or an editable install has them.
_PLACES = (_PACKAGE / "_fixtures", _PACKAGE.parent / "fixtures")


def fixture(*parts: str) -> Path:
    """Return the path of one fixture file or folder, for instance ``fixture("agents", "fast.yaml")``.

    Raises:
        FileNotFoundError: neither place has it; the message names both.
    """
    candidates = [place.joinpath(*parts) for place in _PLACES]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    wanted = "/".join(parts) or "fixtures"
    raise FileNotFoundError(
        f"fixture {wanted!r} is neither at {candidates[0]} (installed wheel) nor at {candidates[1]} (source checkout); "
        "check the name, or reinstall the package"
    )

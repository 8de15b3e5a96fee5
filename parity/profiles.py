"""Hypothesis profiles: how many examples are drawn, and whether the same ones every time. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import settings

DEFAULT_PROFILE = "parity-ci"

PROFILES = {
    "parity-dev": {"max_examples": 10, "derandomize": False},
    "parity-ci": {"max_examples": 10, "derandomize": True, "database": None},
    "parity-nightly": {"max_examples": 100, "derandomize": False},
}

#: Profiles that hypothesis has in force when nobody chose one; it loads "ci" by itself where CI is set.
_UNCHOSEN = ("default", "ci")


def register_profiles() -> None:
    """Register the profiles with hypothesis; doing it twice changes nothing."""
    # by name, because a profile otherwise inherits what is in force, which under CI has no database
    parent = settings.get_profile("default")
    for name, values in PROFILES.items():
        settings.register_profile(name, parent, deadline=None, **values)


@contextmanager
def profile_in_force(name: str | None = None) -> Iterator[str]:
    """Load a profile for the duration of a block.

    Args:
        name: a profile; None keeps the one somebody chose and takes ``parity-ci`` when nobody did.

    Yields:
        The name of the profile that is in force.
    """
    register_profiles()
    before = settings.get_current_profile_name()
    if name is None:
        name = DEFAULT_PROFILE if before.partition("-with-")[0] in _UNCHOSEN else before
    settings.load_profile(name)
    try:
        yield name
    finally:
        settings.load_profile(before)

"""parity: prove that a rewritten reinforcement-learning policy behaves like the original."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: What ``parity.api`` offers, from here too; ``__init__.pyi`` tells type checkers.
_OFFERED = (
    "CAPABILITIES",
    "Inconclusive",
    "Misuse",
    "Observations",
    "Pair",
    "ParameterLink",
    "Report",
    "Result",
    "Side",
    "check",
    "fault",
    "fused",
    "judge",
    "pair",
    "probe",
    "register",
    "tests_of",
)


def __getattr__(name: str) -> Any:
    """Names of ``parity.api``, imported when first asked for: it takes torch, and each pytest imports this package."""
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("parity.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *_OFFERED]

"""parity: prove that a rewritten reinforcement-learning policy behaves like the original."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.api import (
        CAPABILITIES,
        Inconclusive,
        Misuse,
        Observations,
        Pair,
        ParameterLink,
        Report,
        Result,
        Side,
        check,
        fault,
        fused,
        judge,
        pair,
        probe,
        register,
        tests_of,
    )

__version__ = "0.1.0"

__all__ = [
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
]


def __getattr__(name: str) -> Any:
    """Names of ``parity.api``, imported when first asked for: that takes torch, and every pytest imports this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("parity.api"), name)

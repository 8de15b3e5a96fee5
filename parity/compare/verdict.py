"""The vocabulary of a decision: verdicts, rungs, the divergence record, and the errors that carry them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How a check of a pair ended; ``exit_code`` is what a command line reports for it."""

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    NOT_APPLICABLE = "not_applicable"
    DIVERGENT = "divergent"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"

    @property
    def passed(self) -> bool:
        """True for the verdicts that let a run succeed."""
        return self in (Verdict.IDENTICAL, Verdict.EQUIVALENT, Verdict.NOT_APPLICABLE)

    @property
    def exit_code(self) -> int:
        """0 when passed, 1 when divergent, 2 when nothing could be judged."""
        if self.passed:
            return 0
        return 1 if self is Verdict.DIVERGENT else 2


class Rung(StrEnum):
    """The rungs of the verdict ladder, cheapest first."""

    BITS = "bits"
    FLOAT64 = "float64"
    NOISE_FLOOR = "noise_floor"
    ENSEMBLE = "ensemble"
    DEVICE = "device"


RUNG_ORDER = tuple(Rung)


@dataclass(frozen=True)
class Divergence:
    """The first place where two runs differ.

    ``component`` is the reference's component, or the contract field when the difference lies in none (``bptt``,
    ``act_log_prob``, ``clip_range``). ``index`` is the worst element of ``shape``; ``reference`` and ``candidate`` are
    the two values there. ``absolute``, ``relative`` and ``ulp`` are distances at that element; ``measured`` and
    ``allowed`` are what the rung compared (rms distances, or R and its limit). ``pictures`` are the differences pooled
    down to small grids (see ``compare.picture``). ``source`` is where the component's class is defined, ``file:line``,
    when that lies below the working directory.
    """

    kind: str  # value, fact, structure, non_finite, raised
    phase: str
    component: str
    key: str
    side: str = "candidate"
    candidate_component: str = ""
    at: str = "output"
    step: int | None = None
    row: int | None = None
    update: int | None = None
    minibatch: int | None = None
    shape: tuple[int, ...] = ()
    index: tuple[int, ...] = ()
    reference: Any = None
    candidate: Any = None
    differing: int = 0
    elements: int = 0
    absolute: float | None = None
    relative: float | None = None
    ulp: float | None = None
    measured: float | None = None
    allowed: float | None = None
    rung: str = Rung.FLOAT64
    input_identical: bool | None = None
    cause: str = ""
    notes: tuple[str, ...] = field(default=())
    pictures: tuple[dict[str, Any], ...] = field(default=())
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able mapping; values that JSON cannot hold are written as text."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, (str, int, bool, type(None))) else repr(value)


class DivergenceFound(Exception):
    """A check found the two sides, or one side and its oracle, to differ."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(f"{divergence.phase} / {divergence.component} / {divergence.key}")
        self.divergence = divergence


def different_fact(
    component: str, expected: Any, actual: Any, *, phase: str, key: str = "", **place: str
) -> DivergenceFound:
    """What to raise where a plain fact is another than expected; ``key`` is the component unless given.

    ``place`` takes further fields of a Divergence: ``side``, ``candidate_component``.
    """
    return DivergenceFound(
        Divergence(
            kind="fact",
            phase=phase,
            component=component,
            key=key or component,
            reference=expected,
            candidate=actual,
            rung=Rung.BITS,
            **place,  # pyright: ignore[reportArgumentType]  # the fields named are texts
        )
    )


class Inconclusive(Exception):
    """A check should have judged and could not; the message says why and what would help."""


class Misuse(Exception):
    """The subject or the configuration is broken; the message names the value, its place and the remedy."""

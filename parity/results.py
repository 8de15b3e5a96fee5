"""Results: one row per pair, check, device and dtype, and the report they add up to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from parity.compare.verdict import Verdict


@dataclass(frozen=True)
class Cell:
    """What is planned: one check of one pair on one device in one dtype."""

    pair: str
    check: str
    device: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.pair} / {self.check}   {self.device} {self.dtype}"


@dataclass(frozen=True)
class Result:
    """How a cell ended. ``margin`` is measured / allowed at its worst; 0.0 when all bits agreed.

    ``divergence`` is ``Divergence.to_json()``; ``example`` the shrunk example that shows it; ``reproduce`` the command
    that shows it again; ``reason`` says why nothing was judged, for the verdicts that judge nothing;
    ``expected_failure`` is the reason given for a cell that is listed as failing; ``trajectory`` how far a training
    went apart update by update: ``reruns``, and ``points`` with ``update``, ``phase``, ``place``, ``measured``,
    ``noise`` and ``allowed``.
    """

    pair: str
    check: str
    device: str
    dtype: str
    verdict: Verdict
    rung: str | None
    margin: float
    examples: int
    seconds: float
    divergence: dict[str, Any] | None = None
    reproduce: str = ""
    reason: str = ""
    example: dict[str, Any] | None = None
    margin_place: str = ""
    null_gradients: tuple[str, ...] = ()
    expected_failure: str = ""
    trajectory: dict[str, Any] | None = None

    @property
    def accepted(self) -> bool:
        """True when the run may succeed: it passed, or it failed as expected. An ``error`` is never expected."""
        excused = self.verdict in (Verdict.DIVERGENT, Verdict.INCONCLUSIVE)
        return self.verdict.passed or (excused and bool(self.expected_failure))

    @property
    def cell(self) -> Cell:
        """The cell this result belongs to."""
        return Cell(self.pair, self.check, self.device, self.dtype)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping with exactly the field names."""
        return {**asdict(self), "verdict": str(self.verdict), "null_gradients": list(self.null_gradients)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Result:
        """The inverse of ``to_json``."""
        values = {**content, "verdict": Verdict(content["verdict"])}
        values["null_gradients"] = tuple(content.get("null_gradients", ()))
        return cls(**values)


@dataclass
class Report:
    """All results of a run, with what was planned and the platform it ran on.

    ``problems`` are faults of the run itself, one sentence each: a planned cell that did not run, a manifest that no
    longer fits, a stale expected failure. ``notes`` are for the reader: which pairs were not planned, and why; what
    was judged beyond the plan.
    """

    planned: int
    results: list[Result]
    seconds: float
    platform: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ran(self) -> int:
        """Cells that ended in a verdict; ``not_applicable`` counts, a cell without a result does not."""
        return len(self.results)

    @property
    def exit_code(self) -> int:
        """0 when everything planned ran and passed, 1 when something diverged, 2 when something was not judged."""
        codes = [result.verdict.exit_code for result in self.results if not result.accepted]
        if 1 in codes:
            return 1
        return 2 if 2 in codes or self.problems or self.ran < self.planned else 0

    def to_json(self) -> dict[str, Any]:
        """The stable layout of ``parity.json``."""
        return {
            "planned": self.planned,
            "ran": self.ran,
            "seconds": self.seconds,
            "platform": self.platform,
            "problems": self.problems,
            "notes": self.notes,
            "results": [result.to_json() for result in self.results],
        }

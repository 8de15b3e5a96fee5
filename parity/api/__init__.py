"""The public interface for policies of one's own, see ``docs/own-policies.md``; ``parity`` offers its names too.

``pair`` describes a reference and a candidate, ``tests_of`` generates their tests, ``judge`` judges them without
pytest, ``register`` makes them known to the command line; ``check``, ``probe`` and ``fault`` add to what is judged.
"""

from parity.api.decorators import check, fault, probe
from parity.api.describing import fused, pair
from parity.api.judging import judge, tests_of
from parity.api.observations import Observations
from parity.api.side import Side
from parity.compare.verdict import Inconclusive, Misuse
from parity.pairs.capabilities import CAPABILITIES
from parity.pairs.parameters import ParameterLink
from parity.pairs.recipe import Pair
from parity.pairs.registry import register
from parity.results import Report, Result

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

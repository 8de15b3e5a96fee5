"""The tape: what an example of a check is given besides its drawn numbers, in the order in which it asks.

Weights, generated observations and recorded segments come from code that may itself change, so a recording keeps them,
and later runs are given the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from parity.agents.interface import EnvironmentDescription
from parity.compare.verdict import Inconclusive
from parity.golden.store import Keep, Kept
from parity.pairs.recipe import Generator, Recording

Named = dict[str, Tensor]


class RecordingTape:
    """Writes down what is asked for."""

    def __init__(self, keep: Keep) -> None:
        self.items: list[list[Any]] = []
        self._keep = keep

    def named(self, kind: str, make: Callable[[], Named]) -> Named:
        """Make named tensors, and keep them."""
        made = make()
        self.items.append([kind, [[name, self._keep.tensor(value)] for name, value in made.items()]])
        return made


class PlayedTape:
    """Gives what was written down, in the same order."""

    def __init__(self, items: list[list[Any]], kept: Kept) -> None:
        self._items, self._kept, self._next = items, kept, 0
        self.last = ""  # tells what was given last from anything else

    def named(self, kind: str, make: Callable[[], Named] | None = None) -> Named:
        """The next tensors.

        Raises:
            Inconclusive: another kind is asked for than was when the recording was made.
        """
        found = self._items[self._next] if self._next < len(self._items) else ["nothing", []]
        self._next += 1
        self.last = repr(found)
        if found[0] != kind:
            raise Inconclusive(
                f"{self._kept.path} holds {found[0]} where the check asks for {kind}: the check itself, or what the "
                "pair offers it, changed since; record again with the old code, or use --against-revision"
            )
        return {name: self._kept.tensor(value).clone() for name, value in found[1]}


Tape = RecordingTape | PlayedTape


class TapedRecording:
    """A recording of observations whose segments go through a tape."""

    def __init__(self, recording: Recording, tape: Callable[[], Tape]) -> None:
        self._recording, self._tape = recording, tape

    @property
    def name(self) -> str:
        """See ``Recording``."""
        return self._recording.name

    @property
    def environment(self) -> EnvironmentDescription:
        """See ``Recording``."""
        return self._recording.environment

    def segment(self, *, batch: int, steps: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Recording``."""

        def make() -> Named:
            parts = self._recording.segment(batch=batch, steps=steps, seed=seed)
            return dict(zip(("env_obs", "dones", "truncateds"), parts, strict=True))

        found = self._tape().named("segment", make)
        return found["env_obs"], found["dones"], found["truncateds"]


def taped(generate: Generator, tape: Callable[[], Tape]) -> Generator:
    """A generator whose observations go through a tape."""

    def generated(environment: EnvironmentDescription, *, rows: int, seed: int, noise: bool = True) -> Tensor:
        def make() -> Named:
            return {"env_obs": generate(environment, rows=rows, seed=seed, noise=noise)}

        return tape().named("generated", make)["env_obs"]

    return generated

"""What every component is: a module with an output shape, built from its settings and its sources' shapes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from parity.agents.component.settings import ComponentSettings
from parity.agents.interface import EnvironmentDescription

#: One row's shape, the leading row axis left out.
Shape = tuple[int, ...]

# What a component passes on. Token components pass several tensors ``[N, S, ...]``; how many tokens S a row has is the
# batch's business, so their ``output_shape`` is the first tensor's with the environment's number of tokens for S.
TENSOR = "one tensor"
TOKENS = "tokens and mask"
ATTRIBUTES = "coordinates, ids, values and mask"
FEATURES = "token features and mask"


@dataclass(frozen=True)
class BuildContext:
    """What a component may know beside its own settings: the environment and the seed of the initial parameters."""

    environment: EnvironmentDescription
    seed: int


@dataclass(frozen=True)
class TrackedWeight:
    """A Linear or Conv2d weight, and what clipping and l2-init regularisation know of it.

    Attributes:
        weight: the parameter.
        initial_weight: the weight that ``l2_init_loss`` pulls towards.
        initial_max: the largest magnitude of the weight at construction, which scales the clipping bound.
        clip_scale: the component's factor to ``clip_range``.
        l2_init_scale: the component's factor in ``l2_init_loss``.
    """

    weight: Tensor
    initial_weight: Tensor
    initial_max: Tensor
    clip_scale: float
    l2_init_scale: float


class Component(nn.Module, ABC):
    """One node of the graph.

    A subclass says as class variables what it takes, and in ``__init__(settings, inputs, context)`` sets
    ``output_shape`` from ``inputs``, its sources' output shapes. ``forward`` takes the sources' tensors by position and
    returns a tensor, or a tuple of tensors if it ``gives`` several; its user takes each of them by position.
    Parameters are drawn in ``__init__`` in float32 on the CPU; the policy then moves and casts the whole module.

    Class variables:
        arity: number of sources; None for one or more.
        takes: what each of its sources must pass on.
        gives: what it passes on.
        reads_tokens: whether ``forward`` takes the observation tokens instead of sources' tensors.
        recurrent: whether ``forward`` takes and returns the recurrent state too.
        option_keys: keys this kind knows beside ``_target_``, ``sources``, ``nn_params`` and upstream's annotations.
        nn_param_keys: keys this kind knows inside ``nn_params``.
        source_keys: keys this kind knows inside one of its sources, beside ``name``.
    """

    arity: ClassVar[int | None] = 1
    takes: ClassVar[str] = TENSOR
    gives: ClassVar[str] = TENSOR
    reads_tokens: ClassVar[bool] = False
    recurrent: ClassVar[bool] = False
    option_keys: ClassVar[frozenset[str]] = frozenset()
    nn_param_keys: ClassVar[frozenset[str]] = frozenset()
    source_keys: ClassVar[frozenset[str]] = frozenset()

    output_shape: Shape

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__()
        self.name = settings.name

    def set_normalizations(self, normalizations: Mapping[int, float]) -> None:
        """Adopt the divisors of the given (stored) feature ids; others keep theirs. Most kinds have no use for them."""

    def tracked_weights(self) -> Iterable[TrackedWeight]:
        """Return the weights that are clipped and pulled towards their initial values. Most kinds have none."""
        return ()

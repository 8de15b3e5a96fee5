"""The component kinds by name. A ``_target_`` is looked up here and never imported from a path.

To add a kind, write its class and name it in ``KINDS``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from parity.agents.component import merge
from parity.agents.component.actor import MettaActorSingleHead
from parity.agents.component.attention import ObsLatentAttn, ObsSelfAttn
from parity.agents.component.base import Component
from parity.agents.component.box import CenterCell, ObservationNormalizer, ObsTokenToBoxShaper
from parity.agents.component.embedding import ActionEmbedding, Embedding
from parity.agents.component.layers import Conv2d, Dropout, Flatten, Identity, LayerNorm, Linear, ReLU
from parity.agents.component.lstm import LSTM
from parity.agents.component.settings import component_error, did_you_mean
from parity.agents.component.tokens import ObsAttrCoordEmbed, ObsAttrEmbedFourier, ObsAttrValNorm, ObsTokenPadStrip

KINDS: Mapping[str, type[Component]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            ActionEmbedding,
            CenterCell,
            Conv2d,
            Dropout,
            Embedding,
            Flatten,
            Identity,
            LayerNorm,
            Linear,
            LSTM,
            MettaActorSingleHead,
            ObsAttrCoordEmbed,
            ObsAttrEmbedFourier,
            ObsAttrValNorm,
            ObservationNormalizer,
            ObsLatentAttn,
            ObsSelfAttn,
            ObsTokenPadStrip,
            ObsTokenToBoxShaper,
            ReLU,
        )
    }
    | {
        name: kind
        for kind in (merge.Add, merge.Concat, merge.Mean, merge.Subtract)
        for name in (kind.__name__, f"{kind.__name__}MergeLayer")  # the second is upstream's class name
    }
)

#: Classes of upstream's component library. A YAML naming one that is not in ``KINDS`` is told so, not called unknown.
UPSTREAM_KINDS = frozenset[str]().union(
    {"ActionHash", "MettaActorBig", "MettaActorBigModular"},
    {"ObsAttrCoordValueEmbed", "ObsCrossAttn", "ObsShaper", "ObsVanillaAttn"},
    {"BatchReshapeLayer", "CenterPixelLayer", "ExpandLayer", "ReshapeLayer"},
    {"AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "MaxPool1d", "MaxPool2d"},
    {"AlphaDropout", "BatchNorm1d", "BatchNorm2d", "Bilinear", "Conv1d", "Dropout2d"},
    {"DynamicsModel", "ResNetMLP"},
)

_UPSTREAM_PATH = re.compile(r"metta\.agent\.lib\.\w+\.(?P<kind>\w+)")


def lookup(target: object, component: str, file: str) -> type[Component]:
    """Return the kind that ``_target_`` names: a bare name, or upstream's ``metta.agent.lib.<module>.<Class>``.

    Raises:
        ConfigError: the kind is upstream's but not in this library, or is unknown.
    """
    if not isinstance(target, str):
        raise component_error(
            file, component, f"_target_ is {target!r}; give the name of a component kind, for instance Linear"
        )
    path = _UPSTREAM_PATH.fullmatch(target)
    name = path["kind"] if path else target
    if name in KINDS:
        return KINDS[name]
    if name in UPSTREAM_KINDS:
        raise component_error(
            file,
            component,
            f"_target_ {target!r} is known upstream but not in this library, which has {', '.join(sorted(KINDS))}",
        )
    raise component_error(
        file,
        component,
        f"unknown _target_ {target!r}; {did_you_mean(name.rpartition('.')[2], KINDS)} (kinds are looked up by name, "
        "never imported from a path)",
    )

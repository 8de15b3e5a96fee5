"""The components of a YAML as a checked graph: every name exists, nothing is circular, every role is filled."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from parity.agents.component.actor import MettaActorSingleHead
from parity.agents.component.base import TENSOR, BuildContext, Component
from parity.agents.component.embedding import ActionEmbedding
from parity.agents.component.lstm import LSTM
from parity.agents.component.registry import KINDS, lookup
from parity.agents.component.settings import ComponentSettings, component_error, did_you_mean, read_settings
from parity.agents.errors import ConfigError

OBS, CORE, ACTION_EMBEDS, ACTION, VALUE = "_obs_", "_core_", "_action_embeds_", "_action_", "_value_"
REQUIRED = (OBS, CORE, ACTION_EMBEDS, ACTION, VALUE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Node:
    """One component before it is built: its kind and its settings."""

    kind: type[Component]
    settings: ComponentSettings

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the components it takes its inputs from."""
        return tuple(source.name for source in self.settings.sources)


def read_graph(components: Mapping[str, Mapping[str, Any]], source: str) -> dict[str, Node]:
    """Check a YAML's ``components`` and return them in its order.

    Args:
        components: component name -> raw mapping.
        source: the file they come from, for messages; empty when built in code.

    Raises:
        ConfigError: a required component is missing, a key, target or source is unknown, sources form a cycle, or a
            component in a role (``_core_``, ...) is of a kind that cannot play it.
    """
    file = source or "components"
    missing = [name for name in REQUIRED if name not in components]
    if missing:
        raise ConfigError(
            f"{file}: required component(s) {', '.join(map(repr, missing))} missing; every agent needs "
            f"{', '.join(REQUIRED)}"
        )
    nodes = {name: _read_node(name, raw, file) for name, raw in components.items()}
    for name, node in nodes.items():
        for wanted in node.sources:
            if wanted not in nodes:
                raise component_error(file, name, f"source {wanted!r} does not exist; {did_you_mean(wanted, nodes)}")
    execution_order(nodes, tuple(nodes), file)  # every component, so that no cycle hides in an unused corner
    _check_roles(nodes, file)
    for node in nodes.values():
        _check_links(node, nodes)
    unused = sorted(set(nodes) - set(execution_order(nodes, (ACTION, VALUE), file)))
    if unused:
        logger.warning("%s: component(s) %s feed neither %s nor %s and never run", file, unused, ACTION, VALUE)
    return nodes


def execution_order(nodes: Mapping[str, Node], outputs: tuple[str, ...], file: str) -> list[str]:
    """Return ``outputs`` and all they depend on, sources before users.

    Raises:
        ConfigError: sources form a cycle; the message shows its path.
    """
    order: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in path:
            cycle = " -> ".join([*path[path.index(name) :], name])
            raise component_error(file, name, f"sources form a cycle: {cycle}; take one of these sources away")
        path.append(name)
        for source in nodes[name].sources:
            visit(source)
        path.pop()
        order.append(name)

    for name in outputs:
        visit(name)
    return order


def build(nodes: Mapping[str, Node], context: BuildContext, file: str) -> nn.ModuleDict:
    """Build every component, in the graph's order, and return them under their names in the YAML's order.

    Raises:
        ConfigError: a component's settings do not fit the shapes it is given.
    """
    built: dict[str, Component] = {}
    for name in execution_order(nodes, tuple(nodes), file):
        node = nodes[name]
        inputs = tuple(built[source].output_shape for source in node.sources)
        built[name] = node.kind(node.settings, inputs, context)
    shape = built[VALUE].output_shape
    if shape != (1,):
        raise component_error(file, VALUE, f"gives {list(shape)} per row; a value is one number, so out_features is 1")
    return nn.ModuleDict({name: built[name] for name in nodes})


def _read_node(name: str, raw: Any, file: str) -> Node:
    if not isinstance(raw, Mapping):
        raise component_error(file, name, f"is {raw!r}; give a mapping with _target_ and sources")
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict(), name):
        raise component_error(file, name, "this name cannot be a module's; choose one without dots, such as 'fc_1'")
    if "_target_" not in raw:
        raise component_error(file, name, "has no _target_; give the name of a component kind, for instance Linear")
    kind = lookup(raw["_target_"], name, file)
    settings = read_settings(
        name, raw, file, options=kind.option_keys, nn_params=kind.nn_param_keys, source_options=kind.source_keys
    )
    count = len(settings.sources)
    if count != kind.arity and not (kind.arity is None and count):
        wanted = "at least one source" if kind.arity is None else f"{kind.arity} source(s)"
        raise settings.error(f"{kind.__name__} takes {wanted}, but sources names {count}")
    return Node(kind, settings)


def _check_roles(nodes: Mapping[str, Node], file: str) -> None:
    for name, kind in ((CORE, LSTM), (ACTION_EMBEDS, ActionEmbedding), (ACTION, MettaActorSingleHead)):
        if not issubclass(nodes[name].kind, kind):
            raise component_error(
                file, name, f"is of kind {nodes[name].kind.__name__}; this component must be a {kind.__name__}"
            )
    if not nodes[OBS].kind.reads_tokens:
        raise component_error(
            file,
            OBS,
            f"is of kind {nodes[OBS].kind.__name__}, which reads no tokens; use ObsTokenToBoxShaper or "
            "ObsTokenPadStrip",
        )
    for name, node in nodes.items():
        if node.kind.recurrent and name != CORE:
            raise component_error(file, name, f"is a second recurrent core; only {CORE} may be one")
        if issubclass(node.kind, ActionEmbedding) and name != ACTION_EMBEDS:
            raise component_error(file, name, f"is a second action table; only {ACTION_EMBEDS} may be one")
        if ACTION in node.sources or (ACTION_EMBEDS in node.sources and name != ACTION):
            raise component_error(file, name, f"takes {ACTION} or {ACTION_EMBEDS}, whose rows are no batch rows")
    hidden, embeddings = nodes[ACTION].sources
    if hidden == ACTION_EMBEDS or embeddings != ACTION_EMBEDS:
        raise component_error(
            file, ACTION, f"its sources are {hidden}, {embeddings}; give hidden rows, then {ACTION_EMBEDS}"
        )


def _check_links(node: Node, nodes: Mapping[str, Node]) -> None:
    """Check that what each source gives is what the component takes."""
    for source in node.sources:
        given, wanted = nodes[source].kind.gives, node.kind.takes
        if given == wanted:
            continue
        if wanted == TENSOR:
            fitting, remedy = _names(kind for kind in KINDS.values() if kind.takes == given), "only these take that"
        else:
            fitting, remedy = _names(kind for kind in KINDS.values() if kind.gives == wanted), "name a source of kind"
        raise node.settings.error(
            f"{node.kind.__name__} takes {wanted}, but source {source!r} ({nodes[source].kind.__name__}) gives "
            f"{given}; {remedy}: {fitting}"
        )


def _names(kinds: Iterable[type[Component]]) -> str:
    return ", ".join(sorted({kind.__name__ for kind in kinds}))

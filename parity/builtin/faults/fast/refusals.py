"""Faults of refusing: what is wrong in a YAML is built all the same, or refused without saying where.

And a refusal that comes too late, after half of what it refuses was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from parity.agents.component import graph as component_graph
from parity.agents.component.settings import ComponentSettings
from parity.agents.errors import ConfigError
from parity.agents.pytorch import graph, pytorch_agent_mixin
from parity.agents.pytorch.graph import KINDS, Component, Node
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.checks.damaged_configs import ADDED
from parity.faults.plant import Patcher

ORIGIN = "spec: a candidate refuses a graph that is not its own, and names file, component and remedy"

_caught_at_once = partial(CATALOGUE.fault, check="configuration", phase="build", origin=ORIGIN)

Settings = Mapping[str, Any]


def _reading(patcher: Patcher, change: Callable[[Settings, Node], Settings]) -> None:
    """Change a component's mapping before the candidate reads it."""

    def make(read: Callable[..., Component]) -> Callable[..., Component]:
        def changed(name: str, settings: Settings, node: Node, where: str) -> Component:
            return read(name, change(settings, node), node, where)

        return changed

    patcher.wrap(graph, "_read_component", make)


@_caught_at_once(component="_obs_")
def unknown_keys_passed_over(patcher: Patcher) -> None:
    """A key that no kind knows, perhaps one misspelt, is not read and not refused."""
    _reading(patcher, lambda settings, node: {key: v for key, v in settings.items() if key in KINDS[node.kind].keys})


@_caught_at_once(component="_obs_")
def sources_taken_for_granted(patcher: Patcher) -> None:
    """The YAML may wire its graph as it likes: the candidate is built as ever."""
    _reading(patcher, lambda settings, node: {**settings, "sources": [{"name": name} for name in node.sources]})


@_caught_at_once(component="cnn1")
def sizes_read_from_text(patcher: Patcher) -> None:
    """A size given as text is turned into a number."""
    patcher.wrap(
        graph,
        "_size",
        lambda read: lambda value, key, where: read(int(value) if isinstance(value, str) else value, key, where),
    )


@_caught_at_once(component="cnn1")
def negative_scales_accepted(patcher: Patcher) -> None:
    """A scale below 0 is taken as it is."""
    patcher.wrap(
        graph,
        "_number",
        lambda read: (
            lambda settings, key, default, where: (
                settings[key] if settings.get(key) == -1.0 else read(settings, key, default, where)
            )
        ),
    )


@_caught_at_once(component=ADDED)
def further_components_passed_over(patcher: Patcher) -> None:
    """Components that the candidate does not have are left unbuilt."""
    patcher.wrap(
        pytorch_agent_mixin,
        "read_graph",
        lambda read: (
            lambda components, nodes, **about: read(
                {name: settings for name, settings in components.items() if name in nodes}, nodes, **about
            )
        ),
    )


@_caught_at_once(component="_obs_")
def refused_without_saying_where(patcher: Patcher) -> None:
    """The message names neither file nor component."""

    def make(read: Callable[..., Any]) -> Callable[..., Any]:
        def mumble(*args: Any, **kwargs: Any) -> Any:
            try:
                return read(*args, **kwargs)
            except ConfigError as error:
                raise ConfigError("a component is wrong; see the documentation") from error

        return mumble

    patcher.wrap(pytorch_agent_mixin, "read_graph", make)


@_caught_at_once(component="_obs_", place="reference")
def reference_passes_over_unknown_keys(patcher: Patcher) -> None:
    """It is the graph of components that reads what it knows and leaves the rest."""

    def make(read: Callable[..., ComponentSettings]) -> Callable[..., ComponentSettings]:
        def tolerant(name: str, raw: Settings, file: str, **known: Any) -> ComponentSettings:
            try:
                return read(name, raw, file, **known)
            except ConfigError:
                kept = {key: value for key, value in raw.items() if "nobody" not in key}
                return read(name, kept, file, **known)

        return tolerant

    patcher.wrap(component_graph, "read_settings", make)


@CATALOGUE.fault(
    origin="a mutant of the candidate that no check saw",
    check="actions",
    component="what the policy does after all of these",
    phase="build",
)
def actions_half_activated_on_error(patcher: Patcher) -> None:
    """An action space without enough rows is refused when what its logits stand for is already in force."""

    def activate_actions(self: PyTorchAgentMixin, action_names: Sequence[str], max_action_args: Sequence[int]) -> None:
        full_names = self.action_table.full_names(action_names, max_action_args)
        self.action_table.activate(max_action_args)
        self.action_embeds.activate(full_names)

    patcher.attribute(PyTorchAgentMixin, "activate_actions", activate_actions)


@CATALOGUE.control(why="the same is refused, by the same type of error, in other words")
def configuration_refused_in_other_words(patcher: Patcher) -> None:
    """Messages are for people; only the component's name must be in them."""

    def make(read: Callable[..., Any]) -> Callable[..., Any]:
        def reword(*args: Any, **kwargs: Any) -> Any:
            try:
                return read(*args, **kwargs)
            except ConfigError as error:
                raise ConfigError(f"Not this agent's: {error}") from error

        return reword

    patcher.wrap(pytorch_agent_mixin, "read_graph", make)

"""Errors that an agent raises on bad input; each message names the offending value, its place and the remedy."""

from __future__ import annotations


class AgentError(Exception):
    """Base of every error an agent raises on purpose."""


class ConfigError(AgentError, ValueError):
    """A YAML, a config key or a constructor argument is wrong; the message names file, component and key."""


class ObservationError(AgentError, ValueError):
    """An observation or TensorDict does not match the environment description or the TensorDict contract."""


class ActionError(AgentError, ValueError):
    """An action, a logit index or an action space is illegal; the message names it."""


class MemoryStateError(AgentError, ValueError):
    """A stored or supplied recurrent state does not fit the batch or the network."""


class IgnoredTokensWarning(UserWarning):
    """Raised once per policy, when it first ignores a token outside the box or with an unknown feature id."""

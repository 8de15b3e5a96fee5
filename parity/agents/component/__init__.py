"""The reference implementation: a graph of components read from YAML, run literally.

``policy.py`` is the way in. ``settings.py`` and ``graph.py`` read and check the YAML; ``registry.py`` lists the
component kinds, each a class in a module of its subject; ``features.py``, ``actions.py``, ``memory.py``, ``weights.py``
and ``fields.py`` hold what the policy does around the graph.
"""

from parity.agents.component.policy import ComponentPolicy

__all__ = ["ComponentPolicy"]

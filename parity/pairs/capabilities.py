"""What a policy can do: the names that pairs declare and checks need. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capability:
    """One capability.

    Args:
        about: what a policy that has it can do.
        usual: whether a described pair has it unless it says otherwise.
        offered: whether a described pair can have it at all.
    """

    about: str
    usual: bool = False
    offered: bool = True


def _usual(about: str) -> Capability:
    return Capability(about, usual=True)


def _full(about: str) -> Capability:
    return Capability(about, offered=False)


CAPABILITIES: dict[str, Capability] = {
    "gradients": _usual("its outputs can be differentiated by its parameters"),
    "initial_law": _usual("both sides draw each initial weight by the same law (spread, gain, constant)"),
    "optimizer": _usual("an optimizer trains its parameters"),
    "save": _usual("its state_dict and its deep copy hold all that it computes with"),
    "compile": _usual("torch.compile takes it"),
    "throughput": Capability("the candidate is meant to be no slower and no larger than the reference"),
    "initial_bits": Capability("both sides draw the same initial weights from the same seed, to the bit"),
    "independent_rows": Capability("a row's result does not depend on the other rows of its batch, or its place there"),
    "memory": Capability("it is recurrent; declared by Side(initial_state=...)"),
    "sequences": Capability("it takes [batch, time] at once; declared by Side(sequence=...)"),
    "resets": Capability("it is told where episodes begin; declared by a parameter named reset, or Side(reset=...)"),
    "clipping": Capability("it clips its weights; declared by Side(clip=...)"),
    "configuration": _full("keys of its YAML reach it as attributes"),
    "component_graph": _full("its YAML is a graph of components, which it refuses where that is wrong"),
    "environments": _full("it is built for any environment: box, tokens, features, actions"),
    "fields": _full("it keeps the TensorDict contract, field by field, and refuses misuse"),
    "tokens": _full("its observations are rows of tokens, in any order, padded"),
    "action_table": _full("it converts between (type, argument) and logit index"),
    "features": _full("it remaps feature ids by name"),
    "box_observations": _full("its component obs_normalizer gives a box"),
    "token_observations": _full("its component obs_normalizer gives tokens"),
    "keyed_init": _full("initial weights do not depend on the order of construction"),
    "memory_slices": _full("it stores a state per environment slice itself"),
    "weight_metrics": _full("it computes weight metrics"),
    "training": _full("a training loop comes with the pair"),
}

#: What a described pair has unless it says otherwise.
USUAL = frozenset(name for name, capability in CAPABILITIES.items() if capability.usual)

"""The one computation that reference and candidate share: the key that seeds each parameter's own generator.

Construction order, thread count and dtype must not change initial bits, so no parameter is drawn from the global
generator. How a parameter is drawn from its generator is each side's own business and stays under test.
"""

from __future__ import annotations

import hashlib

import torch


def parameter_generator(seed: int, component: str, role: str) -> torch.Generator:
    """Return a fresh CPU generator for one parameter.

    Args:
        seed: the run's seed, any Python int.
        component: the *reference* component name, for instance ``"cnn1"`` or ``"_core_"``.
        role: the parameter's name inside its component: ``"weight"``, ``"bias"``, ``"weight_ih_l0"``, ``"W"``.

    The key is the first 8 bytes of SHA-256 over ``seed``, ``component`` and ``role``, so that it is the same on every
    platform and independent of ``PYTHONHASHSEED``.
    """
    digest = hashlib.sha256(f"{seed}\x1f{component}\x1f{role}".encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)

"""The parameter map that a pair is judged by where it declares none, or a part.

Partners are told by equal initial bits, by names, and by shapes that occur once. Equal bits may be chance: sides that
draw from one stream in another order hold them in parameters that do not belong together. So a map under which the
sides do not agree on other weights is doubted, and others are tried: names first, and then what each parameter does to
the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from torch import nn

from parity.compare.verdict import Inconclusive
from parity.pairs.inference import infer
from parity.pairs.parameters import Hint, ParameterLink, inferred_map
from parity.pairs.recipe import Pair
from parity.pairs.responses import AGREE, BothSides, Build

_ORDERS: tuple[Sequence[Hint], ...] = (("value", "name", "shape"), ("name", "value", "shape"))
_NAMELESS: tuple[Sequence[Hint], ...] = (("value", "shape"),)

Links = tuple[ParameterLink, ...]


def telling_links(pair: Pair, build: Build, reference: nn.Module, candidate: nn.Module) -> Links:
    """Links of the first map under which the sides agree, or else of the one that brings them nearest.

    Args:
        pair: the pair.
        build: builds a side once more, where the first map is not one of equal names.
        reference: one side as it is built.
        candidate: the other.

    Raises:
        Inconclusive: as ``inferred_map`` does.
    """
    declared = tuple(pair.parameters or ())
    first, *others = _ORDERS if pair.infer_rest else _NAMELESS
    links = inferred_map(reference, candidate, declared, hints=first).links
    if all(link.reference == link.candidate for link in links):
        return links
    tried = [links]
    for hints in others:
        with suppress(Inconclusive):
            tried.append(inferred_map(reference, candidate, declared, hints=hints).links)
    nearest, least = links, math.inf
    with suppress(Exception):  # of a side that does not run: it is named when it is judged
        sides = BothSides(pair, build)
        for attempt in dict.fromkeys(tried):
            nearest, least = min((nearest, least), (attempt, _apart(sides, attempt)), key=lambda found: found[1])
            if least < AGREE:
                return nearest
        told = infer(sides.values("reference"), sides.values("candidate"), sides.respond, by_values=False)
        attempt = tuple(found.link for found in told.links)
        if not any(told.left.values()) and set(declared) <= set(attempt):
            nearest, least = min((nearest, least), (attempt, _apart(sides, attempt)), key=lambda found: found[1])
    return nearest


def _apart(sides: BothSides, links: Links) -> float:
    apart = sides.apart(sides.checked(links))
    return math.inf if apart is None or math.isnan(apart) else apart

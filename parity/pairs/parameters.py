"""The parameter map: which region of a candidate parameter holds which region of a reference parameter.

A link is one to one between two regions of equal size, up to a permutation of axes and a reshape, so it is invertible.
A fused candidate parameter takes several links, one per slice; a fused reference parameter likewise. The map refuses
anything it does not cover exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from parity.compare.bounds import same_bits
from parity.compare.verdict import Inconclusive, Misuse

Region = tuple[tuple[int, int | None], ...]
"""(start, stop) per leading axis; missing axes are whole."""


@dataclass(frozen=True)
class ParameterLink:
    """``candidate[candidate_region] = reference[reference_region].permute(permute).reshape(...)``."""

    reference: str
    candidate: str
    reference_region: Region = ()
    candidate_region: Region = ()
    permute: tuple[int, ...] | None = None


def slices(region: Region) -> tuple[slice, ...]:
    """A region as an index."""
    return tuple(slice(start, stop) for start, stop in region)


@dataclass(frozen=True)
class ParameterMap:
    """Links that cover every parameter of both sides exactly once; made by ``declared_map`` or ``inferred_map``."""

    links: tuple[ParameterLink, ...]

    def to_candidate(self, reference: Mapping[str, Tensor], candidate: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Lay reference-shaped values out in the candidate's shapes (``candidate`` gives names and shapes)."""
        out = {name: torch.empty_like(value) for name, value in candidate.items()}
        for link in self.links:
            value = reference[link.reference][slices(link.reference_region)]
            region = out[link.candidate][slices(link.candidate_region)]
            region.copy_((value.permute(link.permute) if link.permute else value).reshape(region.shape))
        return out

    def to_reference(self, candidate: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse: lay candidate values (weights or gradients) out in the reference's names and shapes.

        dtype and device stay the candidate's, so that a wrong one is not hidden.
        """
        out: dict[str, Tensor] = {}
        for link in self.links:
            source = candidate[link.candidate]
            target = out.setdefault(
                link.reference, torch.empty(reference[link.reference].shape, dtype=source.dtype, device=source.device)
            )
            region = target[slices(link.reference_region)]
            view = region.permute(link.permute) if link.permute else region
            view.copy_(source[slices(link.candidate_region)].reshape(view.shape))
        return out

    def candidate_names(self, reference_name: str) -> tuple[str, ...]:
        """Candidate parameters that hold parts of one reference parameter."""
        return tuple(link.candidate for link in self.links if link.reference == reference_name)


def declared_map(links: Iterable[ParameterLink], reference: nn.Module, candidate: nn.Module) -> ParameterMap:
    """Check declared links against both modules.

    Raises:
        Inconclusive: a parameter is unmapped or mapped twice, or a link names one that does not exist or two regions
            of unequal size; the message names it.
    """
    links = tuple(links)
    for side, masks in _covered(links, reference, candidate).items():
        for name, mask in masks.items():
            if bool((mask == 0).any()):
                raise Inconclusive(
                    f"unmapped {side} parameter {name!r} ({int((mask == 0).sum())} of {mask.numel()} elements); add a "
                    "ParameterLink for it, or remove the parameter"
                )
    return ParameterMap(links)


def _covered(
    links: tuple[ParameterLink, ...], reference: nn.Module, candidate: nn.Module
) -> dict[str, dict[str, Tensor]]:
    """Side -> name -> 1 where a link covers an element.

    Raises:
        Inconclusive: an element is mapped twice, or a link names a parameter that does not exist or two regions of
            unequal size; the message names it.
    """
    mine, theirs = dict(reference.named_parameters()), dict(candidate.named_parameters())
    covered: dict[str, dict[str, Tensor]] = {
        "reference": {name: torch.zeros(value.shape, dtype=torch.uint8) for name, value in mine.items()},
        "candidate": {name: torch.zeros(value.shape, dtype=torch.uint8) for name, value in theirs.items()},
    }
    for link in links:
        sizes = []
        for side, name, region in (
            ("reference", link.reference, link.reference_region),
            ("candidate", link.candidate, link.candidate_region),
        ):
            if name not in covered[side]:
                raise Inconclusive(
                    f"the parameter map links {side} parameter {name!r}, which does not exist there; it has "
                    f"{', '.join(sorted(covered[side])[:8])}, ..."
                )
            view = covered[side][name][slices(region)]
            view += 1
            if bool((view > 1).any()):
                raise Inconclusive(f"{side} parameter {name!r} is mapped more than once; keep one link per element")
            sizes.append(view.numel())
        if sizes[0] != sizes[1]:
            raise Inconclusive(
                f"the parameter map links {link.reference!r} ({sizes[0]} elements) to {link.candidate!r} "
                f"({sizes[1]} elements); a link must join regions of equal size"
            )
    return covered


Hint = Literal["value", "name", "shape"]
"""Why parameters of one shape belong together: equal initial bits, the same name, or no other has that shape."""


def inferred_map(
    reference: nn.Module,
    candidate: nn.Module,
    declared: Iterable[ParameterLink] = (),
    *,
    hints: Sequence[Hint] = ("value", "shape"),
) -> ParameterMap:
    """Infer one-to-one links between freshly built sides.

    Args:
        reference: one side.
        candidate: the other.
        declared: links that are given; what they name is left to them.
        hints: what is asked, in this order.

    Raises:
        Inconclusive: a parameter finds no partner, or several fit, or a declared link is wrong; the message names it
            and the candidates.
    """
    links = list(declared)
    _covered(tuple(links), reference, candidate)  # or else a slip in what is declared would pass as a wish to infer
    mine, theirs = (
        {name: value for name, value in module.named_parameters() if name not in {getattr(k, side) for k in links}}
        for side, module in (("reference", reference), ("candidate", candidate))
    )
    for hint in hints:
        for name, value in list(mine.items()):
            fits = [other for other, weight in theirs.items() if weight.shape == value.shape]
            if hint == "value":
                fits = [fit for fit in fits if same_bits(theirs[fit].detach(), value.detach()) and _varies(value)]
            elif hint == "name":
                fits = [fit for fit in fits if fit == name]
            elif len(fits) > 1:
                fits = _by_neighbour(name, fits, links)
            if len(fits) == 1:
                links.append(ParameterLink(name, fits[0]))
                del mine[name], theirs[fits[0]]
    if mine or theirs:
        side, names = ("reference", mine) if mine else ("candidate", theirs)
        name = next(iter(names))
        partners = [other for other, weight in theirs.items() if weight.shape == names[name].shape]
        fits = f"several fit ({', '.join(partners)})" if len(partners) > 1 else "none fits"
        raise Inconclusive(
            f"unmapped {side} parameter {name!r} {tuple(names[name].shape)}: {fits}; declare the parameter map: "
            "`python -m parity map` prints what it can tell, parity.fused links a fused parameter"
        )
    return declared_map(links, reference, candidate)


def _varies(value: Tensor) -> bool:
    """Constant parameters (zero biases) look alike and identify nothing."""
    return bool((value != value.flatten()[0]).any())


def _by_neighbour(name: str, fits: list[str], links: list[ParameterLink]) -> list[str]:
    """Among several of one shape, take those whose module already holds a sibling's partner and share the last name."""
    parent, _, last = name.rpartition(".")
    homes = {link.candidate.rpartition(".")[0] for link in links if link.reference.rpartition(".")[0] == parent}
    return [fit for fit in fits if fit.rpartition(".")[0] in homes and fit.rpartition(".")[2] == last]


def load_reference_weights(
    values: Mapping[str, Tensor], reference: nn.Module, candidate: nn.Module, parameters: ParameterMap
) -> None:
    """Copy reference-named weights into both sides, cast to each parameter's dtype.

    Raises:
        Misuse: a value is missing, or holds NaN or Inf; the message names the parameter.
    """
    mine, theirs = dict(reference.named_parameters()), dict(candidate.named_parameters())
    for name in mine:
        if name not in values:
            raise Misuse(f"the weight source has no value for reference parameter {name!r}")
        bad = int((~torch.isfinite(values[name])).sum())
        if bad:
            raise Misuse(
                f"weights of {name!r}: {bad} of {values[name].numel()} elements are NaN or Inf; nothing can be judged "
                "on them, so mend the weight source"
            )
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(values[name])
        for name, value in parameters.to_candidate(mine, theirs).items():
            theirs[name].copy_(value)

import pytest
import torch
from torch import nn

from parity.compare.verdict import Inconclusive, Misuse
from parity.pairs.parameters import ParameterLink, declared_map, inferred_map, load_reference_weights


def two(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.ModuleDict({"q": nn.Linear(3, 4), "k": nn.Linear(3, 4), "out": nn.Linear(8, 2)})


class Fused(nn.Module):
    """q and k in one matrix, stored transposed; out as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.qk = nn.Parameter(torch.zeros(3, 8))
        self.qk_bias = nn.Parameter(torch.zeros(8))
        self.out = nn.Linear(8, 2)


FUSED = (
    ParameterLink("q.weight", "qk", candidate_region=((0, None), (0, 4)), permute=(1, 0)),
    ParameterLink("k.weight", "qk", candidate_region=((0, None), (4, 8)), permute=(1, 0)),
    ParameterLink("q.bias", "qk_bias", candidate_region=((0, 4),)),
    ParameterLink("k.bias", "qk_bias", candidate_region=((4, 8),)),
    ParameterLink("out.weight", "out.weight"),
    ParameterLink("out.bias", "out.bias"),
)


def test_a_fused_and_transposed_parameter_maps_there_and_back():
    reference, candidate = two(), Fused()
    links = declared_map(FUSED, reference, candidate)
    weights = {name: value.detach().clone() for name, value in reference.named_parameters()}
    load_reference_weights(weights, reference, candidate, links)
    x = torch.randn(5, 3)
    expected = torch.cat([reference.get_submodule("q")(x), reference.get_submodule("k")(x)], 1)
    assert torch.allclose(x @ candidate.qk + candidate.qk_bias, expected, atol=1e-6)
    back = links.to_reference(dict(candidate.named_parameters()), weights)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    assert links.candidate_names("k.weight") == ("qk",)


@pytest.mark.parametrize(
    ("links", "message"),
    [
        (FUSED[1:], r"unmapped reference parameter 'q.weight' \(12 of 12 elements\); add a ParameterLink"),
        (FUSED[:4] + FUSED[5:], r"unmapped reference parameter 'out.weight'"),
        ((*FUSED, FUSED[-1]), r"'out.bias' is mapped more than once"),
        ((*FUSED[:-1], ParameterLink("out.bias", "bias")), r"candidate parameter 'bias', which does not exist there"),
        (
            (*FUSED[:-1], ParameterLink("out.bias", "out.bias", candidate_region=((0, 1),))),
            r"\(2 elements\) to 'out.bias' \(1 elements\)",
        ),
    ],
)
def test_whatever_is_not_covered_exactly_once_is_refused(links, message):
    with pytest.raises(Inconclusive, match=message):
        declared_map(links, two(), Fused())


def test_inference_finds_equal_bits_whatever_the_names():
    reference = two()
    torch.manual_seed(0)
    other = nn.ModuleDict({"b": nn.Linear(3, 4), "a": nn.Linear(3, 4), "head": nn.Linear(8, 2)})
    links = {link.reference: link.candidate for link in inferred_map(reference, other).links}
    assert links["q.weight"] == "b.weight"
    assert links["k.bias"] == "a.bias"
    assert links["out.weight"] == "head.weight"


def test_inference_uses_shapes_that_occur_once_and_zero_biases_follow_their_weights():
    reference, candidate = two(0), two(1)
    for net in (reference, candidate):
        for name, value in net.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(value)
    with pytest.raises(Inconclusive, match=r"unmapped reference parameter 'q.weight' \(4, 3\): several fit"):
        inferred_map(reference, candidate)
    same = two(0)
    for name, value in same.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(value)
    links = {link.reference: link.candidate for link in inferred_map(reference, same).links}
    assert links["k.bias"] == "k.bias"


def test_an_extra_candidate_parameter_is_refused():
    candidate = two()
    candidate.register_parameter("extra", nn.Parameter(torch.ones(7)))
    with pytest.raises(Inconclusive, match=r"unmapped candidate parameter 'extra' \(7,\): none fits"):
        inferred_map(two(), candidate)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bad):
    reference, candidate = two(), two()
    values = {name: value.detach().clone() for name, value in reference.named_parameters()}
    values["k.bias"][1] = bad
    before = {name: value.detach().clone() for name, value in reference.named_parameters()}
    with pytest.raises(Misuse, match=r"weights of 'k.bias': 1 of 4 elements are NaN or Inf.*mend the weight source"):
        load_reference_weights(values, reference, candidate, inferred_map(reference, candidate))
    assert all(torch.equal(before[name], value) for name, value in reference.named_parameters())


def test_a_missing_weight_is_refused_by_name():
    reference, candidate = two(), two()
    with pytest.raises(Misuse, match=r"no value for reference parameter 'q\.weight'"):
        load_reference_weights({}, reference, candidate, inferred_map(reference, candidate))

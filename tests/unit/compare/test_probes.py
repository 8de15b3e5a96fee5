import pytest
import torch
from torch import nn

from parity.compare.blame import ComponentPair, blame_forward
from parity.compare.probes import Probes, pull_back
from parity.compare.trace import Trace
from parity.compare.verdict import Divergence, Misuse


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_outputs_are_recorded_in_order_of_execution():
    trace, net = Trace(), model()
    with Probes(net, {"last": "2", "first": "0"}, trace):
        net(torch.ones(5, 3))
    assert [place.component for place, _ in trace] == ["first", "last"]


def test_probing_leaves_bits_and_gradients_alone():
    net, x = model(), torch.randn(5, 3)
    bare = net(x)
    bare.sum().backward()
    expected = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    with Probes(net, {"a": "0", "b": "2"}, Trace()):
        probed = net(x)
    probed.sum().backward()
    assert torch.equal(bare, probed)
    assert all(torch.equal(a, p.grad) for a, p in zip(expected, net.parameters(), strict=True) if p.grad is not None)


def test_gradients_at_outputs_are_recorded():
    trace, net = Trace(), model()
    with Probes(net, {"last": "2"}, trace) as probes:
        net(torch.ones(5, 3)).sum().backward()
        probes.record_gradients("last")
    (_, output), (place, gradient) = list(trace)
    assert place.key == "gradient of output"
    assert torch.equal(gradient.value, torch.ones(5, 2))
    assert output.from_probe


def test_writing_in_place_afterwards_is_noticed():
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x).add_(1.0)

    net, x = InPlace(), torch.ones(2, 3)
    expected = net.first(x).detach()
    for copy in (False, True):
        trace = Trace()
        with Probes(net, {"first": "first"}, trace, copy=copy) as probes, torch.no_grad():
            net(x)
        assert probes.stale is not copy
    kept = next(iter(trace))[1].value
    assert torch.equal(kept, expected)


def test_a_path_that_does_not_exist_is_misuse():
    with pytest.raises(Misuse, match=r"component 'x' is linked to 'nowhere'.*correct the pair's component links"):
        Probes(model(), {"x": "nowhere"}, Trace())


def test_the_component_that_raises_is_known():
    net = model()
    with Probes(net, {"first": "0", "last": "2"}, Trace()) as probes, pytest.raises(RuntimeError):
        net(torch.ones(5, 7))
    assert probes.active == ["first"]


def test_pull_back_is_the_vector_jacobian_product():
    layer = nn.Linear(3, 2)
    inputs, parameters = pull_back(layer, (torch.ones(4, 3),), {0: torch.ones(4, 2)})
    assert torch.allclose(inputs[0], layer.weight.sum(0).expand(4, 3))
    assert torch.allclose(parameters["bias"], torch.full((2,), 4.0))


def run(net: nn.Module, x: torch.Tensor) -> Probes:
    with Probes(net, {"first": "0", "last": "2"}, Trace()) as probes:
        net(x)
    return probes


@pytest.mark.parametrize("fault", ["component", "input"])
def test_blame_tells_a_wrong_component_from_a_wrong_input(fault):
    reference, candidate = model(), model()
    x = torch.randn(5, 3)
    if fault == "component":
        with torch.no_grad():
            candidate.get_submodule("2").get_parameter("weight").mul_(2)
        given = x
    else:
        given = x + 1
    mine, theirs = run(reference, x), run(candidate, given)
    pairs = {
        name: ComponentPair(name, reference.get_submodule(path), candidate.get_submodule(path), f"net.{path}")
        for name, path in (("first", "0"), ("last", "2"))
    }
    name = "last" if fault == "component" else "first"
    found = blame_forward(
        Divergence(kind="value", phase="forward", component=name, key="output"), pairs, mine.calls, theirs.calls
    )
    assert found.at == ("output" if fault == "component" else "input")
    assert found.candidate_component == ("net.2" if fault == "component" else "net.0")

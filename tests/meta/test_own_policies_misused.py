"""Bad use of the public interface, kind by kind: met by name, with the remedy, and never with a verdict that passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stranger import Good, judged, pair, variant
from torch import Tensor, nn

import parity
from parity.compare.verdict import Verdict
from parity.pairs import importing

SHARED = Good()


def raises() -> nn.Module:
    raise FileNotFoundError("weights.bin")


def returns_nothing() -> None:
    Good()


def reseeds() -> nn.Module:
    torch.manual_seed(0)
    return Good()


def shares_a_layer() -> nn.Module:
    policy = Good()
    policy.body = SHARED.body
    return policy


def wants_a_gpu() -> nn.Module:
    return Good().to("cuda")


def lazy() -> nn.Module:
    policy = Good()
    policy.body = nn.LazyLinear(8)
    return policy


def wants_an_argument(width: int) -> nn.Module:
    return Good()


class Plain:
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("side", ["candidate", "reference"])
@pytest.mark.parametrize(
    ("builder", "problem", "remedy"),
    [
        (raises, "raised FileNotFoundError: weights.bin", "it must return a new torch module"),
        (returns_nothing, "returned NoneType", "look for a missing return"),
        (Plain, "returned Plain", "must return the torch module"),
        (nn.Identity, "returned Identity without parameters", "assign its layers as attributes"),
        (lambda: SHARED, "parameter 'body.weight' was built before", "copy.deepcopy"),
        (shares_a_layer, "parameter 'body.weight' was built before", "build new parameters at every call"),
        (reseeds, "seeds torch's global generator, with 0", "take the seed as a parameter named seed"),
        (lazy, "has a lazy parameter 'body.weight'", "run it once in the builder"),
        (wants_an_argument, "raised TypeError", "given those of seed, dtype and device"),
    ],
)
def test_a_builder_is_refused_by_name(side: str, builder: Any, problem: str, remedy: str) -> None:
    result = judged(**{side: builder})
    assert result.verdict is Verdict.ERROR
    assert f"{side} of pair 'mine'" in result.reason
    assert problem in result.reason
    assert remedy in result.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="the missing device is there")
def test_a_device_that_is_not_there_is_named() -> None:
    result = judged(wants_a_gpu)
    assert result.verdict is Verdict.ERROR
    assert "it wants a GPU and torch finds none" in result.reason
    report = parity.judge(pair(), checks="forward", device="cuda")
    assert [r.verdict for r in report.results] == [Verdict.INCONCLUSIVE] * 2
    assert report.exit_code == 2


def test_building_leaves_every_global_generator_as_it_was() -> None:
    class Drawing(Good):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("noise", torch.tensor(np.random.rand(3)))

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert parity.judge(pair(Drawing, Drawing), checks="initialization", examples=1).exit_code == 0
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]


@pytest.mark.parametrize(
    ("wrong", "component", "message"),
    [
        (
            lambda self, x: self.pi(torch.tanh(self.body(x))),
            "logits",
            "returned a tensor [1, 3]; return (logits, value)",
        ),
        (lambda self, x: (Good.forward(self, x)[0][:, :2], Good.forward(self, x)[1]), "logits", "it must be [1, 3]"),
        (lambda self, x: {"policy": x, "value": x[:, 0]}, "logits", "with keys ['policy', 'value']"),
        (lambda self, x: (Good.forward(self, x)[0], 0.5), "value", "returned float as value"),
        (lambda self, x: (Good.forward(self, x)[0].long(), x[:, 0]), "logits", "logits of torch.int64; it must be a"),
        (lambda self, x: None, "logits", "returned NoneType"),
    ],
)
def test_outputs_of_another_form_are_named(wrong: Any, component: str, message: str) -> None:
    result = judged(variant(wrong))
    assert result.verdict is Verdict.DIVERGENT
    assert result.divergence is not None
    assert result.divergence["component"] == component
    result = judged(Good, variant(wrong))
    assert result.verdict is Verdict.ERROR
    assert message.replace("[1, 3]", "[2, 3]") in result.reason


def test_a_changed_input_is_found_on_either_side() -> None:
    def scales(self: Any, x: Tensor) -> Any:
        return Good.forward(self, x.mul_(0.5))

    result = judged(variant(scales), variant(scales))
    assert result.divergence is not None
    assert (result.divergence["key"], result.divergence["candidate"]) == ("input", "changed")
    assert (result.divergence["side"], "clone an observation" in result.divergence["cause"]) == ("both", True)


class Keyed(Good):
    def forward(self, x: Any) -> Any:
        x["logits"], x["value"] = super().forward(x["seen"])
        return x


def overwriting(write: Callable[[Any], None]) -> parity.Side:
    def forward(self: Any, x: Any) -> Any:
        out = Keyed.forward(self, x)
        write(x)
        return out

    return parity.Side(type("Overwriting", (Keyed,), {"forward": forward}), tensordict=True)


def test_an_observation_that_is_overwritten_in_a_tensordict_is_found() -> None:
    keyed: dict[str, Any] = {"observations": {"seen": parity.Observations((4,))}}
    fine = parity.Side(Keyed, tensordict=True)
    for harmless in (lambda td: None, lambda td: td.set("seen", td["seen"].clone())):
        report = parity.judge(pair(overwriting(harmless), fine, **keyed), checks="forward", examples=1)
        assert report.exit_code == 0, str(report)
    for write in (lambda td: td.set("seen", td["seen"] * 0), lambda td: td["seen"].zero_()):
        result = judged(overwriting(write), fine, **keyed)
        assert result.divergence is not None
        assert (result.divergence["key"], result.divergence["candidate"]) == ("input", "changed")
    result = judged(overwriting(lambda td: td.set("seen", td["seen"].unsqueeze(1))), fine, **keyed)
    assert result.divergence is not None
    assert "over the observation 'seen'" in result.divergence["candidate"]
    plain = parity.Side(lambda: Under(False), tensordict=True)
    result = judged(plain, parity.Side(lambda: Under(True), tensordict=True))
    assert result.divergence is not None
    assert (result.divergence["key"], result.divergence["candidate"]) == ("input", "changed")


class Under(Good):
    def __init__(self, overwrites: bool) -> None:
        super().__init__()
        self.overwrites = overwrites

    def forward(self, x: Any) -> Any:
        out = super().forward(x["observation"])
        if self.overwrites:
            x["observation"] = x["observation"] + 1
        return out


def test_nan_is_a_divergence_of_the_candidate_and_leaves_the_reference_unjudged() -> None:
    broken = variant(lambda self, x: tuple(part * float("nan") for part in Good.forward(self, x)))
    result = judged(broken)
    assert result.divergence is not None
    assert (result.verdict, result.divergence["kind"]) == (Verdict.DIVERGENT, "non_finite")
    result = judged(Good, broken)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "the reference is NaN" in result.reason


def breaks(self: Any, x: Tensor) -> Any:
    return self.pi(torch.cat((self.body(x), x))), self.v(x)


@pytest.mark.parametrize(
    ("forward", "where"),
    [
        (breaks, "raised in breaks (test_own_policies_misused.py, line"),
        (lambda self, x: torch.cat((self.body(x), x)), "raised in <lambda> (test_own_policies_misused.py, line"),
        (lambda self, x: None, "raised in _picked (outputs.py, line"),
    ],
)
def test_an_error_is_pinned_on_the_code_that_raises_it(forward: Any, where: str) -> None:
    report = parity.judge(pair(variant(forward)), checks="forward", examples=1)
    for result in report.results:
        assert result.divergence is not None
        assert where in result.divergence["notes"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capabilities": {"memory"}}, "'memory', and the reference and candidate gives no initial_state"),
        ({"capabilities": {"clipping"}}, "'clipping', and the reference and candidate gives no clip"),
        ({"candidate": parity.Side(Good, clip=print)}, "'clipping', and the reference gives no clip"),
        ({"capabilities": {"memry"}}, "names 'memry', which is no capability; did you mean 'memory'"),
        ({"without": {"weather"}}, "names 'weather', which is no capability; there are compile"),
        ({"capabilities": "memory"}, r"is the text 'memory'; give a set of names, \{'memory'\}"),
        ({"capabilities": {"tokens"}}, "needs the full interface of parity.agents"),
        ({"candidate": SHARED}, "candidate is a policy that is built already; give a function that builds it"),
        ({"candidate": 3}, "candidate is 3; give a function"),
        ({"actions": 0}, "actions is 0; give the number of discrete actions"),
        ({"actions": (3, 2.5)}, r"actions is \(3, 2.5\)"),
        ({"observations": (4,)}, r"observations is \(4,\); give parity.Observations"),
        ({"components": {"body": "body"}}, "'body' is 'body'; give .path in the reference, path in the candidate"),
        ({"time_limit": 0}, "pair 'mine': time_limit is 0; give a positive number of seconds, or None"),
        ({"time_limit": -1.0}, "time_limit is -1.0; give"),
        ({"time_limit": float("nan")}, "time_limit is nan; give"),
        ({"time_limit": float("inf")}, "time_limit is inf; give"),
        ({"time_limit": "60"}, "time_limit is '60'; give"),
        ({"time_limit": True}, "time_limit is True; give"),
        ({"parameters": ["body.weight"]}, "'body.weight' is no ParameterLink"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(parity.Misuse, match=message):
        pair(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parity.Observations((0,)), "shape is .0,.; give the positive sizes"),
        (lambda: parity.Observations((4,), torch.int64), "torch.int64 without bounds; give low and high, or generate"),
        (lambda: parity.Observations((4,), low=1.0, high=0.0), "give low <= high"),
        (lambda: parity.Observations((4,), "float32"), "give a torch dtype"),  # type: ignore[arg-type]
        (lambda: parity.Side(None), "build is None; give a function"),  # type: ignore[arg-type]
        (lambda: parity.Side(Good, call=lambda p, x, hidden: x), "asks for 'hidden'"),
        (lambda: parity.Side(Good, get_state=id), "get_state and set_state belong together"),
        (lambda: parity.Side(Good, sequence=print), "sequence is given and initial_state is not"),
        (lambda: parity.fused(["a", "b"], "c", rows=[1]), "2 parameters and 1 numbers of rows"),
        (lambda: parity.judge(), "no pair was given"),
        (lambda: parity.tests_of(pair(), pair()), "two pairs are named 'mine'"),
        (lambda: parity.judge(pair(), checks="forwrad"), "no check matches 'forwrad'; did you mean 'forward'"),
        (lambda: parity.check(name="forward"), "'forward' is the name of a check that ships"),
        (lambda: parity.check(name="idle", dtypes=())(lambda policy: None), "check 'idle': no dtype is given"),
    ],
)
def test_every_other_argument_is_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(parity.Misuse, match=message):
        make()


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (lambda policy, batch: torch.zeros(7, 8), "exactly one axis must be the batch"),
        (lambda policy, batch: None, "gives 0 and 0 tensors"),
        (lambda policy, batch: 1 / 0, "initial_state(policy, batch) raised ZeroDivisionError"),
    ],
)
def test_a_state_without_a_batch_is_refused(initial: Any, message: str) -> None:
    side = parity.Side(Good, initial_state=initial)
    assert message in judged(side, side, check="memory").reason


def test_a_state_that_is_never_returned_is_named() -> None:
    side = parity.Side(
        Good, call=lambda policy, x: policy(x), initial_state=lambda policy, batch: torch.zeros(batch, 8)
    )
    assert "returned no next state; return (logits, value, state)" in judged(side, side, check="memory").reason


def test_an_unmapped_parameter_is_named_in_every_check() -> None:
    class Larger(Good):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Parameter(torch.ones(5))

    assert "unmapped candidate parameter 'extra'" in judged(Larger).reason
    assert judged(Larger, check="construction").verdict is Verdict.DIVERGENT


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"nope.weight": "body.weight"},
            "the parameter map links reference parameter 'nope.weight', which does not exist there; it has body.bias, ",
        ),
        (
            {"body.weight": "nope.weight"},
            "the parameter map links candidate parameter 'nope.weight', which does not exist there; it has body.bias, ",
        ),
        (
            {"body.weight": "body.weight", "more.weight": "body.weight"},
            "parameter 'body.weight' is mapped more",
        ),
        ({"body.weight": "body.weight", "pi.weight": "body.weight"}, "parameter 'body.weight' is mapped more than"),
        ({"pi.weight": "body.weight"}, "links 'pi.weight' (24 elements) to 'body.weight' (32 elements)"),
    ],
)
def test_a_declared_parameter_map_that_is_wrong_is_named(parameters: dict[str, str], message: str) -> None:
    class Wider(Good):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Linear(4, 8)

    result = judged(Wider, Wider, parameters=parameters)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert message in result.reason


def test_expected_failures_speak_of_own_pairs_too(pytester: pytest.Pytester) -> None:
    body = """
import torch, parity
from torch import nn

class Policy(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.pi, self.v, self.scale = nn.Linear(4, 3), nn.Linear(4, 1), scale

    def forward(self, x):
        return self.scale * self.pi(x), self.v(x)

pair = parity.pair("mine", reference=lambda: Policy(1.0), candidate=lambda: Policy(1.1),
                   observations=parity.Observations((4,)), actions=3)
globals().update(parity.tests_of(pair))
"""
    pytester.makepyfile(test_mine=body)
    lines = {"known.txt": "mine/forward/*  scaled on purpose", "stale.txt": "mine/checkpoint/*  it was broken once"}
    for name, line in lines.items():
        pytester.path.joinpath(name).write_text(line)
    options = ("-p", "no:cacheprovider", "-p", "no:importnb")
    done = pytester.runpytest_inprocess(*options, "--parity-expected-failures=known.txt", "--parity-checks=forward")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*mine / forward*cpu float64: known.txt:1: expected failure*scaled on purpose*"])
    done = pytester.runpytest_inprocess(*options, "--parity-expected-failures=stale.txt", "--parity-checks=checkpoint")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*UNEXPECTED PASS  mine / checkpoint*", "*is stale*remove or narrow the line*"])


def test_a_file_that_misuses_the_interface_is_named_by_the_command_line(
    nothing_declared: Path,
) -> None:
    (nothing_declared / "misused_pairs.py").write_text("import parity\nparity.pair('mine', reference=1, candidate=2, "
                                               "observations=None, actions=1)\n")  # fmt: skip
    with pytest.raises(
        parity.Misuse, match=r"--import misused_pairs.py: failed with Misuse: pair 'mine': reference is 1"
    ):
        importing.import_pairs("misused_pairs.py")

"""``python -m parity map`` on the built-in pairs: what they declare is found again, from nothing but two builders."""

from __future__ import annotations

import dataclasses

import pytest

import parity
from parity.cli import main
from parity.pairs import registry
from parity.pairs.parameters import ParameterLink

NIGHTLY = ("example", "latent_attn_med", "latent_attn_small", "latent_attn_tiny")
PAIRS = ["fast", *(pytest.param(name, marks=pytest.mark.nightly) for name in NIGHTLY)]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_declared_map_is_found_again(pair: str, capsys: pytest.CaptureFixture[str]):
    assert main(["map", pair]) == 0
    out = capsys.readouterr().out
    assert "checked on other weights, given through the map: the sides agree" in out
    assert "the declared map says the same: " in out
    assert 'parity.ParameterLink("policy.components.' in out


def test_what_is_pasted_is_a_map_and_a_declared_one_that_says_otherwise_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    fast = registry.registered_pairs()["fast"]
    swapped = {"_core_.net.bias_ih_l0": "core.lstm.bias_hh_l0", "_core_.net.bias_hh_l0": "core.lstm.bias_ih_l0"}
    wrong = tuple(
        dataclasses.replace(link, candidate=f"policy.{swapped[short]}") if (short := _short(link)) in swapped else link
        for link in fast.parameters or ()
    )
    monkeypatch.setattr(registry, "_by_hand", {})
    registry.register(dataclasses.replace(fast, name="swapped", parameters=wrong))
    registry.register(dataclasses.replace(fast, name="bare", parameters=None))
    assert main(["map", "swapped"]) == 1
    out = capsys.readouterr().out
    assert "the declared map says otherwise in 2 of 25 links:" in out
    assert (
        'declared parity.ParameterLink("policy.components._core_.net.bias_ih_l0", "policy.core.lstm.bias_hh_l0")' in out
    )
    assert main(["map", "bare"]) == 0
    out = capsys.readouterr().out
    assert "the pair declares no map" in out
    pasted = out[out.index("parameters=(") :].partition("\n)")[0].removeprefix("parameters=") + ")"
    assert set(eval(pasted, {"parity": parity})) == set(fast.parameters or ())


def _short(link: ParameterLink) -> str:
    return link.reference.removeprefix("policy.components.")

"""Every capability that a check needs or a pair declares has a name and a meaning, and is listed."""

from __future__ import annotations

from parity.checks.catalogue import CHECKS
from parity.pairs.capabilities import CAPABILITIES, USUAL
from parity.pairs.registry import shipped_pairs


def test_checks_need_and_shipped_pairs_declare_known_capabilities_only():
    assert {need for check in CHECKS.values() for need in check.needs} <= set(CAPABILITIES)
    assert {each for pair in shipped_pairs() for each in pair.capabilities} <= set(CAPABILITIES)
    assert all(capability.about for capability in CAPABILITIES.values())


def test_shipped_pairs_declare_what_every_check_needs():
    for pair in shipped_pairs():
        assert all(check.needs <= pair.capabilities for check in CHECKS.values())


def test_what_is_usual_can_be_had_by_any_policy():
    assert all(CAPABILITIES[name].offered for name in USUAL)
    usual = [check.name for check in CHECKS.values() if check.needs <= USUAL]
    assert usual == [
        "construction", "initialization", "forward", "gradients", "optimizer", "checkpoint", "compile", "device",
    ]  # fmt: skip

"""All checks, cheapest and most telling first: the order in which a pair is judged and a fault is caught."""

from __future__ import annotations

from parity.checks import (
    actions,
    checkpoint,
    clipping,
    compiled,
    configuration,
    construction,
    devices,
    distributed,
    experience,
    features,
    fields,
    forward,
    gradients,
    initialization,
    memory,
    metamorphic,
    optimizer,
    throughput,
    training,
    weight_metrics,
)
from parity.checks.registry import Check, own_checks
from parity.pairs.recipe import Pair

CHECKS: dict[str, Check] = {
    module.CHECK.name: module.CHECK
    for module in (
        construction,
        configuration,
        initialization,
        fields,
        forward,
        actions,
        memory,
        gradients,
        optimizer,
        clipping,
        weight_metrics,
        features,
        metamorphic,
        experience,
        training,
        checkpoint,
        compiled,
        distributed,
        devices,
        throughput,
    )
}


def all_checks() -> dict[str, Check]:
    """The checks above and those that users added."""
    return {**CHECKS, **own_checks()}


def checks_of(pair: Pair) -> dict[str, Check]:
    """The checks that a pair is judged by: those above, and for a described pair those that users added."""
    return {name: check for name, check in all_checks().items() if check.applies(pair)}

"""Each check is needed: it catches a fault that all others pass, with all the examples that they draw.

The kill matrix of ``make faults`` says so of many faults, after one example of each other check. There as here those
that judge the platform, or take seconds whatever they judge, are not among the others.
"""

from __future__ import annotations

import dataclasses

import pytest

from parity.checks.catalogue import CHECKS, checks_of
from parity.faults.mutation.fates import LEFT_OUT
from parity.faults.plant import planted
from parity.faults.registry import load_catalogues
from parity.faults.run import run_fault
from parity.pairs.registry import registered_pairs
from parity.profiles import profile_in_force
from parity.results import Cell
from parity.runner import Session, run_cell

#: Check -> pair and fault that are left to it.
LEFT_TO = {
    "construction": ("fast", "analyze_weights_interval_dropped"),
    "configuration": ("fast", "further_components_passed_over"),
    "initialization": ("fast", "action_embeddings_not_scaled"),
    "fields": ("fast", "dones_of_another_shape_passed_over"),
    "forward": ("fast", "argmax_in_eval_mode"),
    "actions": ("fast", "actions_half_activated_on_error"),
    "memory": ("fast", "facade_resets_all_slices"),
    "gradients": ("fast", "action_bias_outside_the_graph"),
    "optimizer": ("fast", "betas_swapped"),
    "clipping": ("example", "center_fc_clipped_like_fc1"),
    "weight_metrics": ("fast", "delta_of_one_accepted"),
    "features": ("fast", "equal_ids_skip_normalisations"),
    "metamorphic": ("latent_attn_tiny", "token_limit_of_200_written_out"),
    "experience": ("fast", "actions_of_slices_mixed_up"),
    "training": ("fast", "entropy_annealed_inside_the_policy"),
    "checkpoint": ("fast", "agents_not_compared"),
    "compile": ("fast", "encoder_without_gradient_when_compiled"),
    "distributed": ("fast", "advantages_normalised_per_rank"),
    "throughput": ("fast", "action_head_once_per_action"),
}


def test_a_fault_is_named_for_every_check_that_needs_no_gpu() -> None:
    assert LEFT_TO.keys() == CHECKS.keys() - {"device"}
    for check, (pair, name) in LEFT_TO.items():
        assert load_catalogues()[pair].faults[name].check == check


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("check", LEFT_TO)
def test_a_fault_is_left_to_the_check(check: str) -> None:
    name, fault_name = LEFT_TO[check]
    pair, fault = registered_pairs()[name], load_catalogues()[name].faults[fault_name]
    with profile_in_force("parity-ci"):
        assert run_fault(pair, fault, checks=[check]).as_declared
        with planted(fault.plant) as patcher:
            session = Session(dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks)))
            others = [other for other in checks_of(pair).values() if other.name not in {check, *LEFT_OUT}]
            seen = [
                (other.name, dtype)
                for other in others
                for dtype in other.dtypes
                if not run_cell(session, Cell(name, other.name, "cpu", dtype), shrink=False).verdict.passed
            ]
            session.builds.forget()
    assert seen == []

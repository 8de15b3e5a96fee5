"""A transcription that computes something else than the reference would be no measure of it."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch.testing import assert_close
from transcriptions import TRANSCRIPTIONS, transcribe

from parity.agents.interface import DONES, ENV_OBS
from parity.checks.draw import legal_actions
from parity.pairs.builds import Builds
from parity.pairs.registry import registered_pairs

pytestmark = pytest.mark.filterwarnings("ignore::parity.agents.errors.IgnoredTokensWarning")
BATCH, STEPS = 3, 4


@pytest.mark.parametrize("name", TRANSCRIPTIONS)
def test_a_transcription_gives_what_the_reference_gives(name):
    pair = registered_pairs()[name]
    recipe = pair.recipe.with_system(dtype=torch.float64)
    reference = Builds(pair).sides(recipe).reference.policy
    transcription = transcribe(name, recipe.environment, reference)
    tokens = pair.generate(recipe.environment, rows=BATCH * STEPS, seed=5).unflatten(0, (BATCH, STEPS))
    tokens[0, 0] = 255  # a row without any token
    resets = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    resets[1, 0] = resets[2, 2] = True

    action = legal_actions(recipe.environment, (BATCH, STEPS), 5)
    td = reference(TensorDict({ENV_OBS: tokens, DONES: resets}, batch_size=[BATCH, STEPS]), action=action)
    expected = [td[key] for key in ("act_log_prob", "entropy", "value", "full_log_probs")]
    assert_close(transcription.evaluate(tokens, resets, action), tuple(expected), rtol=1e-9, atol=1e-9)

    state = torch.zeros(2, 2, BATCH, transcription.hidden_size, dtype=torch.float64)
    for step in range(STEPS):
        td = TensorDict({ENV_OBS: tokens[:, step], DONES: resets[:, step]}, batch_size=[BATCH])
        torch.manual_seed(step)
        reference(td)
        torch.manual_seed(step)
        *found, h, c = transcription.act(tokens[:, step], resets[:, step], *state)
        state = torch.stack([h, c])
        expected = [td[key] for key in ("actions", "act_log_prob", "values", "full_log_probs")]
        assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert_close(state, torch.stack(reference.get_memory()[0]), rtol=1e-9, atol=1e-9)

from __future__ import annotations

import pytest
import torch
from pytorch_samples import batch_of, small_fast
from torch import Tensor

from parity.agents.errors import MemoryStateError
from parity.agents.pytorch.fast import Fast

B, T, LAYERS, HIDDEN = 3, 6, 2, 8


def core_by_cells(policy: Fast, rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One row at a time, one step at a time, gates written out."""
    lstm = policy.core.lstm
    batch, steps = resets.shape
    out = torch.zeros(batch * steps, lstm.hidden_size, dtype=rows.dtype)
    h, c = h.clone(), c.clone()
    for b in range(batch):
        for t in range(steps):
            x = rows[b * steps + t]
            for layer in range(lstm.num_layers):
                before_h, before_c = h[layer, b], c[layer, b]
                if resets[b, t]:
                    before_h, before_c = torch.zeros_like(before_h), torch.zeros_like(before_c)
                gates = (
                    getattr(lstm, f"weight_ih_l{layer}") @ x
                    + getattr(lstm, f"bias_ih_l{layer}")
                    + getattr(lstm, f"weight_hh_l{layer}") @ before_h
                    + getattr(lstm, f"bias_hh_l{layer}")
                )
                i, f, g, o = gates.chunk(4)
                c[layer, b] = f.sigmoid() * before_c + i.sigmoid() * g.tanh()
                h[layer, b] = o.sigmoid() * c[layer, b].tanh()
                x = h[layer, b]
            out[b * steps + t] = x
    return out, h, c


def close(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_core_equals_the_cells_under_any_resets(share: float) -> None:
    policy = small_fast()
    torch.manual_seed(3)
    rows = torch.randn(B * T, 7, dtype=torch.float64)
    h, c = torch.randn(2, LAYERS, B, HIDDEN, dtype=torch.float64)
    resets = torch.rand(B, T) < share
    with torch.no_grad():
        close(policy.core(rows, h, c, resets), core_by_cells(policy, rows, h, c, resets))


def test_a_reset_forgets_even_a_state_that_is_not_finite() -> None:
    policy = small_fast()
    broken = torch.full((LAYERS, B, HIDDEN), float("nan"))
    policy.set_memory({0: (broken, broken)})
    td = policy(batch_of(B, dones=torch.ones(B)))
    assert td["values"].isfinite().all()


@pytest.mark.parametrize("key", ["dones", "truncateds"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.uint8])
def test_a_reset_row_acts_as_a_fresh_one_and_the_others_go_on(key: str, dtype: torch.dtype) -> None:
    policy = small_fast()
    policy(batch_of(B, seed=1))
    kept = policy.get_memory()
    flags = torch.tensor([0, 1, 0]).to(dtype)
    neither = {"dones": torch.zeros(B), "truncateds": torch.zeros(B)}
    reset = policy(batch_of(B, seed=2, **{**neither, key: flags}))["values"]
    policy.set_memory(kept)
    carried = policy(batch_of(B, seed=2))["values"]
    policy.reset_memory()
    fresh = policy(batch_of(B, seed=2))["values"]
    assert not torch.isclose(carried, fresh).any()
    close(reset, torch.where(flags.bool(), fresh, carried))


def test_env_ids_keep_their_own_states() -> None:
    policy, alone = small_fast(), small_fast()
    for step in range(3):
        for env_id, rows in ((0, 2), (7, 3)):
            ids = torch.full((rows,), env_id)
            td = policy(batch_of(rows, seed=10 * env_id + step, training_env_id_start=ids))
            if env_id == 7:
                close(td["values"], alone(batch_of(rows, seed=70 + step))["values"])
    assert {key: h.shape for key, (h, _) in policy.get_memory().items()} == {
        0: (LAYERS, 2, HIDDEN),
        7: (LAYERS, 3, HIDDEN),
    }
    policy.reset_env_memory(7)
    policy.reset_env_memory(99)
    assert list(policy.get_memory()) == [0]
    policy.reset_memory()
    assert policy.get_memory() == {}


def test_a_sequence_equals_its_steps_and_draws_the_same_actions() -> None:
    whole, stepped = small_fast(), small_fast()
    dones, truncateds = torch.rand(2, B, T, generator=torch.Generator().manual_seed(4)) < 0.2
    td = batch_of(B, T, dones=dones, truncateds=truncateds)
    steps = [td[:, t].clone() for t in range(T)]
    torch.manual_seed(5)
    assert whole(td) is td
    torch.manual_seed(5)
    for t, step in enumerate(steps):
        stepped(step)
        for key in ("values", "full_log_probs", "act_log_prob"):
            close(td[key][:, t], step[key])
        assert torch.equal(td["actions"][:, t], step["actions"])
    close(whole.get_memory(), stepped.get_memory())


def test_training_continues_from_the_supplied_memory_and_leaves_the_stored_one() -> None:
    policy = small_fast()
    policy(batch_of(B, seed=1))
    ((h, c),) = policy.get_memory().values()
    first_h, first_c = (state.transpose(0, 1)[:, None].expand(-1, T, -1, -1).clone() for state in (h, c))
    first_h[:, 1:], first_c[:, 1:] = float("nan"), float("nan")  # only the first step is read
    td = batch_of(B, T, memory_h=first_h, memory_c=first_c)
    trained = policy(td, action=torch.zeros(B, T, 2, dtype=torch.int64))
    assert torch.equal(policy.get_memory()[0][0], h)
    acted = policy(td.select("env_obs"))
    close(trained["value"], acted["values"])
    close(trained["full_log_probs"], acted["full_log_probs"])
    policy.reset_memory()
    fresh = policy(batch_of(B, T), action=torch.zeros(B, T, 2, dtype=torch.int64))
    assert not torch.isclose(fresh["value"], trained["value"]).any()
    assert policy.get_memory() == {}


def test_stored_states_are_detached_copies() -> None:
    policy = small_fast()
    policy(batch_of(B))
    for h, c in (*policy._states.values(), *policy.get_memory().values()):
        assert not h.requires_grad and not c.requires_grad
    memory = policy.get_memory()
    expected = memory[0][0].clone()
    memory[0][0].zero_()
    assert torch.equal(policy.get_memory()[0][0], expected)
    given = (torch.ones(LAYERS, B, HIDDEN, requires_grad=True), torch.ones(LAYERS, B, HIDDEN))
    policy.set_memory({4: given})
    given[1].zero_()
    ((h, c),) = policy.get_memory().values()
    assert h.dtype == c.dtype == torch.float64 and bool((c == 1).all())
    policy.set_memory(memory)
    assert list(policy.get_memory()) == [0]


def test_a_state_stored_in_inference_mode_serves_a_call_with_gradients() -> None:
    policy = small_fast()
    with torch.inference_mode():
        policy(batch_of(B))
    policy(batch_of(B))["values"].sum().backward()
    assert policy.core.lstm.weight_hh_l0.grad is not None


def test_another_batch_size_is_refused() -> None:
    policy = small_fast()
    ids = torch.full((2,), 5, dtype=torch.int32)
    policy(batch_of(2, training_env_id_start=ids))
    with pytest.raises(MemoryStateError, match=r"training_env_id_start 5 is for batch size 2, the batch has 3"):
        policy(batch_of(3, training_env_id_start=torch.full((3,), 5)))


@pytest.mark.parametrize(
    "shapes", [((2, 3, 7), (2, 3, 7)), ((1, 3, 8), (1, 3, 8)), ((2, 3, 8), (2, 4, 8)), ((3, 8),) * 2]
)
def test_set_memory_refuses_what_does_not_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    policy = small_fast()
    policy(batch_of(B))
    with pytest.raises(MemoryStateError, match=r"of training_env_id_start 6 has shape .*give \[2, batch, 8\] for both"):
        policy.set_memory({6: (torch.zeros(shapes[0]), torch.zeros(shapes[1]))})
    assert list(policy.get_memory()) == [0]


def test_supplied_memory_must_come_whole_and_fit() -> None:
    policy = small_fast()
    action = torch.zeros(B, T, 2, dtype=torch.int64)
    state = torch.zeros(B, T, LAYERS, HIDDEN)
    with pytest.raises(MemoryStateError, match="has 'memory_h' but no 'memory_c'; give both or neither"):
        policy(batch_of(B, T, memory_h=state), action=action)
    with pytest.raises(MemoryStateError, match="has 'memory_c' but no 'memory_h'"):
        policy(batch_of(B, T, memory_c=state), action=action)
    with pytest.raises(MemoryStateError, match=r"'memory_c' has shape \[3, 6, 8, 2\]; give .* = \[3, 6, 2, 8\]"):
        policy(batch_of(B, T, memory_h=state, memory_c=state.transpose(2, 3)), action=action)


def test_state_argument_is_refused() -> None:
    with pytest.raises(MemoryStateError, match="state is a tuple; pass None"):
        small_fast()(batch_of(B), state=())

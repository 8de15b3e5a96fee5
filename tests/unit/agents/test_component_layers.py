"""Each component against plain torch, and its initial parameters."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from component_builders import component
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.component import ComponentPolicy
from parity.agents.component.embedding import ActionEmbedding, Embedding
from parity.agents.component.layers import Conv2d, Linear
from parity.agents.component.lstm import LSTM
from parity.agents.errors import ConfigError
from parity.agents.seeding import parameter_generator

ACTIVATIONS = {
    "nn.ReLU": functional.relu,
    "Tanh": torch.tanh,
    "nn.GELU": functional.gelu,
    "ELU": functional.elu,
    None: lambda x: x,
}


def orthogonal(shape: tuple[int, ...], role: str, seed: int = 3) -> Tensor:
    return nn.init.orthogonal_(torch.empty(shape), generator=parameter_generator(seed, "unit", role))


@pytest.mark.parametrize("nonlinearity", ACTIVATIONS)
def test_linear(nonlinearity: str | None) -> None:
    layer = cast(Linear, component("Linear", [(6,)], nn_params={"out_features": 4}, nonlinearity=nonlinearity))
    x = torch.randn(5, 6)
    assert layer.output_shape == (4,)
    assert layer(x).equal(ACTIVATIONS[nonlinearity](functional.linear(x, layer.net.weight, layer.net.bias)))
    gain = math.sqrt(2) if nonlinearity == "Tanh" else 1.0
    torch.testing.assert_close(layer.net.weight.detach(), gain * orthogonal((4, 6), "weight"))
    assert layer.net.bias is not None and not layer.net.bias.any()


def test_linear_defaults_to_relu() -> None:
    layer = component("Linear", [(6,)], nn_params={"out_features": 4})
    assert (layer(torch.randn(50, 6)) >= 0).all()


def test_conv2d() -> None:
    params = {"out_channels": 4, "kernel_size": 3, "stride": 2, "padding": 1}
    layer = cast(Conv2d, component("Conv2d", [(2, 5, 7)], nn_params=params, nonlinearity=None))
    x = torch.randn(3, 2, 5, 7)
    expected = functional.conv2d(x, layer.net.weight, layer.net.bias, stride=2, padding=1)
    assert layer(x).equal(expected) and layer.output_shape == tuple(expected.shape[1:])
    assert layer.net.weight.equal(orthogonal((4, 2, 3, 3), "weight"))


def test_conv2d_leaves_out_the_cells_that_a_last_stride_does_not_reach() -> None:
    layer = component("Conv2d", [(2, 6, 5)], nn_params={"out_channels": 4, "kernel_size": 2, "stride": 3})
    assert layer.output_shape == tuple(layer(torch.randn(1, 2, 6, 5)).shape[1:]) == (4, 2, 2)


def test_layers_without_parameters_and_layer_norm() -> None:
    x = torch.randn(3, 2, 4)
    flatten, relu, identity = (component(kind, [(2, 4)]) for kind in ("Flatten", "ReLU", "Identity"))
    assert flatten(x).equal(x.reshape(3, 8)) and flatten.output_shape == (8,)
    assert relu(x).equal(x.clamp(min=0)) and identity(x) is x
    norm = component("LayerNorm", [(2, 4)])
    torch.testing.assert_close(norm(x), functional.layer_norm(x, (4,)))


def test_dropout_acts_in_training_mode_only() -> None:
    layer, x = component("Dropout", [(100,)], nn_params={"p": 0.25}), torch.ones(20, 100)
    assert layer.eval()(x).equal(x)
    dropped = layer.train()(x)
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    with pytest.raises(ConfigError, match=r"component 'unit': nn_params.p is 1.5"):
        component("Dropout", [(4,)], nn_params={"p": 1.5})


def test_embedding_tables() -> None:
    params = {"num_embeddings": 9, "embedding_dim": 4}
    table = cast(Embedding, component("Embedding", [(3,)], nn_params=params))
    index = torch.tensor([[0, 8, 2]])
    assert table(index).equal(table.net.weight[index]) and table.output_shape == (3, 4)
    expected = orthogonal((9, 4), "weight")
    torch.testing.assert_close(table.net.weight.detach(), expected * 0.1 / expected.abs().max())

    actions = cast(ActionEmbedding, component("ActionEmbedding", [], nn_params=params))
    actions.activate([3, 0, 8])
    assert actions().equal(actions.net.weight[[3, 0, 8]]) and actions.capacity == 9


def test_actor_head_against_a_double_loop() -> None:
    head = component("MettaActorSingleHead", [(6,), (4,)])
    hidden, rows = torch.randn(3, 6), torch.randn(5, 4)
    weight, bias = (parameter.detach() for parameter in head.parameters())
    assert weight.shape == (6, 4) and bias.shape == (1,)
    assert weight.abs().max() <= 1 / math.sqrt(6) and bias.abs() <= 1 / math.sqrt(6)
    expected = torch.stack([torch.stack([torch.tanh(h @ weight) @ row + bias[0] for row in rows]) for h in hidden])
    torch.testing.assert_close(head(hidden, rows).detach(), expected)


def make_lstm() -> LSTM:
    core = component("LSTM", [(3,)], output_size=4, nn_params={"num_layers": 2})
    return cast(LSTM, core.double())


def test_lstm_parameters() -> None:
    core = component("LSTM", [(3,)], nn_params={"hidden_size": 4})
    parameters: dict[str, Any] = dict(cast(LSTM, core).net.named_parameters())
    assert set(parameters) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    for role in ("weight_ih_l0", "weight_hh_l0"):
        assert parameters[role].equal(orthogonal(tuple(parameters[role].shape), role))
    assert (parameters["bias_ih_l0"] == 1).all() and (parameters["bias_hh_l0"] == 1).all()


@pytest.mark.parametrize("late_reset", [False, True])
def test_lstm_against_row_by_row_steps(late_reset: bool) -> None:
    core, (batch, steps) = make_lstm(), (3, 4)
    rows = torch.randn(batch * steps, 3, dtype=torch.float64)
    h, c = torch.randn(2, 2, batch, 4, dtype=torch.float64)
    resets = torch.zeros(batch, steps, dtype=torch.bool)
    resets[1, 0] = True
    resets[0, 2] = resets[2, 3] = late_reset
    output, h_last, c_last = core(rows, h, c, resets)
    for b in range(batch):
        state = (h[:, b].clone(), c[:, b].clone())
        for t in range(steps):
            if resets[b, t]:
                state = (torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64))
            step, state = core.net(rows[b * steps + t].unsqueeze(0), state)
            torch.testing.assert_close(output[b * steps + t], step[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(h_last[:, b], state[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(c_last[:, b], state[1], rtol=1e-12, atol=1e-12)


def test_a_reset_drops_even_a_state_that_is_not_finite() -> None:
    core = make_lstm()
    broken = torch.full((2, 1, 4), float("nan"), dtype=torch.float64)
    output, _, _ = core(torch.ones(1, 3, dtype=torch.float64), broken, broken, torch.ones(1, 1, dtype=torch.bool))
    assert output.isfinite().all()


def test_only_the_cores_forward_is_kept_from_the_compiler() -> None:
    assert getattr(LSTM.forward, "_torchdynamo_disable", False)
    assert not getattr(ComponentPolicy.forward, "_torchdynamo_disable", False)

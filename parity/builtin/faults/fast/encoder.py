"""Faults in the encoder's layers, between the normalised box and the recurrent core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.stages import ValidConv2d
from parity.builtin.faults.changes import NudgedLinear, become, drop_activation
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: a hand-written agent drifted from its YAML"
TRACKERS = "issue trackers of other reinforcement-learning projects"


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="cnn1", phase="forward")
def relu_missing_after_cnn1(patch: Patcher) -> None:
    """The first convolution's output is not rectified."""
    patch.built("candidate", drop_activation("cnn1"))


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="cnn2", phase="forward")
def relu_missing_after_cnn2(patch: Patcher) -> None:
    """The second convolution's output is not rectified."""
    patch.built("candidate", drop_activation("cnn2"))


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="fc1", phase="forward")
def relu_missing_after_fc1(patch: Patcher) -> None:
    """The first encoder layer's output is not rectified."""
    patch.built("candidate", drop_activation("fc1"))


@CATALOGUE.fault(origin=UPSTREAM, check="forward", component="encoded_obs", phase="forward")
def relu_missing_after_encoded_obs(patch: Patcher) -> None:
    """The core is fed the last encoder layer without its ReLU."""
    patch.built("candidate", drop_activation("encoded_obs"))


@CATALOGUE.fault(origin="upstream history: layer sizes written out by hand", check="fields", component="fc1",
                 phase="rollout", raises=True)  # fmt: skip
def convolution_stride_written_out(patch: Patcher) -> None:
    """The first convolution has a stride of its own; the first layer of fixed size refuses what comes of it."""

    def change(agent: Any) -> None:
        agent.policy.cnn1[0].stride = (2, 2)

    patch.built("candidate", change)


class _PaddedConv2d(ValidConv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(functional.pad(input, (1, -1, 1, -1)))


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="cnn1", phase="forward")
def convolution_padded_on_one_side(patch: Patcher) -> None:
    """The first convolution sees its input shifted by one cell, as uneven "same" padding does; no shape tells."""
    patch.built("candidate", become("cnn1.0", _PaddedConv2d))


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="cnn1", phase="forward")
def convolution_kernel_flipped(patch: Patcher) -> None:
    """Convolutions are true ones, with flipped kernels, where torch's are cross-correlations."""

    def forward(self: ValidConv2d, input: Tensor) -> Tensor:
        return functional.conv2d(input, self.weight.flip(2, 3), self.bias, self.stride)

    patch.attribute(ValidConv2d, "forward", forward)


class _ChannelsLastFlatten(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.permute(0, 2, 3, 1).flatten(1)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="obs_flattener", phase="forward")
def flattened_channels_last(patch: Patcher) -> None:
    """The image is flattened cell by cell; with the single cell that the default sizes leave, that changes nothing."""

    def change(agent: Any) -> None:
        agent.policy.flattener = _ChannelsLastFlatten()

    patch.built("candidate", change)


class _HalfLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input.half(), self.weight.half(), self.bias.half()).to(input.dtype)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="fc1", phase="forward")
def half_precision_inside_fc1(patch: Patcher) -> None:
    """One layer computes in float16."""
    patch.built("candidate", become("fc1.0", _HalfLinear))


@CATALOGUE.fault(origin="the smallest error that a weight copy cannot erase", check="forward", component="fc1",
                 phase="forward")  # fmt: skip
def one_weight_of_fc1_one_ulp_off(patch: Patcher) -> None:
    """The forward pass uses one weight a single float32 ulp larger than the parameter says."""
    patch.built("candidate", become("fc1.0", NudgedLinear))


class _Dropout(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return functional.dropout(hidden, 0.1, training=True)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="encoded_obs", phase="forward")
def dropout_always_active(patch: Patcher) -> None:
    """A dropout after the encoder ignores the module's mode."""

    def change(agent: Any) -> None:
        agent.policy.encoded_obs.append(_Dropout())

    patch.built("candidate", change)


@CATALOGUE.fault(origin=TRACKERS, check="forward", component="cnn1", phase="forward")
def batch_norm_left_in_train_mode(patch: Patcher) -> None:
    """A normalisation without parameters uses the batch's own statistics."""

    def change(agent: Any) -> None:
        stage = agent.policy.cnn1
        norm = nn.BatchNorm2d(stage[0].out_channels, affine=False)
        stage.append(norm.to(stage.weight.device, stage.weight.dtype))

    patch.built("candidate", change)


@CATALOGUE.fault(origin=TRACKERS, check="gradients", component="encoded_obs", phase="backward")
def encoder_under_no_grad(patch: Patcher) -> None:
    """The encoder runs without recording gradients and is never trained."""
    patch.wrap(Fast, "encode_observations", torch.no_grad())

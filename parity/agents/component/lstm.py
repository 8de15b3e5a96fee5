"""The recurrent core."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.agents.component.base import BuildContext, Component, Shape
from parity.agents.component.initialization import draw_orthogonal, uninitialised
from parity.agents.component.settings import ComponentSettings


class LSTM(Component):
    """Rows and state -> rows and state, the state zeroed wherever an episode opens.

    The hidden size is the component's ``output_size``, as upstream writes it, or ``nn_params.hidden_size``.
    """

    recurrent: ClassVar[bool] = True
    nn_param_keys: ClassVar[frozenset[str]] = frozenset({"num_layers", "hidden_size"})

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        (shape,) = inputs
        if len(shape) != 1:
            raise settings.error(f"takes rows of numbers, but its source gives {list(shape)} per row; flatten it first")
        self.hidden_size, self.num_layers = _hidden_size(settings), settings.whole("num_layers", 1)
        self.output_shape = (self.hidden_size,)
        self.net = uninitialised(nn.LSTM, shape[0], self.hidden_size, self.num_layers)
        for role, parameter in self.net.named_parameters():
            if role.startswith("weight"):
                draw_orthogonal(parameter, context.seed, settings.name, role)
            else:
                nn.init.ones_(parameter)

    @torch._dynamo.disable
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - disable() returns an untyped wrapper
        self, rows: Tensor, h: Tensor, c: Tensor, resets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run over a batch of sequences.

        Args:
            rows: ``[B * T, F]``, row = b * T + t.
            h: ``[layers, B, hidden]``, the state before the first step.
            c: likewise.
            resets: bool ``[B, T]``; where true, that row's state is zeroed before that step.

        Returns:
            Rows ``[B * T, hidden]`` in the same order, and h and c after the last step.
        """
        batch, steps = resets.shape
        sequence = rows.reshape(batch, steps, -1).transpose(0, 1)
        # One call when no episode opens inside the sequence; else every step on its own.
        stride = 1 if bool(resets[:, 1:].any()) else steps
        outputs = []
        for start in range(0, steps, stride):
            opens = resets[:, start].view(1, batch, 1)
            h, c = h.masked_fill(opens, 0.0), c.masked_fill(opens, 0.0)
            output, (h, c) = self.net(sequence[start : start + stride], (h, c))
            outputs.append(output)
        return torch.cat(outputs).transpose(0, 1).reshape(batch * steps, -1), h, c


def _hidden_size(settings: ComponentSettings) -> int:
    """Read the hidden size from whichever of the two keys is given."""
    given = settings.options.get("output_size")
    if given is None:
        if "hidden_size" not in settings.nn_params:
            raise settings.error("has neither output_size nor nn_params.hidden_size; give output_size: 128")
        return settings.whole("hidden_size")
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise settings.error(f"output_size is {given!r}; give the hidden size, a whole number of at least 1")
    if settings.nn_params.get("hidden_size", given) != given:
        raise settings.error(
            f"output_size is {given} but nn_params.hidden_size is {settings.nn_params['hidden_size']!r}; leave one out"
        )
    return given

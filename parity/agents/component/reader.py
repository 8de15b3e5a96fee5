"""Reading the observation: which tokens are real, and the one warning about those that are not."""

from __future__ import annotations

import warnings
from typing import ClassVar

from torch import Tensor

from parity.agents.component.base import BuildContext, Component, Shape
from parity.agents.component.settings import ComponentSettings
from parity.agents.errors import IgnoredTokensWarning
from parity.agents.interface import PADDING_BYTE


class TokenReader(Component):
    """A component that is given the observation tokens ``[N, M, 3]`` uint8, their feature ids remapped."""

    arity: ClassVar[int | None] = 0
    reads_tokens: ClassVar[bool] = True

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        environment = context.environment
        self.num_layers, self.width, self.height = environment.num_layers, environment.obs_width, environment.obs_height
        self.warned = False

    def real(self, tokens: Tensor) -> Tensor:
        """Return bool ``[N, M]``: true for tokens to use, false for padding and for those to ignore."""
        byte, feature, _ = tokens.unbind(-1)
        is_token = byte != PADDING_BYTE
        fits = (feature < self.num_layers) & (byte >> 4 < self.width) & (byte & 0x0F < self.height)
        if not self.warned:
            self._warn_of_ignored(tokens, is_token & ~fits)
        return is_token & fits

    def _warn_of_ignored(self, tokens: Tensor, ignored: Tensor) -> None:
        count = int(ignored.sum())
        if not count:
            return
        self.warned = True
        byte, feature, value = tokens[ignored][0].tolist()
        warnings.warn(
            f"{count} observation token(s) ignored, the first being ({byte:#04x}, feature {feature}, value {value}) at "
            f"x = {byte >> 4}, y = {byte & 15}: the policy knows {self.num_layers} feature ids and {self.width} x "
            f"{self.height} cells; compare the environment's features and observation size with those the policy was "
            "built for (said once)",
            IgnoredTokensWarning,
            stacklevel=3,
        )

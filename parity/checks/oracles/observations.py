"""Observations as boxes and as tokens, by plain loops over rows and tokens, with feature remapping by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Table = Mapping[str, tuple[int, float]]
"""Feature name -> (id, normalisation)."""


class FeatureOracle:
    """Follows a series of activations and says what a row of tokens means.

    Args:
        layers, width, height: the box, fixed when the policy was built.
    """

    def __init__(self, layers: int, width: int, height: int) -> None:
        self.layers, self.width, self.height = layers, width, height
        self.mapping: dict[str, int] = {}
        self.remap = list(range(256))
        self.norms = [1.0] * layers
        self.activated = False

    def activate(self, table: Table, *, training: bool) -> None:
        """Adopt a table: the first one defines the ids, later ones are translated to it by name."""
        if not self.activated:
            self.mapping = {name: number for name, (number, _) in table.items()}
            self.remap = list(range(256))
        else:
            self.remap = [255] * 256
            for name, (number, _) in table.items():
                if name not in self.mapping and training:
                    self.mapping[name] = self._free_id(number)
                self.remap[number] = self.mapping.get(name, 255)
        self.activated = True
        for name, (_, norm) in table.items():
            layer = self.mapping.get(name)
            if layer is not None and layer < self.layers:
                self.norms[layer] = norm

    def _free_id(self, wanted: int) -> int:
        taken = set(self.mapping.values())
        if wanted not in taken:
            return wanted
        return next(number for number in range(256) if number not in taken)

    def tokens(self, row: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
        """The real ones of ``[M][3]`` tokens, in their order: (coordinate, remapped id, raw value)."""
        real = []
        for coordinate, feature, value in row:
            layer = self.remap[feature]
            inside = coordinate // 16 < self.width and coordinate % 16 < self.height and layer < self.layers
            if coordinate != 255 and inside:
                real.append((coordinate, layer, value))
        return real

    def normalised(self, row: Sequence[Sequence[int]]) -> list[tuple[int, int, float]]:
        """The same, each value divided by its feature's normalisation."""
        return [(coordinate, layer, value / self.norms[layer]) for coordinate, layer, value in self.tokens(row)]

    def box(self, rows: Sequence[Sequence[Sequence[int]]]) -> list[list[list[list[float]]]]:
        """``[N][M][3]`` tokens -> ``[N][layers][width][height]`` normalised values."""
        boxes = []
        for row in rows:
            box = [[[0] * self.height for _ in range(self.width)] for _ in range(self.layers)]
            for coordinate, layer, value in self.tokens(row):
                x, y = coordinate // 16, coordinate % 16
                box[layer][x][y] = max(box[layer][x][y], value)
            boxes.append(
                [
                    [[value / self.norms[layer] for value in column] for column in box[layer]]
                    for layer in range(self.layers)
                ]
            )
        return boxes

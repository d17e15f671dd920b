"""Settings of the architecture search's space, the `[space]` section of a recipe. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from evospike.core.errors import SettingsError
from evospike.core.settings import Settings, read_settings, require
from evospike.neurons.settings import NeuronSettings

Operation = Literal["conv3", "conv5", "sep3", "sep5", "dil3", "dil5", "avgpool3", "maxpool3", "skip"]
MotifSet = Literal["canonical", "as_coded"]
Feedback = Literal["same_step", "delayed"]
Reductions = Literal["static", "event", "searched"]

EMPTY = "empty"
"""The motif that carries nothing."""

MOST_CELLS, MOST_MODULES = 1000, 100
"""Of one architecture; the connections between modules grow as the square of their number."""

REACHES = (2, 3, 4)
"""How many preceding cells a cell can read, K."""


@dataclass(frozen=True)
class SpaceSettings(Settings):
    """Which networks a search can find (methods 4.3 to 4.6); a choice of one value is fixed and no gene.

    cells: number of cells; with `fewest_cells` above 0 a gene between both.
    channels: C, the width of a motif's nodes before any reduction; `widths` makes it a gene.
    operations: of a connection, between its neuron and its batch norm.
    motif_set: `canonical` is faithful to the circuits' names, `as_coded` to the released templates (methods 4.4).
    motifs: names a cell chooses from; `motif_file`: a TOML file with further ones (see `search.motif`); `own_motifs`:
        the text of such a file, as which every recipe that was read, and so the record of a run, holds it.
    feedback: adds to its target within the step, or delivers in the next one.
    signs: those of the motif, or a gene per connection. inputs: values of K that are allowed.
    macro: a cell reads the last K cells; `modules` adds delayed connections between modules of `module_cells` cells.
    reductions: where the image is halved; `static` and `event` as in methods 4.5, `searched` with up to
        `reduction_count` positions as genes.
    neurons: `kind:decay:threshold` of the neuron in front of a connection, as 'lif:0.5:1.0'; none: the network's own.
    operators: how genomes vary: scale by scale, or as in the released code (see `search.variation`).
    """

    cells: int = 6
    fewest_cells: int = 0
    channels: int = 16
    widths: tuple[int, ...] = ()
    operations: tuple[Operation, ...] = ("conv3", "conv5")
    motif_set: MotifSet = "canonical"
    motifs: tuple[str, ...] = ("FE", "FI", "FBI", "LI", "MI")
    motif_file: str = ""
    own_motifs: str = ""
    feedback: Feedback = "same_step"
    signs: Literal["motif", "free"] = "motif"
    inputs: tuple[int, ...] = (2, 3)
    macro: Literal["recent", "modules"] = "recent"
    module_cells: int = 5
    reductions: Reductions = "static"
    reduction_count: int = 3
    neurons: tuple[str, ...] = ()
    operators: Literal["scales", "released"] = "scales"

    def validate(self) -> None:
        for name in ("cells", "channels", "module_cells", "reduction_count"):
            require(getattr(self, name) >= 1, f"'{name}' must be at least 1, given {getattr(self, name)}")
        require(self.cells <= MOST_CELLS, f"'cells' must be at most {MOST_CELLS}, given {self.cells}")
        require(
            self.macro != "modules" or self.cells <= MOST_MODULES * self.module_cells,
            f"{self.cells} cells in modules of {self.module_cells} are over {MOST_MODULES} modules; give larger ones",
        )
        require(
            0 <= self.fewest_cells <= self.cells,
            f"'fewest_cells' must lie between 1 and cells = {self.cells}, or be 0 for a fixed number, "
            f"given {self.fewest_cells}",
        )
        require(all(width >= 1 for width in self.widths), f"'widths' must be positive, given {list(self.widths)}")
        for reach in self.inputs:
            require(reach in REACHES, f"'inputs' may hold 2, 3 and 4, given {reach}")
        self._validate_choices()
        self._validate_reductions()
        for text in self.neurons:
            parse_neuron(text)

    def _validate_choices(self) -> None:
        for name in ("operations", "motifs", "inputs"):
            require(bool(getattr(self, name)), f"'{name}' is empty; name at least one")
        for name in ("operations", "motifs", "inputs", "widths", "neurons"):
            values = getattr(self, name)
            twice = next((value for value in values if values.count(value) > 1), None)
            require(twice is None, f"'{name}' names {twice!r} twice; name each value once")
        require(
            not (self.motif_file and self.own_motifs),
            "'motif_file' and 'own_motifs' both define motifs; put them into one of the two",
        )
        require(set(self.motifs) != {EMPTY}, f"'motifs' holds only '{EMPTY}', which carries nothing; name another")

    def _validate_reductions(self) -> None:
        fewest = self.fewest_cells or self.cells
        if self.reductions == "searched":
            require(
                self.reduction_count < fewest,
                f"'reduction_count' is {self.reduction_count}, which may leave no motif among {fewest} cell(s); "
                "give fewer reductions or more cells",
            )
            return
        for cells in range(fewest, self.cells + 1):
            require(
                len(reduction_cells(self.reductions, cells)) < cells,
                f"with reductions = '{self.reductions}' {cells} cell(s) are all reductions and none has a motif; "
                "give more cells",
            )

    @property
    def cell_counts(self) -> tuple[int, ...]:
        """Numbers of cells that are allowed."""
        return tuple(range(self.fewest_cells or self.cells, self.cells + 1))


def reduction_cells(rule: Literal["static", "event"], cells: int) -> frozenset[int]:
    """Indices of the reduction cells among `cells` (methods 4.5)."""
    static = (cells // 4, cells // 2, 3 * cells // 4)
    return frozenset(i for i in (static if rule == "static" else (1, 3, 5, 7)) if i < cells)


@cache
def parse_neuron(text: str) -> NeuronSettings:
    """The constants that `kind:decay:threshold` names. Raises: SettingsError."""
    kind, *numbers = text.split(":")
    try:
        decay, threshold = (float(number) for number in numbers)
    except ValueError:
        raise SettingsError(
            f"cannot read neuron '{text}'; expected kind:decay:threshold, as in 'lif:0.5:1.0'"
        ) from None
    try:
        return read_settings(NeuronSettings, {"kind": kind, "decay": decay, "threshold": threshold})
    except SettingsError as error:
        raise SettingsError(f"neuron '{text}': {error}") from None

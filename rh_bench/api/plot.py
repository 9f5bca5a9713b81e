"""The heat map of a run as a matplotlib figure. No pyplot: no window, no global state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from rh_bench.api.notebook import cell
from rh_bench.api.optional import needed
from rh_bench.protocol import HEAD_THRESHOLD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rh_bench.api.run import Run

_INSTALL = "pip install 'rh-bench[plot]'"


def heat_map(run: Run, size: tuple[float, float] | None = None) -> Figure:
    """Layers × heads, coloured by score; cells without a score are grey, retrieval heads have a dot.

    Args:
        size: width and height in inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    figures = needed("matplotlib.figure", _INSTALL)
    layers, heads = len(run.layers), max(layer.query_heads for layer in run.layers)
    values = np.full((layers, heads), np.nan)
    for head in run.heads:
        if head.score is not None:
            values[head.layer, head.head] = head.score

    class Shown(figures.Figure):  # type: ignore[name-defined, misc]
        """A figure that a notebook displays by itself."""

        def _repr_png_(self) -> bytes:
            data = io.BytesIO()
            self.savefig(data, format="png", bbox_inches="tight")
            return data.getvalue()

    figure = Shown(figsize=size or (2.5 + 0.28 * heads, 1.8 + 0.18 * layers), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#d0d0d0")
    image = axes.imshow(values, cmap="viridis", vmin=0.0, aspect="auto", interpolation="nearest")
    marked = np.argwhere(values > HEAD_THRESHOLD)
    axes.plot(marked[:, 1], marked[:, 0], ".", color="#ff4d00", markersize=4, label=f"above {HEAD_THRESHOLD}")
    axes.set_xlabel("query head")
    axes.set_ylabel("layer")
    # A model's name is arbitrary text, not a formula.
    axes.set_title(f"Retrieval scores of {cell(run.model)}, n = {run.document['counts']['counted']}", parse_math=False)
    figure.colorbar(image, ax=axes, label="retrieval score")
    found: Figure = figure
    return found

"""The only module that imports matplotlib; `figure.py` imports it when the first picture is asked for."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


class Picture(Figure):
    """A figure that no window system knows of: it never pops up, and is freed like any object.

    pyplot is not involved, so there is no list of open figures to leak into and no backend to choose.
    """

    def __init__(self, width: float, height: float) -> None:
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        super().__init__(figsize=(width, height), layout=layout, facecolor="white")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        """PNG for Jupyter, which asks for exactly this method when a cell ends in the figure."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

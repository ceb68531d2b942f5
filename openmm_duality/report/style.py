"""Style of all figures: the reference in near-black with a grey band, every run in a colour of its own.

A figure is written twice: as PNG or SVG for a talk, and as SVG whose colours are variables of the page's style, so that
it follows light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, RULE = "#1c1c20", "#6b6b74", "#d9d9de"
REFERENCE, RUN = "#2d2d33", "#c2410c"
RUNS = (RUN, "#1d6fa5", "#2f7d4f", "#8a4fb0", "#9a6b05", "#b5306f")
WIDTH = 3.7  # inches: a figure is drawn at the width of a phone
_UNUSED = "figure|axes|patch|line2d|text|xtick|ytick|legend|matplotlib|FillBetween"  # identifiers that nothing names
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", REFERENCE: "--reference"}
_VARIABLES |= {colour: f"--run{number or ''}" for number, colour in enumerate(RUNS)}
_STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.width": 0.7,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The style in which every figure is drawn and written."""
    with matplotlib.rc_context(_STYLE):
        yield


def colour(column: int) -> str:
    """The colour of a run by its place."""
    return RUNS[column % len(RUNS)]


def inline(text: str) -> str:
    """A figure in SVG so that it can stand inside a page: colours as variables, no identifiers but its own, no size."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(rf'\bid="((?:{_UNUSED})[\w.]*)"', "", text)
    for size in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([\d.]+px|[a-z\d ]+ [\d.]+px) '[^;\"]*", r"font: \1 var(--sans)", text)
    for plain, variable in _VARIABLES.items():
        text = text.replace(plain, f"var({variable})")
    return text


def svg(figure: Figure, name: str) -> str:
    """A figure as a file in SVG, the same to the last character whenever it is written."""
    buffer = io.StringIO()
    with house_style(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """A figure as PNG on white, 200 dots per inch."""
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format="png", dpi=200, facecolor="white")
    return buffer.getvalue()

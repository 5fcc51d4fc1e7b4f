"""Charts as plain shapes: numbers in, coordinates out. A template draws them as SVG, without a script and without a
style of its own, so that the strictest content security policy lets them be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

#: The drawing's size, in units of its own; the page scales it.
WIDTH: Final = 640
HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 10, 26
#: How many lines across, at most.
TICKS: Final = 4
#: Large numbers, as they are called where there is no room for their digits.
SIZES: Final = ((1e12, "tn"), (1e9, "bn"), (1e6, "M"))
#: Every so many columns have their name below.
NAMED_EVERY: Final = 7


@dataclass(frozen=True, slots=True)
class Series:
    """One kind of number for each column; None where there is none. `style` is the CSS class of its shapes."""

    name: str
    values: Sequence[float | None]
    style: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, and what it says."""

    x: float
    y: float
    width: float
    height: float
    style: str
    says: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line through neighbouring columns that have a number."""

    points: str
    style: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One number on a line, and what it says."""

    x: float
    y: float
    style: str
    says: str


@dataclass(frozen=True, slots=True)
class Label:
    """A word at an axis."""

    x: float
    y: float
    text: str


@dataclass(slots=True)
class Drawing:
    """All shapes of a chart."""

    bars: list[Bar] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    across: list[Label] = field(default_factory=list)
    below: list[Label] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


def bars(columns: Sequence[str], series: Sequence[Series], *, unit: str = "") -> Drawing:
    """Bars, those of several series on top of each other."""
    sums = [sum(one.values[place] or 0 for one in series) for place in range(len(columns))]
    drawing, top = frame(columns, sums, unit=unit)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(columns))
    for place, column in enumerate(columns):
        below = 0.0
        for one in series:
            value = one.values[place] or 0
            if not value:
                continue
            height = across_range(value, top)
            x, y = LEFT + place * step + step * 0.12, HEIGHT - BOTTOM - across_range(below, top) - height
            says = f"{column}: {one.name} {shown(value)}{unit}"
            drawing.bars.append(Bar(rounded(x), rounded(y), rounded(step * 0.76), rounded(height), one.style, says))
            below += value
    return drawing


def lines(columns: Sequence[str], series: Sequence[Series], *, unit: str = "", highest: float | None = None) -> Drawing:
    """Lines, broken where there is no number."""
    known = [value for one in series for value in one.values if value is not None]
    drawing, top = frame(columns, known if highest is None else [highest], unit=unit)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(columns))
    for one in series:
        run: list[str] = []
        for place, (column, value) in enumerate(zip(columns, one.values, strict=True)):
            if value is None:
                drawing.lines += connect(run, one.style)
                run = []
                continue
            x, y = rounded(LEFT + (place + 0.5) * step), rounded(HEIGHT - BOTTOM - across_range(value, top))
            run.append(f"{x},{y}")
            drawing.dots.append(Dot(x, y, one.style, f"{column}: {one.name} {shown(value)}{unit}"))
        drawing.lines += connect(run, one.style)
    return drawing


def connect(run: Sequence[str], style: str) -> list[Line]:
    """A line through some points; one point alone is none."""
    return [Line(" ".join(run), style)] if len(run) > 1 else []


def frame(columns: Sequence[str], values: Sequence[float], *, unit: str) -> tuple[Drawing, float]:
    """A drawing with its axes, and the number at its upper end."""
    ticks = nice_ticks(max(values, default=0))
    top = ticks[-1]
    across = [
        Label(LEFT - 6, rounded(HEIGHT - BOTTOM - across_range(tick, top)), f"{shown(tick)}{unit}") for tick in ticks
    ]
    step = (WIDTH - LEFT - RIGHT) / max(1, len(columns))
    below = [
        Label(rounded(LEFT + (place + 0.5) * step), HEIGHT - 8, column)
        for place, column in enumerate(columns)
        if (len(columns) - 1 - place) % NAMED_EVERY == 0
    ]
    return Drawing(across=across, below=below), top


def nice_ticks(highest: float) -> list[float]:
    """Round numbers from 0 to at least the highest: 1, 2 or 5 of some power of ten apart."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999999)
    return [step * number for number in range(math.ceil(highest / step * 0.999999) + 1)]


def across_range(value: float, top: float) -> float:
    """How high above the axis a number lies."""
    return (HEIGHT - TOP - BOTTOM) * min(value, top) / top


def rounded(value: float) -> float:
    """Coordinates finer than this only make the page longer."""
    return round(value, 1)


def shown(value: float) -> str:
    """A number as people read it: 12,300 or 0.25, and 1.2 M, 3.5 bn or 20 tn."""
    for size, name in SIZES:
        if abs(value) >= size:
            return f"{round(value / size, 2):,.10g} {name}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"

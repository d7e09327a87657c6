"""Line charts as SVG, of which a repository can show the differences."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 330, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 28, 40
"""Of a panel, in pixels, around its axes."""
LEGEND_LINE = 20
LETTER = 6.5
"""How wide the letters of a legend are, in pixels, and a little more."""
TICKS = 5
LEAST_TICKS = 3
"""Of a logarithmic axis; with fewer, its range is so short that it is divided like another."""
MARGIN = 0.05
"""Of the range of values, above and below."""


@dataclass(frozen=True)
class Series:
    """A line, and the band between the lowest and the highest of several runs."""

    label: str
    colour: str
    points: list[Point]
    dash: str = ""
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    title: str
    x_label: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Axis:
    """From values to pixels."""

    first: float
    last: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, place = (self._scaled(one) for one in (self.first, self.last, value))
        return self.start + (self.end - self.start) * (place - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Round values between the first and the last."""
        if self.log:
            found = [
                digit * 10.0**power
                for power in range(math.floor(math.log10(self.first)), math.ceil(math.log10(self.last)) + 1)
                for digit in (1, 2, 5)
            ]
            if len(within := [value for value in found if self.first <= value <= self.last]) >= LEAST_TICKS:
                return within
        step = _round_step((self.last - self.first) / TICKS)
        return [step * number for number in range(math.ceil(self.first / step), math.floor(self.last / step) + 1)]


def chart(panels: list[Panel], columns: int) -> str:
    """An SVG document with the panels in rows, below one legend of all their lines."""
    legend = list({series.label: series for panel in panels for series in panel.series}.values())
    width = columns * WIDTH
    column = 50 + LETTER * max((len(series.label) for series in legend), default=0)
    each = max(1, int(width // column))
    top = 8 + LEGEND_LINE * math.ceil(len(legend) / each)
    height = top + HEIGHT * math.ceil(len(panels) / columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *(_legend(series, 10 + column * (i % each), 14 + LEGEND_LINE * (i // each)) for i, series in enumerate(legend)),
        *(_panel(panel, WIDTH * (i % columns), top + HEIGHT * (i // columns)) for i, panel in enumerate(panels)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(series: Series, x: float, y: float) -> str:
    line = f'<line x1="{x}" y1="{y}" x2="{x + 26}" y2="{y}" {_stroke(series)}/>'
    return f'{line}<text x="{x + 32}" y="{y + 4}">{escape(series.label)}</text>'


def _stroke(series: Series) -> str:
    dash = f' stroke-dasharray="{series.dash}"' if series.dash else ""
    return f'stroke="{series.colour}" stroke-width="1.8" fill="none"{dash}'


def _panel(panel: Panel, left: float, top: float) -> str:
    drawn = [series for series in panel.series if series.points]
    title = f'<text x="{left + LEFT}" y="{top + 16}" font-size="12" font-weight="bold">{escape(panel.title)}</text>'
    if not drawn:
        return title
    x = _axis((one[0] for series in drawn for one in series.points), left + LEFT, left + WIDTH - RIGHT, panel.log_x, 0)
    values = [v for series in drawn for v in (*(one[1] for one in series.points), *series.low, *series.high)]
    y = _axis(values, top + HEIGHT - BOTTOM, top + TOP, panel.log_y, MARGIN)
    return "\n".join(
        [
            title,
            *(_tick_x(value, x, y) for value in x.ticks()),
            *(_tick_y(value, x, y) for value in y.ticks()),
            f'<text x="{(x.start + x.end) / 2}" y="{y.start + 32}" text-anchor="middle">{escape(panel.x_label)}</text>',
            f'<path d="M{x.start} {y.end}V{y.start}H{x.end}" stroke="#444" fill="none"/>',
            *(_band(series, x, y) for series in drawn if series.low),
            *(_line(series, x, y) for series in drawn),
        ]
    )


def _axis(values: Iterable[float], start: float, end: float, log: bool, margin: float) -> Axis:
    found = list(values)
    if log:
        found = [max(value, 1e-9) for value in found]
    first, last = min(found), max(found)
    if log:
        spread = (last / first) ** margin if last > first else 2.0
        return Axis(first / spread, last * spread, start, end, log)
    spread = margin * (last - first) if last > first else abs(last) or 1.0
    return Axis(first - spread, last + spread, start, end, log)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)


def _tick_x(value: float, x: Axis, y: Axis) -> str:
    place = x(value)
    line = f'<path d="M{place:.1f} {y.start}V{y.end}" stroke="#e4e4e4"/>'
    return f'{line}<text x="{place:.1f}" y="{y.start + 15}" text-anchor="middle">{value:g}</text>'


def _tick_y(value: float, x: Axis, y: Axis) -> str:
    place = y(value)
    line = f'<path d="M{x.start} {place:.1f}H{x.end}" stroke="#e4e4e4"/>'
    return f'{line}<text x="{x.start - 5}" y="{place + 4:.1f}" text-anchor="end">{_short(value)}</text>'


def _short(value: float) -> str:
    return f"{value:.4g}"


def _line(series: Series, x: Axis, y: Axis) -> str:
    points = " ".join(f"{x(_shown(a, x)):.1f},{y(_shown(b, y)):.1f}" for a, b in series.points)
    return f'<polyline points="{points}" {_stroke(series)}/>'


def _band(series: Series, x: Axis, y: Axis) -> str:
    places = [one[0] for one in series.points]
    around = [*zip(places, series.high, strict=True), *reversed(list(zip(places, series.low, strict=True)))]
    points = " ".join(f"{x(_shown(a, x)):.1f},{y(_shown(b, y)):.1f}" for a, b in around)
    return f'<polygon points="{points}" fill="{series.colour}" fill-opacity="0.15" stroke="none"/>'


def _shown(value: float, axis: Axis) -> float:
    """A logarithm has no zero."""
    return max(value, 1e-9) if axis.log else value


def over(
    runs: list[list[Point]], middle: Callable[[list[float]], float]
) -> tuple[list[Point], list[float], list[float]]:
    """(line, lowest, highest) of several runs that have the same places."""
    places = [point[0] for point in runs[0]] if runs else []
    values = [[run[i][1] for run in runs] for i in range(len(places))]
    line = [(place, middle(found)) for place, found in zip(places, values, strict=True)]
    return line, [min(found) for found in values], [max(found) for found in values]

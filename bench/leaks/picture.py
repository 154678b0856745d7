"""Small multiples as SVG: a panel a kind, its memory, its limit, and where the alarms came."""

from collections.abc import Callable, Sequence
from html import escape

from bench.leaks import ours
from bench.leaks.series import Kind, Series, make

WIDE, HIGH, ACROSS = 190, 96, 6
PLOT_X, PLOT_Y, PLOT_W, PLOT_H = 6, 20, 178, 62
POINTS = 170
STYLE = """
text{font:9px sans-serif;fill:#333} .name{font-weight:600} .small{font-size:8px;fill:#777}
.memory{fill:none;stroke:#27548a;stroke-width:1} .limit{stroke:#999;stroke-dasharray:3 2;fill:none}
.frame{fill:#fafafa;stroke:#ddd} .onset{stroke:#7a7a7a;stroke-dasharray:1 2}
.confirmed{stroke:#c0241c;stroke-width:1.5} .suspected{stroke:#e39b2d} .hit{fill:#c0241c}
"""


def draw(kinds: Sequence[Kind], which: str, number: int = 0) -> str:
    """The series of one number of each kind."""
    rows = -(-len(kinds) // ACROSS)
    width, height = ACROSS * WIDE, rows * HIGH + 30
    panels = [
        f'<g transform="translate({i % ACROSS * WIDE},{i // ACROSS * HIGH + 26})">'
        f"{panel(make(kind, which, number))}</g>"
        for i, kind in enumerate(kinds)
    ]
    legend = (
        f'<text x="6" y="14"><tspan class="name">Seeds {escape(which)}:KIND:{number}.</tspan> '
        "Blue: memory. Dashed: the limit. Amber: suspected. Red: confirmed. Dotted: where the "
        "leak begins. L: leaks, each to its end. B: benign growth.</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><style>{STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{legend}{"".join(panels)}</svg>\n'
    )


def panel(series: Series) -> str:
    said = ours.judge(series, whole=True)
    last = series.ends_s or series.t[-1]
    limit = max(limit for _, limit in series.limits)
    top = limit if series.ends_s is not None else min(limit, 1.25 * max(series.mib))

    def x(t: float) -> float:
        return round(PLOT_X + PLOT_W * t / last, 1)

    def y(mib: float) -> float:
        return round(PLOT_Y + PLOT_H * (1 - min(1.0, mib / top)), 1)

    def upright(t: float, css: str) -> str:
        return f'<path class="{css}" d="M{x(t)} {PLOT_Y}V{PLOT_Y + PLOT_H}"/>'

    marks = [upright(t, "suspected") for t in said.suspected]
    marks += [upright(one.t, "confirmed") for one in said.confirmed]
    marks += [f'<circle class="hit" cx="{x(one.t)}" cy="{PLOT_Y}" r="2"/>' for one in
              said.confirmed]  # fmt: skip
    if series.onset_s:
        marks.append(upright(series.onset_s, "onset"))
    ends = [*(since for since, _ in series.limits[1:]), last]
    for (since, value), until in zip(series.limits, ends, strict=True):
        if value <= top:
            marks.append(f'<path class="limit" d="M{x(since)} {y(value)}H{x(until)}"/>')
    kind = series.kind
    return (
        f'<text class="name" x="{PLOT_X}" y="13">{kind.code} {escape(kind.name)}</text>'
        f'<rect class="frame" x="{PLOT_X}" y="{PLOT_Y}" width="{PLOT_W}" height="{PLOT_H}"/>'
        f'<path class="memory" d="M{line(series, x, y)}"/>{"".join(marks)}'
        f'<text class="small" x="{PLOT_X}" y="{PLOT_Y + PLOT_H + 9}">{span(last)}, up to '
        f"{top:.0f} MiB</text>"
    )


def line(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """Lowest and highest of each stretch, in their order: a saw stays a saw, and few points."""
    size = max(1, -(-len(series.t) // (POINTS // 2)))
    points = []
    for a in range(0, len(series.t), size):
        part = range(a, min(len(series.t), a + size))
        ends = {min(part, key=series.mib.__getitem__), max(part, key=series.mib.__getitem__)}
        points += [f"{x(series.t[i])} {y(series.mib[i])}" for i in sorted(ends)]
    return " ".join(points)


def span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"

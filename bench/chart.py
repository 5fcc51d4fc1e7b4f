"""`python -m bench.chart [RESULTS]`: the README's chart, drawn from the figures of one run (bench/results/latest.json).

A plain SVG with two sets of colours, of which the reader's own preference for light or dark chooses.
"""

import sys
from html import escape
from pathlib import Path
from typing import Final

from bench.figures import Results, Summary, load
from bench.stage import ROOT
from bench.table import number

LATEST: Final = ROOT / "bench/results/latest.json"
CHART: Final = ROOT / "bench/chart.svg"
#: Groups of bars that share a unit and a scale: title, and the figures with what they are called.
GROUPS: Final = (
    (
        "Accepted payments per second, 64 connections",
        {
            "accept_64": "this project",
            "asyncpg_accept_64": "FastAPI + asyncpg, one statement",
            "sqlalchemy_accept_64": "FastAPI + SQLAlchemy, outbox",
            "tx": "limit: PostgreSQL, one transaction each",
        },
    ),
    (
        "Payments per second from backlog to final",
        {"drain": "this project, outbox and events", "celery_drain": "Django + Celery threads, no outbox"},
    ),
    (
        "Accepted to final at 10 payments per second, median in ms (less is better)",
        {"latency_10": "this project", "sqlalchemy_latency_10": "outbox service with a 2 s poll"},
    ),
)
WIDTH, LABEL, BAR, HEAD, GAP = 760, 270, 22, 30, 16
STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .ours { fill: #1a7f5a; } .peer { fill: #8c959f; } .limit { fill: #d0d7de; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .ours { fill: #3fb68b; } .peer { fill: #6e7681; } .limit { fill: #30363d; }
  }
"""


def draw(results: Results) -> str:
    """The whole picture; what was not measured, or counts for nothing, is left out."""
    found = {key: it for key, it in results.summaries().items() if not it.faults}
    parts, top = [], 0
    for title, names in GROUPS:
        bars = {name: found[key] for key, name in names.items() if key in found}
        if bars:
            parts += group(title, bars, top)
            top += HEAD + BAR * len(bars) + GAP
    about = ", ".join(str(results.about.get(name, "")) for name in ("date", "machine", "PostgreSQL"))
    parts.append(f'<text x="0" y="{top + 14}" opacity="0.7">{escape(about)}</text>')
    size = f'width="{WIDTH}" height="{top + 24}" viewBox="0 0 {WIDTH} {top + 24}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="Benchmark">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def group(title: str, bars: dict[str, Summary], top: int) -> list[str]:
    """A title, and a bar for each figure, on one scale."""
    most = max(summary.median for summary in bars.values())
    lines = [f'<text class="title" x="0" y="{top + 18}">{escape(title)}</text>']
    for index, (name, summary) in enumerate(bars.items()):
        lines += bar(name, summary, share=summary.median / most, top=top + HEAD + BAR * index)
    return lines


def bar(name: str, summary: Summary, *, share: float, top: int) -> list[str]:
    """One of them."""
    width = max(1.0, share * (WIDTH - LABEL - 80))
    kind = "limit" if name.startswith("limit") else "ours" if name.startswith("this") else "peer"
    return [
        f'<text x="{LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{top + 2}" width="{width:.1f}" height="{BAR - 6}" rx="2"/>',
        f'<text x="{LABEL + width + 6:.1f}" y="{top + 15}">{number(summary.median)}</text>',
    ]


def main(file: str = str(LATEST)) -> None:
    """Draw it."""
    CHART.write_text(draw(load(Path(file))), encoding="utf-8")
    print(CHART.relative_to(ROOT))


if __name__ == "__main__":
    main(*sys.argv[1:])

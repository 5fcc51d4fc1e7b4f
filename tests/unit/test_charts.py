"""Charts: numbers become shapes within the drawing, whatever the numbers are."""

import pytest

from console.charts import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Series, bars, lines, nice_ticks, shown

DAYS = [f"day {number}" for number in range(30)]


@pytest.mark.parametrize("highest", [0, 0.004, 0.9, 1, 7, 99.9, 100, 1234, 10**9, 3 * 10**11])
def test_the_highest_number_never_leaves_the_drawing(highest):
    ticks = nice_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] >= highest
    assert 2 <= len(ticks) <= 6
    drawing = bars(DAYS, [Series("a", [highest] * 30, "a")])
    for bar in drawing.bars:
        assert bar.y >= TOP - 0.1
        assert bar.y + bar.height <= HEIGHT - BOTTOM + 0.2
        assert bar.x >= LEFT
        assert bar.x + bar.width <= WIDTH


def test_bars_of_one_day_stand_on_top_of_each_other():
    drawing = bars(["today"], [Series("a", [30], "a"), Series("b", [70], "b")])
    lower, upper = drawing.bars
    assert upper.y + upper.height == pytest.approx(lower.y, abs=0.2)
    assert upper.height == pytest.approx(lower.height * 7 / 3, abs=0.2)


def test_a_day_without_a_number_is_a_gap_and_not_a_zero():
    drawing = lines(DAYS[:5], [Series("rate", [90, 95, None, 99, None], "a")], unit=" %", highest=100)
    assert len(drawing.lines) == 1  # one point alone is no line
    assert len(drawing.dots) == 3
    assert "day 3: rate 99 %" in [dot.says for dot in drawing.dots]


@pytest.mark.parametrize("draw", [bars, lines])
def test_no_numbers_are_an_empty_drawing_and_no_error(draw):
    for columns in (DAYS, []):
        drawing = draw(columns, [Series("a", [None] * len(columns), "a")])
        assert [*drawing.bars, *drawing.lines, *drawing.dots] == []
        assert drawing.across


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (3, "3"),
        (2.5, "2.5"),
        (12_345, "12,345"),
        (1_250_000, "1.25 M"),
        (99.5, "99.5"),
        (12_345_000_000, "12.35 bn"),
        (3e14, "300 tn"),
        (9e18, "9,000,000 tn"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert shown(value) == text

"""The benchmark's arithmetic, on figures that are made up."""

import asyncio
import inspect
import xml.etree.ElementTree as ET
from uuid import uuid4

import pytest
from django.utils.module_loading import import_string

from bench import chart, figures, table
from bench.figures import Figure, Results
from bench.goals import GOALS, value_of, verdict
from bench.processes import cpu_seconds, megabytes
from bench.profiling import summary
from bench.settings import GATEWAYS as MEASURED
from config.settings import GATEWAYS
from payments.gateways.base import Approved, ChargeRequest, Gateway

GOAL = {goal.name: goal for goal in GOALS}


def made_up(**values):
    return Results([Figure(key=key, value=value, unit="req/s") for key, value in values.items()], {"date": "today"})


def test_a_failed_request_cannot_look_like_a_fast_one():
    results = made_up(accept_64=9_999, tx=10_000)
    results.add([Figure(key="accept_64", value=1, unit="req/s", fault="3 of 4 requests failed")])
    assert results.ratio("accept_64", "tx") is None
    assert verdict(GOAL["G1"], value_of(GOAL["G1"], results)) == "not measured"
    assert "! INVALID: accept_64: 3 of 4 requests failed" in table.render(results)


def test_one_slow_round_does_not_move_a_figure():
    results = made_up(tx=100)
    results.add(Figure(key="tx", value=value, unit="tx/s") for value in (5, 110))
    found = results.summaries()["tx"]
    assert (found.least, found.median, found.most) == (5, 100, 110)


def test_goals_are_not_judged_the_wrong_way_round():
    slow = made_up(accept_64=1_000, tx=10_000, latency_10=900, sqlalchemy_latency_10=1_000)
    fast = made_up(accept_64=6_000, tx=10_000, latency_10=4, sqlalchemy_latency_10=1_000)
    for name in ("G1", "G5"):
        assert verdict(GOAL[name], value_of(GOAL[name], slow)) == "not reached"
        assert verdict(GOAL[name], value_of(GOAL[name], fast)) == "reached, moonshot too"


def test_what_was_not_measured_is_not_reached():
    assert {verdict(goal, value_of(goal, made_up())) for goal in GOALS} == {"not measured"}


def test_results_do_not_change_on_their_way_through_the_file(tmp_path):
    results = made_up(accept_64=12.5)
    results.save(tmp_path / "results.json")
    assert figures.load(tmp_path / "results.json") == results


def test_the_chart_is_no_broken_picture_and_leaves_out_what_counts_for_nothing():
    results = made_up(accept_64=1_000, tx=10_000, drain=500)
    results.add([Figure(key="asyncpg_accept_64", value=5, unit="req/s", fault="it was down")])
    picture = chart.draw(results)
    bars = ET.fromstring(picture).findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 3
    assert "asyncpg" not in picture


def test_the_cpu_of_a_process_that_is_gone_is_no_error():
    assert cpu_seconds(2**22 + 1) == 0
    assert megabytes([2**22 + 1]) == []


def test_a_function_that_calls_itself_is_not_counted_twice():
    found = summary("web", ["main (a.py:1);loop (a.py:2);loop (a.py:3) 3", "main (a.py:1) 1"])
    assert " 75.0%  loop (a.py)" in found
    assert "100.0%  main (a.py)" in found


@pytest.fixture
def charge():
    return ChargeRequest(
        key="k",
        payment_id=uuid4(),
        merchant="m",
        order_id="o",
        amount=1,
        currency="EUR",
        payment_method="p",
        request_id="",
    )


def test_the_measured_gateway_is_called_as_the_others_are_and_approves(charge, tmp_path):
    entry = MEASURED["sandbox"]
    adapter = import_string(entry["BACKEND"])(**{**entry["OPTIONS"], "folder": str(tmp_path)})
    assert inspect.iscoroutinefunction(adapter.charge) == inspect.iscoroutinefunction(Gateway.charge)
    answer = adapter.charge(charge, deadline=1)
    assert isinstance(asyncio.run(answer) if inspect.iscoroutine(answer) else answer, Approved)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["1"], "the calls in flight are not counted"


def test_the_benchmark_changes_nothing_but_who_answers():
    product, measured = GATEWAYS["sandbox"], MEASURED["sandbox"]
    assert product["BACKEND"].startswith("payments.gateways.")
    assert {name for name in product if product[name] != measured[name]} == {"BACKEND", "OPTIONS"}

"""A caller chooses its request id only within what logs and columns can bear."""

import pytest

from messaging.correlation import ACCEPTABLE, choose_request_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.mark.parametrize("offered", ["r", "order-7:try_1.a", "R" * 128])
def test_a_sound_id_is_kept(offered):
    assert choose_request_id({"HTTP_X_REQUEST_ID": offered, "HTTP_TRACEPARENT": TRACEPARENT}) == offered


@pytest.mark.parametrize(
    "offered", ["", "a\nb", "a\n", "a\r\nforged: line", "R" * 129, "a b", "ä", "\x00", '"a"', "<b>", "{a}"]
)
def test_an_unsound_id_is_replaced(offered):
    chosen = choose_request_id({"HTTP_X_REQUEST_ID": offered})
    assert chosen != offered
    assert ACCEPTABLE.fullmatch(chosen)


@pytest.mark.parametrize("headers", [{}, {"HTTP_X_REQUEST_ID": "a b"}])
def test_the_trace_id_is_taken_where_no_sound_id_is_offered(headers):
    assert choose_request_id({**headers, "HTTP_TRACEPARENT": TRACEPARENT}) == TRACE


@pytest.mark.parametrize(
    "traceparent",
    [
        TRACEPARENT.upper(),
        f"{TRACEPARENT}\n",
        TRACE,
        f"00-{TRACE[1:]}-00f067aa0ba902b7-01",
        f"x{TRACEPARENT}",
        "00-a-b-c",
    ],
)
def test_a_malformed_traceparent_is_ignored(traceparent):
    assert choose_request_id({"HTTP_TRACEPARENT": traceparent}).lower() != TRACE


def test_the_trace_id_of_zeros_is_nobodys():
    """W3C Trace Context: a trace id of zeros is invalid; taken up, it would tie strangers' requests together."""
    zeros = "0" * 32
    assert choose_request_id({"HTTP_TRACEPARENT": f"00-{zeros}-00f067aa0ba902b7-01"}) != zeros


def test_two_requests_without_an_id_never_get_the_same():
    assert len({choose_request_id({}) for _ in range(100)}) == 100

"""The table of moves makes sense as a whole."""

import pytest

from payments.events import EventType, entered
from payments.states import FINAL, HOLDING, IN_WORK, LEGAL_MOVES, Status


def reachable(start):
    seen, frontier = set(), {start}
    while frontier:
        seen |= frontier
        frontier = {to for state in frontier for to in LEGAL_MOVES[state]} - seen
    return seen


def test_every_state_has_its_row():
    assert set(LEGAL_MOVES) == set(Status)


def test_no_state_is_out_of_reach():
    assert reachable(Status.PENDING) == set(Status)


def test_no_payment_can_get_stuck_short_of_a_final_state():
    for state in Status:
        assert reachable(state) & FINAL, state


def test_no_paid_or_canceled_payment_ever_moves_again():
    assert LEGAL_MOVES[Status.SUCCEEDED] == LEGAL_MOVES[Status.CANCELED] == frozenset()


def test_only_an_operators_replay_leads_out_of_failure():
    assert LEGAL_MOVES[Status.FAILED] == {Status.PENDING}
    assert [state for state in Status if Status.PENDING in LEGAL_MOVES[state]] == [Status.FAILED]


def test_an_unknown_outcome_is_never_canceled_nor_sent_again_by_guess():
    assert not LEGAL_MOVES[Status.UNKNOWN] & {Status.CANCELED, Status.PENDING, Status.PROCESSING}


def test_no_payment_is_charged_without_a_claim():
    into_success = {state for state in Status if Status.SUCCEEDED in LEGAL_MOVES[state]}
    assert into_success == {Status.PROCESSING, Status.UNKNOWN, Status.AUTHORIZED}


def test_no_order_is_let_go_while_money_may_move():
    assert set(Status) - HOLDING == {Status.FAILED, Status.CANCELED}


def test_no_final_state_is_in_work():
    assert not FINAL & IN_WORK


@pytest.mark.parametrize("status", Status)
def test_entering_any_state_is_an_event(status):
    assert isinstance(entered(status.value), EventType)


def test_a_replayed_payment_is_never_announced_as_created_again():
    """`pending` is entered a second time by a replay; whoever counts `payment.created` would count it twice."""
    assert entered(Status.PENDING) != EventType.CREATED

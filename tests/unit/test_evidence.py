"""What follows from a gateway's reply: the whole table, against the rule that a payment fails by proof only."""

from itertools import product

import pytest

from payments.gateways.base import (
    Approved,
    Declined,
    LookupAnswer,
    NotFound,
    OutcomeUnknown,
    RequestRejected,
    Unavailable,
)
from payments.operations.evidence import TABLE, Consequence, Earlier, consequence_of
from payments.states import AttemptKind

REPLIES = [
    Approved(reference="ch_1"),
    Declined(decline_code="card_declined", detail=""),
    RequestRejected(code="payment_method_unknown", detail=""),
    Unavailable(detail="503"),
    OutcomeUnknown(detail="reset"),
    NotFound(),
]
#: What can never happen: a charge is not answered with "not found", and a replay asks before it sends.
IMPOSSIBLE = {
    *((AttemptKind.CHARGE, earlier, NotFound) for earlier in Earlier),
    *((AttemptKind.CHARGE, Earlier.REPLAYED, type(reply)) for reply in REPLIES),
}
CASES = [case for case in product(AttemptKind, Earlier, REPLIES) if (*case[:2], type(case[2])) not in IMPOSSIBLE]
FAILURES = {Consequence.FAIL_DECLINED, Consequence.FAIL_REJECTED}
UNRESOLVED = [Earlier.UNRESOLVED, Earlier.UNRESOLVED_AND_REFUSED]


def test_the_table_has_every_case_and_no_other():
    listed = {(kind, earlier, reply) for (kind, earlier), replies in TABLE.items() for reply in replies}
    assert listed == {(kind, earlier, type(reply)) for kind, earlier, reply in CASES}


def test_every_reply_of_a_gateway_is_in_the_table():
    assert {type(reply) for reply in REPLIES} == set(LookupAnswer.__args__)


@pytest.mark.parametrize(("kind", "earlier", "reply"), CASES)
def test_a_payment_never_fails_while_an_earlier_request_is_unresolved(kind, earlier, reply):
    """But by the gateway's own record of the key, which a look-up reads: it covers every request under the key."""
    fails = consequence_of(kind, earlier, reply) in FAILURES
    proved_by_look_up = kind == AttemptKind.LOOKUP and isinstance(reply, Declined)
    assert not fails or earlier == Earlier.NONE_TAKEN or proved_by_look_up


@pytest.mark.parametrize(("kind", "earlier", "reply"), CASES)
def test_nothing_is_sent_again_while_the_outcome_of_an_earlier_request_was_not_looked_up(kind, earlier, reply):
    sends = {Consequence.RETRY, Consequence.SEND_AGAIN, Consequence.SEND_UNDER_NEXT_KEY}
    may_send = earlier in {Earlier.NONE_TAKEN, Earlier.REPLAYED} or isinstance(reply, NotFound)
    assert consequence_of(kind, earlier, reply) not in sends or may_send


@pytest.mark.parametrize(("kind", "earlier"), list(TABLE))
def test_an_approval_always_succeeds_and_nothing_else_does(kind, earlier):
    succeeding = {
        type(reply)
        for reply in REPLIES
        if (kind, earlier, reply) in CASES and consequence_of(kind, earlier, reply) is Consequence.SUCCEED
    }
    assert succeeding == {Approved}


@pytest.mark.parametrize(("kind", "earlier", "reply"), CASES)
def test_a_decline_is_reported_as_one_and_a_rejected_request_as_one(kind, earlier, reply):
    """A rejected request says nothing about a card, and a look-up that was rejected nothing about the charge."""
    expected = {Consequence.FAIL_DECLINED: Declined, Consequence.FAIL_REJECTED: RequestRejected}
    consequence = consequence_of(kind, earlier, reply)
    assert consequence not in expected or isinstance(reply, expected[consequence])
    assert consequence is not Consequence.FAIL_REJECTED or kind == AttemptKind.CHARGE


@pytest.mark.parametrize("reply", [Unavailable(detail="429"), OutcomeUnknown(detail="reset")])
@pytest.mark.parametrize("earlier", UNRESOLVED)
@pytest.mark.parametrize("kind", AttemptKind)
def test_a_reply_that_proves_nothing_is_followed_by_look_ups(kind, earlier, reply):
    assert consequence_of(kind, earlier, reply) is Consequence.LOOK_UP_LATER


def test_a_not_found_after_a_refusal_under_the_key_is_looked_up_and_not_sent_again():
    consequence = consequence_of(AttemptKind.LOOKUP, Earlier.UNRESOLVED_AND_REFUSED, NotFound())
    assert consequence is Consequence.LOOK_UP_LATER


def test_a_decline_beside_an_unresolved_request_is_looked_up_at_once():
    for earlier in UNRESOLVED:
        assert consequence_of(AttemptKind.CHARGE, earlier, REPLIES[1]) is Consequence.LOOK_UP_NOW

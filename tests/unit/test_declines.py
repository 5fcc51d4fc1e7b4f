"""Every code says what to do, to the merchant and to support."""

import pytest

from payments.declines import DECLINES, ERRORS, UNEXPECTED, DeclineClass, advice_for, support_for
from sandbox.behaviours import BEHAVIOURS


def test_no_decline_of_the_sandbox_is_without_advice():
    codes = {behaviour.decline_code for behaviour in BEHAVIOURS.values() if behaviour.decline_code}
    assert codes
    assert codes <= DECLINES.keys()


@pytest.mark.parametrize("code", ERRORS)
def test_no_error_of_the_payments_way_is_without_advice(code):
    assert advice_for(code, "") == ERRORS[code] != UNEXPECTED


def test_a_decline_code_advises_more_closely_than_the_error_code():
    assert advice_for("declined", "expired_card") == DECLINES["expired_card"].advice
    assert advice_for("declined", "never_heard_of") == ERRORS["declined"]
    assert advice_for("never_heard_of", "never_heard_of") == UNEXPECTED


def test_nobody_is_told_to_pay_again_while_the_outcome_is_unknown():
    assert ERRORS["outcome_unknown"].startswith("Do not pay again")


@pytest.mark.parametrize("code", [code for code, decline in DECLINES.items() if decline.category == DeclineClass.FRAUD])
def test_no_merchant_is_led_to_tell_a_thief_what_gave_him_away(code):
    advice = advice_for("declined", code)
    assert "do not tell" in advice
    assert not {"stolen", "lost", "fraud"} & set(advice.lower().replace(".", "").split())


@pytest.mark.parametrize("code", DECLINES)
def test_support_reads_what_happened_and_of_which_class_it_is(code):
    told = support_for("declined", code)
    assert DECLINES[code].support in told
    assert f"({DECLINES[code].category} decline)" in told
    assert advice_for("declined", code) in told


def test_support_reads_the_advice_where_there_is_no_decline():
    assert support_for("retries_exhausted", "") == ERRORS["retries_exhausted"]

"""Each magic payment method of the sandbox ends where the documentation says."""

from collections.abc import Iterator

import pytest

from sandbox.behaviours import BEHAVIOURS
from tests.system import System

#: Method -> status, error code, charges in the journal, calls to the gateway in order.
ENDS = {
    "pm_ok": ("succeeded", "", 1, "charge approved"),
    "pm_duplicate_webhook": ("succeeded", "", 1, "charge approved"),
    "pm_slow": ("succeeded", "", 1, "charge approved"),
    "pm_declined": ("failed", "card_declined", 0, "charge declined"),
    "pm_insufficient_funds": ("failed", "insufficient_funds", 0, "charge declined"),
    "pm_expired_card": ("failed", "expired_card", 0, "charge declined"),
    "pm_unheard_of": ("failed", "payment_method_unknown", 0, "charge rejected"),
    "pm_flaky_2": ("succeeded", "", 1, "charge unavailable, charge unavailable, charge approved"),
    "pm_rate_limited": ("succeeded", "", 1, "charge unavailable, charge approved"),
    "pm_down": ("failed", "retries_exhausted", 0, ", ".join(["charge unavailable"] * 4)),
    "pm_timeout_charged": ("succeeded", "", 1, "charge unknown, lookup approved"),
    "pm_reset": ("succeeded", "", 1, "charge unknown, lookup approved"),
    "pm_reset_within": ("succeeded", "", 1, "charge unknown, lookup approved"),
    "pm_error_500": ("succeeded", "", 1, "charge unknown, lookup approved"),
    "pm_garbage": ("succeeded", "", 1, "charge unknown, lookup approved"),
    "pm_timeout_not_charged": ("succeeded", "", 1, "charge unknown, lookup not_found, charge approved"),
    "pm_reset_before": ("succeeded", "", 1, "charge unknown, lookup not_found, charge approved"),
}


@pytest.fixture(scope="module")
def system(tmp_path_factory, virtual_hosts) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("system"), host=next(virtual_hosts), deadline=8.0, lease=20.0)
    try:
        made.set_up()
        made.start("relay")
        made.start("worker", WORKER_THREADS="16")
        yield made
    finally:
        made.tear_down()


@pytest.fixture(scope="module")
def ids(system) -> dict[str, str]:
    """One payment with each method, all final."""
    accepted = {method: system.post(method, order_id=method, payment_method=method).json()["id"] for method in ENDS}
    system.await_final(list(accepted.values()), within=120)
    return accepted


def test_no_value_of_the_sandbox_is_without_its_row():
    assert BEHAVIOURS.keys() == ENDS.keys() - {"pm_unheard_of"}


@pytest.mark.parametrize("method", ENDS)
def test_each_value_ends_where_the_documentation_says(system, ids, method):
    status, code, charges, calls = ENDS[method]
    payment = system.get(ids[method])
    error = payment["last_error"] or {"code": "", "decline_code": None}
    assert (payment["status"], error["decline_code"] or error["code"]) == (status, code)
    assert sum(entry["payment_id"] == ids[method] for entry in system.journal()) == charges
    attempts = system.query(
        "SELECT kind, outcome, gateway_key FROM payments_attempt WHERE payment_id = %s ORDER BY id", ids[method]
    )
    assert ", ".join(f"{attempt['kind']} {attempt['outcome']}" for attempt in attempts) == calls
    assert len({attempt["gateway_key"] for attempt in attempts}) == 1
    letters = system.query("SELECT FROM messaging_deadletter WHERE subject = %s", f"payment:{ids[method]}")
    assert len(letters) == (method == "pm_down")


def test_all_of_them_together_leave_nothing_behind(system, ids):
    system.verify(list(ids.values()))

"""The sandbox's settings: strict, applied whole or not at all, and repeatable."""

import http.client
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.settings import LiveSettings, SettingInvalid, draw

DEFAULTS = {
    "latency": 0.0, "mended": [], "faults": {}, "seed": 0, "forget_keys": False, "refund_fault": "",
    "webhook_delay": 0.0,
    "webhook_copies": 1, "webhook_shuffle": False,
}  # fmt: skip
CHARGE = {"merchant": "shop", "order_id": "o-1", "amount": 1000, "currency": "EUR", "payment_method": "pm_ok"}


def test_a_gateway_is_faultless_until_told_otherwise():
    assert LiveSettings().shown() == DEFAULTS


@pytest.mark.parametrize(
    "change",
    [
        {"latency": 120}, {"latency": 0.5}, {"faults": {"pm_down": 1}}, {"faults": {}},
        {"faults": {"pm_reset": 0.7, "pm_down": 0.2, "pm_garbage": 0.1}}, {"seed": -1}, {"seed": 10**30},
        {"forget_keys": True}, {"refund_fault": "pm_down"}, {"refund_fault": ""},
        {"webhook_delay": 3600}, {"webhook_copies": 5}, {"webhook_shuffle": True}, {},
        {"mended": ["pm_down"]}, {"mended": []},
        {"latency": 1, "seed": 2},
    ],
)  # fmt: skip
def test_a_good_setting_is_taken_and_the_others_stay(change):
    settings = LiveSettings()
    settings.change(change)
    assert settings.shown() == {**DEFAULTS, **change}


def test_as_many_faults_as_there_are_methods_may_share_the_whole_probability():
    LiveSettings({"faults": dict.fromkeys(["pm_down", "pm_reset", "pm_garbage"], 1 / 3)})
    tenths = ["pm_declined", "pm_down", "pm_reset", "pm_garbage", "pm_slow", "pm_flaky_2", "pm_reset_before"]
    LiveSettings({"faults": {**dict.fromkeys(tenths, 0.1), "pm_error_500": 0.3}})


WRONG = [
    {"latency": -1}, {"latency": 120.5}, {"latency": "1"}, {"latency": True}, {"latency": None},
    {"latency": float("nan")}, {"latency": float("inf")}, {"latency": []}, {"latency": 10**400},
    {"faults": None}, {"faults": []}, {"faults": {"pm_nothing": 0.1}}, {"faults": {"pm_down": 1.1}},
    {"faults": {"pm_down": -0.1}}, {"faults": {"pm_down": "1"}}, {"faults": {"pm_down": True}},
    {"faults": {"pm_down": 0.6, "pm_reset": 0.5}}, {"faults": {"pm_down": float("nan")}},
    {"seed": 1.0}, {"seed": "1"}, {"seed": False}, {"forget_keys": 1}, {"forget_keys": "true"},
    {"refund_fault": "pm_x"}, {"refund_fault": None}, {"refund_fault": 1},
    {"webhook_delay": -1}, {"webhook_delay": 3601}, {"webhook_delay": None}, {"webhook_copies": 0},
    {"webhook_copies": 6}, {"webhook_copies": 1.5}, {"webhook_copies": True}, {"webhook_shuffle": None},
    {"mended": "pm_down"}, {"mended": ["pm_nothing"]}, {"mended": [1]}, {"mended": None}, {"latncy": 1}, {"": 1},
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_setting_changes_nothing_and_is_told_with_its_mend(change):
    settings = LiveSettings({"latency": 2, "webhook_copies": 3})
    before = settings.shown()
    with pytest.raises(SettingInvalid, match=r"it must be (a|an|true) |there are latency, faults") as error:
        settings.change({"seed": 7, **change})
    assert next(iter(change)) in str(error.value)
    assert settings.shown() == before


def test_what_is_shown_is_never_what_is_kept():
    settings = LiveSettings({"faults": {"pm_down": 0.5}})
    settings.shown()["faults"]["pm_down"] = 1.0
    assert settings.current.faults == {"pm_down": 0.5}


def test_what_was_down_charges_again_once_it_is_mended():
    settings = LiveSettings({"mended": ["pm_down"]})
    assert [settings.drawn(method) for method in ("pm_down", "pm_declined")] == ["pm_ok", "pm_declined"]
    settings.change({"mended": []})
    assert settings.drawn("pm_down") == "pm_down"


# --- faults


def draws(settings, count=200):
    return [settings.drawn("pm_ok") for _ in range(count)]


def test_the_same_seed_draws_the_same_faults():
    faults = {"pm_down": 0.3, "pm_reset": 0.2}
    settings = LiveSettings({"faults": faults, "seed": 42})
    first = draws(settings)
    assert set(first) == {"pm_ok", "pm_down", "pm_reset"}
    assert draws(settings) != first
    settings.change({"seed": 42})
    assert draws(settings) == first
    assert draws(LiveSettings({"faults": faults, "seed": 43})) != first


def test_the_order_of_webhooks_does_not_change_which_charges_fail():
    faults = {"pm_down": 0.5}
    disturbed = LiveSettings({"faults": faults})
    disturbed.pick(100)
    assert draws(disturbed) == draws(LiveSettings({"faults": faults}))


def test_a_gateway_without_faults_uses_up_no_draws():
    settings = LiveSettings({"seed": 1})
    draws(settings)
    settings.change({"faults": {"pm_down": 0.5}})
    assert draws(settings) == draws(LiveSettings({"seed": 1, "faults": {"pm_down": 0.5}}))


def test_only_an_ordinary_payment_method_meets_with_faults():
    settings = LiveSettings({"faults": {"pm_down": 1}})
    assert settings.drawn("pm_ok") == "pm_down"
    assert settings.drawn("pm_declined") == "pm_declined"


def test_faults_come_about_as_often_as_they_should():
    settings = LiveSettings({"faults": {"pm_down": 0.25, "pm_reset": 0.05}})
    drawn = draws(settings, 10_000)
    assert drawn.count("pm_down") == pytest.approx(2500, abs=200)
    assert drawn.count("pm_reset") == pytest.approx(500, abs=100)


@pytest.mark.parametrize(
    ("point", "fault"), [(0.0, "a"), (0.09, "a"), (0.11, "b"), (0.29, "b"), (0.31, None), (0.999, None)]
)
def test_each_fault_has_its_own_part_of_the_line(point, fault):
    assert draw({"a": 0.1, "b": 0.2}, point) == fault


def test_a_fault_of_probability_zero_never_happens():
    assert draw({"a": 0.0}, 0.0) is None


def test_settings_bear_many_threads():
    settings = LiveSettings({"faults": {"pm_down": 0.5}})

    def one(number):
        settings.change({"latency": number, "webhook_delay": number})
        shown = settings.shown()
        settings.drawn("pm_ok")
        return shown["latency"] == shown["webhook_delay"]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, [random.randint(0, 100) for _ in range(500)]))


# --- over HTTP


@pytest.fixture
def call(sandbox):
    """Send one request and read its answer."""

    def do(method, path, document=None, headers=None):
        connection = http.client.HTTPConnection(*sandbox.server.server_address, timeout=10)
        body = document if isinstance(document, bytes | None) else json.dumps(document)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        answer = response.status, json.loads(response.read())
        connection.close()
        return answer

    return do


def charge(call, key, payment_id="p-1", method="pm_ok"):
    document = {**CHARGE, "payment_id": payment_id, "payment_method": method}
    return call("POST", "/v1/charges", document, {"Idempotency-Key": key})


def test_settings_are_shown_changed_and_forgotten_over_http(call):
    assert call("GET", "/settings") == (200, DEFAULTS)
    changed = {**DEFAULTS, "latency": 0.0, "webhook_copies": 2}
    assert call("PATCH", "/settings", {"webhook_copies": 2}) == (200, changed)
    assert call("GET", "/settings") == (200, changed)
    assert call("DELETE", "/settings") == (200, DEFAULTS)
    assert call("GET", "/settings") == (200, DEFAULTS)


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b'"latency"', b'{"latency": NaN}', {"latncy": 1}, {"seed": "x"}]
)
def test_a_wrong_change_over_http_is_a_400_and_changes_nothing(call, document):
    status, answer = call("PATCH", "/settings", document)
    assert status == 400
    assert answer["error"]["code"] in {"body_invalid", "setting_invalid"}
    assert call("GET", "/settings") == (200, DEFAULTS)


def test_a_fault_of_certainty_meets_every_ordinary_charge_and_no_look_up(call, sandbox):
    charge(call, "k-1")
    call("PATCH", "/settings", {"faults": {"pm_down": 1}})
    assert charge(call, "k-2")[0] == charge(call, "k-1")[0] == 503
    assert charge(call, "k-3", method="pm_declined")[0] == 402
    assert call("GET", "/v1/charges?idempotency_key=k-1")[0] == 200
    assert call("GET", "/v1/charges?idempotency_key=k-2")[0] == 404
    assert len(sandbox.charges()) == 1


def test_a_fault_is_drawn_anew_for_each_request(call):
    call("PATCH", "/settings", {"faults": {"pm_down": 0.5}, "seed": 3})
    expected = LiveSettings({"faults": {"pm_down": 0.5}, "seed": 3})
    statuses = [charge(call, "k-1")[0] for _ in range(20)]
    assert statuses == [503 if method == "pm_down" else 200 for method in draws(expected, 20)]
    assert set(statuses) == {200, 503}


def test_a_gateway_that_forgets_keys_charges_twice_and_says_so(call, sandbox):
    call("PATCH", "/settings", {"forget_keys": True})
    (_, first), (_, second) = charge(call, "k-1"), charge(call, "k-1")
    assert first["id"] != second["id"]
    assert [effect["seq"] for effect in sandbox.charges()] == [1, 2]
    assert call("GET", "/v1/charges?idempotency_key=k-1")[1]["id"] == first["id"]
    call("DELETE", "/settings")
    assert charge(call, "k-1")[1]["id"] == first["id"]


def test_latency_comes_after_the_decision_and_holds_up_charges_and_look_ups_only(call, sandbox):
    pauses = []
    sandbox.server.pause = lambda seconds: pauses.append((seconds, len(sandbox.charges())))
    call("PATCH", "/settings", {"latency": 7})
    charge(call, "k-1")
    assert pauses == [(0.0, 1), (7, 1)]  # what the payment method wants, and what the setting wants
    pauses.clear()
    call("GET", "/v1/charges?idempotency_key=k-1")
    call("GET", "/v1/charges?idempotency_key=k-9")
    charge(call, "k-2", method="pm_down")
    call("POST", "/v1/charges", {})
    assert pauses == [(7, 1)] * 4
    pauses.clear()
    call("GET", "/journal")
    call("GET", "/livez")
    call("GET", "/settings")
    assert pauses == []


# --- at start


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"latncy": 1}', '{"latency": 1000}', '{"faults": {"pm_down": 2}}', "latency=1"]
)
def test_settings_that_cannot_be_used_stop_the_start_with_one_line(tmp_path, text):
    argv = [sys.executable, "-m", "sandbox", "--port", "0", "--data", str(tmp_path / "data"), "--settings", text]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("--settings cannot be used: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()

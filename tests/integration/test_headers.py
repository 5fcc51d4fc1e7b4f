"""Headers, cookies, and what strangers are told: nothing unsafe, nothing kept, no names of ours."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from console.security import DATA_POLICY
from messaging.heartbeats import Pulse
from tests.console import browser, person
from tests.dying import foreign

#: See tests/doors.py.
BOTH_DOORS = True

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("quick_passwords")]

TOKEN = "a-token-of-the-tests"
#: What the policy keeps from working: then the page is broken, and somebody would loosen the policy.
INLINE = re.compile(
    r"""<style|\sstyle\s*=|\son[a-z]+\s*=\s*["']|javascript:|<script(?![^>]*\ssrc=)[^>]*>(?!\s*</script)""",
    re.IGNORECASE,
)
ROOT = Path(configured.BASE_DIR)


@pytest.fixture
def production(settings):
    settings.ENV = replace(settings.ENV, production=True)


def policy(answer):
    return dict(part.strip().partition(" ")[::2] for part in answer["Content-Security-Policy"].split(";"))


# --- headers


@pytest.mark.parametrize(
    "address",
    [
        "/admin/login/",
        "/problems/not_found",
        "/nothing",
        "/static/console/admin.css",
        "/api/v1/payments",
        "/livez",
        "/metrics",
        "/docs",
        "/api/v1/schema",
    ],
)
def test_every_answer_has_the_headers_that_keep_others_out(client, address):
    answer = Client().get(address)
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"]
    assert policy(answer)["frame-ancestors"] == "'none'"
    assert "Access-Control-Allow-Origin" not in answer
    assert "unsafe-eval" not in answer["Content-Security-Policy"]
    answer.close()


def test_pages_run_and_show_only_what_is_ours():
    found = policy(Client().get("/admin/login/"))
    assert found == {
        "default-src": "'self'", "base-uri": "'none'", "form-action": "'self'", "frame-ancestors": "'none'",
        "object-src": "'none'",
    }  # fmt: skip


def test_nothing_but_the_documentation_may_have_styles_in_the_page():
    for address in ("/admin/login/", "/problems/not_found", "/nothing", "/"):
        assert "unsafe" not in Client().get(address)["Content-Security-Policy"]
    docs = policy(Client().get("/docs"))
    assert docs["style-src"] == "'self' 'unsafe-inline'"
    assert docs.get("script-src", docs["default-src"]) == "'self'"


def test_data_is_never_a_page(client):
    for answer in (client.get("/api/v1/payments"), Client().get("/api/v1/payments"), Client().get("/health")):
        assert answer["Content-Security-Policy"] == DATA_POLICY


def test_answers_with_data_are_kept_by_nobody(client):
    for answer in (
        client.get("/api/v1/payments"),
        client.get("/api/v1/events"),
        Client().get("/metrics"),
        browser(person()).get("/admin/"),
        browser(person("bob")).get("/admin/password_change/"),
    ):
        assert "no-store" in answer["Cache-Control"]
    style = Client().get("/static/console/admin.css")
    assert "no-store" not in style["Cache-Control"]
    style.close()


def test_cookies_are_for_the_server_alone():
    client = browser(person())
    for name in ("sessionid", "csrftoken"):
        client.get("/admin/password_change/")
        assert client.cookies[name]["httponly"]
        assert client.cookies[name]["samesite"] == "Lax"


# --- the pages fit the policy


def ours():
    return sorted(path for path in (ROOT / "templates").rglob("*.html") if "mail" not in path.parts)


@pytest.mark.parametrize("path", ours(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_template_of_ours_needs_an_unsafe_policy(path):
    assert not INLINE.search(path.read_text())


def test_no_page_of_the_console_needs_an_unsafe_policy(accept, merchant):
    accept()
    foreign(b"{}")
    client = browser(person())
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        listed = client.get(reverse(f"{name}_changelist"))
        pages = [listed, client.get(reverse(f"{name}_add"))]
        pages += [client.get(reverse(f"{name}_change", args=[row.pk])) for row in listed.context["cl"].result_list[:1]]
        for page in pages:
            found = INLINE.search(page.content.decode())
            assert not found, (name, found)


# --- /metrics and /health


def test_production_shows_metrics_to_nobody_without_a_token(production):
    answer = Client().get("/metrics")
    assert answer.status_code == 403
    assert "METRICS_TOKEN" in answer.content.decode()
    assert "payments_" not in answer.content.decode()


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN} ", "Bearer ключ"]
)
def test_metrics_are_for_who_shows_the_token_alone(settings, shown):
    settings.METRICS_TOKEN = TOKEN
    answer = Client().get("/metrics", headers={"authorization": shown})
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="metrics"')
    assert b"payments_" not in answer.content


def test_the_token_opens_metrics(settings, production):
    settings.METRICS_TOKEN = TOKEN
    answer = Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert "payments_outbox_messages" in answer.content.decode()


def test_strangers_learn_states_and_no_details_in_production(settings, production, monkeypatch):
    monkeypatch.setattr("payments.breaker.troubles", lambda **_when: {"acme-bank": "is paused: their incident 4711"})
    Pulse("relay").beat("RabbitMQ at amqp://10.0.0.7 refuses")
    answer = Client().get("/health")
    assert answer.json()["parts"]["relay"] == {"status": "degraded"}
    assert answer.json()["parts"]["gateway"] == {"status": "degraded"}
    for secret in ("acme", "4711", "10.0.0.7", "detail"):
        assert secret not in answer.content.decode()
    settings.METRICS_TOKEN = TOKEN
    told = Client().get("/health", headers={"authorization": f"Bearer {TOKEN}"}).json()["parts"]
    assert "10.0.0.7" in told["relay"]["detail"]
    assert "gateway acme-bank" in told


def test_probes_need_no_token_in_production(production):
    assert (Client().get("/livez").status_code, Client().get("/readyz").status_code) == (200, 200)
    assert Client().get("/health").status_code == 200


# --- the console's own path


def test_nothing_but_the_setting_knows_the_consoles_path():
    """An address of the console begins with a slash; templates and style sheets of Django's do not."""
    rooms = ("config", "console", "merchants", "messaging", "notifications", "payments", "deploy", "templates")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in rooms
        for path in (ROOT / room).rglob("*")
        if path.suffix in {".py", ".html", ".txt"}
        for line in path.read_text().splitlines()
        if re.search(r"""["'({} =]/admin/""", line)
    ]
    assert found == []
    assert reverse("admin:index") == f"/{configured.ADMIN_PATH}/"

"""What only pages need stands before every page, and before nothing of the API."""

import pytest
from django.conf import settings
from django.test import Client

pytestmark = pytest.mark.django_db

PAGE = f"/{settings.ADMIN_PATH}/login/"


def test_a_page_without_its_token_is_refused(person):
    """The cookie's own defence: without it, any site could post with a session of ours."""
    browser = Client(enforce_csrf_checks=True)
    assert browser.post(PAGE, {"username": "ada", "password": "x"}).status_code == 403


def test_a_session_opens_no_address_of_the_api(person, merchant):
    """Nobody is known there by a cookie, so no other site can use one."""
    user = person({merchant: "admin"}, is_staff=True, is_superuser=True)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    for method in (browser.get, browser.post):
        answer = method("/api/v1/payments", content_type="application/json")
        assert answer.status_code == 401
        assert not answer.cookies


def test_an_address_that_looks_like_the_api_is_still_guarded(person, merchant):
    browser = Client(enforce_csrf_checks=True)
    for path in (f"//api{PAGE}", f"/api/..{PAGE}", f"/API{PAGE}"):
        assert browser.post(path, {"username": "ada", "password": "x"}).status_code in {403, 404}


def test_a_request_to_the_api_costs_no_session(django_assert_max_num_queries):
    browser = Client()
    browser.cookies["sessionid"] = "s" * 32
    with django_assert_max_num_queries(0):
        assert browser.get("/api/v1/nothing-here").status_code == 404

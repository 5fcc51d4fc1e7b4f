"""People who log in at the API."""

from uuid import uuid4

import jwt
from django.conf import settings
from django.test import Client
from django.utils import timezone

from merchants import sessions
from merchants.audit import SYSTEM
from merchants.models import Membership, Mode
from merchants.signing import key_id

PASSWORD = "correct-horse-battery-staple"
PAYMENTS = "/api/v1/payments"


def ask(client: Client, *, address: str = "127.0.0.1", **fields: object) -> object:
    """POST /token."""
    body = {"username": "ada", "password": PASSWORD, **fields}
    return client.post("/api/v1/token", body, content_type="application/json", REMOTE_ADDR=address)


def tokens(client: Client, **fields: object) -> dict[str, str]:
    """A pair of tokens."""
    response = ask(client, **fields)
    assert response.status_code == 200, response.content
    return response.json()


def refresh(client: Client, token: object) -> object:
    """POST /token/refresh."""
    return client.post("/api/v1/token/refresh", {"refresh": token}, content_type="application/json")


def log_out(client: Client, token: object) -> object:
    """POST /token/logout."""
    return client.post("/api/v1/token/logout", {"refresh": token}, content_type="application/json")


def access_of(membership: Membership, *, mode: Mode = Mode.TEST, second_factor: bool = False) -> str:
    """The access token of a member who has logged in."""
    pair = sessions.begin(membership=membership, mode=mode, second_factor=second_factor, who=SYSTEM, now=timezone.now())
    return pair["access"]


def call(client: Client, credential: str, *, post: bool = False, header: str = "authorization") -> object:
    """GET or POST payments with a credential."""
    headers = {header: credential if header == "x-api-key" else f"Bearer {credential}"}
    if not post:
        return client.get(PAYMENTS, headers=headers)
    headers["Idempotency-Key"] = str(uuid4())
    return client.post(PAYMENTS, {"amount": 1}, content_type="application/json", headers=headers)


def unauthenticated(response: object) -> dict[str, object]:
    """The problem of a caller whom nobody knows."""
    assert response.status_code == 401, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["code"] == "unauthenticated"
    return response.json()


def forbidden(response: object) -> None:
    """The problem of a caller who may not."""
    assert response.status_code == 403, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "forbidden"


def claims_of(token: str) -> dict[str, object]:
    """What a token says."""
    return jwt.decode(token, options={"verify_signature": False})


def forge(claims: dict[str, object], key: str | None = "", algorithm: str = "HS256", **header: object) -> str:
    """A token that says this, signed by default as we do."""
    ours = settings.JWT_SIGNING_KEYS[0]
    named = {"kid": key_id(ours), **header}
    return jwt.encode(
        claims,
        ours if key == "" else key,
        algorithm=algorithm,
        headers={name: value for name, value in named.items() if value is not None},
    )

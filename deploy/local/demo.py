"""What a run on one's own machine tells its user: a table on the terminal, and the same in `demo.json`."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from deploy.local.machine import CannotStart

ADMIN_USER: Final = "admin"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made at the first start and kept in the data folder, readable by its owner only."""

    secret_key: str
    jwt_signing_key: str
    admin_password: str
    api_key: str
    webhook_secret: str
    encryption_key: str


def keep_secrets(file: Path) -> Secrets:
    """The secrets of this data folder, made where they are missing."""
    made = Secrets(
        secret_key=secrets.token_urlsafe(48),
        jwt_signing_key=secrets.token_urlsafe(48),
        admin_password=secrets.token_urlsafe(9),
        api_key=f"sk_test_{secrets.token_urlsafe(32)}",
        webhook_secret=f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
        encryption_key=secrets.token_urlsafe(48),
    )
    try:
        kept = json.loads(file.read_text()) if file.exists() else {}
        secrets_ = Secrets(**{**asdict(made), **kept})
    except (ValueError, TypeError):
        raise CannotStart(
            f"{file} is damaged: delete it (the demo's key and password change), or set DATA_DIR."
        ) from None
    if asdict(secrets_) != kept:
        write_private(file, asdict(secrets_))
    return secrets_


def write_private(file: Path, document: dict[str, Any]) -> None:
    """Write JSON that only its owner can read, whole or not at all."""
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        json.dump(document, out, indent=2)
        out.write("\n")
    draft.replace(file)


def table(demo: dict[str, Any], *, data: Path) -> str:
    """The table that is printed when all is ready."""
    rows = [
        ("Console", demo["console_url"]),
        ("  user", demo["admin_user"]),
        ("  password", demo["admin_password"]),
        ("API docs", f"{demo['url']}/docs"),
        ("API key", demo["api_key"]),
        ("Health", f"{demo['url']}/health"),
        ("Sandbox gateway", f"{demo['sandbox_url']}/journal"),
        ("RabbitMQ", demo["rabbitmq_url"] or "none: in-process broker"),
        ("Mail", str(data / "mail")),
        ("SMS", str(data / "sms")),
        ("Logs", str(data / "logs")),
        ("All of this", str(data / "demo.json")),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    return "\n".join(["", "Ready.", "", *lines, "", "Pay:", "", curl(demo), ""])


def curl(demo: dict[str, Any]) -> str:
    """One payment, ready to paste. The key is new at every paste, so each one is a payment of its own."""
    body = '{"amount": "10.00", "currency": "EUR", "order_id": "\'"order-$(date +%s)"\'", "payment_method": "pm_ok"}'
    return " \\\n".join(
        [
            f"  curl -i {demo['url']}/api/v1/payments",
            f"    -H 'Authorization: Bearer {demo['api_key']}'",
            "    -H 'Content-Type: application/json'",
            '    -H "Idempotency-Key: key-$(date +%s)"',
            f"    -d '{body}'",
        ]
    )

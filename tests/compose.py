"""What docker-compose.yml says, for tests that hold it to something or start processes as it would."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
#: `${NAME}`, `${NAME:-default}`, `${NAME-default}` and `${NAME:?complaint}`.
VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*)|:\?[^}]*)?\}")
#: What Compose mounts secrets as.
MOUNTED = "/run/secrets/"
#: Service -> its secrets: the table of docs/deployment.md.
SECRETS = {
    "postgres": {"owner_database_password"},
    "rabbitmq": {f"{name}_rabbitmq_password" for name in ("relay", "worker", "notifier", "intake")},
    "redis": {"redis_password"},
    "migrate": {"owner_database_password"},
    "roles": {
        f"{name}_database_password"
        for name in ("owner", "web", "worker", "notifier", "relay", "intake", "cron", "readonly")
    },
    "web": {
        *("web_database_password", "redis_password", "secret_key", "jwt_signing_key", "encryption_keys"),
        *("metrics_token", "sandbox_webhook_secret"),
    },
    "relay": {"relay_database_password", "relay_rabbitmq_password", "encryption_keys"},
    "worker": {"worker_database_password", "worker_rabbitmq_password"},
    "notifier": {"notifier_database_password", "notifier_rabbitmq_password", "encryption_keys"},
    "intake": {"intake_database_password", "intake_rabbitmq_password"},
    "cron": {"cron_database_password", "encryption_keys"},
    "sandbox": set(),
}
#: Service -> its networks.
NETWORKS = {
    "postgres": {"database"},
    "rabbitmq": {"broker"},
    "redis": {"cache"},
    "migrate": {"database"},
    "roles": {"database"},
    "web": {"edge", "database", "cache"},
    "relay": {"database", "broker"},
    "worker": {"database", "broker", "gateway"},
    "notifier": {"database", "broker", "internet"},
    "intake": {"database", "broker"},
    "cron": {"database", "gateway"},
    "sandbox": {"gateway"},
}


def compose() -> dict[str, Any]:
    """Return the file, as YAML reads it."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return found


def environment_of(service: Mapping[str, Any], **variables: str) -> dict[str, str]:
    """Return a service's environment, as Compose makes it of its file and of variables."""
    given = {name: variables.get(name) if value is None else value for name, value in service["environment"].items()}

    def substitute(match: re.Match[str]) -> str:
        return variables.get(match[1], match[2] or "")

    return {name: VARIABLE.sub(substitute, str(value)) for name, value in given.items() if value is not None}


def user_of(url: str) -> str | None:
    """Return who connects."""
    return urlsplit(url).username


def table() -> str:
    """Return the table of docs/deployment.md."""
    services = compose()["services"]
    rows = []
    for name, service in services.items():
        environment = environment_of(service) if "environment" in service else {}
        role = user_of(environment.get("DATABASE_URL", "")) or ""
        user = user_of(environment.get("RABBITMQ_URL", "")) or ""
        secrets = ", ".join(f"`{secret}`" for secret in sorted(service.get("secrets", [])))
        networks = ", ".join(sorted(service["networks"]))
        rows.append(f"| `{name}` | {role} | {user} | {networks} | {secrets} |")
    return "\n".join(["| Service | Role | RabbitMQ user | Networks | Secrets |", "|---|---|---|---|---|", *rows])

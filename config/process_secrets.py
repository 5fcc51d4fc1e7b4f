"""Which process needs which secret: the others are started without it, and cannot lose what they do not have."""

import secrets
from typing import Any, Final
from urllib.parse import quote, urlsplit

#: What `PROCESS` may say. Empty: any of them, so all secrets are needed.
PROCESSES: Final = ("", "web", "worker", "notifier", "relay", "intake", "cron", "migrate")
#: Secret -> the processes that cannot work without it. `docker-compose.yml` gives each of them these, and a test
#: compares.
NEEDED_BY: Final = {
    # Signs sessions and forms of the console.
    "SECRET_KEY": frozenset({"web"}),
    # Signs access tokens.
    "JWT_SIGNING_KEY": frozenset({"web"}),
    # The API creates webhook endpoints, the relay those of a payment's own `webhook_url`, the notifier signs with their
    # secrets, and cron encrypts them again after a rotation.
    "ENCRYPTION_KEYS": frozenset({"web", "relay", "notifier", "cron"}),
    # Only the notifier sends SMS.
    "TWILIO_AUTH_TOKEN": frozenset({"notifier"}),
}


def needs(process: str, secret: str) -> bool:
    """Whether a process cannot work without a secret."""
    return not process or process in NEEDED_BY[secret]


def secret_default(process: str, secret: str, *, development: Any, unneeded: Any) -> dict[str, Any]:
    """Return the default of a secret, as a keyword for environs: none where the process does not start without it.

    `development`: what is used on a developer's machine, None in production. `unneeded`: what a process gets that does
    not need the secret.
    """
    if development is not None:
        return {"default": development}
    return {} if needs(process, secret) else {"default": unneeded}


def throwaway() -> str:
    """Return a secret that ends with this process.

    Django wants a `SECRET_KEY` in every process. What is signed with this one is believed by no other.
    """
    return secrets.token_urlsafe(48)


def with_password(url: str, password: str) -> str:
    """Return a URL with a password that came by a file of its own; as it is where there is none, or it has one."""
    parts = urlsplit(url)
    if not password or parts.password is not None or not parts.hostname:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()

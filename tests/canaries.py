"""No log line of any test shows a secret: each is written as production and development would, and searched."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from config.environment import DEVELOPMENT_SECRET
from tests.log_lines import LogLines

#: Credentials of any kind, by their looks. The beginning of an API key is its public name, so it may stand there.
LOOKS_LIKE_A_SECRET = re.compile(
    r"sk_(?:test|live)_[\w-]{16,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"  # a JWT
    r"|whsec_[A-Za-z0-9+/]{16,}"
    r"|\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b"  # a recovery code
    r"|otpauth://|pbkdf2_sha256\$|-----BEGIN [A-Z ]*PRIVATE KEY"
)
#: What the tests use as passwords and tokens, and no other word contains.
OF_THE_TESTS = ("correct-horse-battery-staple", "a password of the tests", "hunter2", DEVELOPMENT_SECRET, "m4in-canary")


def configured() -> Iterator[str]:
    """The secrets that this run was started with."""
    env = settings.ENV
    yield from (env.secret_key, env.jwt_signing_key, *env.encryption_keys, env.metrics_token)
    yield from (*env.secret_key_fallbacks, *env.jwt_signing_key_fallbacks, *env.sandbox_webhook_secrets)
    yield from (env.email_host_password, env.twilio_auth_token)
    yield from (urlsplit(url).password or "" for url in (env.database_url, env.rabbitmq_url, env.redis_url))


def pattern() -> re.Pattern[str]:
    """Whatever may stand in no line. A password that is a common word, such as `guest`, would be found by chance."""
    known = {secret for secret in (*OF_THE_TESTS, *configured()) if len(secret) >= 7}
    return re.compile("|".join([LOOKS_LIKE_A_SECRET.pattern, *map(re.escape, sorted(known))]))


class Watch:
    """Notes which test let which logger show a secret."""

    def __init__(self) -> None:
        self.pattern = pattern()
        self.leaks: list[str] = []
        self.lines = LogLines(self.see)

    def see(self, logger: str, line: str) -> None:
        """One line."""
        if found := self.pattern.search(line):
            test = os.environ.get("PYTEST_CURRENT_TEST", "between tests")
            self.leaks.append(f"{test}: logger {logger} shows {found[0][:12]}… in: {line[:200]}")

    def take(self) -> list[str]:
        """What was found since the last time."""
        found, self.leaks = self.leaks, []
        return found


#: Whose logs are not ours to write.
OTHERS = ("postgres", "rabbitmq")


def leaks_in(folder: Path, *secrets: str) -> list[str]:
    """Which log files of processes that a test started show a secret."""
    wanted = re.compile("|".join([pattern().pattern, *map(re.escape, secrets)]))
    ours = [path for path in sorted(folder.glob("*.log")) if not path.name.startswith(OTHERS)]
    return [path.name for path in ours if wanted.search(path.read_text(errors="replace"))]


@pytest.fixture(scope="session")
def watch() -> Iterator[Watch]:
    """Watches over every line, to the last one."""
    made = Watch()
    yield made
    complain(made.take())


@pytest.fixture(autouse=True)
def _no_secret_in_any_log_line(watch: Watch) -> Iterator[None]:
    """Fails the test whose lines show a secret; a test may configure the logging anew, so it is put back each time."""
    watch.lines.attach()
    yield
    complain(watch.take())


def complain(leaks: Iterable[str]) -> None:
    """Fail, naming what leaked where."""
    found = list(dict.fromkeys(leaks))
    assert not found, "\n".join(["Secrets in log lines:", *found])

"""`python -m sandbox --port 8200 --data DIR`: run the gateway until SIGTERM."""

import argparse
import json
import os
import signal
import threading
from pathlib import Path

from sandbox.charges import read_object
from sandbox.journal import Journal
from sandbox.post import Target, TargetInvalid
from sandbox.replies import Refusal
from sandbox.server import Gateway
from sandbox.settings import LiveSettings, SettingInvalid
from sandbox.webhooks import SecretInvalid, Webhooks, read_secret

SECRET_VARIABLE = "SANDBOX_WEBHOOK_SECRET"  # noqa: S105  # the variable's name  # nosec B105


def main() -> None:
    """Serve until told to stop."""
    options = read_options()
    settings = read_settings(options.settings)
    webhooks = read_webhooks(options.webhooks, settings) if options.webhooks else None
    options.data.mkdir(parents=True, exist_ok=True)
    journal = Journal(options.data / "journal.jsonl")
    try:
        gateway = Gateway((options.host, options.port), journal, settings=settings, webhooks=webhooks)
    except OSError as error:
        raise SystemExit(f"The sandbox cannot listen on {options.host}:{options.port}: {error.strerror}.") from None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=gateway.shutdown).start())
    if webhooks:
        webhooks.start()
    gateway.serve_forever(poll_interval=0.1)
    gateway.stopping.set()
    gateway.journal.close()


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A pretend payment gateway.")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8200, help="default: %(default)s")
    parser.add_argument("--data", type=Path, required=True, help="folder of the journal")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="as for PATCH /settings")
    parser.add_argument(
        "--webhooks", metavar="URL", help=f"tell each decision to this address, signed with {SECRET_VARIABLE}"
    )
    return parser.parse_args()


def read_settings(text: str) -> LiveSettings:
    """The settings to begin with."""
    try:
        return LiveSettings(read_object(text.encode()))
    except (Refusal, SettingInvalid) as error:
        example = json.dumps({"latency": 1})
        raise SystemExit(f"--settings cannot be used: {error} An example: --settings '{example}'") from None


def read_webhooks(url: str, settings: LiveSettings) -> Webhooks:
    """The sender of webhooks, not started yet."""
    try:
        return Webhooks(Target.parse(url), read_secret(os.environ.get(SECRET_VARIABLE, "")), settings)
    except TargetInvalid as error:
        raise SystemExit(f"--webhooks {url!r} cannot be used: {error}.") from None
    except SecretInvalid as error:
        raise SystemExit(f"Set {SECRET_VARIABLE} for --webhooks: {error}.") from None


if __name__ == "__main__":
    main()

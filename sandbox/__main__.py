"""`python -m sandbox --port 8200 --data DIR`: run the gateway until SIGTERM."""

import argparse
import signal
import threading
from pathlib import Path

from sandbox.journal import Journal
from sandbox.server import Gateway


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A pretend payment gateway.")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8200, help="default: %(default)s")
    parser.add_argument("--data", type=Path, required=True, help="folder of the journal")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    try:
        gateway = Gateway((options.host, options.port), Journal(options.data / "journal.jsonl"))
    except OSError as error:
        raise SystemExit(f"The sandbox cannot listen on {options.host}:{options.port}: {error.strerror}.") from None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=gateway.shutdown).start())
    gateway.serve_forever(poll_interval=0.1)
    gateway.stopping.set()
    gateway.journal.close()


if __name__ == "__main__":
    main()

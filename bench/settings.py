"""The product's own settings, with a gateway that answers in this very process in place of the sandbox."""

import os
import sys

# Tools for working on the project bring it along, and structlog would load it: 5 MB that no process has in production.
sys.modules["rich"] = None  # type: ignore[assignment]  # as documented: importing it then fails

from config import settings as product  # noqa: E402
from config.settings import *  # noqa: E402, F403  # all of them, and nothing else changes

GATEWAYS = {
    "sandbox": {
        **product.GATEWAYS["sandbox"],
        "BACKEND": "bench.gateways.InstantGateway",
        "OPTIONS": {
            "delay": float(os.environ.get("BENCH_GATEWAY_DELAY", "0")),
            "folder": os.environ.get("BENCH_GATEWAY_FOLDER", ""),
        },
    }
}

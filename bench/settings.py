"""The product's own settings, with a gateway that answers in this very process in place of the sandbox."""

import os

from config import settings as product
from config.settings import *  # noqa: F403  # all of them, and nothing else changes

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

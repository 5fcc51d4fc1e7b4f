"""The product's own settings, with a gateway that answers in this very process in place of the sandbox."""

import inspect
import os

from config import settings as product
from config.settings import *  # noqa: F403  # all of them, and nothing else changes
from payments.gateways.base import Gateway

#: Whether adapters are awaited; the protocol says so.
AWAITED = inspect.iscoroutinefunction(Gateway.charge)
GATEWAYS = {
    "sandbox": {
        **product.GATEWAYS["sandbox"],
        "BACKEND": "bench.gateways.AwaitedGateway" if AWAITED else "bench.gateways.CalledGateway",
        "OPTIONS": {
            "delay": float(os.environ.get("BENCH_GATEWAY_DELAY", "0")),
            "folder": os.environ.get("BENCH_GATEWAY_FOLDER", ""),
        },
    }
}

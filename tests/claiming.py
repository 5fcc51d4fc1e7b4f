"""One payment through the steps that workers take with lists."""

import asyncio

from payments.gateways import loop
from payments.operations.claims import claim_payments
from payments.operations.process import ask
from payments.operations.settle import Answered, settle


def claim_one(payment_id):
    """Its claim, if there is anything to ask now."""
    return next(iter(claim_payments([payment_id])), None)


def settle_one(claim, answer):
    """What is to be asked next, if anything."""
    return next(iter(settle([Answered(claim, answer)])), None)


def wait_for(coroutine):
    """What it returns, run where the calls to gateways run."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop.shared_loop()).result()


def call_now(claim):
    """What the gateway says."""
    return wait_for(ask(claim))

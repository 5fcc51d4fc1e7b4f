"""The fastest that is usually written in Python: FastAPI, raw asyncpg, one statement for payment and outbox."""

import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Header, HTTPException, Response

from bench.peers.request import CallingMerchant, PaymentRequest

ACCEPT = """
WITH accepted AS (
    INSERT INTO payment (id, merchant, idempotency_key, order_id, user_id, amount, currency, status, description,
                         metadata, payment_method, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, $11)
    ON CONFLICT (merchant, idempotency_key) DO NOTHING
    RETURNING id
)
INSERT INTO outbox (payment_id, payload) SELECT id, $12 FROM accepted RETURNING payment_id
"""
FOUND = "SELECT id, status, created_at FROM payment WHERE merchant = $1 AND idempotency_key = $2"


@asynccontextmanager
async def with_pool(app: FastAPI) -> AsyncIterator[None]:
    """One pool for each process."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=with_pool)


@app.post("/payments", status_code=202)
async def create(
    body: PaymentRequest, merchant: CallingMerchant, idempotency_key: Annotated[str, Header()]
) -> Response:
    """One statement; one more where the key is known."""
    payment_id, now = uuid.uuid4(), datetime.now(UTC)
    values = [body.order_id, body.user_id, int(body.amount * 100), body.currency, body.description]
    values += [json.dumps(body.metadata), body.payment_method, now, json.dumps({"payment_id": str(payment_id)})]
    async with app.state.pool.acquire() as connection:
        try:
            row = await connection.fetchrow(ACCEPT, payment_id, merchant, idempotency_key, *values)
        except asyncpg.UniqueViolationError:
            raise HTTPException(409) from None
        if row is None:
            payment_id, _, now = await connection.fetchrow(FOUND, merchant, idempotency_key)
    answer: dict[str, Any] = {
        "id": str(payment_id),
        "status": "pending",
        "amount": f"{body.amount:.2f}",
        "currency": body.currency,
        "order_id": body.order_id,
        "user_id": body.user_id,
        "description": body.description,
        "metadata": body.metadata,
        "payment_method": body.payment_method,
        "created_at": now.isoformat(),
    }
    return Response(json.dumps(answer), status_code=202, media_type="application/json")

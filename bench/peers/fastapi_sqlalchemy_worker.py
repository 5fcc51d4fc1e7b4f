"""Its worker: takes a message, charges, and finalises the payment."""

import asyncio
import json
import os
import uuid
from datetime import UTC, datetime

import aio_pika

from bench.peers.fastapi_sqlalchemy_app import Payment, sessions
from bench.peers.fastapi_sqlalchemy_relay import QUEUE


async def main() -> None:
    """For ever."""
    connection = await aio_pika.connect_robust(os.environ["RABBITMQ_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=10)
    queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.consume(handle)
    await asyncio.Event().wait()


async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
    """One payment, two commits, and between them a gateway that takes no time."""
    async with message.process():
        payment_id = uuid.UUID(json.loads(message.body)["payment_id"])
        async with sessions() as session:
            payment = await session.get(Payment, payment_id)
            if payment is None or payment.status != "pending":
                return
            payment.status = "processing"
            await session.commit()
            payment.status, payment.finished_at = "succeeded", datetime.now(UTC)
            await session.commit()


if __name__ == "__main__":
    asyncio.run(main())

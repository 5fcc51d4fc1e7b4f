"""Its relay: every 2 seconds, 100 rows of the outbox, one publish each."""

import asyncio
import json
import os
from datetime import UTC, datetime

import aio_pika
from sqlalchemy import select

from bench.peers.fastapi_sqlalchemy_app import Outbox, sessions

QUEUE = "peer_outbox"
#: As published again and again: `await asyncio.sleep(2)` and `.limit(100)`.
POLL = float(os.environ.get("PEER_POLL", "2"))
BATCH = 100


async def main() -> None:
    """For ever."""
    connection = await aio_pika.connect_robust(os.environ["RABBITMQ_URL"])
    channel = await connection.channel()
    await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    while True:
        await relay(channel)
        await asyncio.sleep(POLL)


async def relay(channel: aio_pika.abc.AbstractChannel) -> None:
    """One batch."""
    async with sessions() as session, session.begin():
        unpublished = select(Outbox).where(Outbox.published_at.is_(None)).order_by(Outbox.id)
        rows = await session.scalars(unpublished.limit(BATCH).with_for_update(skip_locked=True))
        for row in rows:
            message = aio_pika.Message(json.dumps(row.payload).encode(), delivery_mode=2)
            await channel.default_exchange.publish(message, routing_key=QUEUE)
            row.published_at = datetime.now(UTC)


if __name__ == "__main__":
    asyncio.run(main())

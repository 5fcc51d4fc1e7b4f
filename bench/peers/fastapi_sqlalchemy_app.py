"""The usual outbox service: FastAPI, SQLAlchemy's asyncio session, get-then-create, both rows in one commit."""

import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import DateTime

from bench.peers.request import CallingMerchant, PaymentRequest

engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+asyncpg://"), pool_size=16)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Base(DeclarativeBase):
    """SQLAlchemy's declarative base."""

    type_annotation_map = {dict[str, Any]: JSONB, datetime: DateTime(timezone=True)}  # noqa: RUF012  # its documented way


class Payment(Base):
    """A row of `payment`."""

    __tablename__ = "payment"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    merchant: Mapped[str]
    idempotency_key: Mapped[str]
    order_id: Mapped[str]
    user_id: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str]
    status: Mapped[str]
    description: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column("metadata")
    payment_method: Mapped[str]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Outbox(Base):
    """A row of `outbox`."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    payment_id: Mapped[uuid.UUID]
    payload: Mapped[dict[str, Any]]
    published_at: Mapped[datetime | None]


async def a_session() -> AsyncIterator[AsyncSession]:
    """One session for each request."""
    async with sessions() as session:
        yield session


def shown(payment: Payment) -> dict[str, Any]:
    """The answer."""
    return {
        "id": str(payment.id),
        "status": payment.status,
        "amount": f"{payment.amount / 100:.2f}",
        "currency": payment.currency,
        "order_id": payment.order_id,
        "user_id": payment.user_id,
        "description": payment.description,
        "metadata": payment.details,
        "payment_method": payment.payment_method,
        "created_at": payment.created_at.isoformat(),
    }


@app.post("/payments", status_code=202)
async def create(
    body: PaymentRequest,
    merchant: CallingMerchant,
    idempotency_key: Annotated[str, Header()],
    session: Annotated[AsyncSession, Depends(a_session)],
) -> dict[str, Any]:
    """Look for the key, else insert both rows."""
    same_key = select(Payment).where(Payment.merchant == merchant, Payment.idempotency_key == idempotency_key)
    if found := await session.scalar(same_key):
        return shown(found)
    payment = Payment(
        id=uuid.uuid4(),
        merchant=merchant,
        idempotency_key=idempotency_key,
        order_id=body.order_id,
        user_id=body.user_id,
        amount=int(body.amount * 100),
        currency=body.currency,
        status="pending",
        description=body.description,
        details=body.metadata,
        payment_method=body.payment_method,
        created_at=datetime.now(UTC),
    )
    session.add(payment)
    session.add(Outbox(payment_id=payment.id, payload={"type": "payment.created", "payment_id": str(payment.id)}))
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(409) from None
    return shown(payment)

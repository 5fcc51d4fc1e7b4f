"""What both FastAPI services take, and whom they take it from."""

import os
from decimal import Decimal
from typing import Annotated

import jwt
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

KEY = os.environ["JWT_SIGNING_KEY"]
bearer = HTTPBearer()


class PaymentRequest(BaseModel):
    """The same fields as ours."""

    amount: Decimal = Field(gt=0, max_digits=15, decimal_places=2)
    currency: str = Field(pattern="^[A-Z]{3}$")
    order_id: str = Field(max_length=255)
    user_id: str = Field(default="", max_length=255)
    description: str = Field(default="", max_length=1000)
    metadata: dict[str, str] = Field(default_factory=dict)
    payment_method: str = Field(max_length=255)


def merchant_of(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    """Whose token it is; none of them asks the database whether it still counts."""
    try:
        return str(jwt.decode(credentials.credentials, KEY, algorithms=["HS256"])["sub"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None


CallingMerchant = Annotated[str, Depends(merchant_of)]

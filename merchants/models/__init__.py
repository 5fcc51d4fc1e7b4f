"""The tables of who may call, how often, and who did what."""

from merchants.models.counters import Bucket, Counter
from merchants.models.credentials import ApiKey, LoginSession, Scope
from merchants.models.people import Membership, Merchant, Mode, Role, User
from merchants.models.record import Approval, AuditEntry

__all__ = [
    "ApiKey",
    "Approval",
    "AuditEntry",
    "Bucket",
    "Counter",
    "LoginSession",
    "Membership",
    "Merchant",
    "Mode",
    "Role",
    "Scope",
    "User",
]

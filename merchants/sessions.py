"""Logins at the API: begun with a password, carried on by refresh tokens of which each works once, and ended."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils.crypto import constant_time_compare
from rest_framework_simplejwt.exceptions import TokenError

from merchants import audit, rows
from merchants.audit import Who
from merchants.models import LoginSession, Membership, Merchant, Mode, User
from merchants.sharing import Sharing
from merchants.signing import AccessToken, RefreshToken

log = structlog.get_logger(__name__)

#: How long an ended session is kept, for whoever asks what happened.
KEPT_FOR: Final = timedelta(days=7)

#: As a token has the id of a user. 18 digits fit into the column.
USER_NUMBER: Final = re.compile(r"[0-9]{1,18}")

Pair = dict[str, str]
#: What the session of a token must be like.
Claims = dict[str, Any]
#: The same, and when.
Asked = tuple[Claims, datetime]


class SessionOver(Exception):
    """This token's session has ended, or the token was used before: log in again."""


# --- beginning


@transaction.atomic(durable=True)
def begin(*, membership: Membership, mode: Mode, second_factor: bool, who: Who, now: datetime) -> Pair:
    """A new session of a person who has just shown who they are; returns its first pair of tokens."""
    session = LoginSession.objects.create(
        user=membership.user,
        merchant=membership.merchant,
        mode=mode,
        current=uuid4(),
        second_factor=second_factor,
        password_stamp=membership.user.get_session_auth_hash(),
        address=who.address,
        created_at=now,
        refreshed_at=now,
        expires_at=now + lifetime(),
    )
    User.objects.filter(pk=membership.user_id).update(last_login=now)
    audit.record(
        who,
        "login.succeeded",
        subject=f"session:{session.pk}",
        merchant=membership.merchant,
        after={"mode": mode.value, "second_factor": second_factor},
    )
    return pair_of(session)


def pair_of(session: LoginSession) -> Pair:
    """The session's tokens: the refresh token is the one that is current."""
    refresh = RefreshToken()
    refresh["jti"] = session.current.hex
    refresh["exp"] = int(session.expires_at.timestamp())
    refresh["sid"] = session.pk.hex
    refresh["user_id"] = str(session.user_id)
    refresh["merchant"] = str(session.merchant_id)
    refresh["mode"] = session.mode
    return {"access": str(refresh.access_token), "refresh": str(refresh)}


def lifetime() -> timedelta:
    """How long a refresh token works."""
    life: Any = settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"]
    return cast("timedelta", life)


# --- carrying on


def refresh(token: RefreshToken, *, who: Who, now: datetime) -> Pair:
    """A new pair for a refresh token. Of all who come with the same one, one gets it; the others end the session.

    Raises:
        SessionOver: the session has ended; perhaps just now, because of this.
    """
    session = session_of(token)
    if session is None or not is_open(session, now=now):
        raise SessionOver
    if not (session.user.is_active and has_same_password(session)):
        end(session, LoginSession.End.CHANGED, now=now)
        raise SessionOver
    renewed = take_turn(session, jti=identifier(token["jti"]), now=now)
    if renewed is None:
        end_reused(session, who=who, now=now)
        raise SessionOver
    return pair_of(renewed)


def take_turn(session: LoginSession, *, jti: UUID, now: datetime) -> LoginSession | None:
    """Make way for the next refresh token, if this is the current one. PostgreSQL decides between twins."""
    session.current, session.expires_at = uuid4(), min(now + lifetime(), ends_at(session))
    won = LoginSession.objects.filter(pk=session.pk, current=jti, ended_at=None, expires_at__gt=now).update(
        current=session.current,
        expires_at=session.expires_at,
        refreshed_at=now,
        # Made anew, so that it outlives a rotation of SECRET_KEY.
        password_stamp=session.user.get_session_auth_hash(),
    )
    return session if won else None


def ends_at(session: LoginSession) -> datetime:
    """When the session ends, however often it is refreshed."""
    whole: timedelta = settings.LOGIN_SESSION_LIFETIME
    return session.created_at + whole


def session_of(token: RefreshToken) -> LoginSession | None:
    """The session that a refresh token is of, with its people; None if that is long gone."""
    member = Q(user__memberships__merchant=F("merchant"))
    return LoginSession.objects.select_related("user", "merchant").filter(member, **claims_of(token)).first()


def is_open(session: LoginSession, *, now: datetime) -> bool:
    """Whether it goes on, as far as it does not depend on its person."""
    return session.ended_at is None and session.expires_at > now and session.merchant.is_active


def has_same_password(session: LoginSession) -> bool:
    """Whether the person's password is still the one that the session began with."""
    user = session.user
    stamps = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(session.password_stamp, stamp) for stamp in stamps)


def claims_of(token: AccessToken | RefreshToken) -> Claims:
    """What the session of a token must be like.

    Raises:
        TokenError: it was signed by us, and says nothing of a session.
    """
    try:
        return {
            "pk": identifier(token["sid"]),
            "user": user_number(token["user_id"]),
            "merchant": identifier(token["merchant"]),
            "mode": Mode(token["mode"]),
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TokenError("Token is of no session") from error


def user_number(claim: Any) -> int:
    """Return the id of a user out of a token, where it is written as text. Raises ValueError."""
    if not (isinstance(claim, str) and USER_NUMBER.fullmatch(claim)):
        raise ValueError("no id of a user")
    return int(claim)


def identifier(claim: Any) -> UUID:
    """An id out of a token. Raises TokenError."""
    try:
        return UUID(str(claim))
    except ValueError as error:
        raise TokenError("Token is of no session") from error


# --- at every request


def caller_behind(token: AccessToken, *, now: datetime) -> tuple[LoginSession, str] | None:
    """The open session of an access token and its person's role; None if there is none. Read anew for each request, in
    one query together with the others that wait.

    Raises:
        TokenError: it is of no session.
    """
    return next(iter(waiting.ask((claims_of(token), now))), None)


#: Open sessions of people who are members still, each with its role.
FIND: Final = f"""
    SELECT session.id, membership.role,
        {rows.columns(LoginSession, "session")}, {rows.columns(User, "person")}, {rows.columns(Merchant, "merchant")}
    FROM merchants_loginsession AS session
    JOIN merchants_user AS person ON person.id = session.user_id AND person.is_active
    JOIN merchants_merchant AS merchant ON merchant.id = session.merchant_id AND merchant.is_active
    JOIN merchants_membership AS membership
        ON membership.user_id = session.user_id AND membership.merchant_id = session.merchant_id
    WHERE session.id = ANY(%(ids)s) AND session.ended_at IS NULL AND session.expires_at > %(now)s
"""  # noqa: S608  # nobody but the models names columns  # nosec B608


def find_together(asked: Sequence[Asked]) -> list[list[tuple[LoginSession, str]]]:
    """Of each token's claims the session and role, if there are any, in one query. No two requests have the same
    objects.
    """
    ids = {claims["pk"] for claims, _ in asked}
    found = {id_: row for id_, *row in rows.select(FIND, {"ids": list(ids), "now": max(now for _, now in asked)})}
    return [caller_like(claims, found[claims["pk"]]) if claims["pk"] in found else [] for claims, _ in asked]


def caller_like(claims: Claims, row: Sequence[Any]) -> list[tuple[LoginSession, str]]:
    """The session in a row, with its person and merchant, and the role; if it is what the claims say."""
    role, *values = row
    left = iter(values)
    session = rows.read(LoginSession, left)
    session.user, session.merchant = rows.read(User, left), rows.read(Merchant, left)
    is_meant = (session.user_id, session.merchant_id, session.mode) == (
        claims["user"],
        claims["merchant"],
        claims["mode"],
    )
    return [(session, role)] if is_meant and has_same_password(session) else []


#: The requests of this process that look for their callers at the same time.
waiting: Final[Sharing[Asked, list[tuple[LoginSession, str]]]] = Sharing(
    find_together, lambda asked: find_together([asked])[0]
)


# --- ending


def end(session: LoginSession, why: LoginSession.End, *, now: datetime) -> bool:
    """End it; False if it had ended before."""
    return bool(LoginSession.objects.filter(pk=session.pk, ended_at=None).update(ended_at=now, end=why))


@transaction.atomic(durable=True)
def end_reused(session: LoginSession, *, who: Who, now: datetime) -> None:
    """An old refresh token came again: it was stolen, or its thief was faster. Nobody goes on with this session."""
    if not end(session, LoginSession.End.REUSED, now=now):
        return
    log.warning("session.reused", session=str(session.pk))
    audit.record(
        who,
        "session.reused",
        subject=f"session:{session.pk}",
        merchant=session.merchant,
        reason="A refresh token came that had been used before.",
        after={"user": session.user.get_username()},
    )


def log_out(token: RefreshToken, *, now: datetime) -> None:
    """End the session of a refresh token, be it current or not. Raises TokenError."""
    LoginSession.objects.filter(ended_at=None, **claims_of(token)).update(ended_at=now, end=LoginSession.End.LOGOUT)


def end_all(*, user: User, why: LoginSession.End, now: datetime) -> int:
    """End all sessions of a person, in the caller's transaction; returns how many."""
    return LoginSession.objects.filter(user=user, ended_at=None).update(ended_at=now, end=why)


def prune(*, before: datetime, batch: int) -> int:
    """Forget sessions that were over by then, a batch of them; returns how many."""
    old = LoginSession.objects.filter(expires_at__lt=before).order_by("expires_at").values("pk")[:batch]
    return LoginSession.objects.filter(pk__in=old).delete()[0]

"""JWTs for people: `POST /api/v1/token`, refreshed at `/token/refresh`, given back at `/token/logout`."""

from typing import Any, ClassVar, Final

import django_otp
from django.contrib.auth import authenticate
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import TokenError

from merchants import audit, lockout, second_factor, sessions
from merchants.audit import Who
from merchants.documents import problems
from merchants.models import AuditEntry, Membership, Mode, User
from merchants.plain_request import plain
from merchants.refusals import OneTimePasswordNeeded, OneTimePasswordWrong
from merchants.signing import RefreshToken
from merchants.strict import ChoiceField, KnownFieldsOnly

WRONG_PASSWORD = "No active account has this user name and password."  # noqa: S105  # none  # nosec B105
WRONG_TOKEN = "This refresh token is not valid any more: log in again."  # noqa: S105  # none  # nosec B105

#: A refresh token has about half a kilobyte. Parsing 64 kB would take ten milliseconds, of anyone who asks.
MAX_BODY_BYTES: Final = 8 * 1024


class TokenRequestSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Who one is, and for which merchant and mode."""

    username = serializers.CharField(max_length=150, write_only=True)
    password = serializers.CharField(trim_whitespace=False, write_only=True, style={"input_type": "password"})
    otp = serializers.CharField(
        required=False,
        max_length=32,  # with all that people type between the parts of a recovery code
        write_only=True,
        help_text="A one-time password or a recovery code; needed by people who have a second factor.",
    )
    merchant = serializers.SlugField(
        required=False,
        write_only=True,
        help_text="The merchant's short name; needed by members of several merchants.",
    )
    mode = ChoiceField(choices=Mode.choices, default=Mode.TEST.value, write_only=True)


class RefreshTokenSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """A refresh token."""

    refresh = serializers.CharField(max_length=4096, write_only=True)


class TokenPairSerializer(serializers.Serializer[Any]):
    """Two tokens."""

    access = serializers.CharField(help_text="For `Authorization: Bearer …`, for five minutes.")
    refresh = serializers.CharField(help_text="For `POST /token/refresh`, once, within a day.")


class Door(GenericAPIView[Any]):
    """An address at which tokens are given out, open to all."""

    authentication_classes = ()
    permission_classes = ()
    max_body_bytes = MAX_BODY_BYTES

    def get_authenticate_header(self, request: Request) -> str:
        """The `WWW-Authenticate` header of a 401 (RFC 6750)."""
        return 'Bearer realm="api"'

    def read(self, request: Request) -> dict[str, Any]:
        """The body. Raises ValidationError."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        given: dict[str, Any] = serializer.validated_data
        return given


class TokenView(Door):
    """Log in."""

    serializer_class = TokenRequestSerializer
    limits: ClassVar = {"POST": "logins"}

    @extend_schema(
        operation_id="token_create",
        request=TokenRequestSerializer,
        responses={(200, "application/json"): TokenPairSerializer, **problems(400, 401, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """Exchange a user name and password for an access token (5 minutes) and a refresh token (a day)."""
        given = self.read(request)
        user = person_with(request, username=given["username"], password=given["password"])
        shown = shows_second_factor(request, user, given.get("otp"))
        pair = sessions.begin(
            membership=membership_of(user, given.get("merchant")),
            mode=Mode(given["mode"]),
            second_factor=shown,
            who=who_calls(request, f"user:{user.get_username()}"),
            now=timezone.now(),
        )
        lockout.forgive(plain(request), user)
        return Response(pair)


class RefreshView(Door):
    """Stay logged in."""

    serializer_class = RefreshTokenSerializer

    @extend_schema(
        operation_id="token_refresh_create",
        request=RefreshTokenSerializer,
        responses={(200, "application/json"): TokenPairSerializer, **problems(400, 401, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for a new pair. It works once: if it comes again, the whole login ends."""
        try:
            token = RefreshToken(self.read(request)["refresh"])
            pair = sessions.refresh(token, who=who_calls(request, "nobody"), now=timezone.now())
        except (TokenError, sessions.SessionOver):
            raise AuthenticationFailed(WRONG_TOKEN) from None
        return Response(pair)


class LogoutView(Door):
    """Log out."""

    serializer_class = RefreshTokenSerializer

    @extend_schema(
        operation_id="token_logout",
        request=RefreshTokenSerializer,
        responses={204: None, **problems(400, 401, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """End the login that a refresh token belongs to, with all its tokens, at once."""
        try:
            sessions.log_out(RefreshToken(self.read(request)["refresh"]), now=timezone.now())
        except TokenError:
            raise AuthenticationFailed(WRONG_TOKEN) from None
        return Response(status=204)


def person_with(request: Request, *, username: str, password: str) -> User:
    """Whose password this is.

    Raises:
        AuthenticationFailed: nobody's.
        Throttled: there were too many wrong ones.
    """
    user = authenticate(plain(request), username=username, password=password)
    if lockout.is_locked_out(plain(request)):
        raise Throttled(wait=lockout.seconds())
    if not isinstance(user, User):
        raise AuthenticationFailed(WRONG_PASSWORD)
    return user


def shows_second_factor(request: Request, user: User, otp: str | None) -> bool:
    """Whether the person showed a second factor; False where they have none.

    Raises:
        OneTimePasswordNeeded, OneTimePasswordWrong: they have one.
        Throttled: there were too many wrong ones.
    """
    if not django_otp.user_has_device(user):  # type: ignore[no-untyped-call]  # comes without types
        return False
    if otp is None:
        raise OneTimePasswordNeeded
    if second_factor.verify(user=user, code=otp) is not None:
        return True
    lockout.count_failure(plain(request), user.get_username())
    if lockout.is_locked_out(plain(request)):
        raise Throttled(wait=lockout.seconds())
    raise OneTimePasswordWrong


def membership_of(user: User, slug: str | None) -> Membership:
    """For which merchant the person acts.

    Raises:
        ValidationError: no member of that merchant, or of several and none was named.
    """
    memberships = Membership.objects.select_related("user", "merchant").filter(user=user, merchant__is_active=True)
    found = list((memberships.filter(merchant__slug=slug) if slug else memberships)[:2])
    if len(found) != 1:
        raise serializers.ValidationError({"merchant": "Name one merchant that you are a member of."})
    return found[0]


def who_calls(request: Request, actor: str) -> Who:
    """Who is at the door, for the record."""
    return audit.sender(request, actor, AuditEntry.Via.API)

"""JWTs for people: `POST /api/v1/token`, refreshed at `/token/refresh`."""

from typing import Any, ClassVar, cast

from django.contrib.auth.models import update_last_login
from rest_framework import serializers
from rest_framework_simplejwt.exceptions import AuthenticationFailed
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from merchants.models import Membership, Mode, User


class MerchantTokenSerializer(TokenObtainPairSerializer):
    """Username and password for a pair of tokens bound to one merchant and one mode."""

    merchant = serializers.SlugField(
        required=False, help_text="The merchant's short name; needed by members of several merchants."
    )
    mode = serializers.ChoiceField(choices=Mode.choices, default=Mode.TEST.value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """Check the password, then the membership.

        Raises:
            AuthenticationFailed: wrong user name or password.
            ValidationError: no member of that merchant, or of several and none was named.
        """
        # The grandparent's check of the password; the parent would make a pair of tokens without a merchant.
        super(TokenObtainPairSerializer, self).validate(attrs)
        user = cast("User", self.user)
        memberships = Membership.objects.filter(user=user, merchant__is_active=True)
        if slug := attrs.get("merchant"):
            memberships = memberships.filter(merchant__slug=slug)
        found = list(memberships[:2])
        if len(found) != 1:
            raise serializers.ValidationError({"merchant": "Name one merchant that you are a member of."})
        refresh = RefreshToken.for_user(user)
        refresh["merchant"] = str(found[0].merchant_id)
        refresh["mode"] = attrs["mode"]
        update_last_login(User, user)
        return {"access": str(refresh.access_token), "refresh": str(refresh)}


class MemberRefreshSerializer(TokenRefreshSerializer):
    """A refresh token for a new pair, as long as its owner exists."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        """The new pair.

        Raises:
            AuthenticationFailed: the token's owner is no more, or may not log in.
        """
        try:
            return super().validate(attrs)
        except User.DoesNotExist:
            raise AuthenticationFailed(str(self.error_messages["no_active_account"]), "no_active_account") from None


class TokenView(TokenObtainPairView):
    """Exchange a user name and password for an access token (5 minutes) and a refresh token (a day)."""

    permission_classes = ()
    limits: ClassVar = {"POST": "logins"}


class RefreshView(TokenRefreshView):
    """Exchange a refresh token for a new pair; the old one is used up."""

    permission_classes = ()

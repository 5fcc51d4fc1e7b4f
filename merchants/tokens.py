"""JWTs for people: `POST /api/v1/token`, refreshed at `/token/refresh`."""

from typing import Any, cast

from rest_framework import serializers
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
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
        super().validate(attrs)
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
        return {"access": str(refresh.access_token), "refresh": str(refresh)}


class TokenView(TokenObtainPairView):
    """Exchange a user name and password for an access token (5 minutes) and a refresh token (a day)."""

    permission_classes = ()


class RefreshView(TokenRefreshView):
    """Exchange a refresh token for a new pair; the old one is used up."""

    permission_classes = ()

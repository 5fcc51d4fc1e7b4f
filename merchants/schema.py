"""How the API's documentation describes our credentials."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """An API key as a bearer token."""

    target_class = "merchants.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """A bearer token that is no JWT."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key: `Authorization: Bearer sk_test_…`, or the same in the header `X-API-Key`. "
            "Different credentials in the two headers are refused.",
        }


class JWTScheme(OpenApiAuthenticationExtension):
    """A person's access token."""

    target_class = "merchants.authentication.MerchantJWTAuthentication"
    name = "jwt"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """A bearer token that is a JWT."""
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token from `POST /api/v1/token`, valid for five minutes.",
        }

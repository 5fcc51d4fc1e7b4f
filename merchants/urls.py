"""The API's addresses about who may call. A trailing slash is optional everywhere."""

from django.urls import re_path

from merchants.api_key_views import ApiKeysView, ApiKeyView, RevokeView
from merchants.tokens import LogoutView, RefreshView, TokenView

UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
KEY = f"api-keys/(?P<key_id>{UUID})"

urlpatterns = [
    re_path(r"^token/?$", TokenView.as_view(), name="token"),
    re_path(r"^token/refresh/?$", RefreshView.as_view(), name="token-refresh"),
    re_path(r"^token/logout/?$", LogoutView.as_view(), name="token-logout"),
    re_path(r"^api-keys/?$", ApiKeysView.as_view(), name="api-keys"),
    re_path(rf"^{KEY}/?$", ApiKeyView.as_view(), name="api-key"),
    re_path(rf"^{KEY}/revoke/?$", RevokeView.as_view(), name="api-key-revoke"),
]

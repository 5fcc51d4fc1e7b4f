"""All addresses of the web process."""

from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from console import health
from console.metrics import metrics
from console.views import home
from merchants.tokens import RefreshView, TokenView
from payments.views import explain_problem

urlpatterns = [
    path("", home),
    path("admin/", admin.site.urls),
    path("api/v1/", include("payments.urls")),
    path("api/v1/", include("console.urls")),
    path("api/v1/", include("notifications.urls")),
    path("api/v1/", include("analytics.urls")),
    re_path(r"^api/v1/token/?$", TokenView.as_view(), name="token"),
    re_path(r"^api/v1/token/refresh/?$", RefreshView.as_view(), name="token-refresh"),
    re_path(r"^api/v1/schema/?$", SpectacularAPIView.as_view(), name="schema"),
    re_path(r"^docs/?$", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("problems/<slug:code>", explain_problem, name="problem"),
    re_path(r"^livez/?$", health.livez, name="livez"),
    re_path(r"^readyz/?$", health.readyz, name="readyz"),
    re_path(r"^health/?$", health.health, name="health"),
    re_path(r"^metrics/?$", metrics, name="metrics"),
]

handler400 = "console.errors.bad_request"
handler404 = "console.errors.not_found"
handler500 = "console.errors.server_error"

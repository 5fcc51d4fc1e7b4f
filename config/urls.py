"""All addresses of the web process."""

from csp.decorators import csp_update
from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path

from config.openapi import DocsView, SchemaView
from console import health
from console.metrics import metrics
from console.views import home
from payments.views import explain_problem

#: What Swagger's pages cannot do without: they bring their own styles, and small pictures as addresses.
FOR_SWAGGER = {"style-src": ["'self'", "'unsafe-inline'"], "img-src": ["'self'", "data:"]}

urlpatterns = [
    path("", home),
    path(f"{settings.ADMIN_PATH}/", admin.site.urls),
    path("api/v1/", include("payments.urls")),
    path("api/v1/", include("console.urls")),
    path("api/v1/", include("notifications.urls")),
    path("api/v1/", include("merchants.urls")),
    path("api/v1/", include("analytics.urls")),
    re_path(r"^api/v1/schema/?$", SchemaView.as_view(), name="schema"),
    re_path(r"^docs/?$", csp_update(FOR_SWAGGER)(DocsView.as_view(url_name="schema")), name="docs"),
    path("problems/<slug:code>", explain_problem, name="problem"),
    re_path(r"^livez/?$", health.livez, name="livez"),
    re_path(r"^readyz/?$", health.readyz, name="readyz"),
    re_path(r"^health/?$", health.health, name="health"),
    re_path(r"^metrics/?$", metrics, name="metrics"),
]

handler400 = "console.errors.bad_request"
handler404 = "console.errors.not_found"
handler500 = "console.errors.server_error"

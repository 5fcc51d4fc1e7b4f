"""Webhook endpoints in the admin: how each does, and what support may do about it."""

from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from merchants.confirmation import confirmed
from messaging.look_only import LookOnly
from messaging.markup import badge
from notifications import story
from notifications.admin import endpoint_pages
from notifications.masking import mask
from notifications.models import Delivery, WebhookEndpoint

#: Times that say nothing where there are none.
ONLY_IF_THERE: Final = frozenset(
    {"last_success_at", "failing_since", "warned_at", "disabled_at", "previous_secret_until", "deleted_at"}
)
#: Deliveries that an endpoint's page shows.
NEWEST: Final = 10


class HealthFilter(admin.SimpleListFilter):
    """By how it does. Deleted ones are shown when asked for."""

    title = "health"
    parameter_name = "health"

    CONDITIONS: Final[dict[str, dict[str, Any]]] = {
        "ok": {"deleted_at": None, "enabled": True, "failing_since": None},
        "failing": {"deleted_at": None, "enabled": True, "failing_since__isnull": False},
        "disabled": {"deleted_at": None, "enabled": False},
        "deleted": {"deleted_at__isnull": False},
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """In words."""
        return [(name, story.HEALTH[name]) for name in self.CONDITIONS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> QuerySet[WebhookEndpoint]:
        """Those that do so."""
        return queryset.filter(**self.CONDITIONS.get(self.value() or "", {}))


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(LookOnly, admin.ModelAdmin[WebhookEndpoint]):
    """All merchants' endpoints. Secrets are shown when they are made, and never again."""

    list_display = ("address", "health", "merchant", "mode", "kind", "wanted", "description")
    list_filter = (HealthFilter, "mode", "kind")
    list_select_related = ("merchant",)
    search_fields = ("=id", "=merchant__slug", "url")
    search_help_text = "A whole id, a merchant's slug, or a part of the URL."
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50
    fieldsets = (
        (None, {"fields": ("health", "last_success_at", "failing_since", "warned_at", "disabled_at")}),
        (
            "Settings",
            {"fields": ("whole_url", "merchant", "mode", "kind", "wanted", "description", "previous_secret_until")},
        ),
        ("Ids", {"fields": ("id", "created_at", "deleted_at")}),
    )

    # --- pages

    def has_view_permission(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> bool:
        """Who may see them, or change them."""
        return super().has_view_permission(request, obj) or endpoint_pages.may_manage(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may manage them."""
        return endpoint_pages.may_manage(request)

    def get_urls(self) -> list[Any]:
        """With the pages of each thing that can be done."""
        own = [
            path(
                f"<uuid:endpoint_id>/{name}/",
                self.admin_site.admin_view(confirmed(endpoint_pages.page_of(view, self))),
                name=f"notifications_webhookendpoint_{name}",
            )
            for name, view in endpoint_pages.PAGES.items()
        ]
        return [*own, *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form, and then the secret; Django's own page would do it all in one transaction."""
        return endpoint_pages.create(request, self)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One endpoint, with its newest deliveries."""
        context: dict[str, Any] = {"may_manage": endpoint_pages.may_manage(request)}
        if endpoint := self.get_object(request, object_id):
            newest = Delivery.objects.filter(endpoint=endpoint).defer("data").order_by("-id")[:NEWEST]
            context["newest"] = [(delivery, mask(delivery.channel, delivery.recipient)) for delivery in newest]
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def get_fieldsets(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> Any:
        """Without what this endpoint does not have."""
        missing = {name for name in ONLY_IF_THERE if not getattr(obj, name, None)}
        return [
            (title, {"fields": [name for name in group["fields"] if name not in missing]})
            for title, group in self.fieldsets
        ]

    # --- columns and fields

    @admin.display(description="URL", ordering="url")
    def address(self, endpoint: WebhookEndpoint) -> str:
        """Without what may be secret in it."""
        return mask("webhook", endpoint.url)

    @admin.display(description="URL")
    def whole_url(self, endpoint: WebhookEndpoint) -> str:
        """As it is called."""
        return endpoint.url

    @admin.display(description="health")
    def health(self, endpoint: WebhookEndpoint) -> SafeString:
        """A badge, and why."""
        state, why = story.health_of(endpoint)
        return format_html('{} <span class="console-why">{}</span>', badge(state, story.HEALTH[state]), why)

    @admin.display(description="events")
    def wanted(self, endpoint: WebhookEndpoint) -> str:
        """Which it wants."""
        return format_html_join(", ", "{}", ((name,) for name in endpoint.event_types)) or "all"

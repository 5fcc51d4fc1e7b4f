"""The button above a list of the admin that gives exactly what is filtered as CSV, and the entry that it was taken."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from merchants import audit
from merchants.reasons import reason_in
from merchants.spreadsheets import Columns, download, newest_first


class Exported(admin.ModelAdmin[Any]):
    """Mixin for admin classes. A subclass names its `export` and its columns; who may look may take it along."""

    #: What it is called: the file, and the entry, as `payments.exported`.
    export: ClassVar[str]
    export_columns: ClassVar[Columns]
    change_list_template = "admin/exported_change_list.html"

    def get_urls(self) -> list[Any]:
        """With the export."""
        view = self.admin_site.admin_view(require_POST(self.export_view))
        opts = self.opts
        return [path("export/", view, name=f"{opts.app_label}_{opts.model_name}_export"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """With the address of the export."""
        opts = self.opts
        context = {
            "export_url": f"admin:{opts.app_label}_{opts.model_name}_export",
            "may_export": self.has_export_permission(request),
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Who may take the rows along."""
        return self.has_view_permission(request)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """What the list shows with these filters, all of it."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        here = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        try:
            chosen = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            messages.error(request, "Nothing was exported: these filters cannot be read.")
            return redirect(here)
        if (reason := reason_in(request)) is None:
            return redirect(f"{request.path.removesuffix('export/')}?{request.GET.urlencode()}")
        with transaction.atomic(durable=True):
            after = {"filter": request.GET.dict(), "rows": chosen.count()}
            audit.record(audit.by(request), f"{self.export}.exported", reason=reason, after=after)
        name = f"{self.export}-{timezone.now():%Y%m%d-%H%M%S}"
        return download(name, self.export_columns, newest_first(chosen))

"""People in the admin. Who may change people must not become more than they are by it."""

from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone

from merchants import audit, sessions
from merchants.audited_admin import AuditedAdmin, write
from merchants.confirmation import ask, confirmed, is_confirmed
from merchants.models import LoginSession, User
from merchants.passwords import SavesPasswordOnly
from merchants.reasons import ReasonField, ReasonForm, reason_in

#: What only superusers grant: with it a user may do more than with anything else on the page.
POWERS: Final = ("is_staff", "groups")


class PasswordForm(SavesPasswordOnly, AdminPasswordChangeForm):  # type: ignore[type-arg]  # it takes none when it runs
    """A new password for another user, and why."""

    reason = ReasonField()


@admin.register(User)
class PersonAdmin(AuditedAdmin, UserAdmin[User]):
    """People: merchants' members and staff. Who leaves is deactivated: what they did stays theirs."""

    change_password_form = PasswordForm
    change_user_password_template = "admin/merchants/user/change_password.html"  # noqa: S105  # none  # nosec B105
    change_form_template = "admin/merchants/user/change_form.html"
    list_filter = ("is_staff", "is_superuser", "is_active")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without permissions beside the groups, which the web process may not grant either."""
        return [
            (title, {**options, "fields": tuple(name for name in options["fields"] if name != "user_permissions")})
            for title, options in super().get_fieldsets(request, obj)
        ]

    # --- who may

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Staff who may change people change merchants' people. Superusers alone change staff, themselves included:
        who sets another's password or address can become them.
        """
        allowed = super().has_change_permission(request, obj)
        if obj is None or not allowed:
            return allowed
        return bool(request.user.is_superuser or not (obj.is_staff or obj.is_superuser))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No: deactivate them."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only superusers grant powers, and none takes away their own: one must be left who can.

        Who is a superuser is shown and never changed: the database refuses it to the web process. `createsuperuser`
        creates them, run by the owner of the tables.
        """
        fixed: tuple[str, ...] = ("last_login", "date_joined", "is_superuser")
        if obj is not None:
            fixed += ("username",)  # the record and the four eyes know people by it
        if obj is not None and obj.pk == request.user.pk:
            fixed += ("is_active",)
        return fixed if request.user.is_superuser and "is_active" not in fixed else (*fixed, *POWERS)

    # --- changes

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:  # Django's
        """Who is deactivated is logged out everywhere, for good."""
        super().save_model(request, obj, form, change)
        if change and not obj.is_active:
            sessions.end_all(user=obj, why=LoginSession.End.REVOKED, now=timezone.now())

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002  # Django's
        """Set somebody's password. What began with the old one ends by itself."""
        if not is_confirmed(request):
            return ask(request)
        with transaction.atomic():
            before = self.get_object(request, unquote(id))
            response: HttpResponse = super().user_change_password(request, id, form_url)
            person = self.get_object(request, unquote(id))
            if person is not None and before is not None and person.password != before.password:
                sessions.end_all(user=person, why=LoginSession.End.CHANGED, now=timezone.now())
                write(request, person, "password_set", reason=reason_in(request))
        return response

    # --- ending sessions

    def get_urls(self) -> list[Any]:
        """With the page that ends sessions."""
        page = self.admin_site.admin_view(confirmed(self.end_sessions))
        return [path("<int:id>/end-sessions/", page, name="merchants_user_end_sessions"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One person, and in how many sessions they are."""
        person = self.get_object(request, unquote(object_id))
        context = {
            "open_sessions": open_sessions(person).count() if person else 0,
            "may_change": self.has_change_permission(request, person),
        }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def end_sessions(self, request: HttpRequest, id: int) -> HttpResponse:  # noqa: A002  # as Django names it
        """GET asks why; POST logs the person out of the API, everywhere."""
        person = get_object_or_404(User, pk=id)
        if not self.has_change_permission(request, person):
            raise PermissionDenied
        form = ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            count = self.log_out(request, person, reason=form.cleaned_data["reason"])
            messages.success(request, f"Ended: {count} sessions of {person} at the API.")
            return redirect("admin:merchants_user_change", person.pk)
        context = {"title": "End all sessions?", "person": person, "form": form, "count": open_sessions(person).count()}
        return self.show(request, context)

    @transaction.atomic(durable=True)
    def log_out(self, request: HttpRequest, person: User, *, reason: str) -> int:
        """End them, and write it down."""
        count = sessions.end_all(user=person, why=LoginSession.End.REVOKED, now=timezone.now())
        who = audit.by(request)
        audit.record(who, "user.sessions_ended", subject=f"user:{person.pk}", reason=reason, after={"count": count})
        return count

    def show(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        """The page that asks."""
        whole = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, "admin/merchants/user/end_sessions.html", whole)


def open_sessions(person: User) -> Any:
    """In which sessions somebody is."""
    return LoginSession.objects.filter(user=person, ended_at=None, expires_at__gt=timezone.now())

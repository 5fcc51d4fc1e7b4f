"""Roles of platform staff: each may do what its line says, and nobody may see sessions, tokens or devices."""

import pytest
from django.contrib.auth.models import Group, Permission

from console.roles import OURS, ROLES, keep_in_step
from merchants.models import User
from tests.console import person

pytestmark = pytest.mark.django_db


def member_of(role):
    user = person(role, is_superuser=False)
    user.groups.add(Group.objects.get(name=role))
    return User.objects.get(pk=user.pk)


MAY = {
    "payments.view_payment": "viewer support operator admin",
    "messaging.view_deadletter": "viewer support operator admin",
    "notifications.view_delivery": "viewer support operator admin",
    "merchants.view_auditentry": "viewer support operator admin",
    "payments.retry_payment": "support operator admin",
    "messaging.resolve_deadletter": "support operator admin",
    "notifications.redeliver_delivery": "support operator admin",
    "notifications.change_contact": "support operator admin",
    "notifications.manage_webhookendpoint": "operator admin",
    "payments.pause_gateway": "operator admin",
    "payments.lift_declineblock": "operator admin",
    "payments.view_unmatchedcharge": "viewer support operator admin",
    "payments.adopt_unmatchedcharge": "operator admin",
    "payments.refund_unmatchedcharge": "operator admin",
    "payments.dismiss_unmatchedcharge": "operator admin",
    "merchants.decide_approval": "operator admin",
    "merchants.change_merchant": "admin",
    "merchants.change_user": "admin",
    "merchants.delete_membership": "admin",
    "merchants.delete_merchant": "",
    "merchants.delete_user": "",
    "payments.change_payment": "",
    "payments.delete_payment": "",
    "messaging.delete_deadletter": "",
    "auth.change_group": "",
    "sessions.view_session": "",
    "otp_totp.view_totpdevice": "",
    "otp_static.view_statictoken": "",
}


def test_every_role_may_do_what_its_line_says_and_nothing_else():
    for role in ROLES:
        user = member_of(role)
        may = {permission for permission in MAY if user.has_perm(permission)}
        assert may == {permission for permission, roles in MAY.items() if role in roles.split()}, role


def test_no_role_has_a_permission_that_the_console_gives_no_page_for_changing():
    """Whoever adds a model does not give anybody the right to change it by accident."""
    for role in ROLES:
        names = Group.objects.get(name=role).permissions.values_list("content_type__app_label", "codename")
        for label, codename in names:
            assert label in OURS
            assert codename.startswith("view_") or f"{label}.{codename}" in ROLES[role]


def test_no_role_is_promised_a_permission_that_does_not_exist():
    permissions = Permission.objects.values_list("content_type__app_label", "codename")
    there = {f"{label}.{codename}" for label, codename in permissions}
    for role, promised in ROLES.items():
        assert promised <= there, role


def test_what_somebody_adds_to_a_role_by_hand_is_taken_out_by_the_next_migrate():
    viewer = Group.objects.get(name="viewer")
    viewer.permissions.add(Permission.objects.get(codename="delete_payment"))
    viewer.permissions.remove(Permission.objects.get(codename="view_payment"))
    other = Group.objects.create(name="somebody's own")
    other.permissions.add(Permission.objects.get(codename="delete_payment"))
    keep_in_step()
    codenames = set(viewer.permissions.values_list("codename", flat=True))
    assert "view_payment" in codenames
    assert "delete_payment" not in codenames
    assert other.permissions.count() == 1

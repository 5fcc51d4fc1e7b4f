"""The roles of platform staff: which permissions each has. They stand in the database as Django's groups."""

from typing import Any, Final

from django.contrib.auth.models import Group, Permission
from django.db import transaction

#: The rooms whose objects staff look at. Sessions, tokens and devices of people are nobody's to see.
OURS: Final = ("analytics", "merchants", "messaging", "notifications", "payments")

#: Those who answer the phone: try again, tell again, and mend how somebody is told.
SUPPORT: Final = frozenset(
    {
        "payments.retry_payment",
        "messaging.resolve_deadletter",
        "notifications.redeliver_delivery",
        *(f"notifications.{verb}_contact" for verb in ("add", "change", "delete")),
        *(f"notifications.{verb}_preference" for verb in ("add", "change", "delete")),
    }
)
#: Those who run it: endpoints, gateways, blocks, and the second pair of eyes.
OPERATOR: Final = frozenset(
    {
        "notifications.manage_webhookendpoint",
        "payments.pause_gateway",
        "payments.lift_declineblock",
        *(f"payments.{verb}_unmatchedcharge" for verb in ("adopt", "refund", "dismiss")),
        "merchants.decide_approval",
    }
)
#: Those who say who may do what.
ADMIN: Final = frozenset(
    {
        *(f"merchants.{verb}_{model}" for verb in ("add", "change") for model in ("merchant", "user", "apikey")),
        *(f"merchants.{verb}_membership" for verb in ("add", "change", "delete")),
    }
)

#: Role -> what it may do besides looking at everything. Each has what the ones before it have.
ROLES: Final[dict[str, frozenset[str]]] = {
    "viewer": frozenset(),
    "support": SUPPORT,
    "operator": SUPPORT | OPERATOR,
    "admin": SUPPORT | OPERATOR | ADMIN,
}


@transaction.atomic
def keep_in_step(**_event: Any) -> None:
    """Make the groups, and give each what stands above and no more. Receives `post_migrate`."""
    known = {
        f"{label}.{codename}": key
        for key, label, codename in Permission.objects.filter(content_type__app_label__in=OURS).values_list(
            "pk", "content_type__app_label", "codename"
        )
    }
    looking = {name for name in known if name.partition(".")[2].startswith("view_")}
    Group.objects.bulk_create([Group(name=role) for role in ROLES], ignore_conflicts=True)
    for group in Group.objects.filter(name__in=ROLES):
        group.permissions.set([known[name] for name in (looking | ROLES[group.name]) & known.keys()])

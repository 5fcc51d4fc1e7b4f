"""Messages on their way and signs of life in the admin: to look at. Dead letters are the console's."""

from django.contrib import admin

from messaging.look_only import LookOnly
from messaging.models import Heartbeat, OutboxMessage


@admin.register(OutboxMessage)
class OutboxMessageAdmin(LookOnly, admin.ModelAdmin[OutboxMessage]):
    """What waits for the relay; nearly always empty."""

    list_display = ("message_id", "actor", "queue", "available_at", "returns", "created_at")
    list_filter = ("queue", "actor")
    ordering = ("available_at", "id")
    show_full_result_count = False


@admin.register(Heartbeat)
class HeartbeatAdmin(LookOnly, admin.ModelAdmin[Heartbeat]):
    """Which processes are alive."""

    list_display = ("process", "instance", "note", "beat_at")
    ordering = ("process", "instance")

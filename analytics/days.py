"""Days as commands are given them: in one line, what is wrong with one that makes no sense."""

from datetime import date
from typing import NoReturn

from django.core.management.base import CommandError

from analytics.daily import today_somewhere


def refuse(line: str) -> NoReturn:
    """End with one line and exit status 2."""
    raise CommandError(line, returncode=2)


def day_of(text: str, option: str) -> date:
    """A day that has begun somewhere.

    Raises:
        CommandError: it is none.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        refuse(f"{option} {text!r} is no day: write it as 2026-03-31.")
    if day > today_somewhere():
        refuse(f"{option} {day} lies in the future: nothing was paid on it yet.")
    return day


def range_of(first: str, last: str | None) -> tuple[date, date]:
    """From one day to another one, or to today.

    Raises:
        CommandError: one of them is none, or the earlier comes after the later.
    """
    begin = day_of(first, "--from")
    end = today_somewhere() if last is None else day_of(last, "--to")
    if begin > end:
        refuse(f"--from {begin} lies after --to {end}: name the earlier day first.")
    return begin, end

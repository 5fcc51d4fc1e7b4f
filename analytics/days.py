"""Days as commands are given them: in one line, what is wrong with one that makes no sense."""

from datetime import date, timedelta
from typing import NoReturn

from django.core.management.base import CommandError

from analytics.stretches import FIRST_DAY, today_somewhere


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
    if day < FIRST_DAY:
        refuse(f"{option} {day}: there is nothing before {FIRST_DAY}.")
    if day > today_somewhere():
        refuse(f"{option} {day} lies in the future: nothing was paid on it yet.")
    return day


def range_of(first: str | None, last: str | None, *, days: int = 1) -> tuple[date, date]:
    """From one day to another one, or to today; where the first is not named, so many days.

    Raises:
        CommandError: one of them is none, or the earlier comes after the later.
    """
    end = today_somewhere() if last is None else day_of(last, "--to")
    begin = max(FIRST_DAY, end - timedelta(days=days - 1)) if first is None else day_of(first, "--from")
    if begin > end:
        refuse(f"--from {begin} lies after --to {end}: name the earlier day first.")
    return begin, end

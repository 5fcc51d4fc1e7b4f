"""`manage.py replay_dead_letters`: look at dead letters, and replay or discard them."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from messaging import previews, resolutions
from messaging.judgements import Verdict
from messaging.models import Resolution
from messaging.previews import Preview
from messaging.selections import Selection
from payments.management.who import runs_this
from payments.money import to_major_units

#: More digits would lie before the calendar.
AGO: Final = re.compile(r"([0-9]{1,5})([mhd])")
UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    """Replays what was chosen, at most once. Ctrl-C stops it; `--resume` goes on; a crash goes on by itself."""

    help = "Replay (or discard) the open dead letters that match. First look: --dry-run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which letters, why, and how fast."""
        parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="only these; default: all that match")
        parser.add_argument("--queue", default="", help="only of this queue")
        parser.add_argument("--actor", default="", help="only of this actor")
        parser.add_argument("--error", default="", help="only with this cause, such as retries_exhausted")
        parser.add_argument("--since", type=moment, help="only what failed since: 2h, 30m, 7d, or an ISO 8601 moment")
        parser.add_argument("--dry-run", action="store_true", help="only show what would happen")
        parser.add_argument("--rate", type=at_least_one, help="letters per second at most")
        parser.add_argument("--discard", action="store_true", help="close them without sending anything")
        parser.add_argument("--reason", default="", help="why; kept with the decision. Required but for --dry-run")
        parser.add_argument("--by", default=runs_this(), help="who decides; default: %(default)s")
        parser.add_argument(
            "--resume", type=int, metavar="N", help="go on with the stopped or interrupted resolution N"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Show what would happen, then do it."""
        if options["resume"] is not None:
            self.go_on(options["resume"], by=options["by"])
            return
        selection = Selection(
            ids=tuple(options["ids"]) or None,
            queue=options["queue"],
            actor=options["actor"],
            cause=options["error"],
            since=options["since"],
        )
        shown = previews.preview(selection)
        self.stdout.write(describe(shown, discard=options["discard"]))
        if options["dry_run"] or not shown.total:
            return
        reason = " ".join(options["reason"].split())
        if not 0 < len(reason) <= 500:
            raise CommandError(
                "--reason takes 1 to 500 characters: say why, for those who ask later. Nothing was done."
            )
        action = Resolution.Action.DISCARD if options["discard"] else Resolution.Action.REPLAY
        resolution = resolutions.resolve(
            selection, action, reason=reason, by=options["by"], rate=options["rate"], in_background=False
        )
        self.work_off(resolution, by=options["by"])

    def go_on(self, number: int, *, by: str) -> None:
        """Resume a stopped resolution, or join in one whose worker has died."""
        resolutions.resume(number, by=by, in_background=False)
        resolution = Resolution.objects.filter(pk=number, state=Resolution.State.RUNNING).first()
        if resolution is None:
            raise CommandError(f"There is no resolution {number} that has anything left to do; nothing was done.")
        self.work_off(resolution, by=by)

    def work_off(self, resolution: Resolution, *, by: str) -> None:
        """Chunk after chunk, until it is done or somebody stops it."""
        try:
            with tqdm(total=resolution.total, initial=resolution.taken, unit="letter", disable=None) as bar:
                for state in resolutions.work_off_all(resolution.pk):
                    bar.update(state.taken - bar.n)
        except KeyboardInterrupt:
            resolutions.stop(resolution.pk, by=by)
            self.stdout.write(f"Stopped. Go on with: manage.py replay_dead_letters --resume {resolution.pk}")
        resolution.refresh_from_db()
        self.stdout.write(result_of(resolution))


def describe(shown: Preview, *, discard: bool) -> str:
    """A preview in lines."""
    if not shown.total:
        return "No open dead letter matches."
    lines = [f"{tally.total:>7}  {tally.cause}  ({tally.actor or tally.queue})" for tally in shown.tallies]
    if discard:
        return "\n".join([*lines, f"To discard: {shown.total}."])
    money = ", ".join(f"{to_major_units(sum_, code)} {code}" for code, sum_ in sorted(shown.sums.items()))
    goes, settled, blocked = (shown.count(verdict) for verdict in Verdict)
    lines.append(f"To replay: {goes}{f', worth {money}' if money else ''}.")
    lines.append(f"Settled already, to be skipped: {settled}. Blocked, to stay open: {blocked}.")
    return "\n".join([*lines, *(f"{count:>7}  {note}" for note, count in sorted(shown.notes.items()))])


def result_of(resolution: Resolution) -> str:
    """What has come of it, in a line."""
    return (
        f"Resolution {resolution.pk} is {resolution.state}: {resolution.taken} of {resolution.total} taken in hand; "
        f"replayed {resolution.replayed}, discarded {resolution.discarded}, settled already {resolution.superseded}, "
        f"blocked {resolution.blocked}."
    )


def moment(text: str) -> datetime:
    """`2h` ago, or a moment in ISO 8601."""
    if ago := AGO.fullmatch(text):
        return timezone.now() - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError("write 30m, 2h, 7d, or a moment such as 2026-01-31T12:00:00Z")
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("it must be at least 1")
    return number

"""What the console's home says of dead letters."""

from django import template

from messaging.models import DeadLetter

register = template.Library()


@register.simple_tag
def open_dead_letters() -> int:
    """How many nobody has decided on; a partial index counts them."""
    return DeadLetter.objects.filter(state=DeadLetter.State.OPEN).count()

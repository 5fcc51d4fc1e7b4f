"""Money as a language writes it, with exactly the decimals that ISO 4217 gives its currency."""

from decimal import Decimal
from typing import Final

from babel import Locale
from babel.numbers import format_currency, get_currency_symbol
from django.utils.translation import to_locale

from notifications.notices import Notice
from payments.events import EventType
from payments.money import EXPONENTS

#: Keeps the number and its currency on one line.
NO_BREAK: Final = "\N{NO-BREAK SPACE}"


def format_amount(amount: str, currency: str, *, language: str, by_code: bool = False) -> str:
    """An amount in major units, such as `1234.50`: `€1,234.50` in English, `1.234,50 €` in German.

    `by_code` writes `EUR` in place of the symbol, for those who cannot read every symbol.
    """
    locale = Locale.parse(to_locale(language))
    sign = "¤¤" if by_code else "¤"
    symbol = currency if by_code else get_currency_symbol(currency, locale)
    pattern = pattern_of(locale, EXPONENTS[currency]).replace("¤", sign)
    if pattern.startswith("¤") and symbol[-1].isalpha():
        pattern = pattern.replace(sign, sign + NO_BREAK)  # "CHF 10.00", not "CHF10.00"
    # Babel has decimals of its own, those of daily life, and 13 currencies differ from ISO's.
    return format_currency(Decimal(amount), currency, format=pattern, locale=locale, currency_digits=False)


def told_amount(notice: Notice, *, by_code: bool = False) -> str:
    """The sum that a notice of a payment speaks of: of a success what was charged, which may be less than was asked."""
    charged = notice.data.get("amount_captured") if notice.type == EventType.SUCCEEDED else None
    amount = str(charged if charged and Decimal(str(charged)) else notice.data["amount"])
    return format_amount(amount, notice.data["currency"], language=notice.language, by_code=by_code)


def pattern_of(locale: Locale, decimals: int) -> str:
    """The language's pattern for money, with this many decimals."""
    pattern: str = locale.currency_formats["standard"].pattern
    return pattern.replace("0.00", f"0.{'0' * decimals}" if decimals else "0")

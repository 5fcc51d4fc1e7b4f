"""Pieces of the admin's pages, with everything escaped that was written by others."""

from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


def link(name: str, text: str, *arguments: Any) -> SafeString:
    """A link to a page of the console."""
    return format_html('<a href="{}">{}</a>', reverse(name, args=arguments), text)


def badge(state: str, label: str) -> SafeString:
    """A state; its colour only repeats the word."""
    return format_html('<span class="state state-{}">{}</span>', state, label)


def block(text: str) -> SafeString:
    """Text from elsewhere, as it is. What cannot be printed, or would turn the text's direction, is replaced."""
    shown = "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)
    return format_html('<pre class="evidence" tabindex="0">{}</pre>', shown)

"""Sentences with `code` in them as Markdown or HTML, in which nothing that comes from a project is markup."""

import re
from typing import Any

from markupsafe import Markup, escape

_MAX_TEXT = 200  # characters of any one name or value from a project
_MAX_SENTENCE = 800  # the same of an error or a note, which may name many files
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that print nothing, or that turn the direction of what follows."""


def short(text: Any, limit: int = _MAX_TEXT) -> str:
    """Text on one line, cut where it is too long for a table."""
    flat = _CONTROLS.sub("", " ".join(str(text).split()))
    return flat if len(flat) <= limit else f"{flat[:limit]}…"


def markdown_code(text: Any) -> str:
    """Any text as inline code of GitHub's Markdown: there it is neither markup nor mentions anybody."""
    flat = short(text) or " "
    if not set("`|\\") & set(flat):
        return f"`{flat}`"
    # Inside a table, backticks cannot hold every text; HTML's <code> can, once each sign is a character reference.
    return "<code>" + "".join(one if one.isalnum() or one == " " else f"&#{ord(one)};" for one in flat) + "</code>"


def markdown_prose(text: Any) -> str:
    """A sentence as GitHub's Markdown, its `code` kept; nothing else in it is markup, a link or a mention."""
    parts = short(text, _MAX_SENTENCE).split("`")
    if len(parts) % 2 == 0:  # a backtick without its pair
        return _escaped("'".join(parts))
    return "".join(markdown_code(part) if place % 2 else _escaped(part) for place, part in enumerate(parts))


def html_prose(text: Any) -> Markup:
    """A sentence as HTML, its `code` marked up and everything else escaped."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(short(text, _MAX_SENTENCE)))))


def _escaped(text: str) -> str:
    """Escape all that Markdown or GitHub would make something of; a zero-width space breaks what has no escape."""
    text = re.sub(r"^\s*>", "&gt;", text.replace("&", "&amp;").replace("<", "&lt;"))
    text = re.sub(r"([\\*_\[\]~|])", r"\\\1", text).replace("$", "&#36;")
    return re.sub(r"(@|#|:(?=//)|\bwww(?=\.)|\bGH(?=-))", "\\1\u200b", text)

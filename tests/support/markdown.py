"""Markdown as its reader sees it."""

from markdown_it import MarkdownIt


def rendered(markdown: str) -> str:
    """The HTML of some Markdown; raw HTML in it is kept, as GitHub keeps some."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)

"""Whatever text a project holds, it is text in a comment on GitHub: no markup, no link, no mention."""

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from cpfd.pages.markdown import markdown_code, markdown_prose
from tests.support.markdown import rendered


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_stays_in_its_cell_as_it_is(text: str) -> None:
    """One cell with the text in it, no other element; what prints nothing may go."""
    page = rendered(f"| a | b |\n|---|---|\n| x | {markdown_code(text)} |")

    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    assert len(cells) == 2
    code = re.fullmatch(r"<code>(.*)</code>", cells[1], re.DOTALL)
    assert code is not None
    printed = re.sub("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", " ".join(text.split()))
    assert html.unescape(code[1]).strip() == printed.strip()
    assert "<" not in code[1]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_sentence_stays_in_its_cell_and_mentions_nobody(text: str) -> None:
    page = rendered(f"| a | b |\n|---|---|\n| x | {markdown_prose('see ' + text)} |")

    cells = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    assert len(cells) == 2
    assert set(re.findall(r"<(/?\w+)", cells[1])) <= {"code", "/code"}
    outside = html.unescape(re.sub(r"<code>.*?</code>", "", cells[1], flags=re.DOTALL))
    assert not re.search(r"[@#]\w|\w://|www\.", outside)

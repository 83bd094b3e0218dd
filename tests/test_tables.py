"""Tables as text and as HTML: alignment, wrapping, escaping, and one writer for the package."""

import html
import re

import pytest
from notebooks import ROOT

from openmodels import tables

ROWS = [
    ("model", "released", "size", "share", "source"),
    ("mini <b>", "2026-10-29", "1,051.8 B", "99.2% – 100.0%", "https://a.example/x/long/y, seen"),
    ("scout", "2025-04", "–", "4.5%", "no address " + "and a long remark " * 4),
]


def cells(page: str, tag: str = "td") -> list[tuple[str, str]]:
    """Return (style, text) of each cell of a table in HTML."""
    parts = re.findall(f'<{tag} style="([^"]*)">(.*?)</{tag}>', page)
    return [(style, html.unescape(re.sub("<.*?>", "", inside))) for style, inside in parts]


@pytest.mark.parametrize(
    "values",
    [
        ("7.6 B", "1,051.8 B"),
        ("0.94 GB", "12 GB"),
        ("99.2% – 100.0%", "4.5%"),
        ("500/500", "12/30"),
        ("3 of 4", "0 of 2"),
        ("at most 6.2 each", "11"),
        ("71.5 %", "1417 Elo", "18 index"),
        ("miniature", "0.5 B", "–"),
        ("-1.5", "+2"),
    ],
)
def test_numbers_with_their_units_are_numbers(values):
    assert tables.is_numeric(("header", *values))


@pytest.mark.parametrize(
    "values",
    [
        ("2026-10-29", "2025-04"),
        ("2.13.0", "5.23.0"),
        ("yes, bf16", "no"),
        ("needs 1.6 GB of 11.0 GB", "4 bits need 22.5 GB, there is 11.0 GB"),
        ("12", "the number is not published"),
        ("a", "b", "c", "1"),
        ("–", ""),
        (),
    ],
)
def test_dates_versions_and_words_are_not_numbers(values):
    assert not tables.is_numeric(("12", *values))


def test_text_is_aligned():
    rows = [("model", "size"), ("scout", "109 B"), ("mini-qwen", "–"), ("9", "3.9 M")]
    assert tables.as_text(rows).splitlines() == [
        "model       size",
        "scout      109 B",
        "mini-qwen      –",
        "9          3.9 M",
    ]
    assert tables.as_text(rows, "Sizes").startswith("Sizes\n-----\nmodel")


def test_a_wide_table_becomes_blocks():
    rows = [("clause", "words"), ("a", "x" * tables.WIDEST), ("b", "y")]
    assert tables.as_text(rows).splitlines()[0::2] == ["a", "b"]
    assert tables.as_text(rows).splitlines()[3] == "  words: y"


def test_no_rows_give_no_table():
    assert tables.as_text([]) == tables.as_html([]) == ""


def test_rows_of_unequal_length_are_refused():
    for write in (tables.as_text, tables.as_html):
        with pytest.raises(ValueError):
            write([("a", "b"), ("c",)])


def test_html_is_escaped_and_addresses_become_short_links():
    page = tables.as_html(ROWS, "Models & <sizes>")
    assert "mini &lt;b&gt;" in page and "Models &amp; &lt;sizes&gt;</b></caption>" in page
    assert "<sizes>" not in page
    assert '<a href="https://a.example/x/long/y,">a.example/…/y,</a> seen' in page
    assert tables.short_address("https://a.example/" + "x" * 40) == "a.example/…"
    assert tables.as_html([("a",), ('https://a.example/"><script>',)]).count("<script") == 0


def test_columns_are_aligned_by_what_they_hold():
    page = tables.as_html(ROWS)
    for tag in ("th", "td"):
        aligned = [style.split(";")[0].split(":")[1] for style, _ in cells(page, tag)[:5]]
        assert aligned == ["left", "left", "right", "right", "left"]


def test_short_columns_and_dates_are_not_wrapped():
    styles = [style for style, _ in cells(tables.as_html(ROWS))[:5]]
    assert ["nowrap" in style for style in styles] == [True, True, True, True, False]
    assert "min-width" in styles[4]
    remark = "checked on 2026-08-14 in the licence's own text"
    page = tables.as_html([("checked",), (remark,)])
    assert '<span style="white-space:nowrap">2026-08-14</span>' in page
    assert cells(page)[0][1] == remark
    page = tables.as_html([("why",), ("bf16 needs 66.0 GB, and there is no GPU here",)])
    assert '<span style="white-space:nowrap">66.0 GB</span>' in page


def test_rows_have_lines_and_a_wide_table_scrolls():
    page = tables.as_html(ROWS)
    assert page.count('<tr style="border-bottom:1px solid') == len(ROWS)
    assert page.startswith('<div style="overflow-x:auto">')


def test_colours_come_from_the_page():
    page = tables.as_html(ROWS, "title")
    colours = set(
        re.findall(r"#[0-9a-f]{3,8}\b|rgba?\([^)]*\)|\b(?:black|white)\b(?!-space)", page)
    )
    assert colours == {"rgba(128,128,128,0.4)"}
    assert "background" not in page and "color:" not in page


def test_the_package_has_one_writer_of_tables():
    writers = [
        path.relative_to(ROOT / "openmodels").as_posix()
        for path in (ROOT / "openmodels").rglob("*.py")
        if "<table" in path.read_text(encoding="utf-8")
    ]
    assert writers == ["tables.py"]

"""The page in a real browser: at a desk, on a phone, on paper, without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openshell_drivers.conformance.report import html
from tests.conformance.report import builder
from tests.conformance.report.browser import Browser, browser

WIDTHS = (1280, 420)
ROWS = "return document.querySelectorAll('tr.row:not([hidden])').length"
VISIBLE = """
const box = document.querySelector(arguments[0]).getBoundingClientRect();
return box.width > 0 && box.height > 0 && box.top >= 0 && box.bottom <= innerHeight
    && box.left >= 0 && box.right <= innerWidth;
"""
#: Elements that stick out of the page without a box of their own to scroll in.
STRAYS = """
const scrolls = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX);
const boxed = (e) => e && (scrolls(e) || boxed(e.parentElement));
return [...document.querySelectorAll('body *')]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !boxed(e.parentElement))
    .map((e) => e.outerHTML.slice(0, 80));
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.to_text(builder.everything()), "utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_screen_and_is_quiet(
    shown: Browser, page: Path, width: int, scheme: str
) -> None:
    shown.scheme(scheme)
    shown.open(page, width=width)
    shown.run("for (const each of document.querySelectorAll('details')) each.open = true")

    assert shown.run("return document.documentElement.scrollWidth <= innerWidth")
    assert shown.run(STRAYS) == []
    assert shown.run(VISIBLE, "#headline")
    assert shown.complaints() == []
    assert shown.requests() == [page.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
def test_unbreakable_words_stay_inside(shown: Browser, tmp_path: Path, width: int) -> None:
    word = "x" * 400
    failure = builder.failure(observed=word, log=[word], mend=word)
    results = [
        builder.result("COMP-GET-01.a", outcome="fail", failure=failure, title=word, reason=word),
        builder.result("COMP-GET-01.b", outcome="not-testable", title=word, reason=word),
    ]
    report = builder.everything(results=results, warnings=[word])
    target = report.target.model_copy(update={"name": word, "read_as": word})
    path = tmp_path / "report.html"
    path.write_text(html.to_text(report.model_copy(update={"target": target})), "utf-8")
    shown.open(path, width=width)

    assert shown.run("return document.documentElement.scrollWidth <= innerWidth")
    assert shown.run(STRAYS) == []


def test_many_gateways_scroll_in_a_box_of_their_own(shown: Browser, tmp_path: Path) -> None:
    presets = [f"gateway-{n}.{n}" for n in range(24)]
    results = [builder.result(preset=preset) for preset in presets]
    report = builder.calm(results=results)
    run = report.run.model_copy(update={"presets": presets})
    path = tmp_path / "report.html"
    path.write_text(html.to_text(report.model_copy(update={"run": run})), "utf-8")
    for width in WIDTHS:
        shown.open(path, width=width)

        assert shown.run("return document.documentElement.scrollWidth <= innerWidth")
        assert shown.run(STRAYS) == []


class TestFilter:
    def test_search_leaves_the_rows_and_cards_that_have_all_words(
        self, shown: Browser, page: Path
    ) -> None:
        shown.open(page)
        everything = shown.run(ROWS)
        shown.type("#search", "WATCH deletion")

        assert everything == 144
        assert shown.run(ROWS) == 2
        assert shown.run("return document.querySelector('#shown').textContent") == (
            "2 of 144 checks"
        )
        assert shown.run("return document.querySelectorAll('.card:not([hidden])').length") == 1
        assert not shown.run(
            "return [...document.querySelectorAll('.matrix tbody')].some((each) => !each.hidden"
            " && !each.querySelector('.row:not([hidden])'))"
        )

    def test_outcomes_add_up_and_hide_what_has_none_of_them(
        self, shown: Browser, page: Path
    ) -> None:
        shown.open(page)
        shown.click('.chip[data-outcome="fail"]')
        fails = shown.run(ROWS)
        shown.click('.chip[data-outcome="warn"]')

        assert (fails, shown.run(ROWS)) == (4, 6)
        assert shown.run(
            "return document.querySelector('.chip[data-outcome=\"fail\"]').ariaPressed"
        ) == ("true")

    def test_a_service_may_be_chosen_and_all_be_cleared(self, shown: Browser, page: Path) -> None:
        shown.open(page)
        shown.type("#service", "credentials")
        chosen = shown.run(ROWS)
        shown.click("#clear")

        assert (chosen, shown.run(ROWS)) == (16, 144)

    def test_nothing_found_is_said(self, shown: Browser, page: Path) -> None:
        shown.open(page)
        shown.type("#search", "no check has these words")

        assert shown.run(ROWS) == 0
        assert not shown.run("return document.querySelector('#empty').hidden")

    def test_a_key_leads_to_the_search_and_another_clears_it(
        self, shown: Browser, page: Path
    ) -> None:
        shown.open(page)
        shown.click('.chip[data-outcome="fail"]')
        shown.type("body", "/")
        shown.type("#search", "watch")
        focused = shown.run("return document.activeElement.id")
        shown.type("#search", "\ue00c")  # Escape

        assert focused == "search"
        assert shown.run(ROWS) == 144


class TestCards:
    OPEN = "return document.getElementById('f-COMP-STAT-02.a').closest('details').open"
    SUMMARY = "details:has([id='f-COMP-STAT-02.a']) > summary"
    CELL = '.matrix a[href="#f-COMP-STAT-02.a"]'

    @pytest.mark.parametrize("width", WIDTHS)
    def test_a_cell_of_the_matrix_opens_its_card(
        self, shown: Browser, page: Path, width: int
    ) -> None:
        shown.open(page, width=width)
        before = shown.run(self.OPEN)
        shown.click(self.CELL)

        assert (before, shown.run(self.OPEN)) == (False, True)
        assert shown.run(VISIBLE, self.SUMMARY)
        covered = "const b = document.querySelector(arguments[0]).getBoundingClientRect();"
        covered += "return !document.elementFromPoint(b.left + 40, b.top + 3).closest(arguments[0])"
        assert not shown.run(covered, self.SUMMARY)

    def test_a_cell_opens_its_card_again_after_it_was_closed(
        self, shown: Browser, page: Path
    ) -> None:
        shown.open(page, fragment="#f-COMP-STAT-02.a")
        opened = shown.run(self.OPEN)
        shown.run("document.getElementById('f-COMP-STAT-02.a').closest('details').open = false")
        shown.click(self.CELL)

        assert opened
        assert shown.run(self.OPEN)

    def test_a_card_that_the_filter_hides_is_shown_when_it_is_asked_for(
        self, shown: Browser, page: Path
    ) -> None:
        shown.open(page)
        shown.click('.chip[data-outcome="not-testable"]')
        shown.run("location.hash = '#f-COMP-STAT-02.a'")
        shown.run("return new Promise((done) => setTimeout(done))")

        assert shown.run(VISIBLE, self.SUMMARY)

    def test_a_second_click_on_a_cell_shows_what_was_hidden_since(
        self, shown: Browser, page: Path
    ) -> None:
        shown.open(page)
        shown.click(self.CELL)
        shown.click('.chip[data-outcome="pass"]')  # its row has passes too, and stays
        hidden = not shown.run(VISIBLE, self.SUMMARY)
        shown.click(self.CELL)

        assert hidden
        assert shown.run(VISIBLE, self.SUMMARY)

    def test_all_open_and_close_at_once(self, shown: Browser, page: Path) -> None:
        count = "return document.querySelectorAll('details.card[open]').length"
        shown.open(page)
        shown.click("#unfold")
        opened = shown.run(count)
        shown.click("#unfold")

        assert (opened, shown.run(count)) == (9, 0)

    def test_the_keyboard_opens_one(self, shown: Browser, page: Path) -> None:
        shown.open(page)
        shown.type(self.SUMMARY, "\ue007")  # Enter

        assert shown.run(self.OPEN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_what_lies_behind_them(
    shown: Browser, page: Path, scheme: str
) -> None:
    shown.scheme(scheme)
    shown.open(page)
    shown.run("for (const each of document.querySelectorAll('details')) each.open = true")

    assert shown.run((Path(__file__).parent / "contrast.js").read_text()) == []


def test_it_prints_with_its_cards_open_and_light(shown: Browser, page: Path) -> None:
    shown.scheme("dark")
    shown.open(page)
    printed = shown.pdf()
    shown.scheme("dark", media="print")
    paper = shown.run("return getComputedStyle(document.documentElement).backgroundColor")
    ink = shown.run("return getComputedStyle(document.body).color")
    tools = shown.run("return getComputedStyle(document.querySelector('#tools')).display")
    hidden = shown.run(
        "return [...document.querySelectorAll('.card .body')]"
        ".filter((each) => !each.checkVisibility({contentVisibilityAuto: true})).length"
    )
    shown.scheme("light")

    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") >= 5
    assert (paper, ink) == ("rgb(255, 255, 255)", "rgb(30, 34, 38)")
    assert (tools, hidden) == ("none", 0)
    assert shown.run("return document.querySelectorAll('details.card[open]').length") == 1


def test_it_is_whole_without_javascript(shown: Browser, page: Path) -> None:
    shown.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        shown.open(page, fragment="#f-COMP-STAT-02.a")
        rows = shown.run(ROWS)
        opened = shown.run(TestCards.OPEN)
        tools = shown.run("return getComputedStyle(document.querySelector('#tools')).display")
    finally:
        shown.devtools("Emulation.setScriptExecutionDisabled", value=False)

    assert rows == 144
    assert opened
    assert tools == "none"

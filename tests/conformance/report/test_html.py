"""The page as a text: what it holds, what it may not do, how large it gets."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections import Counter
from html.parser import HTMLParser

import pytest

from openshell_drivers.conformance.report import html
from openshell_drivers.conformance.report._links import places, source_address, web_address
from openshell_drivers.conformance.report.model import Exchange, Outcome, Report, WaiverUse
from openshell_drivers.conformance.report.words import OUTCOME_WORDS, headline
from openshell_drivers.errors import ConfigError
from tests.conformance.report import builder

HOSTILE = "</script><script>alert(1)</script><img src=http://x.example/ onerror=alert(1)>\"'{{7*7}}"


class Page(HTMLParser):
    """What a browser would make of a text: elements, and the words between them."""

    _VOID = frozenset(("meta", "link", "input", "br", "wbr", "img", "hr"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self._words.append(data)

    @property
    def words(self) -> str:
        return "".join(self._words)

    def having(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


def page(report: Report) -> Page:
    return Page(html.to_text(report))


@pytest.fixture(scope="module")
def whole() -> Page:
    return page(builder.everything())


def test_all_that_the_report_holds_is_in_the_page_without_a_script(whole: Page) -> None:
    report = builder.everything()
    holds = [headline(report), "acme-compute 2.3.1", "Not conformant"]
    holds += [each.title for each in report.results]
    holds += [each.failure.mend for each in report.results if each.failure]
    holds += [each.reason for each in report.results if each.outcome.startswith("not-test")]
    holds += [each.name for each in report.capabilities]
    holds += [each.name for each in report.leaks] + [each.name for each in report.metrics]
    holds += [each.text for each in report.clauses]
    holds += ["9 days left", "91 days left", *report.warnings, report.environment.system]

    assert [each for each in dict.fromkeys(holds) if each not in whole.words] == []


def test_every_outcome_is_told_by_a_sign_a_colour_and_a_word(whole: Page) -> None:
    assert len({word.sign for word in OUTCOME_WORDS.values()}) == len(OUTCOME_WORDS)
    text = html.to_text(builder.everything())
    for word in OUTCOME_WORDS.values():
        shown = f'<span class="sign {word.tone}" aria-hidden="true">{word.sign}</span>'
        assert f'{shown}<span class="reader">{word.name}</span>' in text


def test_each_check_has_one_row_and_each_result_a_cell(whole: Page) -> None:
    report = builder.everything()
    rows = [each for tag, each in whole.elements if tag == "tr" and each.get("class") == "row"]

    assert len(rows) == len({each.check for each in report.results})


def test_a_failure_that_is_the_same_under_several_presets_is_one_card(whole: Page) -> None:
    cards = [each for each in whole.having("id") if each.startswith("f-")]

    assert Counter(cards)["f-COMP-DEL-02.a"] == 1
    assert len(cards) == 9


def test_failures_that_differ_have_a_card_each() -> None:
    results = [
        builder.result(outcome="fail", preset=preset, fingerprint=print_)
        for preset, print_ in zip(
            builder.PRESETS, ["", "sha256:1", "sha256:1", "sha256:2"], strict=True
        )
    ]
    cards = [each for each in page(builder.calm(results=results)).having("id") if each[:2] == "f-"]

    assert cards == ["f-COMP-GET-01.a", "f-COMP-GET-01.a-2", "f-COMP-GET-01.a-3"]


def test_what_waits_for_one_clause_stands_together_whatever_each_has_seen() -> None:
    seen = ["it was not confirmed within 3 s", "Error", "within 15 s"]
    results = [
        builder.result(f"COMP-DEL-0{n}.a", outcome="blocked", reason=reason, blocked_by=clause)
        for n, (reason, clause) in enumerate(
            zip(seen, ["COMP-STAT-06.a", "COMP-STAT-06", "COMP-STAT-06"], strict=True), start=1
        )
    ]
    text = page(builder.calm(results=results)).words

    assert text.count("COMP-STAT-06 is to be mended first") == 1
    assert all(reason in text for reason in seen)


def test_every_link_of_the_page_leads_somewhere(whole: Page) -> None:
    ids = whole.having("id")
    targets = {each[1:] for each in whole.having("href") if each.startswith("#")}

    assert targets - {*ids} == set()
    assert max(Counter(ids).values()) == 1
    assert "f-COMP-DEL-02.a" in targets
    assert "n-COMP-LIST-02.a" in targets


def test_a_check_that_no_line_changes_spans_all_presets() -> None:
    once = builder.result(once=True, preset="fork-mvp")
    found = page(builder.calm(results=[once]))

    assert [e for tag, e in found.elements if tag == "td" and e.get("colspan") == "4"]


@pytest.mark.parametrize(
    ("troubles", "says"),
    [
        ({}, "Every required check that applies holds, under each of 4 gateway lines."),
        ({"COMP-GET-01.a": "fail"}, "It breaks 1 rule that gateways rely on."),
        ({"COMP-GET-01.a": "waived"}, "; 1 check excused by a waiver."),
        ({"COMP-GET-01.a": "blocked"}, "Nothing fails, but 1 required check could not be judged."),
    ],
)
def test_the_headline_says_it_in_plain_words(troubles: dict[str, Outcome], says: str) -> None:
    report = builder.report(
        troubles={check: (outcome, (), "because") for check, outcome in troubles.items()},
        extras=False,
    )

    assert says in page(report).words


def test_the_headline_names_the_gateways_under_which_nothing_fails() -> None:
    report = builder.report(
        troubles={"COMP-GET-01.a": ("fail", ("fork-mvp", "0.1.2"), "because")}, extras=False
    )

    assert headline(report).endswith("Nothing fails under 0.0.111 and 0.1-latest.")


def test_what_stands_between_backticks_is_set_as_code() -> None:
    failure = builder.failure(mend="Answer `OK & <b>`, not `NOT_FOUND`.")
    text = html.to_text(builder.calm(results=[builder.result(outcome="fail", failure=failure)]))

    assert "Answer <code>OK &amp; &lt;b&gt;</code>, not <code>NOT_FOUND</code>." in text


class TestSafety:
    def test_nothing_is_loaded_and_no_other_script_may_run(self, whole: Page) -> None:
        text = html.to_text(builder.everything())
        policy = next(
            each["content"]
            for tag, each in whole.elements
            if tag == "meta" and each.get("http-equiv") == "Content-Security-Policy"
        )
        script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)

        assert len(script) == 1
        digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
        assert policy.startswith("default-src 'none';")
        assert f"script-src 'sha256-{digest}';" in policy
        assert whole.having("src") == []
        loads = [each for tag, each in whole.elements if tag == "link"]
        assert loads == [{"rel": "icon", "href": "data:,"}]
        assert "url(" not in text
        assert "@import" not in text

    def test_whatever_a_driver_says_is_text(self) -> None:
        failure = builder.failure(
            **dict.fromkeys(("expected", "observed", "sees", "mend", "place"), HOSTILE),
            log=[HOSTILE],
            transcript=[
                Exchange(
                    rpc=HOSTILE, request=HOSTILE, code="OK", message=HOSTILE, milliseconds=1, at=0
                )
            ],
        )
        words = {"title": HOSTILE, "reason": HOSTILE, "repeat": HOSTILE, "notes": [HOSTILE]}
        results = [
            builder.result("COMP-GET-01.a", outcome="fail", failure=failure, **words),
            builder.result("COMP-GET-01.b", outcome="not-testable", **words),
            builder.result(f"COMP-{HOSTILE}", outcome="error", **words),
        ]
        report = builder.calm(results=results, warnings=[HOSTILE])
        target = report.target.model_copy(update={"name": HOSTILE, "url": HOSTILE})
        found = page(report.model_copy(update={"target": target}))

        assert "img" not in [tag for tag, _ in found.elements]
        assert [tag for tag, _ in found.elements].count("script") == 1
        assert found.words.count(HOSTILE) >= 15
        assert not [name for _, each in found.elements for name in each if name.startswith("on")]

    @pytest.mark.parametrize(
        "address", ["javascript:alert(1)", "data:text/html,x", "//x.example", "https://x y", ""]
    )
    def test_only_a_web_address_becomes_a_link(self, address: str) -> None:
        assert web_address(address) == ""
        waiver = WaiverUse(check="X", issue=address, owner="a", expires="2027-01-01", used=True)
        report = builder.calm(waivers=[waiver])
        target = report.target.model_copy(update={"url": address})

        links = page(report.model_copy(update={"target": target})).having("href")

        assert not [each for each in links if each not in ("data:,",) and each[:1] not in "#h"]

    def test_a_place_in_a_public_repository_becomes_a_link(self) -> None:
        assert source_address("NVIDIA/OpenShell@2f7fb65 crates/a/src/mod.rs:32-33") == (
            "https://github.com/NVIDIA/OpenShell/blob/2f7fb65/crates/a/src/mod.rs#L32-L33"
        )
        assert source_address("NVIDIA/OpenShell@2f7fb65 crates/a/mod.rs (negotiate)") == (
            "https://github.com/NVIDIA/OpenShell/blob/2f7fb65/crates/a/mod.rs"
        )
        assert source_address("NVIDIA/OpenShell#2347") == (
            "https://github.com/NVIDIA/OpenShell/issues/2347"
        )
        assert source_address("https://x.example/spec#3") == "https://x.example/spec#3"
        assert source_address("RFC 6749, section 5.1") == ""
        assert source_address("") == ""
        assert places("RFC 6749; NVIDIA/OpenShell#7;") == [
            ("RFC 6749", ""),
            ("NVIDIA/OpenShell#7", "https://github.com/NVIDIA/OpenShell/issues/7"),
        ]


class TestSize:
    def test_two_thousand_results_that_all_fail_in_their_own_way_fit(self) -> None:
        call = Exchange(
            rpc="CreateSandbox",
            request='{"a":"<b>&"}' * 50,
            code="INTERNAL",
            message="x" * 600,
            milliseconds=1,
            at=0,
        )
        failure = builder.failure(transcript=[call] * 60, log=['{"level":"info"}' * 10] * 100)
        results = [
            builder.result(
                f"COMP-X-{n:03}.a",
                outcome="fail",
                preset=preset,
                failure=failure,
                fingerprint=f"sha256:{preset}",
                title="a rule of the usual length that gateways rely on",
                reason="what was seen instead, in a line of the usual length",
            )
            for n in range(500)
            for preset in builder.PRESETS
        ]
        text = html.to_text(builder.calm(results=results))

        assert len(text.encode()) <= html.LARGEST
        assert "60 earlier calls in report.json" in text
        Page(text)

    def test_what_fits_is_kept_and_the_newest_first(self) -> None:
        calls = [
            Exchange(rpc="GetSandbox", request=f"n{n}", code="OK", milliseconds=1, at=n)
            for n in range(60)
        ]
        long = [call.model_copy(update={"request": call.request + "x" * 2_000}) for call in calls]

        def shown(transcript: list[Exchange]) -> str:
            failure = builder.failure(transcript=transcript)
            return page(
                builder.calm(results=[builder.result(outcome="fail", failure=failure)])
            ).words

        assert "earlier call" not in shown(calls)
        assert "n0" in shown(calls)
        cut = shown(long)
        assert re.search(r"\d+ earlier calls in report\.json", cut)
        assert "n59" in cut
        assert "n0x" not in cut


def test_without_jinja_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)

    with pytest.raises(ConfigError, match=r"openshell-drivers\[conformance\]"):
        html.to_text(builder.calm())

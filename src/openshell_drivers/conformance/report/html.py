"""``report.html``: one file that needs no network and no JavaScript.

Jinja2 is imported when a page is written: it is an extra dependency of the suite. Everything from
a report is escaped by the template engine; links are made only of what is surely an http address;
and a policy in the page forbids every load and every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final, TypeVar

from openshell_drivers.conformance.report import words
from openshell_drivers.conformance.report._links import places, web_address
from openshell_drivers.conformance.report._view import Card, View, view
from openshell_drivers.conformance.report.model import Exchange, Report
from openshell_drivers.conformance.report.verdicts import OUTCOMES, days_left
from openshell_drivers.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment

#: Bytes; a page is opened on phones and kept as an attachment.
LARGEST: Final = 5 * 1024 * 1024
_LONGEST_WORDS: Final = 2_000
_SHARES: Final = (64_000, 24_000, 8_000, 3_000, 1_200, 600, 300, 0)
_T = TypeVar("_T", str, Exchange)


@dataclass(frozen=True, slots=True)
class Cut:
    """A card whose failure fits the page, and what was left out of it."""

    card: Card
    calls: int
    lines: int


def to_text(report: Report) -> str:
    """The page of a report: below `LARGEST`, by leaving out the oldest calls and log lines.

    Raises `ConfigError` if Jinja2 is missing.
    """
    seen, environment = view(report), _environment()
    cards = sum(len(cards) for _, cards in seen.sections)
    for share in _SHARES:
        if share * cards > 2 * LARGEST:
            continue  # not worth a try
        text = _render(environment, report, seen, share)
        if len(text.encode()) <= LARGEST:
            break
    return text


def _render(environment: Environment, report: Report, seen: View, share: int) -> str:
    style, script = _resource("report.css"), _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        report=report,
        view=seen,
        sections=[(title, [_cut(card, share) for card in cards]) for title, cards in seen.sections],
        tests=sum(seen.counts.values()),
        outcomes=[(each, seen.counts[each]) for each in OUTCOMES if each in seen.counts],
        days=partial(days_left, started=report.run.started),
        script=script,
        style=style,
        script_hash=f"sha256-{digest}",
    )


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise ConfigError(
            "the HTML report needs Jinja2: pip install 'openshell-drivers[conformance]'"
        ) from None

    def breakable(text: str) -> Markup:
        """Let a name break after its punctuation, since names may be wide."""
        return Markup("<wbr>").join(re.split(r"(?<=[./_:])(?=\w)", text))

    def prose(text: str) -> Markup:
        """Set what stands between backticks as code."""
        parts = re.split(r"`([^`\n]+)`", text)
        kinds = (Markup("{}"), Markup("<code>{}</code>"))
        return Markup("").join(kinds[n % 2].format(part) for n, part in enumerate(parts))

    environment = Environment(
        loader=PackageLoader(__package__ or "", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["words"] = words
    environment.filters["web"] = web_address
    environment.filters["places"] = places
    environment.filters["breakable"] = breakable
    environment.filters["prose"] = prose
    environment.filters["own"] = Markup  # the page's own style and script
    return environment


def _resource(name: str) -> str:
    return (files(__package__ or "") / "page" / name).read_text("utf-8")


def _cut(card: Card, share: int) -> Cut:
    failure = card.failure
    if failure is None:
        return Cut(card, 0, 0)
    log = list(_newest(failure.log, share // 3))
    calls = list(_newest(failure.transcript, share - share // 3))
    shorter = failure.model_copy(
        update={
            **{name: _short(getattr(failure, name), share) for name in _SENTENCES},
            "log": log,
            "transcript": calls,
        }
    )
    return Cut(
        replace(card, failure=shorter),
        len(failure.transcript) - len(calls),
        len(failure.log) - len(log),
    )


_SENTENCES: Final = ("expected", "observed", "sees", "mend")


def _short(text: str, share: int) -> str:
    most = max(200, min(_LONGEST_WORDS, share // 4))
    return text if len(text) <= most else text[:most] + "…"


def _newest(things: Iterable[_T], room: int) -> Iterator[_T]:
    """The last things that fit into so many bytes, in their order."""
    kept: list[_T] = []
    for thing in reversed(list(things)):
        room -= _size(thing)
        if room < 0:
            break
        kept.append(thing)
    yield from reversed(kept)


def _size(thing: str | Exchange) -> int:
    if isinstance(thing, str):
        return len(escape(thing).encode()) + 1
    said = thing.rpc + thing.request + thing.code + thing.message
    return len(escape(said).encode()) + 140  # the cells around it

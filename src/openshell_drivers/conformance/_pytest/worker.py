"""What both kinds of processes do, and `WorkerFront`: a worker of xdist, which reads what the
controller's engine says."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from openshell_drivers.conformance._client import Event, Feed
from openshell_drivers.conformance._pytest.items import PREFIX, CheckItem, Suite, shown

WORKER_INPUT: Final = "openshell_events"


class Waiting:
    """Waits for an item's result before others' time limits for tests begin to run."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Wait, outside of all that is wrapped around a test."""
        if isinstance(item, CheckItem):
            item.result()
        return (yield)


class ItemsFront:
    """Collects the items, and nothing else unless told so; runs each without others' hooks."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._also: bool = config.getoption("openshell_also_tests")

    def units(self) -> Sequence[Event]:
        """What there is to be shown."""
        raise NotImplementedError

    @property
    def feed(self) -> Feed | None:
        """Where results come from; None if nothing is run."""
        raise NotImplementedError

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Take the place of pytest's own collection, which reads settings, paths and conftests."""
        if not self._also:
            session.perform_collect = self._collecting(session)  # type: ignore[method-assign]

    def _collecting(self, session: pytest.Session) -> Callable[..., Any]:
        def perform_collect(*_args: Any, **_named: Any) -> Sequence[pytest.Item]:
            hook = self._config.hook
            session.items = self._items(session)
            hook.pytest_collection_modifyitems(
                session=session, config=self._config, items=session.items
            )
            hook.pytest_collection_finish(session=session)
            session.testscollected = len(session.items)
            return session.items

        return perform_collect

    def _items(self, session: pytest.Session) -> list[pytest.Item]:
        suite = Suite.from_parent(
            session, name=PREFIX, nodeid=PREFIX, units=self.units(), feed=self.feed
        )
        hook = self._config.hook
        report = hook.pytest_make_collect_report(collector=suite)
        hook.pytest_collectreport(report=report)
        return list(report.result)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        """Put ours before the user's own tests."""
        if self._also:
            items[:0] = self._items(session)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Report an item of ours."""
        if not isinstance(item, CheckItem):
            return None
        item.run()
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> Any:
        """Show what pytest has no word for."""
        return shown(report) if isinstance(report, pytest.TestReport) else None


class WorkerFront(ItemsFront):
    """In a worker: the controller has started the engine, and knows its plan already."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config)
        given: Any = config
        self._feed = Feed(Path(given.workerinput[WORKER_INPUT]))

    def units(self) -> Sequence[Event]:
        """What is planned."""
        plan = self._feed.plan()
        return list(plan.get("units", ()))

    @property
    def feed(self) -> Feed:
        """The controller's engine's."""
        return self._feed

    def pytest_unconfigure(self) -> None:
        """Stop listening."""
        self._feed.close()

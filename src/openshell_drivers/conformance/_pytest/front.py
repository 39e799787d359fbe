"""`Front`: the process that owns the run: it starts the engine, waits for its end, and says so."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Final

import pytest

from openshell_drivers.conformance._client import Engine, Event, Feed, exit_status, listed
from openshell_drivers.conformance._pytest.items import PREFIX, CheckItem
from openshell_drivers.conformance._pytest.live import Live
from openshell_drivers.conformance._pytest.summary import heading, summary
from openshell_drivers.conformance._pytest.worker import WORKER_INPUT, ItemsFront

_TICK: Final = 0.2
_USAGE: Final = 2
_INCOMPLETE: Final = 6


class NotRun(pytest.exit.Exception):  # type: ignore[name-defined,misc]  # pytest types it away
    """Nothing can be judged. pytest writes the name of the class and the message, and after it the
    text of the exception."""

    def __str__(self) -> str:
        return "nothing was judged"


NotRun.__name__ = NotRun.__qualname__ = "openshell-drivers"
NotRun.__module__ = "builtins"  # whose name is left out


class Front(ItemsFront):
    """In the only process, or in the controller of xdist."""

    def __init__(self, config: pytest.Config, request: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.request = request
        self._lists: bool = config.option.collectonly
        self._engine: Engine | None = None
        self._last: Event | None = None
        self._live = Live(self.request) if config.getoption("openshell_live") else None

    # Collection

    @property
    def feed(self) -> Feed | None:
        """The engine's."""
        return None if self._engine is None else self._engine.feed

    def units(self) -> Sequence[Event]:
        """What is planned; without a run, all that the options allow."""
        if self.feed is not None:
            return list(self.feed.plan().get("units", ()))
        try:
            return listed(self.request)
        except ValueError as error:
            raise NotRun(str(error), _USAGE) from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the engine, before there are workers."""
        super().pytest_sessionstart(session)
        if self._lists:
            return
        try:
            self._engine = Engine(self.request, self._config.invocation_params.dir)
            plan = self._engine.feed.plan()
        except KeyboardInterrupt:
            raise NotRun("interrupted before anything was run", _INCOMPLETE) from None
        if plan["event"] != "planned":
            raise NotRun(str(plan["why"]).rstrip(), exit_status(plan))
        if self._live is not None:
            self._live.planned(self._engine.feed)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist where the engine's events are."""
        events = "" if self._engine is None else str(self._engine.events)
        node.workerinput[WORKER_INPUT] = events

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Run what the workers will ask for; they all have collected the same."""
        prefix = f"{PREFIX}::"
        self._go([each.removeprefix(prefix) for each in ids if each.startswith(prefix)])

    def _go(self, keys: Sequence[str]) -> None:
        if self._engine is not None:
            plan = self._engine.feed.plan()
            whole = len(keys) == len(plan.get("units", ()))
            self._engine.go(None if whole else keys)

    # Running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Let the engine run, and report results as they come."""
        if self._engine is None or self._config.pluginmanager.hasplugin("dsession"):
            return None
        ours = [item for item in session.items if isinstance(item, CheckItem)]
        self._go([item.key for item in ours])
        if self._also:
            return None  # pytest's own loop; each item waits for its result
        self._report(session, self._engine.feed, {item.key: item for item in ours})
        return True

    def _report(self, session: pytest.Session, feed: Feed, rest: dict[str, CheckItem]) -> None:
        for key in self._arriving(feed, len(rest)):
            item = rest.pop(key, None)
            if item is not None:
                self._protocol(session, item, next(iter(rest.values()), None))
        while rest:  # the engine has ended without them
            _, item = rest.popitem()
            self._protocol(session, item, next(iter(rest.values()), None))

    def _arriving(self, feed: Feed, number: int) -> Iterator[str]:
        """The units as their results come."""
        while number:
            result = feed.fresh(_TICK)
            if result is not None:
                number -= 1
                yield f"{result['check']}[{result['preset']}]"
            elif feed.last is not None:
                return
            if self._live is not None:
                self._live.show(result)

    def _protocol(
        self, session: pytest.Session, item: CheckItem, following: CheckItem | None
    ) -> None:
        self._config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    # The end

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Wait for the engine, and have the last word on the exit status."""
        last = self._finish(patiently=self._undisturbed(session))
        if last is None:
            return (yield)
        status = exit_status(last)
        own = int(session.exitstatus)
        if not status and (self._also or own == pytest.ExitCode.INTERNAL_ERROR):
            status = own if own != pytest.ExitCode.NO_TESTS_COLLECTED else 0
        session.exitstatus = status
        try:
            return (yield)
        finally:
            session.exitstatus = status

    def _undisturbed(self, session: pytest.Session) -> bool:
        """Whether the run came to its own end, so that the engine has only to finish its work."""
        stopped = {pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR}
        told = self._engine is not None and self._engine.told
        return told and not (
            session.shouldfail or session.shouldstop or session.exitstatus in stopped
        )

    def _finish(self, *, patiently: bool = False) -> Event | None:
        if self._engine is not None and self._last is None:
            if patiently:
                with contextlib.suppress(KeyboardInterrupt):  # then it is closed all the same
                    self._engine.feed.end()
            elif self._live is not None and self._engine.told:
                self._live.stopping()
            self._last = self._engine.close()
            if self._live is not None:
                self._live.finished()
        return self._last

    def pytest_unconfigure(self) -> None:
        """End the engine if the session did not come to its end."""
        self._finish()

    def pytest_report_header(self) -> list[str]:
        """What is judged, before it begins."""
        if self.feed is None:
            return [f"openshell: {self.request['target']['read_as']}; nothing is started"]
        return [f"openshell: {line}" for line in heading(self.request, self.feed)]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdict."""
        if self._engine is not None:
            terminalreporter.section("openshell conformance")
            for line in summary(self.request, self._engine.feed):
                terminalreporter.line(line)

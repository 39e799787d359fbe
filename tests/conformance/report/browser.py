"""A headless Chromium that tells what a page did: its console, its requests, its measures."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)


def programs() -> tuple[str, str]:
    """The browser and its driver. Skips the test where there is none, unless peers are required."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "no Chromium" if browser is None else "no chromedriver"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(f"REQUIRE_PEERS=1 and there is {missing}")
        pytest.skip(f"{missing} (Debian: chromium, chromium-driver)")
    return browser, driver


class Browser:
    """One browser with one page."""

    def __init__(self, chrome: Chrome) -> None:
        self._chrome = chrome

    def open(self, page: Path, *, width: int = 1280, height: int = 900, fragment: str = "") -> None:
        """Show a file at a width, in CSS pixels, and forget what was before."""
        self.resize(width, height)
        self._chrome.get("about:blank")
        self._log("performance")
        self._log("browser")
        self._chrome.get(page.as_uri() + fragment)

    def resize(self, width: int, height: int) -> None:
        """Be a screen of another size; narrower than any window can be, as phones are."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def scheme(self, scheme: str, *, media: str = "") -> None:
        """Prefer ``light`` or ``dark``, on a screen or on ``print``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.devtools("Emulation.setEmulatedMedia", media=media, features=[feature])

    def devtools(self, command: str, **arguments: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self._chrome.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """Evaluate the body of a function in the page."""
        return self._chrome.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        """Click as a mouse does: at a place, which fails if something else lies over it."""
        self._chrome.find_element("css selector", selector).click()

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._chrome.find_element("css selector", selector).send_keys(text)

    def complaints(self) -> list[str]:
        """What the console has said since the page was opened."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened, the page's own first."""
        events = [json.loads(each["message"])["message"] for each in self._log("performance")]
        return [
            each["params"]["request"]["url"]
            for each in events
            if each["method"] == "Network.requestWillBeSent"
        ]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._chrome.get_log(kind)  # type: ignore[no-untyped-call]
        return found

    def picture(self, *, whole: bool = True) -> bytes:
        """A PNG of the page, from top to bottom."""
        taken = self.devtools("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(taken["data"])

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.devtools("Page.printToPDF", printBackground=True)["data"])


@contextmanager
def browser(home: Path, *flags: str) -> Iterator[Browser]:
    """Start a browser whose profile is in `home`."""
    binary, driver = programs()
    options = ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={home / 'profile'}", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()

"""Addresses that a page may link: surely web addresses, or made here from public places."""

from __future__ import annotations

import re
from typing import Final

_GITHUB: Final = "https://github.com"
_FILE: Final = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{7,40}) (?P<path>[\w./-]+)"
    r"(?::(?P<first>\d+)(?:-(?P<last>\d+))?| \(\w+\))?"
)
_ISSUE: Final = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)#(?P<number>\d+)")


def web_address(text: str) -> str:
    """A text if it is an http address, which may be linked; else nothing."""
    return text if re.fullmatch(r"https?://[^\s\"'<>]+", text) else ""


def source_address(where: str) -> str:
    """The address of a place in a public repository; nothing for anything else.

    A place is ``owner/repository@commit path:first-last``, ``... path (function)``,
    ``owner/repository#issue`` or a web address.
    """
    if found := _FILE.fullmatch(where):
        lines = f"#L{found['first']}" if found["first"] else ""
        lines += f"-L{found['last']}" if found["last"] else ""
        place = f"{found['commit']}/{found['path']}{lines}"
        return f"{_GITHUB}/{found['repository']}/blob/{place}"
    if found := _ISSUE.fullmatch(where):
        return f"{_GITHUB}/{found['repository']}/issues/{found['number']}"
    return web_address(where)


def places(where: str) -> list[tuple[str, str]]:
    """The places that a clause names, parted by ``;``, each with its address or nothing."""
    found = [place.strip() for place in where.split(";")]
    return [(place, source_address(place)) for place in found if place]

"""`Redactor`: finds secrets in text and data, in whatever encoding, and takes them out.

A run has hundreds of secrets and megabytes of logs, so a search per secret would take minutes. A
run of bytes that is long enough holds a short piece at a multiple of some stride: only those
pieces of the data are looked up, in a table of all pieces of all secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from openshell_drivers.conformance.report._needles import WINDOW, Needle, needles

#: What stands where a secret was.
MARK: Final = "[secret]"

_PIECE: Final = 6
_STRIDE: Final = WINDOW - _PIECE + 1
_VARIED: Final = 3  # a piece of fewer different bytes is everywhere and tells nothing

Span = tuple[int, int, int]  # start, end, the secret's index


class Redactor:
    """Knows some secrets; give it more with `add`.

    Found are a secret as it is, as base64 and base64url (also inside something longer that was
    encoded), as hex, URL-encoded and JSON-escaped, and any `WINDOW` bytes of one of its lines. Of a
    signed token (a JWT) such a part counts only from its signature, of a key not from its frame, of
    a value of more than 2 KiB only from its first and last KiB.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._count = 0
        self._pieces: dict[bytes, list[tuple[Needle, int]]] = {}
        self._direct: list[Needle] = []
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> int:
        """Know one more secret, and give its index. An empty one has one too; it is never found."""
        index, self._count = self._count, self._count + 1
        for needle in needles(index, secret):
            if not self._enter(needle):
                self._direct.append(needle)
        return index

    def text(self, text: str) -> str:
        """Replace every secret by `MARK`."""
        data = text.encode("utf-8", "surrogatepass")
        spans = sorted(self._spans(data))
        if not spans:
            return text
        clean = bytearray()
        done = 0
        for start, end, _ in spans:
            start, end = _whole_characters(data, start, end)  # noqa: PLW2901
            if start >= done:
                clean += data[done:start] + MARK.encode()
            done = max(done, end)
        return (clean + data[done:]).decode("utf-8", "surrogatepass")

    def find(self, data: bytes) -> list[int]:
        """Say which secrets occur in the data: their indexes, in order."""
        return sorted({index for _, _, index in self._spans(data)})

    def _enter(self, needle: Needle) -> bool:
        """Put a needle into the table; False if some run of it would not be found there."""
        data = needle.data
        if len(data) < WINDOW:
            return False
        # All of a whole needle is there if any of it is, so its first pieces are enough.
        last = _STRIDE if needle.whole else len(data) - _PIECE + 1
        pieces = [data[at : at + _PIECE] for at in range(last)]
        kept = 0
        for at, piece in enumerate(pieces):
            if len(set(piece)) >= _VARIED:
                self._pieces.setdefault(piece, []).append((needle, at))
                kept += 1
        return kept == len(pieces) or not needle.whole

    def _spans(self, data: bytes) -> Iterator[Span]:
        for needle in self._direct:
            at = data.find(needle.data)
            while at >= 0:
                yield at, at + len(needle.data), needle.secret
                at = data.find(needle.data, at + len(needle.data))
        reached: dict[Needle, int] = {}
        for at, candidates in self._hits(data):
            for needle, offset in candidates:
                if reached.get(needle, 0) <= at:
                    start, end = _grown(data, at, needle.data, offset)
                    if end - start >= needle.least:
                        reached[needle] = end
                        yield start, end, needle.secret

    def _hits(self, data: bytes) -> Iterator[tuple[int, list[tuple[Needle, int]]]]:
        get = self._pieces.get
        for at in range(0, len(data) - _PIECE + 1, _STRIDE):
            candidates = get(data[at : at + _PIECE])
            if candidates is not None:
                yield at, candidates


def _grown(data: bytes, at: int, needle: bytes, offset: int) -> tuple[int, int]:
    """Grow a piece that agrees, at `at` in the data and `offset` in the needle, to all that does"""
    start, end = at, at + _PIECE
    first = max(0, at - offset)
    while start > first and data[start - 1] == needle[offset - (at - start) - 1]:
        start -= 1
    last = min(len(data), at - offset + len(needle))
    while end < last and data[end] == needle[offset + end - at]:
        end += 1
    return start, end


def _whole_characters(data: bytes, start: int, end: int) -> tuple[int, int]:
    while start > 0 and data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return start, end

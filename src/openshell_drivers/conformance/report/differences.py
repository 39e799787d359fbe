"""Two reports' differences as text, JSON or Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from openshell_drivers.conformance.report.diff import KINDS, Change, Differences
from openshell_drivers.conformance.report.words import count

_LONGEST: Final = 160
_NOTHING: Final = "nothing changed"


@dataclass(frozen=True, slots=True)
class _Line:
    """The same change under every preset that has it."""

    change: Change
    presets: tuple[str, ...]


def to_text(differences: Differences) -> str:
    """For a terminal."""
    lines = [f"{_plain(differences.before)} -> {_plain(differences.after)}"]
    for kind, meaning, group in _groups(differences):
        lines += ["", f"{kind} ({count(len(group), 'change')}): {meaning}"]
        lines += [f"  {_sentence(line)}" for line in group]
    lines += ["", _total(differences)]
    return "\n".join(lines) + "\n"


def to_markdown(differences: Differences) -> str:
    """For a pull request's comment."""
    sign = "❌" if differences.exit_status else "✅"
    title = f"{_cell(differences.before)} → {_cell(differences.after)}"
    lines = [f"### {sign} {title}", "", _total(differences), ""]
    for kind, meaning, group in _groups(differences):
        lines += [f"**{kind}**: {meaning}", ""]
        lines += ["| what | gateways | before | after | |", "|---|---|---|---|---|"]
        for line in group:
            change = line.change
            cells = [f"`{change.what}`", ", ".join(line.presets), change.before, change.after]
            lines.append(f"| {' | '.join(map(_cell, [*cells, change.note]))} |")
        lines.append("")
    return "\n".join(lines)


def to_json(differences: Differences) -> str:
    """For a program."""
    document = {
        "before": differences.before,
        "after": differences.after,
        "regressed": bool(differences.exit_status),
        "same": differences.same,
        "changes": [asdict(change) for change in differences.changes],
    }
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _groups(differences: Differences) -> Iterator[tuple[str, str, list[_Line]]]:
    for kind, meaning in KINDS.items():
        changes = [change for change in differences.changes if change.kind == kind]
        if changes:
            yield kind, meaning, _together(changes)


def _together(changes: list[Change]) -> list[_Line]:
    found: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        key = (change.what, change.before, change.after, change.note)
        found.setdefault(key, []).append(change)
    return [
        _Line(group[0], tuple(change.preset for change in group if change.preset))
        for group in found.values()
    ]


def _sentence(line: _Line) -> str:
    change = line.change
    where = f" [{', '.join(line.presets)}]" if line.presets else ""
    before, after = change.before or "absent", change.after or "absent"
    moved = before if before == after else f"{before} -> {after}"
    note = f": {change.note}" if change.note else ""
    return _plain(f"{change.what}{where} {moved}{note}")


def _total(differences: Differences) -> str:
    if not differences.changes:
        return f"{_NOTHING}: {count(differences.same, 'result')} compared"
    regressed = sum(change.kind == "regression" for change in differences.changes)
    said = count(regressed, "regression") if regressed else "no regression"
    return f"{said}; {count(differences.same, 'result')} unchanged"


def _plain(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _cell(text: str) -> str:
    plain = _plain(text).replace("\\", "\\\\").replace("|", "\\|")
    return plain.replace("<", "&lt;").replace("@", "@\N{ZERO WIDTH SPACE}")

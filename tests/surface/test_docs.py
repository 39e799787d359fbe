"""The code of README and docs, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [text for name, text in found if name == language]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name
)
def test_python_of_a_page_runs_and_type_checks_as_one_module(page: Path, tmp_path: Path) -> None:
    module = tmp_path / "page.py"
    module.write_text("\n".join(blocks(page, "python")))

    ran = subprocess.run([sys.executable, module], capture_output=True, text=True, check=False)
    typed = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", module],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    assert typed.returncode == 0, typed.stdout


def test_the_readme_driver_answers_through_the_commands_of_the_readme(tmp_path: Path) -> None:
    (tmp_path / "my_driver.py").write_text(blocks(ROOT / "README.md", "python")[0])
    (tmp_path / "tokens.json").write_text('{"tokens": {"github": "s3cr3t"}}')
    commands = next(b for b in blocks(ROOT / "README.md", "") if "openshell-drivers run" in b)
    script = f"export PATH={Path(sys.executable).parent}:$PATH\n{commands}\nkill %1; wait %1\n"

    ran = subprocess.run(
        ["bash", "-c", f"set -m\n{script}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=30,
    )

    assert ran.returncode == 0, ran.stderr
    assert '"token": "s3cr3t"' in ran.stdout
    assert "s3cr3t" not in ran.stderr


def test_the_readme_gateway_shows_a_sandbox_come_and_go(tmp_path: Path) -> None:
    commands = next(b for b in blocks(ROOT / "README.md", "") if "openshell-drivers gateway" in b)
    script = f"export PATH={Path(sys.executable).parent}:$PATH\n{commands}\nkill %1; wait %1\n"

    ran = subprocess.run(
        ["bash", "-c", f"set -m\n{script}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=50,
    )

    assert ran.returncode == 0, ran.stderr
    assert [line.split()[:2] for line in ran.stdout.splitlines()] == [
        ["one", "Ready"],
        ["one", "Ready"],
        ["one", "gone"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_command_and_flag_is_documented() -> None:
    from openshell_drivers._flags import SERVER_FLAGS
    from openshell_drivers.cli import _VERBS

    operating = (ROOT / "docs" / "operating.md").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()

    missing = [name for name in SERVER_FLAGS if f"--{name.replace('_', '-')}" not in operating]
    assert missing == []
    assert [verb for verb in _VERBS if f"`{verb}`" not in changes and verb not in changes] == []

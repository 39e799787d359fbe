"""The repository itself: nothing in it is true on one developer's machine only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

#: In pieces, so that this file does not find itself.
HOSTS: Final = [
    ".".join(parts)
    for parts in (
        *(("pypi", "org"), ("files", "pythonhosted", "org"), ("pythonhosted", "org")),
        *(("crates", "io"), ("repo1", "maven", "org"), ("repo", "maven", "apache", "org")),
        *(("proxy", "golang", "org"), ("registry", "npmjs", "org"), ("rubygems", "org")),
        *(("deb", "debian", "org"), ("archive", "ubuntu", "com"), ("conda", "anaconda", "org")),
    )
]
HOMES: Final = ("home", "root", "work", "Users")
REGISTRY: Final = re.compile("|".join(map(re.escape, HOSTS)))
#: An absolute path of a person: not the middle of another path or of a URL.
PERSONAL: Final = re.compile(rf"(?<![\w.~}})*/-])/(?:{'|'.join(HOMES)})(?:/|\b(?![\w-]))")


def files() -> list[Path]:
    """What is committed or would be."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def found(pattern: re.Pattern[str]) -> list[str]:
    hits = []
    for path in files():
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").split("\n"), 1):
            if pattern.search(line):
                hits.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    return hits


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert found(REGISTRY) == []


def test_no_file_names_a_path_of_somebody_s_machine() -> None:
    assert found(PERSONAL) == []


@pytest.mark.parametrize("home", HOMES)
def test_a_path_of_somebody_s_machine_would_be_noticed(home: str) -> None:
    bad = (f"cd /{home}/x", f'"/{home}"', f"path=/{home}/me", f"`/{home}/x`", f"(/{home}/x)")
    good = (f"docs/{home}/x", f"./{home}", f"/var/{home}", f"https://x/{home}", f"/{home}-made")

    assert all(PERSONAL.search(line) for line in bad)
    assert not any(PERSONAL.search(line) for line in good)

"""The script that fills a workspace from its image, run as a real shell runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from examples.k8s_compute.tests.pods import init, made


class Seeded:
    """The seeding, run here instead of in a pod."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "image"
        self.claim = folder / "claim"
        self.claim.mkdir()

    def run(self, path: str | None = None) -> int:
        seed = init(made(), "workspace-init")
        assert seed is not None
        words = [word.replace("$$", "$") for word in seed["command"]]
        words[0] = "/bin/sh"
        words[2] = words[2].replace("/workspace-pvc", str(self.claim))
        owner = f"{os.getuid()}:{os.getgid()}"
        environment = {"PATH": path or "/usr/bin:/bin"}
        return subprocess.run(
            [*words, str(self.image), owner], env=environment, check=False
        ).returncode


@pytest.fixture
def seeded(tmp_path: Path) -> Seeded:
    return Seeded(tmp_path)


def test_seeding_copies_everything_once(seeded: Seeded) -> None:
    (seeded.image / "sub").mkdir(parents=True)
    (seeded.image / "sub" / ".hidden").write_text("first")
    (seeded.image / "sub" / ".hidden").chmod(0o777)
    (seeded.image / "loop").symlink_to("loop")
    assert seeded.run() == 0

    copy = seeded.claim / "sub" / ".hidden"
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("first", 0o777)
    assert (seeded.claim / "loop").readlink() == Path("loop")
    assert {each.name for each in seeded.claim.iterdir()} == {
        "sub",
        "loop",
        ".workspace-initialized",
    }
    copy.write_text("changed by the user")
    assert seeded.run() == 0
    assert copy.read_text() == "changed by the user"


def test_image_without_the_folder_is_seeded_with_nothing(seeded: Seeded) -> None:
    assert seeded.run() == 0
    assert [each.name for each in seeded.claim.iterdir()] == [".workspace-initialized"]


def test_seeding_that_failed_is_done_again(seeded: Seeded, tmp_path: Path) -> None:
    seeded.image.mkdir()
    (seeded.image / "file").write_text("whole")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("rm", "chown"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    broken = 'case "$*" in *-cf*) /usr/bin/tar "$@"; exit 1;; esac; exec /usr/bin/tar "$@"'
    (tools / "tar").write_text(f"#!/bin/sh\n{broken}\n")
    (tools / "tar").chmod(0o755)

    assert seeded.run(str(tools)) != 0
    assert not (seeded.claim / ".workspace-initialized").exists()
    assert seeded.run() == 0
    assert (seeded.claim / "file").read_text() == "whole"

"""Secret files: confined, regular, bounded, and published the way Kubernetes does it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from openshell_credentials_keycloak._faults import Fault
from openshell_credentials_keycloak._files import LIMIT, locate, read_text, signature

from examples.keycloak_credentials.tests.world import canary
from openshell_drivers import FailedPrecondition


def kubernetes_volume(root: Path, version: str, text: str) -> None:
    """Publish a version of a Secret volume as the kubelet does, by swapping ``..data``."""
    (root / version).mkdir(parents=True)
    (root / version / "secret").write_text(text)
    (root / "..new").symlink_to(version)
    (root / "..new").replace(root / "..data")
    if not (root / "secret").is_symlink():
        (root / "secret").symlink_to(Path("..data") / "secret")


def read(root: Path, ref: str) -> str:
    return read_text(locate(root, ref, "client_secret_ref"), "client_secret_ref").reveal()


def refused(root: Path, ref: str) -> str:
    with pytest.raises(Fault) as caught:
        read(root, ref)
    assert caught.value.kind is FailedPrecondition
    assert "client_secret_ref" in caught.value.what
    return caught.value.what


def test_whitespace_around_the_secret_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" \n\ts3 cret\r\n\n")
    assert read(tmp_path, "secret") == "s3 cret"


def test_kubernetes_symlinks_work_and_a_swap_is_seen(tmp_path: Path) -> None:
    kubernetes_volume(tmp_path, "..2026_1", "first")
    before = signature(tmp_path / "secret")
    first = read(tmp_path, "secret")
    kubernetes_volume(tmp_path, "..2026_2", "other")

    assert (first, read(tmp_path, "secret")) == ("first", "other")
    assert signature(tmp_path / "secret") != before


def test_secrets_dir_may_be_a_symlink_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "secret").write_text("text")
    (tmp_path / "dir").symlink_to("real")
    assert read(tmp_path / "dir", "secret") == "text"


@pytest.mark.parametrize("ref", ["link", "folder/secret", "../outside"])
def test_way_out_of_the_directory_is_refused(tmp_path: Path, ref: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").write_text(canary())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text(canary())
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder").symlink_to(tmp_path / "elsewhere")

    assert "outside" in refused(root, ref)


def test_neighbour_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "secret").write_text(canary())
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root2" / "secret")

    assert "outside" in refused(tmp_path / "root", "link")


@pytest.mark.parametrize("content", [b"", b" \n\t ", b"\xff\xfe", b"x" * (LIMIT + 1)])
def test_content_that_is_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    refused(tmp_path, "secret")


def test_secret_of_exactly_the_limit_is_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * LIMIT)
    assert len(read(tmp_path, "secret")) == LIMIT


def test_things_that_are_no_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for ref in ("fifo", "folder", "loop", "dangling", "missing"):
        refused(tmp_path, ref)


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "secret")


def test_refusal_shows_neither_path_nor_content(tmp_path: Path) -> None:
    (tmp_path / "canary-name").write_bytes(b"canary-content\xff")
    assert "canary" not in refused(tmp_path, "canary-name")
    assert str(tmp_path) not in refused(tmp_path, "missing")

"""Claiming a path: every rule, and that nothing in the way is touched."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openshell_drivers import SocketError
from openshell_drivers._socket import Claim, SocketPolicy, claim, is_live
from tests.fakes.users import SOMEBODY, as_somebody, need_root

OWN = SocketPolicy()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _refusal(path: Path, policy: SocketPolicy = OWN) -> str:
    with pytest.raises(SocketError) as caught, claim(path, policy):
        pass
    return str(caught.value)


@contextlib.contextmanager
def _listening(path: Path | str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener


@contextlib.contextmanager
def _published(path: Path, policy: SocketPolicy = OWN) -> Iterator[Claim]:
    with claim(path, policy) as place, _listening(place.bind_path("s")):
        place.publish("s")
        yield place


def _leave_stale(path: Path | str) -> None:
    with _listening(path):
        pass


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777], indirect=True)
def test_modes_do_not_follow_the_umask(socket_path: Path, umask: int) -> None:
    with _published(socket_path) as place:
        modes = _mode(socket_path), _mode(socket_path.parent)
        assert not place.private.exists()

    assert modes == (0o600, 0o700)


@pytest.mark.parametrize("umask", [0, 0o077], indirect=True)
def test_group_gets_socket_and_directory(socket_path: Path, umask: int) -> None:
    need_root()
    with _published(socket_path, SocketPolicy(group=SOMEBODY)):
        modes = _mode(socket_path), _mode(socket_path.parent)
        groups = socket_path.stat().st_gid, socket_path.parent.stat().st_gid

    assert modes == (0o660, 0o750)
    assert groups == (SOMEBODY, SOMEBODY)


@pytest.mark.parametrize("group", [0, "0", "root"])
def test_group_goes_by_number_or_name(group: int | str) -> None:
    assert SocketPolicy(group=group).gid() == 0


def test_unknown_group_is_refused_before_anything_is_made(socket_path: Path) -> None:
    assert "no group" in _refusal(socket_path, SocketPolicy(group="no such group"))
    assert not socket_path.parent.exists()


def test_no_policy_has_a_mode_for_everybody() -> None:
    for policy in (OWN, SocketPolicy(group=0), SocketPolicy(allowed_uids=frozenset({1}))):
        assert not policy.mode & 0o007
        assert not policy.directory_mode & 0o007


def test_group_of_others_is_refused_with_a_reason() -> None:
    code = (
        "home = Path(tempfile.mkdtemp())\n"
        "try:\n"
        "    with claim(home / 's.sock', SocketPolicy(group=0)) as place:\n"
        "        s = socket.socket(socket.AF_UNIX); s.bind(place.bind_path('s')); s.listen()\n"
        "        place.publish('s')\n"
        "except SocketError as error: print(error)\n"
        "finally: shutil.rmtree(home)\n"
    )

    assert "operation not permitted" in as_somebody(code)


def test_nothing_is_at_the_path_before_it_is_published(socket_path: Path) -> None:
    with claim(socket_path, OWN) as place, _listening(place.bind_path("s")):
        before = socket_path.exists()
        place.publish("s")
        after = is_live(socket_path)

    assert (before, after) == (False, True)


def test_leaving_removes_socket_and_private_place(socket_path: Path) -> None:
    with _published(socket_path):
        pass

    assert list(socket_path.parent.iterdir()) == []


def test_leaving_unpublished_removes_what_was_bound(socket_path: Path) -> None:
    with claim(socket_path, OWN) as place, _listening(place.bind_path("s")):
        pass

    assert list(socket_path.parent.iterdir()) == []


def test_directories_on_the_way_are_made_for_the_owner_only(short_dir: Path) -> None:
    with claim(short_dir / "a" / "b" / "s.sock", OWN):
        modes = _mode(short_dir / "a"), _mode(short_dir / "a" / "b")

    assert modes == (0o700, 0o700)


def test_empty_directory_is_tightened(short_dir: Path) -> None:
    short_dir.chmod(0o755)
    with claim(short_dir / "s.sock", OWN):
        mode = _mode(short_dir)

    assert mode == 0o700


def test_empty_directory_tightened_for_a_group_is_given_to_it(short_dir: Path) -> None:
    need_root()
    short_dir.chmod(0o755)
    with claim(short_dir / "s.sock", SocketPolicy(group=SOMEBODY)):
        mode, gid = _mode(short_dir), short_dir.stat().st_gid

    assert (mode, gid) == (0o750, SOMEBODY)


def test_directory_with_something_in_it_keeps_its_mode(short_dir: Path) -> None:
    short_dir.chmod(0o755)
    (short_dir / "other").touch()
    with _published(short_dir / "s.sock"):
        mode = _mode(short_dir)

    assert mode == 0o755


def test_directory_of_another_user_is_refused(short_dir: Path) -> None:
    need_root()
    os.chown(short_dir, SOMEBODY, SOMEBODY)

    assert f"belongs to uid {SOMEBODY}" in _refusal(short_dir / "s.sock")


def test_directory_open_to_everybody_is_refused() -> None:
    code = (
        "home = Path(tempfile.mkdtemp()); home.chmod(0o777)\n"
        "try:\n"
        "    with claim(home / 's.sock', SocketPolicy()): print('claimed')\n"
        "except SocketError as error: print(error)\n"
        "finally: home.rmdir()\n"
    )

    assert "writable by everybody" in as_somebody(code)


def test_open_directory_of_root_is_taken_with_a_warning(
    short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_root()
    short_dir.chmod(0o777)
    with _published(short_dir / "s.sock"):
        live = is_live(short_dir / "s.sock")

    assert live
    assert "writable by everybody" in caplog.text


def test_sticky_directory_is_taken_as_it_is(
    short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short_dir.chmod(0o1777)
    (short_dir / "other").touch()
    with _published(short_dir / "s.sock"):
        mode = _mode(short_dir)

    assert mode == 0o1777
    assert not caplog.records


def test_directory_that_is_a_link_is_refused(short_dir: Path) -> None:
    (short_dir / "real").mkdir()
    (short_dir / "link").symlink_to("real")

    assert "symbolic link" in _refusal(short_dir / "link" / "s.sock")


def test_directory_that_is_a_dangling_link_is_refused(short_dir: Path) -> None:
    (short_dir / "link").symlink_to("nowhere")

    assert "symbolic link" in _refusal(short_dir / "link" / "s.sock")


def test_directory_that_is_a_file_is_refused(short_dir: Path) -> None:
    (short_dir / "file").touch()

    assert "not a directory" in _refusal(short_dir / "file" / "s.sock")
    assert "not a directory" in _refusal(short_dir / "file" / "deeper" / "s.sock")


def test_file_in_the_way_is_not_touched(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    path.write_text("notes")
    before = path.stat()

    assert "not a socket" in _refusal(path)
    assert path.read_text() == "notes"
    assert (path.stat().st_ino, path.stat().st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_directory_in_the_way_is_not_touched(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    path.mkdir()

    assert "not a socket" in _refusal(path)
    assert path.is_dir()


@pytest.mark.parametrize("target", ["file", "socket", "nothing"])
def test_link_in_the_way_is_not_touched(short_dir: Path, target: str) -> None:
    (short_dir / "file").write_text("notes")
    _leave_stale(short_dir / "socket")
    path = short_dir / "s.sock"
    path.symlink_to(target)

    assert "symbolic link" in _refusal(path)
    assert path.readlink() == Path(target)
    assert (short_dir / "file").read_text() == "notes"
    assert (short_dir / "socket").is_socket()


def test_socket_of_another_user_is_not_touched(short_dir: Path) -> None:
    need_root()
    path = short_dir / "s.sock"
    _leave_stale(path)
    os.chown(path, SOMEBODY, SOMEBODY)

    assert f"socket of uid {SOMEBODY}" in _refusal(path)
    assert path.is_socket()


def test_stale_socket_is_replaced(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    _leave_stale(path)
    with _published(path):
        live = is_live(path)

    assert live


def test_live_socket_is_refused_and_goes_on(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with _listening(path) as first:
        refusal = _refusal(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        accepted = first.accept()[0]
        accepted.close()

    assert "another server is listening" in refusal


def test_live_socket_with_a_full_backlog_is_refused(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with _listening(path) as first, contextlib.ExitStack() as clients:
        first.listen(0)
        client = clients.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(path))

        assert "another server is listening" in _refusal(path)


def test_socket_that_came_meanwhile_is_not_replaced(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with claim(path, OWN) as place, _listening(place.bind_path("s")), _listening(path) as first:
        with pytest.raises(SocketError, match="another server"):
            place.publish("s")
        still = path.stat().st_ino
    assert first.fileno() == -1

    assert path.stat().st_ino == still


def test_file_that_came_meanwhile_is_not_replaced(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with claim(path, OWN) as place, _listening(place.bind_path("s")):
        path.write_text("notes")
        with pytest.raises(SocketError, match="not a socket"):
            place.publish("s")

    assert path.read_text() == "notes"


def test_successor_survives_the_end_of_the_first(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with contextlib.ExitStack() as successor:
        with claim(path, OWN) as first:
            with _listening(first.bind_path("s")):
                first.publish("s")
            successor.enter_context(_published(path))
        live = is_live(path)

    assert live
    assert not path.exists()


def test_inode_of_the_first_is_not_given_to_a_successor(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with contextlib.ExitStack() as successors:
        with claim(path, OWN) as first:
            with _listening(first.bind_path("s")):
                first.publish("s")
            path.unlink()  # the file system is free to use its number again
            for _ in range(20):
                successors.enter_context(_published(path))
                if _ < 19:
                    successors.close()
        live = is_live(path)

    assert live


def test_path_of_107_bytes_works_and_one_more_is_refused(short_dir: Path) -> None:
    room = 107 - len(os.fsencode(short_dir)) - 1
    longest = short_dir / ("x" * room)
    with _published(longest):
        live = is_live(longest)

    assert live
    refusal = _refusal(short_dir / ("x" * (room + 1)))
    assert "has 108 bytes" in refusal
    assert "107" in refusal


def test_length_counts_bytes_and_not_characters(short_dir: Path) -> None:
    room = 107 - len(os.fsencode(short_dir)) - 1
    assert "bytes" in _refusal(short_dir / ("ä" * (room // 2 + 1)))


@pytest.mark.parametrize(
    ("name", "reason"), [("a%20b", "'%'"), ("a\0b", "NUL"), ("..", "directory")]
)
def test_name_that_cannot_be_dialled_is_refused(short_dir: Path, name: str, reason: str) -> None:
    assert reason in _refusal(short_dir / name)
    assert list(short_dir.iterdir()) == []


def test_directory_where_nobody_may_write_is_refused_with_a_reason() -> None:
    code = (
        "try:\n"
        "    with claim(Path('/s.sock'), SocketPolicy()): print('claimed')\n"
        "except SocketError as error: print(error)\n"
    )

    assert "permission denied" in as_somebody(code)


def _leftover(directory: Path, name: str, *, old: bool = True) -> Path:
    left = directory / name
    left.mkdir(mode=0o700)
    here = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
    _leave_stale(f"/proc/self/fd/{here}/s")  # the path itself may be too long
    os.close(here)
    if old:
        os.utime(left, (time.time() - 3600,) * 2)
    return left


@pytest.mark.parametrize("deep", [0, 80])
def test_what_killed_processes_left_is_swept(short_dir: Path, deep: int) -> None:
    directory = short_dir / ("d" * deep) if deep else short_dir
    directory.mkdir(exist_ok=True)
    left = _leftover(directory, ".openshell-1f-0123abcd")
    with claim(directory / "s", OWN):
        pass

    assert not left.exists()


def test_private_place_in_use_is_not_swept(short_dir: Path) -> None:
    with claim(short_dir / "first.sock", OWN) as first:
        os.utime(first.private, (time.time() - 3600,) * 2)
        with claim(short_dir / "second.sock", OWN):
            pass
        with _listening(first.bind_path("s")):
            first.publish("s")
            live = is_live(short_dir / "first.sock")

    assert live


def test_young_private_place_is_not_swept(short_dir: Path) -> None:
    left = _leftover(short_dir, ".openshell-1f-0123abcd", old=False)
    with claim(short_dir / "s.sock", OWN):
        pass

    assert left.exists()


def test_sweeping_touches_no_file_and_no_other_directory(short_dir: Path) -> None:
    kept = [_leftover(short_dir, ".openshell-backup"), _leftover(short_dir, ".openshell-1f-0")]
    mixed = _leftover(short_dir, ".openshell-1f-0123abcd")
    (mixed / "notes").write_text("notes")
    os.utime(mixed, (time.time() - 3600,) * 2)
    target = short_dir / "target"
    target.mkdir()
    (target / "notes").write_text("notes")
    (short_dir / ".openshell-2f-0123abcd").symlink_to(target)
    with claim(short_dir / "s.sock", OWN):
        pass

    assert all((each / "s").is_socket() for each in kept)
    assert (mixed / "notes").read_text() == "notes"
    assert (target / "notes").read_text() == "notes"


def test_private_place_replaced_by_a_link_leads_nowhere(short_dir: Path) -> None:
    """In a directory that is open to everybody, somebody may swap it while the driver starts."""
    precious = short_dir / "precious"
    precious.mkdir()
    (precious / "s").write_text("notes")
    (precious / "s").chmod(0o644)
    with claim(short_dir / "s.sock", OWN) as place, _listening(place.bind_path("s")):
        place.private.rename(short_dir / "moved")
        place.private.symlink_to(precious)
        place.publish("s")
        live = is_live(short_dir / "s.sock")

    assert live
    assert (precious / "s").read_text() == "notes"
    assert _mode(precious / "s") == 0o644


def test_lock_held_by_another_is_waited_for_and_then_refused(short_dir: Path) -> None:
    path = short_dir / "s.sock"
    with claim(path, OWN) as place, _listening(place.bind_path("s")):
        holder = os.open(short_dir, os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(SocketError, match="locked by another process"):
            place.publish("s")
        os.close(holder)
        place.publish("s")
        live = is_live(path)

    assert live


def test_many_claims_leak_no_descriptor(short_dir: Path) -> None:
    with _published(short_dir / "s.sock"):
        pass
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with _published(short_dir / "s.sock"):
            _refusal(short_dir / "s.sock")

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_grpc_target_is_no_path(tmp_path: Path) -> None:
    assert "give the path alone" in _refusal(Path("unix:///run/driver.sock"))


def test_a_relative_path_is_judged_as_those_elsewhere_will_dial_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)

    assert "the kernel's limit is 107" in _refusal(Path("driver.sock"))


def test_a_socket_at_a_relative_path_is_given_back_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with claim(Path("driver.sock"), OWN) as place, _listening(place.bind_path("s")):
        place.publish("s")
        monkeypatch.chdir("/")
        published = is_live(tmp_path / "driver.sock")

    assert published
    assert not (tmp_path / "driver.sock").exists()


@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_empty_directory_of_ours_is_given_to_the_group_that_may_connect(
    short_dir: Path, mode: int
) -> None:
    need_root()
    directory = short_dir / "run"
    directory.mkdir()
    directory.chmod(mode)

    with claim(directory / "s.sock", SocketPolicy(group=SOMEBODY)):
        status = directory.stat()

    assert (status.st_gid, _mode(directory)) == (SOMEBODY, 0o750)


def test_a_directory_in_use_that_shuts_the_group_out_is_warned_about(
    short_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_root()
    directory = short_dir / "run"
    directory.mkdir(mode=0o700)
    (directory / "kept").touch()

    with claim(directory / "s.sock", SocketPolicy(group=SOMEBODY)):
        pass

    assert "the group cannot enter the socket's directory" in caplog.text
    assert _mode(directory) == 0o700

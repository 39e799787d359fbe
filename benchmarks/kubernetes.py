"""``python -m benchmarks.kubernetes``: the Kubernetes example with thousands of sandboxes on a real
cluster. Not among the others: it takes minutes, a gigabyte and a half, and all of two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from benchmarks.figures import Section, Target, median
from openshell_drivers import DriverError, SandboxSpec
from openshell_drivers.client import Connection, connect
from openshell_drivers.compute import SandboxSeen, SandboxTemplate
from tests.peers.kube import Cluster

NAMESPACE = "bench"
ACCOUNT = "driver"
_AT_ONCE = 16
_REST_SECONDS = 20.0
#: Pods without kubelet events, so that the figures are the driver's and not those of the nodes.
_QUIET: dict[str, Any] = {"annotations": {"kwok.test/quiet": "1"}}


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MiB."""

    rss: float
    own: float
    """What only its end would free: without pages of files."""


def memory(pid: int) -> Memory:
    """Read what a process holds."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        found[key] = value
    own = sum(int(found[key].split()[0]) for key in ("RssAnon", "RssShmem"))
    return Memory(int(found["VmRSS"].split()[0]) / 1024, own / 1024)


def make_account(kube: Cluster, folder: Path) -> Path:
    """Make a namespace, and an account that may do all in it; give its kubeconfig."""
    kube.api("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    for name in (ACCOUNT, "openshell-sandbox"):
        kube.api("POST", accounts, {"metadata": {"name": name}})
    binding = {
        "metadata": {"name": ACCOUNT},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }
    kube.api("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    token = kube.service_account_token(NAMESPACE, ACCOUNT, expiration=7200)
    path = folder / "kubeconfig"
    path.write_text(kube.kubeconfig_for(token=token, namespace=NAMESPACE).read_text())
    return path


@contextmanager
def driver(kubeconfig: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the driver as its users do."""
    config = socket.parent / "config.json"
    config.write_text(
        json.dumps(
            {
                "kubeconfig": str(kubeconfig),
                "authenticate_sandboxes": False,
                "pod": {"workspace": {"volume": "none"}},
            }
        )
    )
    script = Path(sys.executable).with_name("openshell-driver-k8s")
    process = subprocess.Popen(
        [str(script), "--socket", str(socket.parent / "run" / "s"), "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


async def until_listed(caller: Connection, count: int) -> float:
    """Wait until List has so many; give the seconds."""
    began = time.monotonic()
    while True:
        try:
            if len(await caller.compute.list_sandboxes()) == count:
                return time.monotonic() - began
        except DriverError:
            pass
        await anyio.sleep(0.02)


async def snapshot(caller: Connection, count: int) -> float:
    """Open a watch, and give the seconds to the last of all sandboxes."""
    began, seen = time.monotonic(), set()
    async for event in caller.compute.watch_sandboxes():
        if isinstance(event, SandboxSeen):
            seen.add(event.sandbox.id)
            if len(seen) == count:
                break
    return time.monotonic() - began


async def create(caller: Connection, first: int, last: int) -> float:
    """Create sandboxes, some at a time; give the seconds."""
    began, gate = time.monotonic(), anyio.CapacityLimiter(_AT_ONCE)
    template = SandboxTemplate(image="bench", platform_config=_QUIET)

    async def one(number: int) -> None:
        spec = SandboxSpec(id=f"id-{number}", name=f"s{number}", workspace="w", template=template)
        async with gate:
            await caller.compute.create_sandbox(spec)

    async with anyio.create_task_group() as tasks:
        for number in range(first, last):
            tasks.start_soon(one, number)
    return time.monotonic() - began


async def until_ready(caller: Connection, count: int) -> float:
    """Wait until all are ready; give the seconds."""
    began = time.monotonic()
    while True:
        listed = await caller.compute.list_sandboxes()
        states = [each.status.conditions[0] for each in listed if each.status is not None]
        if sum(each.status == "True" and each.type == "Ready" for each in states) == count:
            return time.monotonic() - began
        await anyio.sleep(0.5)


def requests(kube: Cluster) -> Counter[str]:
    """Count what the driver has asked the API server for."""
    found: Counter[str] = Counter()
    for event in kube.audited(NAMESPACE, ACCOUNT):
        if event["stage"] == "ResponseComplete" or event["verb"] == "watch":
            resource = event.get("objectRef", {}).get("resource", "discovery")
            found[f"{event['verb']} {resource}"] += 1
    return found


async def rest(kube: Cluster) -> float:
    """Do nothing for a while; give the requests per second."""
    before = requests(kube).total()
    await anyio.sleep(_REST_SECONDS)
    return (requests(kube).total() - before) / _REST_SECONDS


@asynccontextmanager
async def measured(folder: Path, kubeconfig: Path) -> AsyncIterator[tuple[Connection, int]]:
    """Give a running driver and its process."""
    with driver(kubeconfig, folder / "s") as process:
        async with connect(folder / "run" / "s") as caller:
            yield caller, process.pid


async def measure(kube: Cluster, folder: Path, count: int) -> Section:
    """Measure everything once: a cluster of this size is not made twice."""
    section = Section(
        title=f"Kubernetes example, {count} sandboxes on a real API server",
        columns=("what", "a quarter", "all"),
    )
    kubeconfig = make_account(kube, folder)
    quarter = count // 4
    figures: list[dict[str, float]] = []
    async with measured(folder, kubeconfig) as (caller, pid):
        empty = memory(pid)
        for first, last in ((0, quarter), (quarter, count)):
            before = requests(kube)
            taken = await create(caller, first, last)
            ready = await until_ready(caller, last)
            used = requests(kube) - before
            lists = [await timed_list(caller) for _ in range(20)]
            opened = [await snapshot(caller, last) for _ in range(5)]
            resting, held = await rest(kube), memory(pid)
            figures.append(
                {
                    "create, per second": (last - first) / taken,
                    "all ready after the last create, s": ready,
                    "API requests per sandbox": used.total() / (last - first),
                    "ListSandboxes, ms": median(lists) * 1000,
                    "snapshot of a new watch, ms": median(opened) * 1000,
                    "API requests at rest, per second": resting,
                    "RSS, MiB": held.rss,
                    "of it the process's own, MiB": held.own,
                }
            )
    async with measured(folder, kubeconfig) as (caller, _):
        figures[1]["a new process lists all after, s"] = await until_listed(caller, count)
        await anyio.to_thread.run_sync(kube.stop_api)
        await anyio.to_thread.run_sync(kube.start_api)
        figures[1]["the same after an API restart, s"] = await until_listed(caller, count)
    for what in figures[1]:
        cells = (f"{each[what]:.4g}" if what in each else "" for each in figures)
        section.rows.append((what, *cells))
    section.notes.append(f"RSS with no sandbox: {empty.rss:.0f} MiB ({empty.own:.0f} its own)")
    rss, at_rest = figures[1]["RSS, MiB"], "API requests at rest, per second"
    growth = figures[1][at_rest] - figures[0][at_rest]
    section.targets += [
        Target(what="RSS of the driver", value=rss, limit=128, unit="MiB"),
        Target(what="growth of requests at rest", value=growth, limit=0.1, unit="/s"),
    ]
    section.samples = figures
    return section


async def timed_list(caller: Connection) -> float:
    """Give the seconds that a list takes."""
    began = time.monotonic()
    await caller.compute.list_sandboxes()
    return time.monotonic() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandboxes", type=int, default=2000)
    count = parser.parse_args().sandboxes
    with Cluster() as kube, tempfile.TemporaryDirectory(prefix="osd-") as folder:
        section = anyio.run(measure, kube, Path(folder), count)
    print(section.text())
    print(f"{os.cpu_count()} CPUs")


if __name__ == "__main__":
    main()

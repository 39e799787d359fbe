"""Runs containers of the gateway's pod as processes here: their command, variables, user and files.

Each has mounts of its own, where the pod's volumes lie at the paths of the manifest, all else is
read-only, and neither a home nor an entry in passwd is there. Its image is what is installed here,
and its network that of this machine. Needs root, and a kernel that lets it make mounts.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from examples.k8s_compute.tests.deployment import Object, container, plain_environment

_CHECKOUT: Final = Path(__file__).resolve().parents[3]
"""With all that is installed. Wherever it lies, a container has it: it may be below a mount."""
_BIN: Final = Path(sys.executable).parent
_NO_RIGHTS: Final = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
# What is hidden in the home of a user that runs the tests has to be found by another.
_SCRIPT: Final = """
set -eu
mount --make-rprivate /
mount --bind {base} /mnt
mount --bind {checkout} /media
for hidden in {hidden}; do mount -t tmpfs -o mode=755 none "$hidden"; done
mkdir -p {base}
mount --move /mnt {base}
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /etc
{mounts}
mkdir -p {checkout}
mount --move /media {checkout}
mount -o remount,ro /run
mount -o remount,ro /etc
mount -o remount,bind,ro /
exec setpriv {user} {no_rights} env -i {environment} {command}
"""


@cache
def can_run() -> bool:
    """Whether containers can be run here at all."""
    tools = all(map(shutil.which, ("unshare", "setpriv", "mount")))
    trial = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return tools and os.geteuid() == 0 and subprocess.run(trial, check=False).returncode == 0


class Pod:
    """The pod's volumes, as the kubelet lays them out, and its containers."""

    def __init__(
        self,
        spec: Object,
        folder: Path,
        files: Mapping[str, Mapping[str, str]],
        environment: Mapping[str, str],
    ) -> None:
        """`files` are those of volumes by name; `environment` is what the kubelet adds."""
        self.spec = spec
        self._folder = folder
        self._environment = environment
        folder.chmod(0o755)
        group = spec["securityContext"].get("fsGroup", 0)
        for volume in spec["volumes"]:
            place = folder / volume["name"]
            place.mkdir()
            os.chown(place, 0, group)
            place.chmod(0o2777 if "emptyDir" in volume else 0o755)
            for name, text in files.get(volume["name"], {}).items():
                (place / name).write_text(text)
                (place / name).chmod(0o644 if "configMap" in volume else 0o440)
                os.chown(place / name, 0, group)

    def folder_of(self, volume: str) -> Path:
        """Where a volume is outside the pod."""
        return self._folder / volume

    def command(self, name: str, command: Sequence[str] = (), **user: int) -> list[str]:
        """Give the command of a container, or another one in it, as that user instead of its own.

        The process that runs it becomes the command.
        """
        of = container(self.spec, name)
        whole = command or [*of["command"], *of["args"]]
        variables = {**plain_environment(of), **self._environment, "PATH": f"{_BIN}:/usr/bin:/bin"}
        script = _SCRIPT.format(
            base=shlex.quote(sys.base_prefix),
            checkout=shlex.quote(str(_CHECKOUT)),
            hidden=shlex.join(_hidden(Path(sys.base_prefix))),
            mounts="\n".join(self._mounts(of)),
            user=shlex.join(self._user(of, user)),
            no_rights=shlex.join(_NO_RIGHTS),
            environment=shlex.join(f"{key}={value}" for key, value in variables.items()),
            command=shlex.join(whole),
        )
        return ["unshare", "--mount", "sh", "-c", script]

    def probe(self, name: str, kind: str, **user: int) -> subprocess.CompletedProcess[str]:
        """Run a container's probe within its time, and see how it ends."""
        probe = container(self.spec, name)[kind]
        return subprocess.run(
            self.command(name, probe["exec"]["command"], **user),
            capture_output=True,
            text=True,
            timeout=probe["timeoutSeconds"],
            check=False,
        )

    def _mounts(self, of: Object) -> list[str]:
        lines = []
        for mount in of["volumeMounts"]:
            source = self._folder / mount["name"] / mount.get("subPath", "")
            source, target = shlex.quote(str(source)), shlex.quote(mount["mountPath"])
            lines.append(
                f"if [ -d {source} ]; then mkdir -p {target}; else "
                f"mkdir -p $(dirname {target}); touch {target}; fi; mount --bind {source} {target}"
            )
            if mount.get("readOnly"):
                lines.append(f"mount -o remount,bind,ro {target}")
        return lines

    def _user(self, of: Object, other: Mapping[str, int]) -> list[str]:
        context: dict[str, Any] = {**self.spec["securityContext"], **of["securityContext"], **other}
        user, group = context["runAsUser"], context["runAsGroup"]
        more = [f"--groups={context['fsGroup']}"] if "fsGroup" in context else ["--clear-groups"]
        return [f"--reuid={user}", f"--regid={group}", *more]


def _hidden(path: Path) -> list[str]:
    """Folders above a path that others cannot pass."""
    closed = [each for each in path.parents if not each.stat().st_mode & 0o001]
    return [str(closed[-1])] if closed else []

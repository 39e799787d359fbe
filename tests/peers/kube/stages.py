"""Tells kwok what becomes of pods and claims: the part of a kubelet that can be seen in the API.

A pod runs and is ready at once. Its image's name, or an annotation, makes it otherwise:

=====================  ================  ==========================================================
image contains         annotation        what happens
=====================  ================  ==========================================================
``slow``               kwok.test/slow    it runs after 5 s, or after what the annotation says: "2s"
``unpullable``                           its image cannot be pulled (ErrImagePull, then back-off)
``crash``              kwok.test/exit    its first container ends, with 1 or the annotation's code
\\                      kwok.test/reason  why it ended, where Completed or Error does not say it
\\                      kwok.test/linger  once deleted it is gone after that time only: "2s"
\\                      kwok.test/quiet   it comes without the kubelet's events: four requests fewer
=====================  ================  ==========================================================

``kwok.test/exit`` may also be set on a pod that runs: its main process then ends. What does not
restart is Succeeded or Failed afterwards, what does is in CrashLoopBackOff and stays there. A claim
of the default storage class is given a volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.peers.kube import templates

STORAGE_CLASS = "standard"
PROVISIONER = "volumes.kwok.test"

_LIVING = ".metadata.deletionTimestamp == null"
_PENDING = f'{_LIVING} and .status.phase == "Pending"'
_STATUSES = "(.status.containerStatuses // [])"
_FRESH = f"{_PENDING} and ({_STATUSES} | length) == 0"


def _annotation(name: str) -> str:
    return f'.metadata.annotations["kwok.test/{name}"]'


def _image_has(word: str) -> str:
    return f'([.spec.containers[].image | contains("{word}")] | any)'


def _waits_for(reason: str) -> str:
    return f'([{_STATUSES}[].state.waiting.reason] | any(. == "{reason}"))'


_SLOW = f"({_image_has('slow')} or {_annotation('slow')} != null)"
_UNPULLABLE = _image_has("unpullable")
_QUIET = f"({_annotation('quiet')} != null)"

Step = dict[str, Any]


def _status(*parts: str) -> Step:
    return {"patch": {"subresource": "status", "root": "status", "template": "".join(parts)}}


def _event(reason: str, message: str, kind: str = "Normal", *, of: str = "image") -> Step:
    name = "".join(letter for letter in f"{reason}{message}".lower() if letter.isalnum())[:24]
    argument = f" (index .spec.containers 0).{of}" if "%" in message else ""
    said = f"printf {_go_string(message)}{argument}"
    told = {"name": name, "type": kind, "reason": reason, "message": said}
    return {"apply": {"template": templates.EVENT % told}}


def _go_string(text: str) -> str:
    return f"`{text}`"


def _stage(
    name: str,
    when: str,
    steps: Sequence[Step],
    delay: Mapping[str, Any] | None = None,
    kind: str = "Pod",
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {
            "matchExpressions": [{"jq": {"key": when, "operator": "In", "values": ["true"]}}]
        },
        "steps": list(steps),
    }
    if delay is not None:
        spec["delay"] = delay
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": spec,
    }


def _after(annotation: str, milliseconds: int) -> dict[str, Any]:
    """The annotation's time where it says one, else the one given."""
    asked = {"jq": {"expression": _annotation(annotation)}}
    return {"durationMilliseconds": milliseconds, "durationFrom": asked}


def _waiting(reason: str = "", message: str = "") -> str:
    """All containers wait to be created; those that cannot be pulled wait for that reason."""
    return templates.WAITING % {"reason": reason, "message": _go_string(message)}


def _running_stages() -> list[dict[str, Any]]:
    pulling = _event("Pulling", 'Pulling image "%s"')
    started = [
        _event("Pulled", 'Successfully pulled image "%s" in 1ms (1ms including waiting).'),
        _event("Created", "Container created: %s", of="name"),
        _event("Started", "Container started: %s", of="name"),
    ]
    creating = _status(_waiting())
    running = _status(
        templates.CONDITIONS % {"ready": "True", "reason": '""'},
        templates.INIT_STATUSES,
        templates.RUNNING,
    )
    pullable = f"{_FRESH} and ({_UNPULLABLE} | not)"
    quick = f"{pullable} and ({_SLOW} | not)"
    created = f"{_PENDING} and ({_UNPULLABLE} | not) and {_waits_for('ContainerCreating')}"
    return [
        _stage("pod-run", f"{quick} and ({_QUIET} | not)", [pulling, *started, running]),
        _stage("pod-run-quiet", f"{quick} and {_QUIET}", [running]),
        _stage("pod-create-slow", f"{pullable} and {_SLOW}", [pulling, creating]),
        _stage("pod-run-slow", created, [*started, running], _after("slow", 5000)),
    ]


def _pull_stages() -> list[dict[str, Any]]:
    unready = templates.CONDITIONS % {"ready": "False", "reason": "ContainersNotReady"}
    refusal = 'failed to pull and unpack image "%[1]s": failed to resolve reference: not found'
    back_off = 'Back-off pulling image "%s"'
    fails = [
        _event("Pulling", 'Pulling image "%s"'),
        _event("Failed", f'Failed to pull image "%[1]s": {refusal}', "Warning"),
        _event("Failed", "Error: ErrImagePull", "Warning"),
        _status(unready, _waiting("ErrImagePull", refusal)),
    ]
    waits = [
        _event("BackOff", back_off),
        _event("Failed", "Error: ImagePullBackOff", "Warning"),
        _status(unready, _waiting("ImagePullBackOff", back_off)),
    ]
    failed = f"{_PENDING} and {_waits_for('ErrImagePull')}"
    return [
        _stage("pod-pull-fails", f"{_FRESH} and {_UNPULLABLE}", fails),
        _stage("pod-pull-waits", failed, waits, {"durationMilliseconds": 1000}),
    ]


def _end_stages() -> list[dict[str, Any]]:
    ends = f"({_annotation('exit')} != null or {_image_has('crash')})"
    up = f'{_LIVING} and .status.phase == "Running" and ({_waits_for("CrashLoopBackOff")} | not)'
    deleted = ".metadata.deletionTimestamp != null"
    return [
        _stage("pod-end", f"{up} and {ends}", [_status(templates.ENDED)]),
        _stage("pod-delete", deleted, [{"delete": True}], _after("linger", 0)),
    ]


def _volume_stages() -> list[dict[str, Any]]:
    unbound = (
        f'{_PENDING} and .spec.storageClassName == "{STORAGE_CLASS}" and .spec.volumeName == null'
    )
    volume = {"apply": {"template": templates.VOLUME % {"provisioner": PROVISIONER}}}
    released = (
        f'{_LIVING} and .status.phase == "Released" and .spec.storageClassName == "{STORAGE_CLASS}"'
    )
    return [
        _stage("claim-provision", unbound, [volume], kind="PersistentVolumeClaim"),
        _stage("volume-delete", released, [{"delete": True}], kind="PersistentVolume"),
    ]


def _all_stages() -> list[dict[str, Any]]:
    # Without a stage for nodes kwok manages none, and no pod on them.
    node = _stage(
        "node-ready", ".status.conditions == null", [_status(templates.NODE)], kind="Node"
    )
    return [node, *_running_stages(), *_pull_stages(), *_end_stages(), *_volume_stages()]


def configuration() -> str:
    """Return kwok's configuration file."""
    options = {"manageAllNodes": True, "cidr": "10.64.0.0/12", "podPlayStageParallelism": 16}
    # Leases would be renewed for nobody.
    options |= {"nodePlayStageParallelism": 1, "nodeLeaseDurationSeconds": 0}
    kwok = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokConfiguration",
        "options": options,
    }
    return yaml.safe_dump_all([kwok, *_all_stages()], width=1000)

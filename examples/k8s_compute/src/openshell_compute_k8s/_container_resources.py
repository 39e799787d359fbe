"""A container's resources: what was asked for in several places, made one.

Who comes first wins, for each resource's request and limit by themselves: the GPU request, the
request's own resources, its ``resources_raw``, its ``driver_config``, the configuration. What has
a limit only is requested as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from openshell_compute_k8s._amounts import is_device, size, written
from openshell_compute_k8s.pod_parts import ResourcesConfig
from openshell_drivers import FailedPrecondition, InvalidArgument
from openshell_drivers.compute import ComputeResources, GpuRequest

Resources: TypeAlias = dict[str, dict[str, str]]


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What one place says."""

    requests: Mapping[str, str] = field(default_factory=_nothing)
    limits: Mapping[str, str] = field(default_factory=_nothing)


Said: TypeAlias = Amounts | ResourcesConfig


def of_gpu(gpu: GpuRequest | None, resource: str) -> Amounts:
    """Read the wish for GPUs; no count means one (COMP-IN-07)."""
    if gpu is None:
        return Amounts()
    return Amounts(limits={resource: str(1 if gpu.count is None else gpu.count)})


def of_template(resources: ComputeResources | None) -> Amounts:
    """Read the typed resources; what is empty is not set (COMP-IN-04)."""
    asked = resources or ComputeResources()
    requests = {"cpu": asked.cpu_request, "memory": asked.memory_request}
    limits = {"cpu": asked.cpu_limit, "memory": asked.memory_limit}
    return Amounts(
        requests={name: amount for name, amount in requests.items() if amount},
        limits={name: amount for name, amount in limits.items() if amount},
    )


def resolve(places: Sequence[Said]) -> Resources:
    """Make one of all, the first place first; empty if nobody says anything.

    Raises `InvalidArgument` for a request above the limit of the same place, and
    `FailedPrecondition` for one above the limit of a later place. A request that is above the limit
    of an earlier place gives way.
    """
    names = sorted({name for each in places for name in (*each.requests, *each.limits)})
    resolved: Resources = {"requests": {}, "limits": {}}
    for name in names:
        request, limit = (_device if is_device(name) else _amount)(name, places)
        resolved["requests"][name] = request
        if limit:
            resolved["limits"][name] = limit
    return {kind: amounts for kind, amounts in resolved.items() if amounts}


def _device(name: str, places: Sequence[Said]) -> tuple[str, str]:
    first = next(each for each in places if name in {*each.requests, *each.limits})
    limit = first.limits.get(name) or first.requests[name]
    return limit, limit


def _amount(name: str, places: Sequence[Said]) -> tuple[str, str]:
    request, requested_at = _first(name, [each.requests for each in places])
    limit, limited_at = _first(name, [each.limits for each in places])
    if request and limit and size(name, request) > size(name, limit):
        _may_give_way(name, requested_at, limited_at)
        request = ""
    return written(name, request or limit), limit and written(name, limit)


def _may_give_way(name: str, requested_at: int, limited_at: int) -> None:
    if requested_at == limited_at:
        raise InvalidArgument(f"the request of {name} is above its limit")
    if requested_at < limited_at:
        raise FailedPrecondition(
            f"the request of {name} is above the limit that is set where the request sets none"
        )


def _first(name: str, places: Sequence[Mapping[str, str]]) -> tuple[str, int]:
    for index, amounts in enumerate(places):
        if name in amounts:
            return amounts[name], index
    return "", len(places)

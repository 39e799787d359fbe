"""Requests of any kind, for properties: whatever is not refused has to make a pod."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from examples.k8s_compute.tests.pods import request, settings
from openshell_drivers.compute import ComputeResources, GpuRequest

_ODD: Final = st.text(alphabet="aZ0-_./:$ ~\nü", max_size=12)
_NAMES: Final = st.sampled_from(["a", "a.b", "example.com/x", "x" * 64, "A_b.c", "0", "-"]) | _ODD
_TEXTS: Final = st.sampled_from(["", "v", "$(A) $$", "x" * 300]) | _ODD
_AMOUNTS: Final = st.sampled_from(
    ["1", "500m", "1.5", "1K", "2Gi", ".5", "5.", "1e3", "1n", "+1", "0", "-1", "1E", "9e18", "1u"]
)
_RESOURCES: Final = st.sampled_from(
    ["cpu", "memory", "ephemeral-storage", "example.com/x", "hugepages-2Mi", "a", "kubernetes.io/x"]
)
_PATHS: Final = st.sampled_from(["/data", "/sandbox/x", "/sandbox", "/etc", "/a b", "/a:b"]) | (
    _ODD.map(lambda text: f"/{text}")
)
_SELECTORS: Final = st.dictionaries(_NAMES, _TEXTS, max_size=2)


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


_AMOUNTS_BY_NAME: Final = st.dictionaries(_RESOURCES, _AMOUNTS, max_size=3)
_BOTH: Final = _some(requests=_AMOUNTS_BY_NAME, limits=_AMOUNTS_BY_NAME)
_RAW: Final = st.dictionaries(
    _RESOURCES, _AMOUNTS | st.sampled_from([1.0, 0.5, 1e20, float("nan"), True]), max_size=3
)
_TOLERATION: Final = _some(
    key=_NAMES,
    operator=st.sampled_from(["Exists", "Equal", "Other"]),
    value=_TEXTS,
    effect=st.sampled_from(["", "NoSchedule", "NoExecute", "Other"]),
    tolerationSeconds=st.integers(-5, 5),
)


@st.composite
def _volumes(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["a", "b", "workspace"]) | _NAMES, max_size=2))
    volumes = [
        {
            "name": name,
            "persistent_volume_claim": {
                "claim_name": draw(st.sampled_from(["pvc", "pvc.x"]) | _NAMES),
                "read_only": draw(st.booleans()),
            },
        }
        for name in names
    ]
    mounts = [
        {
            "name": name,
            "mount_path": draw(_PATHS),
            "read_only": draw(st.booleans()),
            **draw(_some(sub_path=_ODD)),
        }
        for name in names * draw(st.integers(1, 2))
    ]
    return {"volumes": volumes, "mounts": mounts}


@st.composite
def _driver_configs(draw: st.DrawFn) -> dict[str, Any]:
    asked = draw(_volumes())
    agent = {"volume_mounts": asked["mounts"], **draw(_some(resources=_BOTH))}
    pod = _some(
        node_selector=_SELECTORS,
        runtime_class_name=st.sampled_from(["", "template-test", "No"]),
        priority_class_name=st.sampled_from(["", "template-test", "No"]),
        tolerations=st.lists(_TOLERATION, max_size=2),
    )
    return {
        "volumes": asked["volumes"],
        "containers": {"agent": agent},
        **draw(_some(pod=pod)),
    }


_TEMPLATES: Final = _some(
    image=st.sampled_from(["example.org/a:1", "a@sha256:" + "0" * 64]) | _ODD,
    labels=st.dictionaries(_NAMES, _TEXTS, max_size=2),
    environment=st.dictionaries(_ODD, _TEXTS, max_size=2),
    resources=st.builds(
        ComputeResources,
        cpu_request=_AMOUNTS,
        cpu_limit=_AMOUNTS,
        memory_limit=_AMOUNTS,
        memory_request=st.just(""),
    ),
    user_namespaces=st.booleans(),
    driver_config=_driver_configs(),
    platform_config=_some(
        runtime_class_name=st.sampled_from(["", "template-test", "No Class"]),
        annotations=st.dictionaries(_NAMES, _TEXTS, max_size=2),
        resources_raw=_some(requests=_RAW, limits=_RAW),
    ),
)


def _one_of(template: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Keep one field, so that an odd value is not refused for another's sake."""
    return (
        st.sampled_from(sorted(template)).map(lambda key: {key: template[key]})
        if (template)
        else st.just(template)
    )


REQUESTS: Final = st.builds(
    lambda template, fields: request(template=template, **fields),
    _TEMPLATES | _TEMPLATES.flatmap(_one_of),
    _some(
        environment=st.dictionaries(st.sampled_from(["A", "1", "a-b"]) | _ODD, _TEXTS, max_size=2),
        command=st.lists(_TEXTS.filter(bool), max_size=2).map(tuple),
        tty=st.booleans(),
        gpu=st.builds(GpuRequest, count=st.none() | st.integers(1, 9)),
        log_level=st.sampled_from(["", "debug"]),
    ),
)

CONFIGURATIONS: Final = st.builds(
    settings,
    _some(
        supervisor=_some(delivery=st.sampled_from(["init-container", "image-volume"])),
        client_tls=st.sampled_from(
            [
                {},
                {"layout": "single", "secret": "tls"},
                {"layout": "split", "ca_secret": "ca", "client_secret": "own"},
            ]
        ),
        security=_some(
            privileged=st.booleans(),
            user_namespaces=st.booleans(),
            apparmor=st.sampled_from(["Unconfined", "Localhost/x"]),
        ),
        workspace=_some(
            volume=st.sampled_from(["claim", "empty-dir", "none"]),
            size=st.sampled_from(["1Gi", "1.5K"]),
            fs_group=st.booleans(),
        ),
        resources=st.sampled_from([{}, {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}}]),
        node_selector=st.sampled_from([{}, {"a": "b"}]),
        image_pull_policy=st.sampled_from(["", "Always"]),
    ),
)

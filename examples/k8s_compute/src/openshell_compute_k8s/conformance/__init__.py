"""What the conformance suite has to know of this driver: its profile, with every verb.

``KUBECONFIG=... openshell-drivers verify k8s``: each process of the driver gets a namespace of its
own on that cluster, made by `verbs` and removed again.
"""

from __future__ import annotations

import sys
from typing import Final

from openshell_drivers.conformance import Profile

_VERBS: Final = (
    *("setup", "teardown", "outage_begin", "outage_end", "slow", "fast", "remove"),
    *("list_resources", "foreign", "workload", "credential", "exit_main"),
)


def profile() -> Profile:
    """The profile, for a cluster with agent-sandbox whose nodes are kwok's.

    Their pods run nothing, and do what their image's name says: fail to be pulled, be slow.
    """
    module = [sys.executable, "-m", f"{__name__}.verbs", "{dir}"]
    return Profile.model_validate(
        {
            "target": {
                "arguments": [
                    *("--set", "kubeconfig={dir}/kubeconfig", "--set", "gateway_id=conformance"),
                    *("--set", "image_pull_patience=1", "--set", "allow_driver_config=false"),
                    *("--set", 'pod={"workspace": {"volume": "empty-dir", "seed": false}}'),
                ],
                "isolated": True,
            },
            "compute": {
                "unpullable": {"template": {"image": "conformance/unpullable"}},
                "refused": {"template": {"platform_config": {"volume_claim_templates": {}}}},
                "lengthy": {"template": {"image": "conformance/slow"}},
                "timeouts": {"ready": 60, "stopped": 60, "gone": 60},
                "max_sandboxes": 40,  # a few at a time: all of a cluster is on one machine
            },
            "backend": {verb: [*module, verb] for verb in _VERBS} | {"timeout": 60},
        }
    )

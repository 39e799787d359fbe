"""The whole driver under the conformance suite, on a real cluster, with every backend verb."""

from __future__ import annotations

import pytest
from openshell_compute_k8s.conformance import profile

from openshell_drivers.conformance import Profile
from tests.peers.kube.cluster import Cluster
from tests.reference.judging import judge

pytestmark = [pytest.mark.kube, pytest.mark.timeout(1800)]


def test_every_verb_is_there() -> None:
    verbs = set(Profile.model_fields["backend"].default.model_dump()) - {"timeout"}
    assert {verb for verb in verbs if getattr(profile().backend, verb)} == verbs


@pytest.mark.matrix
async def test_the_driver_is_conformant_under_every_gateway(own_kube: Cluster) -> None:
    found = await judge("k8s", environment={"KUBECONFIG": str(own_kube.kubeconfig)})
    assert found.problems == ()
    assert found.verdict == "conformant"
    assert found.services == {"compute"}

"""The templates that kwok makes statuses, events and volumes from; in each, `.` is the object.

They are Go templates of YAML, and what is in ``%(...)s`` is filled in before kwok sees them.
"""

from __future__ import annotations

CONDITIONS = """
conditions:
{{ range list "PodReadyToStartContainers" "Initialized" }}
- {type: {{ . }}, status: "True", lastTransitionTime: {{ Now | Quote }}}
{{ end }}
{{ range list "Ready" "ContainersReady" }}
- {type: {{ . }}, status: "%(ready)s", reason: %(reason)s, lastTransitionTime: {{ Now | Quote }}}
{{ end }}
"""

INIT_STATUSES = """
{{ with .spec.initContainers }}
initContainerStatuses:
{{ range . }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: {{ .image | Quote }}
  ready: true
  restartCount: 0
  {{ if eq (or .restartPolicy "") "Always" }}
  started: true
  state: {running: {startedAt: {{ Now | Quote }}}}
  {{ else }}
  started: false
  state:
    terminated: {exitCode: 0, reason: Completed, finishedAt: {{ Now | Quote }}}
  {{ end }}
{{ end }}
{{ end }}
"""

WAITING = """
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: false
  started: false
  restartCount: 0
  state:
    {{ if contains "unpullable" .image }}
    waiting: {reason: %(reason)s, message: {{ printf %(message)s .image | Quote }}}
    {{ else }}
    waiting: {reason: ContainerCreating}
    {{ end }}
{{ end }}
startTime: {{ or .status.startTime Now | Quote }}
phase: Pending
"""

RUNNING = """
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ Now | Quote }}}}
{{ end }}
{{ with NodeIPsWith .spec.nodeName }}
hostIP: {{ index . 0 | Quote }}
hostIPs: [{ip: {{ index . 0 | Quote }}}]
{{ end }}
{{ $host := or .spec.hostNetwork false }}
{{ with PodIPsWith .spec.nodeName $host .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ index . 0 | Quote }}
podIPs: [{ip: {{ index . 0 | Quote }}}]
{{ end }}
startTime: {{ or .status.startTime Now | Quote }}
phase: Running
"""

# The sandbox's own process is that of the first container; the others end with it.
ENDED = """
{{ $asked := index (or .metadata.annotations dict) "kwok.test/exit" }}
{{ $code := int (or $asked "1") }}
{{ $asked := index (or .metadata.annotations dict) "kwok.test/reason" }}
{{ $why := or $asked (ternary "Completed" "Error" (eq $code 0)) }}
{{ $policy := or .spec.restartPolicy "Always" }}
{{ $over := or (eq $policy "Never") (and (eq $policy "OnFailure") (eq $code 0)) }}
{{ $phase := ternary "PodCompleted" "PodFailed" (eq $code 0) }}
conditions:
{{ range list "Ready" "ContainersReady" }}
- type: {{ . }}
  status: "False"
  lastTransitionTime: {{ Now | Quote }}
  reason: {{ if $over }}{{ $phase }}{{ else }}ContainersNotReady{{ end }}
{{ end }}
containerStatuses:
{{ range $index, $container := .spec.containers }}
{{ $own := ternary $code 0 (eq $index 0) }}
{{ $told := ternary $why "Completed" (eq $index 0) }}
- name: {{ $container.name | Quote }}
  image: {{ $container.image | Quote }}
  imageID: {{ $container.image | Quote }}
  ready: false
  started: false
  restartCount: {{ ternary 0 1 $over }}
  {{ if $over }}
  state:
    running: null
    terminated: {exitCode: {{ $own }}, reason: {{ $told | Quote }}, finishedAt: {{ Now | Quote }}}
  {{ else }}
  state:
    running: null
    waiting: {reason: CrashLoopBackOff, message: "back-off 10s restarting failed container"}
  lastState:
    terminated: {exitCode: {{ $own }}, reason: {{ $told | Quote }}, finishedAt: {{ Now | Quote }}}
  {{ end }}
{{ end }}
{{ if $over }}
phase: {{ ternary "Succeeded" "Failed" (eq $code 0) }}
{{ end }}
"""

NODE = """
conditions:
- {type: Ready, status: "True", reason: KubeletReady, lastTransitionTime: {{ Now | Quote }}}
"""

EVENT = """
apiVersion: v1
kind: Event
metadata:
  name: {{ printf "%%s.%(name)s.%%s" .metadata.name (trunc 8 .metadata.uid) | Quote }}
  namespace: {{ .metadata.namespace | Quote }}
involvedObject:
  apiVersion: v1
  kind: Pod
  name: {{ .metadata.name | Quote }}
  namespace: {{ .metadata.namespace | Quote }}
  uid: {{ .metadata.uid | Quote }}
  fieldPath: {{ printf "spec.containers{%%s}" (index .spec.containers 0).name | Quote }}
type: %(type)s
reason: %(reason)s
message: {{ %(message)s | Quote }}
source: {component: kubelet, host: {{ .spec.nodeName | Quote }}}
reportingComponent: kubelet
reportingInstance: {{ .spec.nodeName | Quote }}
firstTimestamp: {{ Now | Quote }}
lastTimestamp: {{ Now | Quote }}
count: 1
"""

VOLUME = """
apiVersion: v1
kind: PersistentVolume
metadata:
  name: pvc-{{ .metadata.uid }}
  annotations: {pv.kubernetes.io/provisioned-by: %(provisioner)s}
spec:
  accessModes: {{ .spec.accessModes | toJson }}
  capacity: {storage: {{ .spec.resources.requests.storage | Quote }}}
  persistentVolumeReclaimPolicy: Delete
  storageClassName: {{ .spec.storageClassName | Quote }}
  volumeMode: {{ or .spec.volumeMode "Filesystem" }}
  claimRef:
    apiVersion: v1
    kind: PersistentVolumeClaim
    name: {{ .metadata.name | Quote }}
    namespace: {{ .metadata.namespace | Quote }}
    uid: {{ .metadata.uid | Quote }}
  csi: {driver: %(provisioner)s, volumeHandle: {{ .metadata.uid | Quote }}}
"""

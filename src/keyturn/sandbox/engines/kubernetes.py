"""A Kubernetes cluster, asked by its own client: one pod for each sandbox, on a runtime class of gVisor.

A pod that is deleted vanishes from the API before its processes need have; so each of ours bears a finalizer, which
keeps it there until its container was seen as terminated. What the kubelet of a node that is not ready last said counts
for nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from keyturn.core.errors import Unavailable
from keyturn.core.terms import Json
from keyturn.sandbox.engines.port import GOVERNOR, RUN, Container, Effective, Look, Order, Stream

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

SECONDS_MAX = 10
START_SECONDS_MAX = 120
LOOK_SECONDS = 0.2
SUBJECT = "subject"
FINALIZER = "keyturn/end-seen"
CPU = "1"
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
GRACE_SECONDS = 1


@contextlib.contextmanager
def asked(what: str) -> Iterator[None]:
    """Turn whatever the client raises into `Unavailable`, with what was asked of the cluster."""
    from kubernetes.client.exceptions import OpenApiException
    from kubernetes.config.config_exception import ConfigException
    from urllib3.exceptions import HTTPError
    from websocket import WebSocketException

    known = (OpenApiException, ConfigException, HTTPError, WebSocketException, OSError, ValueError, LookupError,
             TypeError, AttributeError)  # fmt: skip  # what the client raises
    try:
        yield
    except known as error:
        why = f"{type(error).__name__}: {getattr(error, 'status', '') or ''} {error!s:.200}".replace("\n", " ")
        raise Unavailable(f"the cluster, asked to {what}: {why}", help="see `kubectl describe`") from error


class Attached:
    """The attach stream of a pod: a web socket whose messages begin with the number of a channel."""

    def __init__(self, client: Any) -> None:
        self._socket = client.sock
        self._socket.settimeout(SECONDS_MAX)
        self._raw: socket.socket = self._socket.sock  # the client forgets it once it was closed

    def fileno(self) -> int:
        """What to wait on."""
        return self._raw.fileno()

    def pending(self) -> bool:
        """Whether the record of TLS that was read last holds more."""
        return bool(getattr(self._raw, "pending", lambda: 0)())

    def send(self, data: bytes) -> None:
        """Write all of it; raises `OSError`."""
        from websocket import WebSocketException

        try:
            self._socket.send_binary(bytes([STDIN]) + data)
        except (WebSocketException, AttributeError) as error:
            raise OSError("the attach stream has ended") from error

    def receive(self) -> tuple[bytes, bytes] | None:
        """One message; None at the end."""
        from websocket import ABNF, WebSocketException

        try:
            kind, frame = self._socket.recv_data_frame(control_frame=True)
        except (WebSocketException, AttributeError) as error:
            raise OSError("the attach stream has ended") from error
        if kind == ABNF.OPCODE_CLOSE:
            return None
        data = bytes(frame.data) if kind in {ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT} else b""
        channel = data[0] if data else STATUS
        if channel == STATUS and len(data) > 1:  # how the container ended: nothing more will come
            return None
        return (data[1:] if channel == STDOUT else b""), (data[1:] if channel == STDERR else b"")

    def cut(self) -> None:
        """End it both ways."""
        self._raw.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.shutdown()
        self._raw.close()


class Kubernetes:
    """One namespace of a cluster. See `port.Engine`."""

    proof_seconds = 30.0
    bounds = frozenset[str]()
    lacks: tuple[str, ...] = (
        "noexec: a pod's folders in memory may hold programs that can be run",
        "pids: the number of processes is bounded by rlimit, and by the node where its kubelet does so",
        "log: what passes between init and the governor also goes into the container's log on its node",
        "freeze: a pod cannot be held still",
    )

    def __init__(
        self, image: str, *, runtime_class: str = "", namespace: str = "", context: str = "", kubeconfig: str = ""
    ) -> None:
        try:
            import kubernetes  # noqa: F401 - whether it is there
        except ImportError as fault:
            help = "pip install 'keyturn[kubernetes]'"
            raise Unavailable("the library `kubernetes` is not installed", help=help) from fault
        self.image, self.runtime_class, self.namespace = image, runtime_class, namespace or "keyturn"
        self.gvisor = bool(runtime_class)
        self._config = {"config_file": kubeconfig or None, "context": context or None}
        self.scope = f"the namespace {self.namespace} of the cluster {context or 'of the current context'}"
        self._api: CoreV1Api | None = None

    def api(self) -> CoreV1Api:
        """The client, set up when first needed."""
        if self._api is None:
            from kubernetes import client, config

            with asked("be reached"):
                self._api = client.CoreV1Api(config.new_client_from_config(**self._config))
        return self._api

    def ready(self) -> Mapping[str, Json]:
        """The cluster's version, and that the runtime class is there."""
        from kubernetes import client

        with asked("say its version"):
            version = str(client.VersionApi(self.api().api_client).get_code(_request_timeout=SECONDS_MAX).git_version)
        found: dict[str, Json] = {"kubernetes": version, "runtime_class": self.runtime_class}
        if self.runtime_class:
            with asked(f"show the runtime class {self.runtime_class}"):
                kind = client.NodeV1Api(self.api().api_client).read_runtime_class(
                    self.runtime_class, _request_timeout=SECONDS_MAX
                )
            found["handler"] = str(kind.handler)
        return found

    def make(self, order: Order) -> tuple[Container, Stream]:
        """Create the pod, wait until its container runs, and attach; init says nothing before it is spoken to."""
        import kubernetes.stream

        made = Pod(self, f"keyturn-{order.name}", order.name)
        with asked("make a pod"):
            body = manifest(order, self.runtime_class)
            self.api().create_namespaced_pod(self.namespace, body, _request_timeout=SECONDS_MAX)
        try:
            made.await_running()
            with asked("attach to a pod"):
                # the call changes the client's way of asking while it lasts, so it has one of its own
                from kubernetes import client, config

                own = client.CoreV1Api(config.new_client_from_config(**self._config))
                channel = kubernetes.stream.stream(
                    own.connect_get_namespaced_pod_attach, made.number, self.namespace, container=SUBJECT, stdin=True,
                    stdout=True, stderr=True, tty=False, _preload_content=False, binary=True,
                )  # fmt: skip  # one stream
                return made, Attached(channel)
        except BaseException:
            with contextlib.suppress(Unavailable):  # nobody has spoken to it: it ends by itself, and is swept
                made.kill()
            raise

    def left(self, tag: str) -> list[Container]:
        """Every pod with our label."""
        with asked("list our pods"):
            found = self.api().list_namespaced_pod(
                self.namespace, label_selector=f"{GOVERNOR}={tag}", _request_timeout=SECONDS_MAX
            )
            return [Pod(self, pod.metadata.name, pod.metadata.labels.get(RUN, "")) for pod in found.items]

    def close(self) -> None:
        """Let go of the client."""
        if self._api is not None:
            self._api.api_client.close()


def manifest(order: Order, runtime_class: str) -> dict[str, Any]:
    """The pod of an order, as it is sent and as it must come back."""
    limits = order.spec.limits
    sizes = {"cpu": CPU, "memory": str(limits.memory_bytes)}
    names = {place.target: f"place-{number}" for number, place in enumerate(order.places)}
    container = {
        "name": SUBJECT, "image": order.image, "imagePullPolicy": "IfNotPresent", "command": [*order.command],
        "workingDir": "/", "stdin": True, "stdinOnce": True, "tty": False,
        "resources": {"limits": sizes, "requests": sizes},
        "volumeMounts": [{"name": name, "mountPath": target} for target, name in names.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip  # one container
    spec: dict[str, Any] = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS, "hostNetwork": False, "hostPID": False, "hostIPC": False,
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": order.user, "runAsGroup": order.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": names[place.target], "emptyDir": {"medium": "Memory", "sizeLimit": str(place.bytes_max)}}
            for place in order.places
        ],
    }  # fmt: skip  # one pod
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    labels = {GOVERNOR: order.tag, RUN: order.name}
    metadata = {"name": f"keyturn-{order.name}", "labels": labels, "finalizers": [FINALIZER]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class Pod:
    """One pod. See `port.Container`."""

    def __init__(self, engine: Kubernetes, number: str, name: str) -> None:
        self._engine, self.number, self.name = engine, number, name

    def _read(self) -> dict[str, Any]:
        """The pod as the API has it, in the API's own words."""
        with asked("show a pod"):
            pod = self._engine.api().read_namespaced_pod(
                self.number, self._engine.namespace, _request_timeout=SECONDS_MAX
            )
            told: dict[str, Any] = self._engine.api().api_client.sanitize_for_serialization(pod)
        return told

    def await_running(self) -> None:
        """Wait until the container runs; raises `Unavailable` where it does not in time."""
        import time

        until, look = time.monotonic() + START_SECONDS_MAX, self.look()
        while look.state != "running" or look.detail != "running":
            if look.state == "ended" or time.monotonic() > until:
                raise Unavailable(f"the pod did not start: it is {look.detail}", help="see `kubectl describe pod`")
            time.sleep(LOOK_SECONDS)
            look = self.look()

    def effective(self, order: Order) -> Effective:
        """What the API says that the pod is, against what was ordered; a hook may have changed it on the way in."""
        told, wanted = self._read(), manifest(order, self._engine.runtime_class)["spec"]
        spec, digest = told["spec"], order.image.partition("@")[2]
        problems = [*_differences("spec", wanted, spec)]
        containers = (told.get("status") or {}).get("containerStatuses") or [{}]
        if not str(containers[0].get("imageID", "")).endswith(digest):
            problems.append(f"the container's image is {containers[0].get('imageID')!s:.120}, named was {digest}")
        problems += [f"`spec.{name}` is {spec[name]!s:.80}, ordered was none" for name in FORBIDDEN if spec.get(name)]
        facts: dict[str, Json] = {
            "name": "kubernetes",
            "runtime_class": str(spec.get("runtimeClassName", "")),
            "image": digest,
            "memory_bytes": order.spec.limits.memory_bytes,
            "cpu": CPU,
        }
        return Effective(facts, tuple(problems))

    def look(self) -> Look:
        """What the API says of it; the word of a node that is not ready counts for nothing."""
        told = self._read()
        with asked("say the state of a pod"):
            status = told.get("status") or {}
            rows = [row for row in status.get("containerStatuses") or [] if row.get("name") == SUBJECT]
            if len(status.get("containerStatuses") or []) > len(rows):
                return Look("unknown", "not alone in its pod")
            if not rows:
                return Look("unknown", f"not told of; its pod is {status.get('phase', 'in no phase')}")
            restarts, state = int(rows[0].get("restartCount") or 0), rows[0].get("state") or {}
        if "terminated" in state:
            reason = str(state["terminated"].get("reason", ""))
            ended = not restarts and status.get("phase") in {"Succeeded", "Failed"}
            return Look("ended" if ended else "unknown", f"terminated, {reason}", reason == "OOMKilled", restarts)
        return Look("running" if "running" in state else "unknown", next(iter(state), "in no state"), False, restarts)

    def confirm(self) -> str:
        """The node: one that does not report may run whatever it ran."""
        name = self._read()["spec"].get("nodeName")
        if not name:
            return "the pod names no node"
        with asked("show a node"):
            node = self._engine.api().read_node(name, _request_timeout=SECONDS_MAX)
            ready = [row.status for row in node.status.conditions or [] if row.type == "Ready"]
        return "" if ready == ["True"] else f"the node {name} is not ready ({', '.join(map(str, ready)) or 'unknown'})"

    def kill(self) -> None:
        """Have it deleted; the finalizer keeps it in the API until its end was seen."""
        with asked("delete a pod"):
            self._engine.api().delete_namespaced_pod(
                self.number, self._engine.namespace, grace_period_seconds=GRACE_SECONDS, _request_timeout=SECONDS_MAX
            )

    def remove(self) -> None:
        """Take the finalizer away, after which the API forgets it."""
        with asked("release a pod"):
            self._engine.api().patch_namespaced_pod(
                self.number, self._engine.namespace, {"metadata": {"finalizers": None}}, _request_timeout=SECONDS_MAX
            )
            self._engine.api().delete_namespaced_pod(
                self.number, self._engine.namespace, grace_period_seconds=0, _request_timeout=SECONDS_MAX
            )


FORBIDDEN = (
    "initContainers", "ephemeralContainers", "hostAliases", "hostUsers", "shareProcessNamespace", "overhead",
    "resourceClaims",
)  # fmt: skip  # a list of fields reads best as a block
"""What nobody ordered, and what would be more than the one container."""

FREE = {
    "nodeName", "nodeSelector", "schedulerName", "tolerations", "priority", "priorityClassName", "preemptionPolicy",
    "serviceAccount", "serviceAccountName", "affinity", "overhead", "imagePullSecrets", "terminationMessagePath",
    "terminationMessagePolicy", "topologySpreadConstraints", "schedulingGates", "readinessGates",
}  # fmt: skip  # a list of fields reads best as a block
"""What a cluster adds to every pod and what loosens nothing: where it runs, and when."""


def _differences(path: str, wanted: object, is_now: object) -> Iterator[str]:
    """Where the pod in the API is not the one that was ordered; false and empty are as good as absent."""
    if isinstance(wanted, dict) and isinstance(is_now, dict):
        for name in sorted({*wanted, *is_now} - FREE - set(FORBIDDEN)):
            yield from _differences(f"{path}.{name}", wanted.get(name), is_now.get(name))
    elif isinstance(wanted, list) and isinstance(is_now, list) and len(wanted) == len(is_now):
        for number, pair in enumerate(zip(wanted, is_now, strict=True)):
            yield from _differences(f"{path}[{number}]", *pair)
    elif wanted != is_now and (wanted or is_now) and not _same_size(wanted, is_now):
        text = [json.dumps(value, default=str)[:80] for value in (is_now, wanted)]
        yield f"`{path}` is {text[0]}, ordered was {text[1]}"


UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "m": 0.001}


def _same_size(one: object, other: object) -> bool:
    """Whether these are the same quantity, which the API may write in its own unit."""
    sizes = [_size(value) for value in (one, other)]
    return sizes[0] is not None and sizes[0] == sizes[1]


def _size(value: object) -> float | None:
    text = str(value)
    digits = text.rstrip("kMGim")
    unit = UNITS.get(text[len(digits) :])
    try:
        size = float(digits) * unit if unit is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(size) else size

"""KubeRay: what Kubernetes is told, and how kubectl and its failures are dealt with."""

from __future__ import annotations

import base64
import copy
import json
import os
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from cluster.backends import kuberay, make_backend
from cluster.jobs import Submission
from cluster.paths import ClusterPaths
from cluster.spec import parse_cluster, read_cluster
from gru4rec.errors import ClusterError, SpecificationError

ROOT = Path(__file__).parents[4]
GOLDEN = ROOT / "tests/golden/kuberay"
EXAMPLE = ROOT / "examples/cluster-kuberay.toml"
KUBERNETES = ("1.28", "1.37")
SCHEMA = json.loads((GOLDEN / "ray_io_v1.schema.json").read_text(encoding="utf-8"))
TOKEN = "0123456789abcdef" * 4
SUBMISSION = Submission(
    "shop-k8s-1",
    GOLDEN / "submission",
    ("-m", "cluster.driver"),
    variables={"SHOP": "eu"},
    packages=("torch==2.13.0",),
)


def rendered() -> dict[str, str]:
    return make_backend(read_cluster(EXAMPLE)).render(SUBMISSION)


def manifest(file: str, kind: str) -> dict:
    (found,) = [it for it in yaml.safe_load_all(rendered()[file]) if it["kind"] == kind]
    return found


def cluster(settings: dict | None = None, head: dict | None = None, workers: dict | None = None, **rest):
    """Return the backend of a cluster.toml with this table [kuberay]."""
    content = {
        "name": "shop",
        "backend": "kuberay",
        "storage_path": "s3://bucket/runs",
        "head": {"memory_gib": 4} if head is None else head,
        "workers": {"cpu": {"cpus": 2, "memory_gib": 4, "min": 1}} if workers is None else workers,
        "kuberay": {"image": "ray:1", "ray_version": "2.60.0"} | (settings or {}),
        **rest,
    }
    return make_backend(parse_cluster(content, "cluster.toml", Path("/searches")))


def parts(backend, kind: str = "RayCluster") -> dict:
    return next(it for it in yaml.safe_load_all(backend.render()["cluster.yaml"]) if it["kind"] == kind)


# The shape: ray.io/v1 against a closed schema, and all within it that is Kubernetes' own against Kubernetes' schemas.


def check(found: dict) -> None:
    if found["apiVersion"] != "ray.io/v1":
        for version in KUBERNETES:
            kubernetes_validate.validate(found, version, strict=True)
        return
    jsonschema.Draft202012Validator(
        {"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{found['kind']}"},
    ).validate(found)
    for template in templates(found):
        for version in KUBERNETES:
            pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template}
            kubernetes_validate.validate(pod, version, strict=True)


def templates(found: dict) -> Iterator[dict]:
    """Yield the pods of a RayCluster or RayJob; the autoscaler's security settings as those of one more."""
    of_cluster = found["spec"].get("rayClusterSpec", found["spec"])
    yield of_cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in of_cluster["workerGroupSpecs"])
    if "submitterPodTemplate" in found["spec"]:
        yield found["spec"]["submitterPodTemplate"]
    if options := of_cluster.get("autoscalerOptions"):
        container = {"name": "autoscaler", "image": "x", "securityContext": options["securityContext"]}
        yield {"spec": {"securityContext": {"runAsNonRoot": True, **SECCOMP}, "containers": [container]}}


SECCOMP = {"seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize("file", ["cluster.yaml", "search.yaml"])
def test_what_is_rendered_is_on_record(file):
    assert rendered()[file] == (GOLDEN / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["cluster.yaml", "search.yaml"])
def test_schemas_accept_it(file):
    found = list(yaml.safe_load_all(rendered()[file]))
    assert [it["kind"] for it in found] == {
        "cluster.yaml": ["NetworkPolicy", "RayCluster"],
        "search.yaml": ["ConfigMap", "NetworkPolicy", "RayJob"],
    }[file]
    for it in found:
        check(it)


ERRORS = (jsonschema.ValidationError, kubernetes_validate.ValidationError)
HEAD = ("spec", "headGroupSpec", "template", "spec")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "authOption"), {"mode": "token"}),
        (("spec", "authOptions", "mode"), "tokens"),
        (("spec", "workerGroupSpecs", 0, "minReplicas"), "0"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "autoscalerOptions", "idleTimeoutSecond"), 3),
        ((*HEAD, "nodeSelectors"), {}),
        ((*HEAD, "automountServiceAccountToken"), "false"),
        ((*HEAD, "containers", 0, "securityContext", "runAsNonroot"), True),
        ((*HEAD, "containers", 0, "ports", 0, "containerPort"), "6379"),
        (("spec", "autoscalerOptions", "securityContext", "privilegd"), False),
    ],
)
def test_schemas_would_tell_a_typo_and_a_wrong_type(place, value):
    spoilt = copy.deepcopy(manifest("cluster.yaml", "RayCluster"))
    within = spoilt
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    with pytest.raises(ERRORS):
        check(spoilt)


@pytest.mark.parametrize(("file", "kind"), [("cluster.yaml", "NetworkPolicy"), ("search.yaml", "ConfigMap")])
def test_schemas_would_tell_it_of_kubernetes_own_kinds(file, kind):
    spoilt = manifest(file, kind)
    (spoilt["spec"] if "spec" in spoilt else spoilt["data"])["ingres"] = 3
    with pytest.raises(ERRORS):
        check(spoilt)


# What it says.


def test_authentication_is_on_and_no_secret_is_rendered():
    for file, kind in (("cluster.yaml", "RayCluster"), ("search.yaml", "RayJob")):
        spec = manifest(file, kind)["spec"]
        assert spec.get("rayClusterSpec", spec)["authOptions"] == {"mode": "token"}
    for text in rendered().values():
        assert "auth_token" not in text
        assert "kind: Secret" not in text


@pytest.mark.parametrize(("file", "kind"), [("cluster.yaml", "RayCluster"), ("search.yaml", "RayJob")])
def test_every_container_is_locked_down(file, kind):
    found = list(templates(manifest(file, kind)))
    assert len(found) == {"RayCluster": 4, "RayJob": 5}[kind]
    for template in found:
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        assert template["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in template["spec"]["containers"]:
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_only_the_autoscaler_may_speak_to_kubernetes():
    def mounted(found):
        return [it["spec"].get("automountServiceAccountToken") for it in list(templates(found))[:2]]

    assert mounted(parts(cluster(workers={"cpu": {"memory_gib": 1, "min": 0, "max": 3}}))) == [True, False]
    assert mounted(parts(cluster())) == [False, False]


def test_the_network_policy_lets_in_the_clusters_own_pods():
    policy = manifest("cluster.yaml", "NetworkPolicy")["spec"]
    own = {"matchLabels": {"gru4rec-tune/cluster": "shop-k8s"}}
    assert policy == {
        "podSelector": own,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": own}]}],
    }
    for template in list(templates(manifest("cluster.yaml", "RayCluster")))[:3]:
        assert own["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_the_operator_reaches_the_dashboard_of_a_search_and_nothing_else():
    own, operator = manifest("search.yaml", "NetworkPolicy")["spec"]["ingress"]
    member = {"gru4rec-tune/cluster": "s-shop-k8s-1"}
    assert own == {"from": [{"podSelector": {"matchLabels": member}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    job = manifest("search.yaml", "RayJob")["spec"]
    assert member.items() <= job["submitterPodTemplate"]["metadata"]["labels"].items()


def test_a_cluster_of_ones_own_listens_within_its_pod():
    start = manifest("cluster.yaml", "RayCluster")["spec"]["headGroupSpec"]["rayStartParams"]
    assert start == {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "127.0.0.1"}


def test_groups_become_worker_groups_with_their_bounds():
    spec = manifest("cluster.yaml", "RayCluster")["spec"]
    assert [
        (it["groupName"], it["minReplicas"], it["maxReplicas"], it["rayStartParams"]["num-cpus"])
        for it in spec["workerGroupSpecs"]
    ] == [("cpu", 0, 8, "8"), ("gpu", 0, 2, "4")]
    assert (spec["enableInTreeAutoscaling"], spec["autoscalerOptions"]["idleTimeoutSeconds"]) == (True, 300)
    assert "enableInTreeAutoscaling" not in parts(cluster())["spec"]


def test_resources_are_requests_and_limits_at_once():
    for template in list(templates(manifest("cluster.yaml", "RayCluster")))[:3]:
        (container,) = template["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    gpu = manifest("cluster.yaml", "RayCluster")["spec"]["workerGroupSpecs"][1]["template"]["spec"]
    assert gpu["containers"][0]["resources"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert gpu["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    half = parts(cluster(head={"memory_gib": 1.5}))["spec"]["headGroupSpec"]["template"]["spec"]
    assert half["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1536Mi"}


def test_spot_and_machines_are_chosen_by_labels():
    spot = manifest("cluster.yaml", "RayCluster")["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert spot["nodeSelector"] == {"karpenter.sh/capacity-type": "spot"}
    assert spot["tolerations"] == [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]
    backend = cluster(
        {"node_selector": {"pool": "ml"}}, workers={"a": {"machine": "c7i.xlarge", "memory_gib": 1, "min": 1}}
    )
    (group,) = parts(backend)["spec"]["workerGroupSpecs"]
    assert group["template"]["spec"]["nodeSelector"] == {"pool": "ml", "node.kubernetes.io/instance-type": "c7i.xlarge"}


def test_storage_and_credentials():
    backend = cluster({"pvc": "runs", "env_from_secret": "keys"}, storage_path="/srv/runs")
    check(parts(backend))
    for template in templates(parts(backend)):
        pod = template["spec"]
        assert pod["volumes"] == [{"name": "storage", "persistentVolumeClaim": {"claimName": "runs"}}]
        assert pod["containers"][0]["volumeMounts"] == [{"name": "storage", "mountPath": "/srv/runs"}]
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "keys"}}]


def test_a_search_brings_its_cluster_and_takes_it_down():
    job = manifest("search.yaml", "RayJob")["spec"]
    assert job["submissionMode"] == "K8sJobMode"
    assert (job["shutdownAfterJobFinishes"], job["ttlSecondsAfterFinished"], job["backoffLimit"]) == (True, 3600, 0)
    assert yaml.safe_load(job["runtimeEnvYAML"]) == {"env_vars": {"SHOP": "eu"}, "pip": ["torch==2.13.0"]}
    assert job["entrypoint"].endswith("exec python -m cluster.driver'")
    head = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (volume,) = head["volumes"]
    assert volume["configMap"]["name"] == manifest("search.yaml", "ConfigMap")["metadata"]["name"]
    assert {it["path"] for it in volume["configMap"]["items"]} == {"search.toml", "submission.json"}


def test_the_files_of_a_submission(tmp_path):
    for place, content in {
        "search.toml": b"a = 1\n",
        "data/train.parquet": b"PAR1\xff",
        "gru4rec/model.py": b"",
        "cluster/driver.py": b"",
    }.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(content)
    content, paths = kuberay.config_map(tmp_path)
    assert content == {
        "data": {"search.toml": "a = 1\n"},
        "binaryData": {"0.train.parquet": base64.b64encode(b"PAR1\xff").decode()},
    }
    assert paths == {"0.train.parquet": "data/train.parquet", "search.toml": "search.toml"}
    (tmp_path / "data/train.parquet").write_bytes(bytes(700_000))
    with pytest.raises(ClusterError, match=r"700006 bytes\) do not fit into a ConfigMap"):
        kuberay.config_map(tmp_path)


def test_names_are_those_that_kuberay_takes():
    long = kuberay.kubernetes_name("x" * 80)
    assert len(long) == 47  # KubeRay's MaxRayJobNameLength
    assert long != kuberay.kubernetes_name("x" * 81)
    assert kuberay.kubernetes_name("a_b") != kuberay.kubernetes_name("a-b") == "s-a-b"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"image": ""}, "kuberay.image is missing"),
        ({"namespcae": "x"}, r"unknown key 'namespcae'; did you mean 'namespace'\? in \[kuberay\]"),
        ({"namespace": "Prod"}, "kuberay.namespace must be a name of Kubernetes .*, got 'Prod'"),
        ({"image_pull_policy": "always"}, "kuberay.image_pull_policy must be one of IfNotPresent, Always, Never"),
        ({"run_as_user": 0}, "kuberay.run_as_user must be a whole number >= 1, got 0"),
        ({"ray_version": "2.51.0"}, "kuberay.ray_version must be 2.52.0 or later, got '2.51.0'"),
        ({"spot_tolerations": 3}, r"kuberay.spot_tolerations must be tables.*got 3"),
        ({"spot_tolerations": [{"efect": "NoSchedule"}]}, "unknown key 'efect'"),
        ({"spot_tolerations": [{"effect": "Never"}]}, r"spot_tolerations\[0\].effect must be one of NoSchedule"),
        ({"deadline_s": 0}, "kuberay.deadline_s must be a whole number >= 1"),
    ],
)
def test_what_cannot_be_is_refused(settings, told):
    with pytest.raises(SpecificationError, match=told):
        cluster(settings)


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ({"head": {}}, "head.memory_gib is missing: pods ask for it"),
        ({"head": {"memory_gib": 1, "spot": True}}, "head.spot: no search survives the loss of its head"),
        ({"workers": {"a": {"memory_gib": 1, "spot": True}}}, "kuberay.spot_node_selector is missing"),
        ({"storage_path": "/srv/runs"}, "storage_path '/srv/runs' is no URI: .*kuberay.pvc"),
        ({"settings": {"pvc": "runs"}}, "kuberay.pvc has no use with storage_path 's3://bucket/runs'"),
        ({"name": "1shop"}, "name must begin with a letter.*got '1shop'"),
    ],
)
def test_what_kubernetes_could_not_place(rest, told):
    with pytest.raises(SpecificationError, match=told):
        cluster(**rest)


# What is run. `kubectl` is a small script here: it writes down how it was called.

KUBECTL = """
    words = sys.argv[1:]
    verb = words[words.index("--namespace") + 2]
    stdin = sys.stdin.read() if "-f" in words else ""
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps({"arguments": words, "verb": verb, "stdin": stdin, "pid": os.getpid()}) + "\\n")
    if os.environ.get("FAILING") == verb:
        print("error: the server said no", file=sys.stderr)
        sys.exit(1)
    looks = open(os.environ["CALLS"]).read().count('"get", "rayclusters.ray.io", "shop", "-o", "json"')
    ready = looks > int(os.environ.get("LOOKS", "1"))
    if "secret" in words:
        print(os.environ["TOKEN"], end="")
    elif "-o" in words and words[-1] == "name":
        print(os.environ.get("THERE", ""))
    elif "pods" in words:
        state = {"waiting": {"reason": "ImagePullBackOff"}}
        status = {"phase": "Pending", "containerStatuses": [{"state": state}]}
        print(json.dumps({"items": [{"metadata": {"name": "shop-head"}, "status": status}]}))
    elif "rayclusters.ray.io" in words:
        print(json.dumps({"status": {"conditions": [{"type": "HeadPodReady", "status": str(ready)}]}}))
    elif verb == "port-forward":
        print("Forwarding from 127.0.0.1:45678 -> 8265", flush=True)
        import time
        time.sleep(60)
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Put a recording `kubectl` first in PATH; return what reads its calls."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport json, os, sys\n" + textwrap.dedent(KUBECTL), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("TOKEN", base64.b64encode(TOKEN.encode()).decode())
    monkeypatch.setenv("GRU4REC_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(kuberay, "SECONDS_BETWEEN_LOOKS", 0.01)
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text(encoding="utf-8").splitlines()]


def test_up_jobs_down(calls, stand_in_jobs, alive):
    backend, paths, said = cluster({"context": "prod", "namespace": "ml"}), ClusterPaths("shop"), []
    backend.up(said.append)
    assert "shop-head Pending (ImagePullBackOff)" in said
    assert stat.S_IMODE((paths.rendered / "cluster.yaml").stat().st_mode) == 0o600
    (apply,) = [call for call in calls() if call["verb"] == "apply"]
    assert apply["arguments"] == ["--context", "prod", "--namespace", "ml", "apply", "--validate=strict", "-f", "-"]
    assert apply["stdin"] == backend.render()["cluster.yaml"]
    with pytest.raises(ClusterError, match="was brought up already"):
        backend.up(said.append)

    with backend.jobs() as jobs:
        assert (jobs.url, jobs.token) == ("http://127.0.0.1:45678", TOKEN)
        tunnel = calls()[-1]
        assert alive(tunnel["pid"])
    assert not alive(tunnel["pid"])
    assert tunnel["arguments"][4:] == ["port-forward", "--address", "127.0.0.1", "svc/shop-head-svc", ":8265"]
    assert backend.status() == stand_in_jobs("", "").nodes()

    backend.down(said.append)
    assert calls()[-1]["verb"] == "delete"
    assert calls()[-1]["stdin"] == apply["stdin"]
    everything = json.dumps(calls()) + "".join(said) + "".join(p.read_text() for p in paths.folder.rglob("*.*"))
    assert TOKEN not in everything
    assert os.environ["TOKEN"] not in everything
    for call in (backend.status, lambda: backend.down(said.append)):
        with pytest.raises(ClusterError, match="shop is not up"):
            call()


@pytest.mark.parametrize(
    ("variables", "settings", "told"),
    [
        ({"FAILING": "apply"}, {}, r"ended with 1: error: the server said no; hint: kubectl config current-context"),
        ({"LOOKS": "1000000"}, {"ready_timeout_s": 1}, r"not ready after 1 s: shop-head Pending \(ImagePullBackOff\)"),
        ({"TOKEN": ""}, {}, "KubeRay made no token for cluster shop; hint: KubeRay 1.5.1 or later is needed"),
    ],
)
def test_an_up_that_fails_is_told_and_taken_down(calls, monkeypatch, variables, settings, told):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match=told):
        cluster(settings).up(lambda _: None)
    assert calls()[-1]["verb"] == "delete"
    assert not ClusterPaths("shop").state.exists()


def test_a_failure_that_cannot_be_taken_down_either(calls, monkeypatch):
    monkeypatch.setenv("TOKEN", "")
    monkeypatch.setenv("FAILING", "delete")
    with pytest.raises(ClusterError, match=r"may have pods that still run and cost: (.|\n)*the server said no"):
        cluster().up(lambda _: None)
    monkeypatch.delenv("FAILING")
    cluster().down(lambda _: None)


def test_a_cluster_of_others_is_left_alone(calls, monkeypatch):
    monkeypatch.setenv("THERE", "raycluster.ray.io/shop")
    with pytest.raises(ClusterError, match=r"has rayclusters\.ray\.io/shop, and not from this machine"):
        cluster().up(lambda _: None)
    assert {call["verb"] for call in calls()} == {"get"}


def test_a_tunnel_that_is_refused(calls, stand_in_jobs, monkeypatch):
    backend = cluster()
    backend.up(lambda _: None)
    monkeypatch.setenv("FAILING", "port-forward")
    with pytest.raises(ClusterError, match="ended with 1: error: the server said no"), backend.jobs():
        pass


def test_without_kubectl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GRU4REC_STATE", str(tmp_path / "state"))
    with pytest.raises(ClusterError, match="kubectl is not installed on this machine"):
        cluster().up(lambda _: None)


def test_what_pods_wait_for():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: cpu"}
    pods = {
        "items": [
            {"metadata": {"name": "a"}, "status": {"phase": "Pending", "conditions": [condition]}},
            {"metadata": {"name": "b"}, "status": {"phase": "Running"}},
        ]
    }
    assert kuberay.describe_pods(pods) == "a Pending (0/3 nodes: cpu), b Running"

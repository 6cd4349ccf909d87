"""Ray's cluster launcher: what it is told, and how it, ssh and their failures are dealt with."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.backends import make_backend
from cluster.backends.ray_up_yaml import stop_script
from cluster.paths import ClusterPaths
from cluster.spec import parse_cluster, read_cluster
from gru4rec.errors import ClusterError, SpecificationError

ROOT = Path(__file__).parents[4]
EXAMPLES = {
    "aws": "cluster-aws.toml",
    "gcp": "cluster-gcp.toml",
    "azure": "cluster-azure.toml",
    "onprem": "cluster-onprem.toml",
}
CLOUDS = ("aws", "gcp", "azure")
TOKEN = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def _at_home(monkeypatch):
    """Where tests/golden/render.py says that the golden files are from."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("GRU4REC_STATE", "/home/me/.local/state/gru4rec-tune")


def rendered(name: str) -> str:
    return make_backend(read_cluster(ROOT / "examples" / EXAMPLES[name])).render()["cluster.yaml"]


def config_of(name: str) -> dict:
    return yaml.safe_load(rendered(name))


def cluster(settings: dict, head: dict | None = None, workers: dict | None = None, **rest):
    """Return the backend of a cluster.toml with this table [ray_up]."""
    content = {
        "name": "shop",
        "backend": "ray_up",
        "storage_path": "/srv/runs",
        "head": head if head is not None else {"machine": "small"},
        "workers": workers if workers is not None else {"cpu": {"machine": "big", "cpus": 4}},
        "ray_up": settings,
        **rest,
    }
    return make_backend(parse_cluster(content, "cluster.toml", Path("/searches")))


AWS = {
    "provider": "aws",
    "region": "eu-central-1",
    "ssh_private_key": "key.pem",
    "key_name": "key",
    "security_groups": ["sg-1"],
}
LOCAL = {"provider": "local", "head_ip": "192.0.2.1", "ssh_user": "me", "worker_ips": ["192.0.2.2"]}
LAB = {"head": {"cpus": 2}, "workers": {"lab": {"cpus": 4, "min": 1, "max": 1}}}


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_rendered_is_on_record(name):
    assert rendered(name) == (ROOT / "tests/golden/ray_up" / name / "cluster.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_ray_itself_accepts_it(name):
    validate_config(prepare_config(config_of(name)))


def test_rays_validator_would_tell_a_typo_and_a_wrong_type():
    for spoilt in ({"max_worker": 3}, {"max_workers": "three"}):
        with pytest.raises(jsonschema.ValidationError):
            validate_config(prepare_config(config_of("aws") | spoilt))


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_of_rays_insecure_defaults_is_left(name):
    prepared = prepare_config(config_of(name))
    text = json.dumps(prepared)
    for bad in ("0.0.0.0", "::/0", "dashboard-host=*", "ray-wheels"):
        assert bad not in text
    for commands in (prepared["head_start_ray_commands"], prepared["worker_start_ray_commands"]):
        protect, stop, start = commands
        assert "chmod 600" in protect
        assert stop == "ray stop"
        assert start.startswith("umask 077; ")
        assert "RAY_AUTH_MODE=token" in start
        assert 'RAY_AUTH_TOKEN_PATH="$HOME/.gru4rec-' in start
        assert "--disable-usage-stats" in start
        assert start.index("RAY_AUTH_TOKEN_PATH") < start.index("ray start")
    assert "--dashboard-host=127.0.0.1" in prepared["head_start_ray_commands"][-1]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_token_is_a_file_that_is_copied(name):
    (mount,) = config_of(name)["file_mounts"].items()
    cluster_name = read_cluster(ROOT / "examples" / EXAMPLES[name]).name
    assert mount == (f"~/.gru4rec-{cluster_name}.token", str(ClusterPaths(cluster_name).token))


@pytest.mark.parametrize("name", EXAMPLES)
def test_commands_are_good_shell(name, tmp_path):
    config = config_of(name)
    keys = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    commands = [command for key in keys for command in config[key]]
    shellcheck = Path(sys.executable).with_name("shellcheck")
    for number, command in enumerate(commands):
        script = tmp_path / f"{number}.sh"
        script.write_text(f"#!/bin/bash\n{command}\n", encoding="utf-8")
        subprocess.run(["bash", "-n", script], check=True)
        done = subprocess.run([shellcheck, script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_token_is_its_users_alone_before_ray_starts(tmp_path, monkeypatch):
    """The commands themselves, run here with a `ray` that tells what it is given."""
    (tmp_path / "ray").write_text('#!/bin/sh\necho "$@"\nenv | grep ^RAY_ | sort\numask\n', encoding="utf-8")
    (tmp_path / "ray").chmod(0o755)
    token = tmp_path / ".gru4rec-lab.token"
    token.write_text(TOKEN, encoding="ascii")
    token.chmod(0o644)
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.defpath}", "RAY_HEAD_IP": "192.0.2.10"}
    said = ""
    for command in config_of("onprem")["worker_start_ray_commands"]:
        said = subprocess.run(
            ["bash", "-c", command], env=environment, check=True, capture_output=True, text=True
        ).stdout
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    arguments, *variables, umask = said.splitlines()
    assert arguments.startswith("start --address=192.0.2.10:6379 --num-cpus=16 --num-gpus=0 ")
    assert umask == "0077"
    assert {
        "RAY_AUTH_MODE=token",
        f"RAY_AUTH_TOKEN_PATH={token}",
        "RAY_NODE_TYPE_NAME=lab",
        "RAY_USAGE_STATS_ENABLED=0",
    } <= set(variables)


def test_a_head_of_ones_own_is_told_its_address():
    assert " --node-ip-address=192.0.2.10 " in config_of("onprem")["head_start_ray_commands"][-1]


def test_groups_become_node_types_with_their_bounds():
    config = config_of("aws")
    types_ = config["available_node_types"]
    assert (config["head_node_type"], list(types_)) == ("head", ["head", "cpu", "gpu"])
    assert config["max_workers"] == 8 + 2
    assert (types_["cpu"]["min_workers"], types_["cpu"]["max_workers"]) == (0, 8)
    assert [types_[name]["resources"] for name in types_] == [
        {"CPU": 0, "GPU": 0},
        {"CPU": 16, "GPU": 0},
        {"CPU": 8, "GPU": 1},
    ]


def test_spot_is_asked_for_as_each_cloud_calls_it():
    nodes = {name: config_of(name)["available_node_types"] for name in CLOUDS}
    assert nodes["aws"]["cpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert nodes["gcp"]["cpu"]["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
    assert nodes["azure"]["cpu"]["node_config"]["azure_arm_parameters"]["priority"] == "Spot"
    assert "InstanceMarketOptions" not in nodes["aws"]["head"]["node_config"]
    assert "scheduling" not in nodes["gcp"]["head"]["node_config"]
    assert "priority" not in nodes["azure"]["head"]["node_config"]["azure_arm_parameters"]


def test_azure_is_given_only_what_rays_template_takes():
    template = Path(ray.autoscaler.__file__).parent / "_private/_azure/azure-vm-template.json"
    known = json.loads(template.read_text(encoding="utf-8-sig"))["parameters"]
    for node in config_of("azure")["available_node_types"].values():
        assert set(node["node_config"]["azure_arm_parameters"]) <= set(known)


def test_what_is_not_modelled_is_merged_into_each_group():
    backend = cluster(AWS | {"node_config": {"MetadataOptions": {"HttpPutResponseHopLimit": 1}, "EbsOptimized": True}})
    for node in yaml.safe_load(backend.render()["cluster.yaml"])["available_node_types"].values():
        assert node["node_config"]["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
        assert node["node_config"]["EbsOptimized"] is True


def test_memory_is_what_ray_may_count():
    backend = cluster(AWS, workers={"cpu": {"machine": "big", "cpus": 4, "memory_gib": 2}})
    config = yaml.safe_load(backend.render()["cluster.yaml"])
    assert config["available_node_types"]["cpu"]["resources"]["memory"] == 2147483648


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (AWS | {"security_groups": []}, "open port 22 of aws nodes to the whole internet.*public_ssh"),
        (
            {
                "provider": "azure",
                "region": "a",
                "resource_group": "b",
                "image": "a:b:c:d",
                "ssh_private_key": "k",
                "ssh_public_key": "p",
            },
            "port 22 of azure nodes.*use_internal_ips = true",
        ),
        (
            {
                "provider": "gcp",
                "region": "a",
                "zone": "b",
                "project_id": "c",
                "image": "d",
                "ssh_private_key": "k",
            },
            "port 22 of gcp nodes.*a subnet",
        ),
        ({"provider": "amazon"}, "unknown ray_up.provider 'amazon'"),
        (AWS | {"regoin": "x"}, r"unknown key 'regoin'; did you mean 'region'\? in \[ray_up\]"),
        (LOCAL | {"region": "x"}, r"unknown key 'region'"),
        (AWS | {"key_name": ""}, "ray_up.key_name is missing: provider 'aws' needs it"),
        (AWS | {"disk_gib": 0}, "ray_up.disk_gib must be > 0"),
        (AWS | {"node_config": 3}, "ray_up.node_config must be a table, got 3"),
    ],
)
def test_what_cannot_be_is_refused(settings, told):
    with pytest.raises(SpecificationError, match=told):
        cluster(settings)


def test_an_open_port_22_can_be_accepted():
    cluster(AWS | {"security_groups": [], "public_ssh": True})


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"head": {}}, "head.machine is missing"),
        ({"head": {"machine": "m", "spot": True}}, "head.spot: no search survives the loss of its head"),
    ],
)
def test_groups_that_no_cloud_could_start(groups, told):
    with pytest.raises(SpecificationError, match=told):
        cluster(AWS, **groups)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"workers": {"a": {"min": 1}, "b": {"min": 1}}}, "one group of workers at most"),
        ({"workers": {"a": {"min": 0, "max": 1}}}, r"must be the number of ray_up.worker_ips \(1\), got 0 and 1"),
        ({"workers": {"a": {"min": 1, "spot": True}}}, "workers.a.spot means nothing to machines of your own"),
        ({"workers": {}}, r"worker_ips has 1 machines, but there is no \[workers.NAME\]"),
    ],
)
def test_groups_that_do_not_fit_ones_own_machines(groups, told):
    with pytest.raises(SpecificationError, match=told):
        cluster(LOCAL, head={}, **groups)


# What is run. `ray` and `ssh` are small scripts here: they write down how they were called.

RAY = """
    verb = sys.argv[1]
    note("ray", mode=oct(os.stat(sys.argv[-1]).st_mode & 0o777))
    if verb == "get-head-ip":
        print("noise\\n" + os.environ.get("HEAD_IP", "192.0.2.77"))
    elif verb == os.environ.get("FAILING"):
        print("[1/7] \\x1b[31mWaiting for SSH\\x1b[0m")
        print("no capacity for c7i", file=sys.stderr)
        print("Full traceback: Traceback (most recent call last):")
        print("\\n".join(f'  File "updater.py", line {n}, in run\\n      run()' for n in range(30)))
        sys.exit(1)
    else:
        print("[7/7] Starting the Ray runtime")
"""
SSH = """
    note("ssh")
    if os.environ.get("SSH_FAILS"):
        print("Permission denied (publickey).", file=sys.stderr)
        sys.exit(255)
    print("Welcome to the head")
    print("gru4rec-tunnel-is-open", flush=True)
    sys.stdin.read()
"""
PROGRAM = """#!{python}
import json, os, sys
def note(program, **more):
    with open(os.environ["CALLS"], "a") as file:
        entry = {{"program": program, "arguments": sys.argv[1:], "pid": os.getpid(), **more}}
        entry["variables"] = {{k: v for k, v in os.environ.items() if k.startswith("RAY_")}}
        file.write(json.dumps(entry) + "\\n")
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put recording `ray` and `ssh` first in PATH; return what reads their calls."""
    for name, body in (("ray", RAY), ("ssh", SSH)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(PROGRAM.format(python=sys.executable) + textwrap.dedent(body), encoding="utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("GRU4REC_STATE", str(tmp_path / "state"))
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text(encoding="utf-8").splitlines()]


def private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o600


def test_up_jobs_down(programs, stand_in_jobs, alive):
    backend, paths, said = cluster(AWS), ClusterPaths("shop"), []
    backend.up(said.append)
    token = paths.token.read_text(encoding="ascii")
    assert "[7/7] Starting the Ray runtime" in said
    assert all(map(private, [paths.token, paths.state, paths.rendered / "cluster.yaml", paths.logs / "ray-up.log"]))
    assert (paths.rendered / "cluster.yaml").read_text(encoding="utf-8") == backend.render()["cluster.yaml"]
    with pytest.raises(ClusterError, match="was brought up already"):
        backend.up(said.append)

    with backend.jobs() as jobs:
        host, port = jobs.url.removeprefix("http://").split(":")
        assert (host, jobs.token) == ("127.0.0.1", token)
        tunnel = programs()[-1]
        assert alive(tunnel["pid"])
    assert not alive(tunnel["pid"])
    assert backend.status() == stand_in_jobs("", "").nodes()
    assert f"127.0.0.1:{port}:127.0.0.1:8265" in tunnel["arguments"]
    assert "ubuntu@192.0.2.77" in tunnel["arguments"]
    assert tunnel["arguments"][tunnel["arguments"].index("-i") + 1] == "/searches/key.pem"

    backend.down(said.append)
    assert not paths.token.exists()
    verbs = [call["arguments"][0] for call in programs() if call["program"] == "ray"]
    assert verbs == ["up", "get-head-ip", "get-head-ip", "down"]
    up = programs()[0]
    assert up["arguments"][1:3] == ["-y", "--no-config-cache"]
    assert (up["mode"], up["variables"]["RAY_USAGE_STATS_ENABLED"]) == ("0o600", "0")
    assert token not in json.dumps(programs())
    assert token not in "".join(path.read_text() for path in [*paths.logs.iterdir(), *paths.rendered.iterdir()])
    assert token not in "".join(said)
    for call in (backend.status, lambda: backend.down(said.append)):
        with pytest.raises(ClusterError, match="shop is not up"):
            call()


def test_an_up_that_fails_is_told_and_taken_down(programs, monkeypatch):
    monkeypatch.setenv("FAILING", "up")
    said = []
    with pytest.raises(ClusterError, match=r"ray up ended with 1: (.|\n)*no capacity for c7i(.|\n)*ray-up.log"):
        cluster(AWS).up(said.append)
    assert [call["arguments"][0] for call in programs()] == ["up", "down"]
    assert "[1/7] Waiting for SSH" in said
    assert not ClusterPaths("shop").state.exists()


def test_a_down_that_fails_says_what_may_still_cost(programs, monkeypatch):
    backend = cluster(AWS)
    backend.up(lambda _: None)
    monkeypatch.setenv("FAILING", "down")
    with pytest.raises(ClusterError, match=r"may have nodes that still run and cost(.|\n)*console of aws"):
        backend.down(lambda _: None)
    monkeypatch.delenv("FAILING")
    backend.down(lambda _: None)


def test_a_tunnel_that_is_refused(programs, stand_in_jobs, monkeypatch):
    backend = cluster(AWS)
    backend.up(lambda _: None)
    monkeypatch.setenv("SSH_FAILS", "1")
    with pytest.raises(ClusterError, match=r"ended with 255: Permission denied \(publickey\)"), backend.jobs():
        pass


def test_a_head_without_an_address(programs, stand_in_jobs, monkeypatch):
    backend = cluster(AWS)
    backend.up(lambda _: None)
    monkeypatch.setenv("HEAD_IP", "None")
    with pytest.raises(ClusterError, match="get-head-ip gave no address"), backend.jobs():
        pass


def test_ones_own_head_needs_no_asking(programs, stand_in_jobs):
    backend = cluster(LOCAL, **LAB)
    backend.up(lambda _: None)
    assert programs()[0]["variables"]["RAY_UP_enable_autoscaler_v2"] == "0"
    with backend.jobs():
        assert "me@192.0.2.1" in programs()[-1]["arguments"]


def test_ones_own_machines_are_left_as_they_were(programs, monkeypatch):
    backend, said = cluster(LOCAL, **LAB), []
    backend.up(said.append)
    backend.down(said.append)
    up, stop, down = programs()
    assert (up["program"], stop["program"], down["program"]) == ("ray", "ssh", "ray")
    host, script = stop["arguments"][-2:]
    assert host == "me@192.0.2.1"
    assert "me@192.0.2.2" in script
    assert "ray stop" in script
    assert script.count(".gru4rec-shop.token") == 2

    backend.up(said.append)
    monkeypatch.setenv("SSH_FAILS", "1")
    backend.down(said.append)
    assert any(line.startswith("Ray and the token may be left on the machines: ssh") for line in said)
    assert not ClusterPaths("shop").state.exists()


def test_the_script_that_stops_machines_is_good_shell(tmp_path):
    script = tmp_path / "stop.sh"
    script.write_text(f"#!/bin/bash\n{stop_script(read_cluster(ROOT / 'examples/cluster-onprem.toml'))}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "-e", "SC2016,SC2029", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout

"""The Kubernetes manifests follow the schema, and agree with each other and with the server."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from material import REPOSITORY

from iqa_torchserve.config import BATCH, ServerConfig
from iqa_torchserve.limits import Limits

DEPLOY = REPOSITORY / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
STATE = "/run/iqa/state"
DESCRIBE = ["iqa-serve", "status", "--state", STATE, "--describe"]


def settings(container):
    return {one["name"]: one for one in container["env"]}


def seconds(text):
    assert text.endswith("s")
    return float(text[:-1])


def directive(name):
    template = (DEPLOY / "gateway" / "nginx.conf.template").read_text()
    return re.findall(rf"^\s*{name} ([^;]+);", template, re.MULTILINE)


# The oldest version that the Deployment needs, and a newer one.
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_each_manifest_follows_the_schema(version, manifests, secrets):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for one in [*manifests.values(), *secrets.values()]:
        assert kubernetes_validate.validate(one, version, strict=True) == version


def test_the_schema_check_can_fail(manifests):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    wrong = json.loads(json.dumps(manifests["Deployment"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


def test_every_file_is_applied_or_is_an_example(kustomization):
    files = {path.name for path in KUBERNETES.iterdir()}
    listed = {name for name in kustomization["resources"] if not name.startswith("..")}
    assert files == listed | {"kustomization.yaml", "secrets.example.yaml"}


def test_kustomize_renders_them_and_names_the_template_by_its_content():
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not here")
    done = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True
    )
    objects = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert set(objects) == {
        *("Namespace", "ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler"),
        *("PodDisruptionBudget", "NetworkPolicy"),
    }
    template = (DEPLOY / "gateway" / "nginx.conf.template").read_text()
    assert objects["ConfigMap"]["data"] == {"nginx.conf.template": template}
    name = objects["ConfigMap"]["metadata"]["name"]
    assert re.fullmatch("iqa-gateway-[a-z0-9]{10}", name)
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert [one["configMap"]["name"] for one in volumes if "configMap" in one] == [name]
    namespace = objects.pop("Namespace")["metadata"]["name"]
    assert {one["metadata"]["namespace"] for one in objects.values()} == {namespace}


def test_all_selectors_find_the_pods(manifests, pod):
    labels = pod["metadata"]["labels"]
    selectors = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        yaml.safe_load((DEPLOY / "prometheus" / "pod-monitor.yaml").read_text())["spec"][
            "selector"
        ]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in pod["spec"]["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()


def test_only_the_gateways_ports_are_exposed(manifests, containers):
    assert "ports" not in containers["endpoint"]
    gateway = containers["gateway"]
    ports = {one["name"]: one["containerPort"] for one in gateway["ports"]}
    listened = {
        name: int(settings(gateway)[variable]["value"])
        for name, variable in (("https", "GATEWAY_LISTEN"), ("metrics", "GATEWAY_METRICS_LISTEN"))
    }
    assert ports == listened
    # The containers of a pod share their loopback; 9000 and up are TorchServe's workers'.
    assert not set(ports.values()) & {*range(8080, 8085), *range(9000, 9100)}
    assert [one["targetPort"] for one in manifests["Service"]["spec"]["ports"]] == ["https"]
    probes = [gateway[kind]["httpGet"] for kind in ("readinessProbe", "livenessProbe")]
    assert {(one["port"], one["scheme"], one["path"]) for one in probes} == {
        ("https", "HTTPS", "/healthz")
    }
    monitor = yaml.safe_load((DEPLOY / "prometheus" / "pod-monitor.yaml").read_text())
    assert [one["port"] for one in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]


def test_the_network_is_closed_except_for_clients_and_prometheus(manifests):
    policy = manifests["NetworkPolicy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    assert [[one["port"] for one in rule["ports"]] for rule in policy["ingress"]] == [
        ["https"],
        ["metrics"],
    ]
    for rule in policy["ingress"]:
        assert all(any(selector.values()) for selector in rule["from"])
        assert rule["from"]


def test_the_gateway_reaches_the_servers_own_ports(containers):
    given = settings(containers["gateway"])
    for variable, port in (("HTTP", 8080), ("METRICS", 8082), ("GRPC", 8083)):
        assert given[f"GATEWAY_{variable}"]["value"] == f"127.0.0.1:{port}"


def test_the_deployment_sets_what_the_template_names(containers):
    template = (DEPLOY / "gateway" / "nginx.conf.template").read_text()
    named = set(re.findall(r"\$\{(\w+)\}", template))
    given = settings(containers["gateway"])
    assert {name for name in given if name.startswith("GATEWAY_")} == named
    assert re.match(given["NGINX_ENVSUBST_FILTER"]["value"], "GATEWAY_TOKEN")
    assert not re.match(given["NGINX_ENVSUBST_FILTER"]["value"], "uri")


def test_the_rendered_configuration_is_the_one_that_runs(containers, pod):
    gateway = containers["gateway"]
    folder = settings(gateway)["NGINX_ENVSUBST_OUTPUT_DIR"]["value"]
    assert gateway["args"] == ["nginx", "-c", f"{folder}/nginx.conf", "-g", "daemon off;"]
    mounts = {one["mountPath"]: one for one in gateway["volumeMounts"]}
    template = mounts["/etc/nginx/templates/nginx.conf.template"]
    generator = yaml.safe_load((DEPLOY / "gateway" / "kustomization.yaml").read_text())
    (made,) = generator["configMapGenerator"]
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    assert volumes[template["name"]]["configMap"]["name"] == made["name"]
    assert made["files"] == [template["subPath"]]
    assert (DEPLOY / "gateway" / template["subPath"]).is_file()
    # It holds the tokens.
    assert volumes[mounts[folder]["name"]]["emptyDir"]["medium"] == "Memory"


def test_secrets_exist_with_their_keys_and_none_is_optional(containers, pod, secrets):
    asked = [
        one["valueFrom"]["secretKeyRef"]
        for container in containers.values()
        for one in container["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    ]
    assert len(asked) == 2
    for one in asked:
        assert one["key"] in secrets[one["name"]]["stringData"]
        assert not one.get("optional")
    (tls,) = [one["secret"] for one in pod["spec"]["volumes"] if "secret" in one]
    assert set(secrets[tls["secretName"]]["stringData"]) == {"tls.crt", "tls.key"}
    assert not tls.get("optional")
    assert tls["defaultMode"] & 0o007 == 0


def test_example_secrets_are_empty_and_give_no_access(secrets, kustomization):
    assert "secrets.example.yaml" not in kustomization["resources"]
    for one in secrets.values():
        assert set(one["stringData"].values()) <= {"PLACEHOLDER", ""}


def test_no_token_is_in_arguments_or_plain_values(containers):
    for container in containers.values():
        words = [*container.get("command", []), *container.get("args", [])]
        assert not any("GATEWAY_" in word for word in words)
        plain = [one["name"] for one in container["env"] if "value" in one]
        assert not any("TOKEN" in name for name in plain)


def test_each_mount_has_its_volume_and_each_volume_its_size(containers, pod):
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    mounted = {
        mount["name"] for container in containers.values() for mount in container["volumeMounts"]
    }
    assert mounted == set(volumes)
    assert all(one["emptyDir"]["sizeLimit"] for one in volumes.values() if "emptyDir" in one)


def test_writable_folders_are_writable(containers, pod):
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}

    def writable(container):
        return {
            one["mountPath"]
            for one in containers[container]["volumeMounts"]
            if "emptyDir" in volumes[one["name"]] and not one.get("readOnly")
        }

    # The state is a folder below: the mounted one belongs to root.
    assert writable("endpoint") == {"/run/iqa", "/tmp"}
    given = settings(containers["gateway"])
    assert writable("gateway") == {
        given["NGINX_ENVSUBST_OUTPUT_DIR"]["value"],
        given["GATEWAY_FOLDER"]["value"],
    }


def test_no_container_may_do_more_than_it_needs(containers, pod):
    assert "initContainers" not in pod["spec"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for sharing in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        assert not pod["spec"].get(sharing)
    for container in containers.values():
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["privileged"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        for bound in ("requests", "limits"):
            assert set(container["resources"][bound]) == {"cpu", "memory"}


def test_images_are_pinned_and_ours_is_this_version(containers):
    for container in containers.values():
        assert re.fullmatch(r"[a-z0-9/-]+:\d+\.\d+\.\d+[a-z0-9.-]*", container["image"])
    project = (REPOSITORY / "packages" / "iqa-torchserve" / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"', project, re.MULTILINE)
    assert containers["endpoint"]["image"] == f"iqa-torchserve:{version}"


def test_the_endpoint_uses_no_tokens_and_keeps_its_address(containers):
    # Without tokens it may listen on loopback alone, which is its default.
    assert containers["endpoint"]["args"] == ["--no-tokens"]
    assert "command" not in containers["endpoint"]


def test_probes_ask_a_worker(containers):
    endpoint = containers["endpoint"]
    assert settings(endpoint)["IQA_SERVE_STATE"]["value"] == STATE
    for kind in ("startupProbe", "readinessProbe"):
        assert endpoint[kind]["exec"]["command"] == DESCRIBE
    # A busy worker answers late: that must not end it.
    assert endpoint["livenessProbe"]["exec"]["command"] == DESCRIBE[:-1]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert endpoint[kind]["timeoutSeconds"] > 5  # the command starts Python
    startup = endpoint["startupProbe"]
    model = yaml.safe_load((REPOSITORY / "handlers" / "model-config.yaml").read_text())
    assert startup["periodSeconds"] * startup["failureThreshold"] > model["startupTimeout"]


def test_threads_follow_the_cpu_limit(containers):
    threads = settings(containers["endpoint"])["OMP_NUM_THREADS"]["valueFrom"]["resourceFieldRef"]
    assert threads == {"containerName": "endpoint", "resource": "limits.cpu", "divisor": "1"}
    limit = containers["endpoint"]["resources"]["limits"]["cpu"]
    assert limit == containers["endpoint"]["resources"]["requests"]["cpu"]
    assert int(limit) > 0


def test_a_terminating_pod_has_time_to_drain(containers, pod):
    stop = ServerConfig.drain_seconds + 30  # TorchServe itself is waited for so long
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    waits = {
        name: one["lifecycle"]["preStop"]["sleep"]["seconds"] for name, one in containers.items()
    }
    assert waits["gateway"] > waits["endpoint"] > 0
    assert grace > waits["endpoint"] + stop
    (shutdown,) = directive("worker_shutdown_timeout")
    assert grace > waits["gateway"] + seconds(shutdown) > waits["endpoint"] + stop


def test_the_gateways_limits_are_those_of_the_server():
    (size,) = directive("client_max_body_size")
    assert size == f"{Limits.request_bytes // 2**20}m"
    for name in ("proxy_read_timeout", "grpc_read_timeout"):
        (timeout,) = directive(name)
        assert seconds(timeout) > 2 * Limits.batch_seconds


def test_the_gateways_buffers_fit_into_its_volume(containers, pod):
    given = settings(containers["gateway"])
    bound = int(given["GATEWAY_REQUESTS"]["value"])
    assert bound > ServerConfig.queue + BATCH
    mounts = {one["mountPath"]: one["name"] for one in containers["gateway"]["volumeMounts"]}
    name = mounts[given["GATEWAY_FOLDER"]["value"]]
    (size,) = [v["emptyDir"]["sizeLimit"] for v in pod["spec"]["volumes"] if v["name"] == name]
    assert size.endswith("Gi")
    assert int(size[:-2]) * 2**30 > bound * Limits.request_bytes


def test_rollouts_and_evictions_keep_the_service_available(manifests):
    spec = manifests["Deployment"]["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = manifests["PodDisruptionBudget"]["spec"]
    assert budget["maxUnavailable"] < manifests["HorizontalPodAutoscaler"]["spec"]["minReplicas"]


def test_only_the_autoscaler_sets_the_number_of_replicas(manifests):
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    target = manifests["Deployment"]
    assert scaler["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"],
        "kind": "Deployment",
        "name": target["metadata"]["name"],
    }
    assert "replicas" not in target["spec"]
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert set(scaler["behavior"]) == {"scaleUp", "scaleDown"}


def test_the_autoscalers_metric_is_the_one_that_the_adapter_makes(manifests):
    (metric,) = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "adapter-rules.yaml").read_text())
    (rule,) = rules["rules"]
    assert metric["type"] == "Pods"
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    series = re.match(r"\w+", rule["seriesQuery"])[0]
    assert re.fullmatch(rule["name"]["matches"], series)
    assert series in rule["metricsQuery"]
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}

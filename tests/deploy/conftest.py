"""Fixtures of the deployment's tests: its files, parsed."""

import pytest
import yaml
from material import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


@pytest.fixture(scope="session")
def kustomization():
    return yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())


@pytest.fixture(scope="session")
def manifests(kustomization):
    """The applied objects, by kind; there is one of each."""
    paths = [DEPLOY / "kubernetes" / name for name in kustomization["resources"]]
    objects = [yaml.safe_load(path.read_text()) for path in paths if path.is_file()]
    assert len({one["kind"] for one in objects}) == len(objects)
    return {one["kind"]: one for one in objects}


@pytest.fixture(scope="session")
def secrets():
    """The example Secrets, by name."""
    text = (DEPLOY / "kubernetes" / "secrets.example.yaml").read_text()
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(text)}


@pytest.fixture(scope="session")
def pod(manifests):
    return manifests["Deployment"]["spec"]["template"]


@pytest.fixture(scope="session")
def containers(pod):
    return {one["name"]: one for one in pod["spec"]["containers"]}

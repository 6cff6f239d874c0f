"""The Dockerfile: closed, pinned, and complete."""

import json
import re

from material import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


def instructions():
    """The instructions as (word, arguments), without comments and continued lines."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def stages():
    found = []
    for word, arguments in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, arguments))
    return found


def arguments_of(word, among=None):
    return [said for name, said in among or instructions() if name == word]


def copied():
    """The paths that are copied from the repository."""
    return [said.split()[:-1] for said in arguments_of("COPY") if not said.startswith("--from")]


def test_the_dockerfile_can_be_parsed():
    words = {word for word, _ in instructions()}
    known = {"FROM", "ARG", "ENV", "WORKDIR", "RUN", "COPY", "USER", "HEALTHCHECK", "ENTRYPOINT"}
    assert words <= known  # and no ADD, which fetches


def test_base_images_are_pinned_and_the_same():
    images = [said.split()[0] for said in arguments_of("FROM")]
    assert len(images) == 2
    (image,) = set(images)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", image)


def test_it_runs_as_a_numeric_user_other_than_root(containers):
    *_, user = arguments_of("USER", stages()[-1])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    context = containers["endpoint"]["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
    words = [word for word, _ in stages()[-1]]
    assert "RUN" not in words[words.index("USER") :]


def test_it_starts_the_command_without_a_shell():
    final = stages()[-1]
    (entry,) = arguments_of("ENTRYPOINT", final)
    command = json.loads(entry)
    assert command[:2] == ["iqa-serve", "start"]
    assert "--foreground" in command
    assert not {"--no-tokens", "--host"} & set(command)
    (health,) = arguments_of("HEALTHCHECK", final)
    assert json.loads(health.split("CMD ", 1)[1]) == ["iqa-serve", "status", "--describe"]


def test_the_archive_is_where_the_entry_point_expects_it():
    first, final = stages()
    (entry,) = arguments_of("ENTRYPOINT", final)
    folder = json.loads(entry)[2].removesuffix("/iqa.mar")
    built = [said for said in arguments_of("RUN", first) if "iqa-serve build" in said]
    assert len(built) == 1
    assert f"--name iqa --version 1.0 --out {folder}" in built[0]
    assert f"--from=build {folder} {folder}" in arguments_of("COPY", final)


def test_the_state_is_where_the_manifests_put_it(containers):
    (environment,) = arguments_of("ENV", stages()[-1])
    state = dict(pair.split("=", 1) for pair in environment.split())["IQA_SERVE_STATE"]
    given = {one["name"]: one.get("value") for one in containers["endpoint"]["env"]}
    assert state == given["IQA_SERVE_STATE"]


def test_what_it_copies_is_there_and_not_ignored():
    sources = [source.rstrip("/") for sources in copied() for source in sources]
    assert all((REPOSITORY / source).exists() for source in sources)
    rules = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    # Everything is left out but what is copied, and of that the weights and caches.
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(sources)
    later = rules[max(at for at, rule in enumerate(rules) if rule.startswith("!")) :]
    assert {"**/__pycache__", "**/*.safetensors", "**/*.pth", "**/*.mar"} <= set(later)


def test_the_build_of_the_packages_finds_its_files():
    sources = {source.rstrip("/") for sources in copied() for source in sources}
    assert {"constraints.txt", "handlers", "packages"} <= sources
    for package in ("iqa-metrics", "iqa-torchserve"):
        folder = REPOSITORY / "packages" / package
        assert all((folder / name).is_file() for name in ("README.md", "LICENSE"))
    # hatch_build.py takes the handlers from two folders up.
    assert ("WORKDIR", "/src") in stages()[0]


def test_versions_are_those_of_the_constraints():
    installs = [said for said in arguments_of("RUN") if "pip install" in said]
    assert len(installs) == 3
    assert all("-c constraints.txt" in said for said in installs)


def test_no_file_names_a_host():
    # An address may only be made of variables, or be this machine's own.
    paths = [path for path in DEPLOY.rglob("*") if path.is_file()]
    assert len(paths) > 10
    for path in [*paths, REPOSITORY / ".dockerignore"]:
        for rest in re.findall(r"\w+://(.{12})", path.read_text()):
            assert rest.startswith(("${GATEWAY_", "127.0.0.1")), path
    for image in arguments_of("FROM"):
        assert "." not in image.split(":")[0]

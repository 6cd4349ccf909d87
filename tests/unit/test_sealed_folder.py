"""Parts of a model folder: they come whole or not at all, under their own names, and sealed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from gru4rec.errors import ModelFolderError
from gru4rec.model_folder import add_files, load_model

OLD = Path(__file__).parents[1] / "golden/model_folder_v1"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(OLD, tmp_path / "model")


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def writer(**files):
    def write(part):
        for name, content in files.items():
            (part / name.replace("_", ".")).write_bytes(content)

    return write


def test_a_part_is_added_and_sealed(folder):
    before = tree(folder)
    add_files(str(folder), "onnx", writer(model_onnx=b"one", items_csv=b"two"))
    after = tree(folder)
    assert after == before | {"onnx/model.onnx": b"one", "onnx/items.csv": b"two", "SHA256SUMS": after["SHA256SUMS"]}
    sums = dict(reversed(line.split("  ")) for line in after["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(after[name]).hexdigest() for name in after if name != "SHA256SUMS"}
    assert load_model(folder).metrics["seed"] == 1
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_part_replaces_the_earlier_one_and_no_other(folder):
    add_files(folder, "search", writer(curve_csv=b"curve"))
    add_files(folder, "onnx", writer(model_onnx=b"one", items_csv=b"two"))
    add_files(folder, "onnx", writer(model_onnx=b"three"))
    assert {name: content for name, content in tree(folder).items() if "/" in name} == {
        "onnx/model.onnx": b"three",
        "search/curve.csv": b"curve",
    }
    load_model(folder)


@pytest.mark.parametrize(
    ("part", "write", "message"),
    [
        ("onxn", writer(), "unknown part of a model folder 'onxn'; did you mean 'onnx'?"),
        ("onnx", writer(more_onnx=b""), "onnx/ of a model folder may hold model.onnx, step.onnx, .*, got 'more.onnx'"),
    ],
)
def test_other_names_are_refused_and_nothing_changes(folder, part, write, message):
    before = tree(folder)
    with pytest.raises(ModelFolderError, match=f"^{message.replace('?', '[?]')}"):
        add_files(folder, part, write)
    assert tree(folder) == before


def test_a_failing_writer_changes_nothing(folder):
    def fail(part):
        (part / "model.onnx").touch()
        raise OSError("no space")

    before = tree(folder)
    with pytest.raises(OSError, match="no space"):
        add_files(folder, "onnx", fail)
    assert tree(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_damaged_folder_is_not_sealed_anew(folder):
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(ModelFolderError, match=r"is damaged: metrics\.json not as written"):
        add_files(folder, "onnx", writer(model_onnx=b"one"))


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"x"), lambda path: path.unlink()])
def test_a_part_is_checked_as_the_rest_is(folder, change):
    add_files(folder, "onnx", writer(model_onnx=b"one"))
    change(folder / "onnx/model.onnx")
    with pytest.raises(ModelFolderError, match=r"onnx/model\.onnx"):
        load_model(folder)


def test_names_that_are_not_listed_are_refused(folder):
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  onnx/../config.json\n")
    with pytest.raises(ModelFolderError, match=r"SHA256SUMS names 'onnx/\.\./config\.json', expected config\.json, "):
        load_model(folder)

"""The files of an export, and that what is not of the model is never run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import version

import numpy as np
import onnx
import pytest
import torch

from gru4rec.errors import DataError, ExportError, ModelFolderError, ParameterError
from gru4rec.export import add_onnx, check_onnx, export_onnx
from gru4rec.model_folder import load_model, save_model
from gru4rec.onnx_parity import open_session

IDS = ["007", "7", "ä", "x,y", 'a "b"', "new\nline", *(f"item-{number}" for number in range(40))]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(IDS, embedding="tied", hidden_size=16)


@pytest.fixture
def log(make_sessions):
    generator = np.random.default_rng(0)
    return make_sessions([generator.choice(IDS, 5).tolist() for _ in range(40)])


@pytest.fixture
def coarse(make_model):
    """A model that bytes cannot hold: one large number in each row leaves no steps to the others."""
    made = make_model(IDS, embedding="tied", hidden_size=16)
    made.network.output_table[:, 0] = 1000.0
    return made


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = save_model(model, tmp_path_factory.mktemp("saved") / "model")
    add_onnx(folder)
    return folder


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "model")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- a file ---------------------------------------------------------------------------------------------------------


def test_a_file_has_its_items_and_what_was_measured_beside_it(model, tmp_path):
    report = export_onnx(model, tmp_path / "shop.onnx")
    assert names(tmp_path) == ["shop.items.csv", "shop.onnx", "shop.parity.json"]
    assert json.loads((tmp_path / "shop.parity.json").read_text()) == report
    assert report["versions"] == {name: version(name) for name in ("gru4rec-tune", "torch", "onnx", "onnxruntime")}
    assert [parity["steps"] for parity in report["files"]["shop.onnx"]["parity"]] == [1, 10, 3, 13]
    lines = (tmp_path / "shop.items.csv").read_text(encoding="utf-8")
    assert lines.startswith('index,item_id\n0,007\n1,7\n2,ä\n3,"x,y"\n4,"a ""b"""\n5,"new\nline"\n6,item-0\n')


@pytest.mark.parametrize(("kind", "inputs"), [("model", "items lengths k"), ("step", "items hidden k")])
def test_metadata_say_what_the_file_is(model, tmp_path, kind, inputs):
    export_onnx(model, tmp_path / "shop.onnx", kind)
    session = open_session((tmp_path / "shop.onnx").read_bytes())
    assert " ".join(given.name for given in session.get_inputs()) == inputs
    meta = session.get_modelmeta()
    about = meta.custom_metadata_map
    assert (meta.producer_name, about["format_version"], about["kind"], about["item_ids"]) == (
        "gru4rec-tune",
        "1",
        kind,
        "text",
    )
    assert json.loads(about["hyperparameters"]) == model.hyperparameters.to_dict()
    assert about["items_sha256"] == hashlib.sha256((tmp_path / "shop.items.csv").read_bytes()).hexdigest()
    assert json.loads(about["measured"])["parity"][3]["max_error"] < 1e-5


def test_integer_ids_are_told_from_text(make_model, tmp_path):
    export_onnx(make_model([30, -10]), tmp_path / "shop.onnx")
    assert (tmp_path / "shop.items.csv").read_text() == "index,item_id\n0,30\n1,-10\n"
    about = open_session((tmp_path / "shop.onnx").read_bytes()).get_modelmeta().custom_metadata_map
    assert about["item_ids"] == "integer"


def test_bytes_are_written_when_they_rank_as_well(model, log, tmp_path):
    report = export_onnx(model, tmp_path / "shop.onnx", "int8", log)
    quality = report["files"]["shop.onnx"]["quality"]
    assert quality["targets"] == 160
    assert quality["overlap"] >= 0.97
    assert quality["recall_before"] == pytest.approx(model.evaluate(log).metrics["recall@20"])


def test_bytes_that_rank_worse_are_refused(coarse, log, tmp_path):
    with pytest.raises(ExportError, match=r"^the int8 graph is not as good as the model: .*overlap 0\.[0-8]"):
        export_onnx(coarse, tmp_path / "shop.onnx", "int8", log)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("shop.pt", "model", r"^an ONNX file must be called NAME\.onnx, got .*shop\.pt$"),
        ("shop.onnx", "int8", r"^kind 'int8' needs a log to be measured on$"),
        ("shop.onnx", "steps", r"^unknown kind of graph 'steps'; did you mean 'step'\?$"),
    ],
)
def test_what_cannot_be_asked_for(model, tmp_path, name, kind, message):
    with pytest.raises(ParameterError, match=message):
        export_onnx(model, tmp_path / name, kind)
    assert names(tmp_path) == []


# --- a folder -------------------------------------------------------------------------------------------------------


def test_a_folder_with_graphs_is_still_a_model_folder(exported, model):
    assert names(exported / "onnx") == ["items.csv", "model.onnx", "parity.json", "step.onnx"]
    assert torch.equal(load_model(exported).network.output_table, model.network.output_table)
    assert "  onnx/step.onnx\n" in (exported / "SHA256SUMS").read_text()


def test_bytes_come_and_go_with_the_log(folder, log):
    report = add_onnx(folder, log)
    assert names(folder / "onnx") == ["items.csv", "model.int8.onnx", "model.onnx", "parity.json", "step.onnx"]
    errors = check_onnx(load_model(folder), folder)
    measured = {name: max(one["max_error"] for one in file["parity"]) for name, file in report["files"].items()}
    assert errors == pytest.approx(measured, abs=1e-6)
    assert errors["model.int8.onnx"] > 1e-4  # measured, but not judged
    add_onnx(folder)
    assert "model.int8.onnx" not in names(folder / "onnx")


def test_a_folder_stays_as_it_is_when_bytes_rank_worse(coarse, log, tmp_path):
    folder = save_model(coarse, tmp_path / "model")
    add_onnx(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ExportError):
        add_onnx(folder, log)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_log_without_pairs_is_no_log_to_measure_on(exported, make_sessions):
    with pytest.raises(DataError, match="no session has two known events"):
        add_onnx(exported, make_sessions([["007"], ["7"]]))


# --- a stranger's folder --------------------------------------------------------------------------------------------


def edit(change):
    def damage(folder):
        path = folder / "onnx/model.onnx"
        graph = onnx.load(path)
        change(graph)
        path.write_bytes(graph.SerializeToString())

    return damage


def point_outside(graph):
    weight = graph.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../config.json")


def link_out(folder):
    outside = folder.parent / "outside.onnx"
    (folder / "onnx/step.onnx").rename(outside)
    (folder / "onnx/step.onnx").symlink_to(outside)


DAMAGES = {
    "a file that weights are in": (edit(point_outside), "model.onnx is not what this program writes for this model"),
    "an operator": (
        edit(lambda graph: graph.graph.node.append(onnx.helper.make_node("Loop", [""], ["evil"]))),
        "model.onnx is not what this program writes for this model",
    ),
    "a function": (edit(lambda graph: graph.functions.add(name="f")), "model.onnx is not what this program writes"),
    "a weight": (
        edit(lambda graph: graph.graph.initializer[0].CopyFrom(graph.graph.initializer[1])),
        "model.onnx is not what this program writes for this model",
    ),
    "no ONNX": (
        lambda folder: (folder / "onnx/step.onnx").write_bytes(b"\xff" * 99),
        "step.onnx cannot be read as ONNX",
    ),
    "too long": (
        lambda folder: os.truncate(folder / "onnx/step.onnx", 2**24),
        "step.onnx",
    ),
    "items": (
        lambda folder: (folder / "onnx/items.csv").write_text("index,item_id\n0,7\n"),
        "items.csv is not what this program writes for this model",
    ),
    "missing": (lambda folder: (folder / "onnx/step.onnx").unlink(), "is incomplete: it has no onnx/step.onnx"),
    "a link": (link_out, "step.onnx is a link out of its folder"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_not_of_the_model_is_not_run(folder, model, damage, message):
    damage(folder)
    with pytest.raises(ModelFolderError, match=message):
        check_onnx(model, folder)


def test_another_models_files_are_not_of_the_model(folder, make_model):
    with pytest.raises(
        ModelFolderError, match=r"model\.onnx is not what this program writes for this model; hint: export it"
    ):
        check_onnx(make_model(IDS, embedding="tied", hidden_size=16, seed=1), folder)


def test_a_folder_without_graphs_is_incomplete(model, tmp_path):
    folder = save_model(model, tmp_path / "model")
    with pytest.raises(ModelFolderError, match=r"is incomplete: it has no onnx/items\.csv"):
        check_onnx(model, folder)

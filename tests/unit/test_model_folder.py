"""A model folder: what comes back, what is inside, and that every kind of damage is found."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file, save_file

from gru4rec import model_folder, sealed_folder
from gru4rec.errors import GRU4RecError, ModelFolderError
from gru4rec.model import Model
from gru4rec.model_folder import load_model, save_model

EXAMPLES = ["examples/expected.csv", "examples/input.csv"]
CONTENTS = [
    "README.md", "SHA256SUMS", "config.json", *EXAMPLES, "items.parquet", "metrics.json", "weights.safetensors",
]  # fmt: skip
ROOT = Path(__file__).parents[2]
METRICS = {"seed": 3, "epoch": 2, "validation": {"recall@20": 0.625, "mrr@20": 0.1}}
IDS = {"int": [30, -10, 2**40, 20], "text": ["007", "7", "ä", "x,y"]}


@pytest.fixture(scope="module")
def model(make_model):
    made = make_model(IDS["int"])
    made.metrics.update(METRICS)
    return made


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return save_model(model, tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the saved model, to be damaged."""
    return shutil.copytree(saved, tmp_path / "model")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def items_of(ids):
    """Return the content of items.parquet with these ids."""
    return pa.table({"item_id": ids, "index": range(len(ids)), "support": pa.nulls(len(ids), pa.int64())})


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seal(folder):
    """Write the digests of whatever is there now."""
    names = [name for name in CONTENTS if name != "SHA256SUMS" and (folder / name).exists()]
    (folder / "SHA256SUMS").write_text("".join(f"{digest(folder / name)}  {name}\n" for name in names))


def message_of(folder):
    with pytest.raises(ModelFolderError) as error:
        load_model(folder)
    assert error.value.exit_code == 1
    assert "\n" not in str(error.value)
    return str(error.value)


# --- round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
@pytest.mark.parametrize("parameters", [{}, {"embedding": "tied", "num_layers": 2, "clipnorm": None}], ids=str)
def test_what_comes_back_is_the_same_model(tmp_path, make_model, make_sessions, ids, parameters):
    model = make_model(ids, **parameters)
    model.metrics.update(METRICS)
    assert save_model(model, str(tmp_path / "model")) == tmp_path / "model"
    loaded = load_model(str(tmp_path / "model"))
    assert loaded.items.ids.tolist() == ids
    assert loaded.items.ids.dtype == model.items.ids.dtype
    assert (loaded.hyperparameters, loaded.metrics) == (model.hyperparameters, METRICS)
    assert loaded.network.weights.keys() == model.network.weights.keys()
    assert all(torch.equal(loaded.network.weights[name], weight) for name, weight in model.network.weights.items())
    sessions = make_sessions([ids[:2], ids[3:], [ids[0]] * 3])
    pd.testing.assert_frame_equal(
        loaded.recommend(sessions, 3, exclude_seen=True).table,
        model.recommend(sessions, 3, exclude_seen=True).table,
        check_exact=True,
    )


def test_a_folder_may_move(saved, tmp_path, make_sessions, model):
    moved = shutil.copytree(saved, tmp_path / "a" / "b")
    table = load_model(moved).recommend(make_sessions([[20]])).table
    assert table.equals(model.recommend(make_sessions([[20]])).table)


def test_a_model_of_weights_that_are_views(tmp_path, make_model):
    model = make_model(IDS["int"])
    model.network.weights["output_table"] = torch.randn(4, 4).T  # not contiguous
    save_model(model, tmp_path / "model")
    assert torch.equal(
        load_model(tmp_path / "model").network.output_table, model.network.weights["output_table"].contiguous()
    )


# --- what is inside --------------------------------------------------------------------------------------------------


def test_weights_lie_where_torch_puts_its_own(saved):
    """Then products round as they did before saving."""
    weights = load_model(saved).network.weights
    assert {name: weight.data_ptr() % 64 for name, weight in weights.items()} == dict.fromkeys(weights, 0)


def test_files(saved):
    assert files(saved) == CONTENTS
    assert names(saved.parent) == ["model"]


def test_no_file_is_a_pickle(saved):
    for path in (saved / name for name in CONTENTS):
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path.name  # a pickle, and torch.save's archive


def test_all_files_have_the_same_permissions(saved):
    assert len({(saved / name).stat().st_mode for name in CONTENTS}) == 1


def test_config(saved, model):
    config = json.loads((saved / "config.json").read_text())
    assert (config["format_version"], config["num_items"]) == (2, 4)
    assert config["hyperparameters"] == model.hyperparameters.to_dict()
    assert config["written_by"]["torch"] == torch.__version__


def test_other_programs_can_open_the_rest(saved, model):
    table = pd.read_parquet(saved / "items.parquet")
    assert table["item_id"].tolist() == IDS["int"]
    assert table["index"].tolist() == [0, 1, 2, 3]
    assert table["support"].isna().all()
    assert json.loads((saved / "metrics.json").read_text()) == METRICS
    assert load_file(saved / "weights.safetensors").keys() == model.network.weights.keys()


def test_the_card_names_the_figures_and_hyperparameters(saved):
    card = (saved / "README.md").read_text()
    assert "scores 4 items" in card
    assert "| validation | 0.625 | 0.1 |" in card
    assert "| `hidden_size` | 4 |" in card


def test_digests_are_as_sha256sum_writes_them(saved):
    lines = (saved / "SHA256SUMS").read_text().splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  \S+", line) for line in lines)
    found = {name: value for value, name in (line.split("  ") for line in lines)}
    assert found == {name: digest(saved / name) for name in CONTENTS if name != "SHA256SUMS"}


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils")
def test_sha256sum_accepts_the_folder(saved):
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=saved, capture_output=True)
    assert checked.returncode == 0


def test_config_follows_its_schema(saved, supported, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs/model-config.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for folder in (saved, save_model(supported, tmp_path / "model")):
        jsonschema.validate(json.loads((folder / "config.json").read_text()), schema)
    bad = json.loads((saved / "config.json").read_text()) | {"num_items": 0}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, schema)


# --- what is told of the training log --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def supported(make_model, make_sessions):
    """A model that knows its training log: 20 four times, 30 twice, the others once."""
    log = make_sessions([[20, 30, 20], [-10, 20], [2**40, 20, 30]])
    return Model.of_log(make_model(log.items.ids).network, log, "CC0 | ours", metrics=METRICS)


def test_support_and_the_training_log_come_back(supported, tmp_path, make_sessions):
    loaded = load_model(save_model(supported, tmp_path / "model"))
    support = dict(zip(loaded.items.ids.tolist(), loaded.support.tolist(), strict=True))
    assert support == {20: 4, 30: 2, -10: 1, 2**40: 1}
    log = loaded.training_log
    assert (log.num_sessions, log.num_events, log.num_items, log.first_time, log.last_time) == (3, 8, 4, 0.0, 7.0)
    assert log == supported.training_log
    assert loaded.recommend(make_sessions([[99]]), 2).table["item"].tolist() == [20, 30]
    card = (tmp_path / "model/README.md").read_text()
    assert "| events | 8 |" in card
    assert "CC0 \\| ours" in card
    assert "gets the most frequent items" in card


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"support": [1, None, 1, 1]}, "support must be known of all items or of none"),
        ({"support": [1, -1, 1, 1]}, "support must be known of all items or of none"),
        ({"support": ["a", "b", "c", "d"]}, "support must hold whole numbers, got string"),
        ({"index": [0, 1, 3, 2]}, "index must count the rows from 0"),
    ],
    ids=str,
)
def test_items_that_do_not_fit_are_named(folder, change, problem):
    table = {**items_of(IDS["int"]).to_pydict(), **change}
    pa.parquet.write_table(pa.table(table), folder / "items.parquet")
    seal(folder)
    assert problem in message_of(folder)


LOG = {
    "num_sessions": 1, "num_events": 1, "num_items": 1, "first_time": 0.0, "last_time": 1.0, "fingerprint": "f",
    "licence": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"more": 1}, "unknown key 'more'; known: format_version, "),
        ({"protocol": 3}, "protocol must be an object, got 3"),
        ({"unknown_items": None}, "unknown_items must be an object, got None"),
        ({"training_log": {"num_events": 1}}, "training_log must have fingerprint, first_time, last_time, licence, "),
        ({"training_log": {**LOG, "num_events": 0}}, "num_events must be a whole number >= 1, got 0"),
        ({"training_log": {**LOG, "last_time": "x"}}, "training_log must have times that are numbers, and text, got"),
        ({"training_log": {**LOG, "licence": 3}}, "training_log must have times that are numbers, and text, got"),
    ],
    ids=str,
)
def test_a_config_of_another_form_is_refused(folder, change, problem):
    change_config(folder, lambda config: config.update(change))
    assert problem in message_of(folder)


# --- version 1 -------------------------------------------------------------------------------------------------------


def test_a_folder_of_version_1_is_read(make_sessions):
    """Recorded before version 2 was written: the fixture and these rows, by `recommend` of that time."""
    model = load_model(ROOT / "tests/golden/model_folder_v1")
    assert model.items.ids.tolist() == ["a", "b", "c", "d", "e", "f", "g", "h", "7", "007"]
    assert (model.hyperparameters.loss_fn, model.hyperparameters.hidden_size) == ("bpr-max", 4)
    assert (model.support, model.training_log, model.metrics["epoch"]) == (None, None, 2)
    table = model.recommend(make_sessions([["a", "7"], ["007"], ["z"]]), 3).table
    assert table["item"].tolist() == ["b", "a", "e", "b", "a", "g"]
    wanted = [1.534316, 0.901098, 0.235191, 1.627341, 1.241095, 0.899844]
    assert table["score"].tolist() == pytest.approx(wanted, abs=2e-6)


def test_a_folder_of_version_1_becomes_one_of_version_2(tmp_path):
    old = load_model(ROOT / "tests/golden/model_folder_v1")
    saved = save_model(old, tmp_path / "model")
    assert files(saved) == CONTENTS
    again = load_model(saved)
    assert (again.support, again.metrics, again.hyperparameters) == (None, old.metrics, old.hyperparameters)
    assert all(torch.equal(weight, old.network.weights[name]) for name, weight in again.network.weights.items())


# --- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_existing_path_is_refused(tmp_path, model, kind):
    path = tmp_path / "model"
    path.mkdir() if kind == "folder" else path.touch()
    with pytest.raises(ModelFolderError, match=f"^{path} exists already; hint: choose another name or allow over"):
        save_model(model, path)
    assert names(tmp_path) == ["model"]
    assert path.is_file() or names(path) == []


def test_overwriting_replaces_the_whole_folder(folder, make_model):
    (folder / "stale").touch()
    save_model(make_model([1, 2, 3]), folder, overwrite=True)
    assert files(folder) == CONTENTS
    assert load_model(folder).items.ids.tolist() == [1, 2, 3]
    assert names(folder.parent) == ["model"]


def fail(*_, **__):
    raise OSError("no space")


@pytest.mark.parametrize("step", ["save_file", "render_card", "file_digest"])
def test_a_failure_leaves_nothing(tmp_path, model, monkeypatch, step):
    monkeypatch.setattr(sealed_folder if step == "file_digest" else model_folder, step, fail)
    with pytest.raises(OSError, match="no space"):
        save_model(model, tmp_path / "model")
    assert names(tmp_path) == []


def test_a_failure_leaves_the_earlier_model(folder, make_model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(model_folder, "save_file", fail)
        with pytest.raises(OSError, match="no space"):
            save_model(make_model([1, 2, 3]), folder, overwrite=True)
    assert load_model(folder).items.ids.tolist() == IDS["int"]
    assert names(folder.parent) == ["model"]


@pytest.mark.parametrize("value", [float("nan"), np.arange(2)], ids=["nan", "array"])
def test_figures_that_json_cannot_hold_are_refused(tmp_path, make_model, value):
    model = make_model(IDS["int"])
    model.metrics["mrr@20"] = value
    with pytest.raises(GRU4RecError, match=r"^metrics\.json cannot be written: "):
        save_model(model, tmp_path / "model")
    assert names(tmp_path) == []


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [0x01, 0x20, 0xFF], ids=hex)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_changed_byte_is_found(folder, name, flip):
    path = folder / name
    whole = path.read_bytes()
    every = 1 if name == "SHA256SUMS" else max(1, len(whole) // 7)
    for position in {*range(0, len(whole), every), len(whole) - 1}:
        changed = bytearray(whole)
        changed[position] ^= flip
        path.write_bytes(changed)
        message = message_of(folder)
        assert str(folder) in message
        assert name == "SHA256SUMS" or name in message
    path.write_bytes(whole)
    load_model(folder)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_missing_file_is_found(folder, name):
    (folder / name).unlink()
    message = message_of(folder)
    assert name in message
    assert message.endswith("hint: take a fresh copy of the folder")


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize(
    "change",
    [lambda content: b"", lambda content: content[:-1], lambda content: content + b"\n"],
    ids=["empty", "shorter", "longer"],
)
def test_a_shorter_or_longer_file_is_found(folder, name, change):
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    message = message_of(folder)
    assert name == "SHA256SUMS" or name in message


def test_a_line_missing_from_the_digests_is_found(folder):
    kept = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if not line.endswith("metrics.json")]
    (folder / "SHA256SUMS").write_text("\n".join([*kept, ""]))
    assert "metrics.json in SHA256SUMS" in message_of(folder)


@pytest.mark.parametrize("kind", ["absent", "file"])
def test_what_is_no_folder_is_named(tmp_path, kind):
    path = tmp_path / "model"
    if kind == "file":
        path.touch()
    message = message_of(path)
    assert message.startswith(f"{path} is not a model folder; hint: it should hold ")
    assert all(name in message for name in CONTENTS if name not in EXAMPLES)


# --- folders whose digests are right and whose content is not --------------------------------------------------------


def change_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    seal(folder)


@pytest.mark.parametrize("version", [3, 0, "1", None])
def test_an_unknown_format_version_is_named(folder, version):
    change_config(folder, lambda config: config.update(format_version=version))
    assert message_of(folder) == (
        f"{folder} has format version {version!r}, this program reads 1 to 2; "
        "hint: use the version of gru4rec-tune that wrote it"
    )


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("format_version", "has format version None, this program reads 1 to 2"),
        ("hyperparameters", "hyperparameters must be an object, got None"),
        ("written_by", "written_by must be an object, got None"),
        ("num_items", "num_items must be a whole number >= 1, got None"),
        ("num_columns", "num_columns must be a whole number >= 1 or None, got None"),
    ],
)
def test_a_missing_key_is_named(folder, key, problem):
    change_config(folder, lambda config: config.pop(key))
    assert problem in message_of(folder)


@pytest.mark.parametrize(
    ("hyperparameters", "problem"),
    [
        ({"hiden_size": 4}, "unknown hyperparameter 'hiden_size'; did you mean 'hidden_size'?"),
        ({"dropout": 2.0}, "dropout must be in [0, 1), got 2.0"),
        ([1], "hyperparameters must be an object, got [1]"),
        ("x", "hyperparameters must be an object, got 'x'"),
    ],
    ids=str,
)
def test_bad_hyperparameters_are_named(folder, hyperparameters, problem):
    change_config(folder, lambda config: config.update(hyperparameters=hyperparameters))
    assert problem in message_of(folder)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "items.parquet", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe"], ids=repr)
def test_files_of_another_kind_are_found(folder, name, content):
    (folder / name).write_bytes(content)
    seal(folder)
    assert message_of(folder).startswith(str(folder))


def test_items_without_their_column_are_found(folder):
    pa.parquet.write_table(pa.table({"id": [1, 2, 3, 4]}), folder / "items.parquet")
    seal(folder)
    assert "items.parquet must have one column 'item_id', got 0" in message_of(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(item_bias=torch.zeros(5)), "item_bias has shape (5,), expected (4,)"),
        (lambda w: w.update(output_table=torch.zeros(4)), "output_table has shape (4,), expected (4, 4)"),
        (lambda w: w.pop("gru.0.input"), "gru.0.input has shape None, expected (12, 3)"),
        (lambda w: w.update(more=torch.zeros(1)), "more has shape (1,), expected None"),
    ],
    ids=["wrong", "wrong rank", "missing", "more"],
)
def test_weights_that_do_not_fit_are_named(folder, change, message):
    weights = load_file(folder / "weights.safetensors")
    change(weights)
    save_file(weights, folder / "weights.safetensors")
    seal(folder)
    assert message_of(folder) == f"{folder}/weights.safetensors does not fit its config.json: {message}"


@pytest.mark.parametrize("ids", [[1, 2, 3], [1, 2, 3, 4, 5]], ids=len)
def test_another_number_of_items_is_found(folder, ids):
    pa.parquet.write_table(items_of(ids), folder / "items.parquet")
    seal(folder)
    assert f"items.parquet has {len(ids)} rows, expected 4" in message_of(folder)


# --- folders that mean harm ------------------------------------------------------------------------------------------


LITTLE = 2**23
POOLS = []  # Arrow wants those that it took memory from to stay


@contextmanager
def little_memory():
    """Python and Arrow take little memory inside, and weights are not read at all."""
    usual = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(usual))
    pa.set_memory_pool(POOLS[-1])
    tracemalloc.start()
    try:
        with mock.patch.object(model_folder, "load_file", side_effect=AssertionError("weights are read")):
            yield
        assert tracemalloc.get_traced_memory()[1] + POOLS[-1].max_memory() < LITTLE
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(usual)


def refusal_of(folder):
    with little_memory():
        return message_of(folder)


@pytest.mark.parametrize("name", ["../model.txt", "/etc/passwd", "./config.json", "a/../config.json", ""])
def test_digests_of_files_elsewhere_are_refused(folder, name):
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    assert f"SHA256SUMS names {name!r}, expected config.json, " in message_of(folder)


@pytest.mark.parametrize("target", ["relative", "absolute"])
@pytest.mark.parametrize("name", CONTENTS)
def test_a_link_out_of_the_folder_is_refused(folder, name, target):
    outside = shutil.move(folder / name, folder.parent / "outside")
    up = "../" * len(Path(name).parts)
    (folder / name).symlink_to(outside if target == "absolute" else f"{up}outside")
    assert f"{name} is a link out of its folder; hint: copy the folder with its links followed" in message_of(folder)


def test_a_link_through_another_folder_is_refused(folder):
    (folder / "here").symlink_to(folder.parent)
    shutil.move(folder / "config.json", folder.parent / "config.json")
    (folder / "config.json").symlink_to("here/config.json")
    assert "config.json is a link out of its folder" in message_of(folder)


def test_links_within_the_folder_and_to_it_are_followed(folder):
    (folder / "config.json").rename(folder / "other.json")
    (folder / "config.json").symlink_to("other.json")
    (folder.parent / "link").symlink_to(folder)
    assert load_model(folder.parent / "link").items.ids.tolist() == IDS["int"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_file_is_refused_and_not_waited_for(folder, name, make):
    (folder / name).unlink()
    make(folder / name)
    assert f"{name} is not a file" in message_of(folder)


def test_links_in_a_circle_are_refused(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    assert "config.json" in message_of(folder)


@pytest.mark.parametrize(
    ("shape", "size"), [([2**40, 2**20], 0), ([4, 2**62], 2**63), ([2**33], 2**35), ([-1], 4)], ids=str
)
def test_a_header_that_claims_huge_weights_is_refused(folder, shape, size):
    """The first weight claims to be large, within the file or beyond it; nothing else of it is changed."""
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["item_bias"] = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])
    seal(folder)
    assert str(folder) in refusal_of(folder)


@pytest.mark.parametrize("length", [2**63, 2**40, 2**27])
def test_a_header_that_claims_to_be_huge_is_refused(folder, length):
    (folder / "weights.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    seal(folder)
    assert str(folder) in refusal_of(folder)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"hidden_size": 2**40}, "does not fit its config.json"),
        ({"num_components": 2**40}, "does not fit its config.json"),
        ({"num_layers": 2**40}, f"no {2**40} layers in it"),
        ({"num_layers": 10**4000}, "num_layers must be"),
    ],
    ids=["hidden_size", "num_components", "num_layers", "beyond 64 bits"],
)
def test_huge_sizes_are_compared_and_not_allocated(folder, values, problem):
    change_config(folder, lambda config: config["hyperparameters"].update(values))
    assert problem in refusal_of(folder)


def test_a_huge_number_of_items_is_compared_and_not_allocated(folder):
    change_config(folder, lambda config: config.update(num_items=2**40))
    assert f"items.parquet has 4 rows, expected {2**40:,}" in refusal_of(folder)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "SHA256SUMS"])
def test_a_huge_text_is_not_read(folder, name):
    with (folder / name).open("ab") as file:
        file.truncate(2**27)
    if name != "SHA256SUMS":
        seal(folder)
    assert "it has more than 1,048,576 bytes" in refusal_of(folder)


@pytest.mark.parametrize(
    "ids",
    [pa.repeat(7, 2 * 10**7), pa.array(["x" * 10**8]), pa.repeat("x" * 10**6, 100)],
    ids=["rows", "long text", "repeated text"],
)
def test_a_bomb_of_items_is_refused(folder, ids):
    pa.parquet.write_table(items_of(ids), folder / "items.parquet", compression="zstd")
    change_config(folder, lambda config: config.update(num_items=len(ids)))
    message = refusal_of(folder)
    assert "items.parquet has" in message
    assert "holds more than 200 times as much" in message


def test_a_bomb_beside_the_items_is_not_read(folder):
    table = items_of(IDS["int"]).append_column("more", [["x" * 10**8, "", "", ""]])
    pa.parquet.write_table(table, folder / "items.parquet", compression="zstd")
    seal(folder)
    with little_memory(), pytest.raises(AssertionError, match="weights are read"):  # which come last
        load_model(folder)


def test_a_link_to_a_device_is_not_followed(folder):
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/dev/zero")  # its digest would never end
    assert "is a link out of its folder" in message_of(folder)


class Attack:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "items.parquet", "weights.safetensors"])
@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_is_not_run(folder, name, save):
    save(Attack(str(folder.parent / "marker")), folder / name)
    seal(folder)
    message_of(folder)
    assert not (folder.parent / "marker").exists()
    content = (folder / name).read_bytes()
    torch.load(io.BytesIO(content), weights_only=False) if save is torch.save else pickle.loads(content)
    assert (folder.parent / "marker").exists()  # the file would have done it


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[" * 10**5, "cannot be read: maximum recursion depth exceeded"),
        (" " * 2**20 + "{}", "cannot be read: it has more than 1,048,576 bytes"),
        ("[1]", "must hold an object, got [1]"),
    ],
    ids=["deep", "long", "list"],
)
def test_json_is_read_within_bounds(folder, name, content, problem):
    (folder / name).write_text(content)
    seal(folder)
    assert problem in message_of(folder)


def test_weights_of_another_type_are_named(folder):
    weights = load_file(folder / "weights.safetensors")
    save_file(weights | {"item_bias": weights["item_bias"].double()}, folder / "weights.safetensors")
    seal(folder)
    assert "item_bias has shape (4,) of other numbers than float32" in message_of(folder)


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([1, 2, 3, 3], "an item_id is missing or there twice"),
        (["a", "b", "c", None], "an item_id is missing or there twice"),
        ([0.5, 1.0, 2.0, 3.0], "item_id must hold integers or text, got double"),
        ([[1], [2], [3], [4]], "item_id must hold plain values, got list<element: int64>"),
    ],
    ids=["twice", "missing", "numbers", "lists"],
)
def test_items_that_cannot_be_told_apart_are_refused(folder, ids, problem):
    pa.parquet.write_table(items_of(ids), folder / "items.parquet")
    seal(folder)
    assert problem in message_of(folder)


def test_an_item_id_repeated_by_a_short_code_does_not_fill_the_memory(folder):
    count = 10_000
    ids = pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), ["x" * 2**20])  # 10 GB, written out
    pa.parquet.write_table(items_of(ids), folder / "items.parquet", compression="zstd", store_schema=False)
    change_config(folder, lambda config: config.update(num_items=count))
    assert re.search(r"items\.parquet has [\d,]+ bytes and holds more than 200 times as much", message_of(folder))

"""Converting recpack's files: the same scores as the saved module, and nothing in a file is ever run.

The oracle is the saved module's own layers, run by torch. That files written by recpack itself are read, with scores
equal to 5e-7, was checked with recpack 0.3.6 under torch 2.13 (one and two layers, both algorithms).
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from gru4rec.errors import DataError, ModelFolderError
from gru4rec.model_folder import load_model, save_model
from gru4rec.recpack_file import HINT, load_recpack_model

HISTORIES = [[0], [5, 3], [1, 2, 3, 4, 5, 6, 0], [6, 6, 0, 2]]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "old.trch"


def message_of(path, error=ModelFolderError, items=None):
    """The one line that refuses the file; torch's list of safe globals is as before."""
    safe = set(torch.serialization.get_safe_globals())
    with pytest.raises(error) as caught:
        load_recpack_model(path, items)
    assert set(torch.serialization.get_safe_globals()) == safe
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scores_of(module, history):
    """The scores of the next item by the saved module's layers, without the column that pads."""
    module.eval()
    with torch.no_grad():
        states, _ = module.rnn(module.emb(torch.tensor([history])))
        return module.lin(states[0, -1])[:-1].numpy()


# --- the same model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_scores_are_those_of_the_saved_module(path, tmp_path, save_recpack_file, make_sessions, num_layers):
    module = save_recpack_file(path, num_layers=num_layers, dropout=0.5)
    saved = save_model(load_recpack_model(path), tmp_path / "model")
    for model in (load_recpack_model(str(path)), load_model(saved)):
        table = model.recommend(make_sessions(HISTORIES), k=7).table
        ours = np.full((len(HISTORIES), 7), np.nan)
        ours[table["session"], table["item"]] = table["score"]
        expected = np.stack([scores_of(module, history) for history in HISTORIES])
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", [(7, 4, 3, 1, 0.0), (5, 3, 6, 2, 0.25), (1, 1, 1, 1, 0)], ids=str)
def test_hyperparameters_are_those_of_the_module(path, save_recpack_file, sizes):
    num_items, hidden_size, num_components, num_layers, dropout = sizes
    save_recpack_file(path, *sizes)
    model = load_recpack_model(path)
    h = model.hyperparameters
    assert (h.hidden_size, h.num_components, h.num_layers, h.dropout) == (
        hidden_size,
        num_components,
        num_layers,
        dropout,
    )
    assert h.embedding == "separate"
    assert model.items.ids.tolist() == list(range(num_items))
    assert model.metrics == {"converted_from": "old.trch"}


def test_weights_are_plain_tensors_of_their_own(path, save_recpack_file):
    save_recpack_file(path)
    for name, weight in load_recpack_model(path).network.weights.items():
        assert type(weight) is torch.Tensor, name
        assert not weight.requires_grad
        assert weight.untyped_storage().nbytes() == weight.nbytes  # nothing of the padding row


def test_item_ids_come_from_the_table(path, tmp_path, save_recpack_file, make_sessions):
    module = save_recpack_file(path, num_items=3)
    (tmp_path / "items.csv").write_text("item_id,iid\nb,1\nc,0\na,2\n")
    model = load_recpack_model(path, tmp_path / "items.csv")
    assert model.items.ids.tolist() == ["c", "b", "a"]
    table = model.recommend(make_sessions([["a", "b"]]), k=3).table
    expected = dict(zip("cba", scores_of(module, [2, 1]), strict=True))
    assert dict(zip(table["item"], table["score"], strict=True)) == pytest.approx(expected, abs=1e-5)


def test_a_table_for_another_model_is_refused(path, tmp_path, save_recpack_file):
    save_recpack_file(path, num_items=4)
    (tmp_path / "items.csv").write_text("iid,item_id\n0,a\n1,b\n2,c\n")
    message = message_of(path, DataError, tmp_path / "items.csv")
    assert message == "items.csv is not a one-to-one mapping of 4 items: 1 are missing, the first is iid 3"


def test_the_card_does_not_claim_what_the_file_does_not_say(path, tmp_path, save_recpack_file):
    save_recpack_file(path)
    card = (save_model(load_recpack_model(path), tmp_path / "model") / "README.md").read_text()
    assert "Converted from `old.trch` by gru4rec-tune" in card
    assert "Trained with" not in card


def test_recpack_is_not_imported(path, save_recpack_file):
    save_recpack_file(path)
    load_recpack_model(path)
    assert not [name for name in sys.modules if name.split(".")[0] == "recpack"]


# --- nothing is run --------------------------------------------------------------------------------------------------


class Attack:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(marker):
    return {
        "posix.system": Attack(os.system, f"touch {marker}"),
        "Popen": Attack(subprocess.Popen, ["touch", str(marker)]),
        "eval": Attack(builtins.eval, f"open({str(marker)!r}, 'w').close()"),
        "exec": Attack(builtins.exec, f"open({str(marker)!r}, 'w').close()"),
        "io.open": Attack(io.open, str(marker), "w"),
    }


@pytest.mark.parametrize("name", attacks("-"))
@pytest.mark.parametrize("place", ["whole", "in a dict", "in the module"])
def test_a_call_is_refused_and_not_made(path, tmp_path, save_recpack_file, name, place):
    marker = tmp_path / "marker"
    attack = attacks(marker)[name]
    if place == "in the module":
        save_recpack_file(path, change=lambda module: setattr(module.rnn, "dropout", attack))
    else:
        torch.save({"a": attack} if place == "in a dict" else attack, path)
    message = message_of(path)
    assert not marker.exists()
    assert message.startswith(f"{path} names ")
    assert name in message
    assert message.endswith(f", which no recpack model does; nothing of it was run; hint: {HINT}")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("archive", [True, False], ids=["archive", "plain pickle"])
def test_a_call_is_refused_in_every_protocol(path, tmp_path, archive, protocol):
    marker = tmp_path / "marker"
    attack = attacks(marker)["posix.system"]
    if archive:
        torch.save(attack, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(attack, protocol))
    assert message_of(path).startswith(f"{path} ")
    assert not marker.exists()
    if archive:
        torch.load(path, weights_only=False)  # the file would have done it
    else:
        pickle.loads(path.read_bytes())
    assert marker.exists()


def test_what_the_process_allows_elsewhere_is_not_allowed_here(path, tmp_path):
    torch.save(attacks(tmp_path / "marker")["eval"], path)
    with torch.serialization.safe_globals([builtins.eval]):
        assert "names builtins.eval, which" in message_of(path)
    assert not (tmp_path / "marker").exists()


def test_the_environment_cannot_lift_the_restriction(path, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save(attacks(tmp_path / "marker")["posix.system"], path)
    message_of(path)
    assert not (tmp_path / "marker").exists()


# --- other files -----------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(path):
    assert message_of(path) == f"{path} does not exist or is not a file"


@pytest.mark.parametrize("content", [b"", b"SessionId,ItemId,Time\n1,2,3\n", b"PK\x03\x04", b"\x80\x02}."], ids=repr)
def test_a_file_of_another_kind_is_refused(path, content):
    path.write_bytes(content)
    message = message_of(path)
    assert message.startswith(f"{path} cannot be read as a recpack model: ")
    assert message.endswith(f"; hint: {HINT}")


def test_an_archive_of_something_else_is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert message_of(path).startswith(f"{path} cannot be read as a recpack model: ")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"emb.weight": torch.zeros(3, 2)}, "dict"),
        (torch.zeros(3), "Tensor"),
        (torch.nn.Linear(2, 3), "torch.nn.modules.linear.Linear"),
    ],
    ids=["dict", "tensor", "layer"],
)
def test_another_content_is_named(path, content, kind):
    torch.save(content, path)
    assert message_of(path) == f"{path} holds {kind}, expected recpack.algorithms.gru4rec.GRU4RecTorch; hint: {HINT}"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m: setattr(m, "rnn", torch.nn.LSTM(3, 4)), "torch.nn.modules.rnn.LSTM"),
        (lambda m: m.double(), "torch.DoubleStorage"),
        (lambda m: m.to("meta"), "torch._utils._rebuild_meta_tensor_no_storage, torch.float32"),
        (lambda m: setattr(m, "more", bytearray(1)), "builtins.bytearray"),  # torch's reader would call it
    ],
)
def test_another_class_is_named(path, save_recpack_file, change, name):
    save_recpack_file(path, change=change)
    assert f"{path} names " in message_of(path)
    assert f"{name}, which no recpack model does" in message_of(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(path, save_recpack_file, share):
    save_recpack_file(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert message_of(path).startswith(f"{path} cannot be read as a recpack model: ")


def test_damage_of_the_pickle_never_surfaces_as_another_error(path, save_recpack_file):
    save_recpack_file(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        start = whole.index(archive.read(entry))
    for position in range(start, start + 1500, 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        try:
            load_recpack_model(path)
        except ModelFolderError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m: setattr(m, "pad_token", 0), "pad_token is 0, expected the last row of emb.weight, 7"),
        (lambda m: delattr(m, "pad_token"), "no 'pad_token'"),
        (lambda m: delattr(m, "lin"), "its parts are drop, emb, rnn, expected emb, rnn, lin, drop"),
        (lambda m: setattr(m, "more", torch.nn.Linear(1, 1)), "its parts are drop, emb, rnn, lin, more, expected emb"),
        (
            lambda m: setattr(m, "emb", torch.nn.Linear(3, 8)),
            "emb is torch.nn.modules.linear.Linear, expected torch.nn.modules.sparse.Embedding",
        ),
        (
            lambda m: setattr(m, "lin", torch.nn.Linear(4, 9)),
            "output_table would have shape (8, 4), expected (7, 4)",
        ),
        (lambda m: setattr(m, "lin", torch.nn.Linear(4, 8, bias=False)), "lin.bias is NoneType, expected a tensor"),
        (lambda m: setattr(m, "rnn", torch.nn.GRU(5, 4)), "gru.0.input would have shape (12, 5), expected (12, 3)"),
        (lambda m: setattr(m, "rnn", torch.nn.GRU(3, 4, bidirectional=True)), "no 'weight_ih_l1'"),
        (lambda m: setattr(m, "rnn", torch.nn.GRU(3, 4, bias=False)), "num_layers must be a whole number >= 1, got 0"),
        (lambda m: setattr(m.drop, "p", 1.0), "dropout must be in [0, 1), got 1.0"),
        (lambda m: setattr(m.drop, "p", "x"), "dropout must be in [0, 1), got 'x'"),
        (lambda m: setattr(m, "_modules", [1]), "'list' object has no attribute 'keys'"),
    ],
)
def test_another_layout_is_named(path, save_recpack_file, change, problem):
    save_recpack_file(path, change=change)
    message = message_of(path)
    assert message.startswith(f"{path} has not the layout of a recpack model: {problem}")
    assert message.endswith(f"; hint: {HINT}")


# --- sizes -----------------------------------------------------------------------------------------------------------


def repack(path, compression=zipfile.ZIP_STORED, more=()):
    """Write the archive anew, and further members."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in [*members, *more]:
            archive.writestr(name, content)


def parameter(numbers):
    return torch.nn.Parameter(numbers, requires_grad=False)


def test_a_view_that_repeats_a_number_is_refused(path, save_recpack_file):
    endless = parameter(torch.zeros(1, 1).expand(10**9, 10**6))  # 4 PB, written out
    save_recpack_file(path, change=lambda module: setattr(module.emb, "weight", endless))
    assert "emb.weight is a view, expected numbers of its own" in message_of(path)


def test_weights_that_share_their_numbers_are_refused(path, save_recpack_file):
    numbers = torch.zeros(10**5, 2)

    def share(module):
        module.emb.weight, module.lin.weight = parameter(numbers), parameter(numbers)

    save_recpack_file(path, change=share)
    assert "its weights have 1,600," in message_of(path)


def test_an_archive_that_expands_is_refused(path, save_recpack_file):
    save_recpack_file(path)
    repack(path, zipfile.ZIP_DEFLATED, [("old/data/9", bytes(10**7))])
    assert "cannot be read as a recpack model: its members claim 10," in message_of(path)


@pytest.mark.parametrize("name", ["old/DATA.PKL", "more/data.pkl"])
def test_an_archive_with_two_pickles_is_refused(path, save_recpack_file, name):
    save_recpack_file(path)
    repack(path, more=[(name, b"\x80\x02}.")])
    assert "it is no archive of one small pickle and its weights" in message_of(path)


def test_an_archive_behind_something_else_is_refused(path, save_recpack_file):
    save_recpack_file(path)
    path.write_bytes(b"\x80\x02}." + path.read_bytes())  # a pickle to one reader, an archive to another
    assert "it is no archive of one small pickle and its weights" in message_of(path)

"""Parameter spaces of the authors, as spaces of a search."""

from __future__ import annotations

import json

import optuna
import pytest

from gru4rec.errors import ParameterError, SpecificationError
from gru4rec.hyperparameters import HyperParameters
from tuning.official_space import make_official_space
from tuning.space import Dimension
from tuning.spec import read_spec, render_spec

# The first three ranges are as in the authors' paramspaces/gru4rec_bprmax_standard_parspace.json.
BPR_MAX = [
    {"name": "layers", "dtype": "int", "values": [64, 512], "step": 32},
    {"name": "dropout_p_embed", "dtype": "float", "values": [0.0, 0.5], "step": 0.05},
    {"name": "elu_param", "dtype": "categorical", "values": [0.5, 1, 0]},
    {"name": "batch_size", "dtype": "int", "values": [32, 256], "log": True},
    {"name": "learning_rate", "dtype": "float", "values": [0.01, 0.25], "log": True},
]
LAYERS = BPR_MAX[:1]
# What their code has no parameter for, and the defaults of their parameters that BPR_MAX leaves out.
FIXED = {
    "loss_fn": "bpr-max", "num_layers": 1, "embedding": "tied", "num_negatives": 2048, "sample_alpha": 0.5,
    "momentum": 0.0, "dropout_hidden": 0.0, "bpreg": 1.0, "logq": 1.0, "logq_correction": "published",
    "clipnorm": None, "epsilon": 1e-6, "mask_targets": False, "negatives": "shared", "dropout": 0.0, "bptt": 1,
    "optimization_algorithm": "adagrad",
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def written(dimensions):
        path = tmp_path / "space.json"
        path.write_text("".join(json.dumps(dimension) + "\n" for dimension in dimensions))
        return path

    return written


@pytest.fixture
def spec(tmp_path):
    """A function: text of a search.toml, file of a space to replace its own -> the space that is searched."""

    def read(text, official_space=None):
        (tmp_path / "search.toml").write_text(text)
        return read_spec(tmp_path / "search.toml", official_space).space

    return read


def one(name, dtype, values, **more):
    return {"name": name, "dtype": dtype, "values": values, **more}


def test_ranges_are_taken_over(write):
    bpr_max = {"loss_fn": ("bpr-max",)}
    assert make_official_space(write(BPR_MAX)).dimensions == (
        Dimension("hidden_size", "int", 64, 512, 32),
        Dimension("dropout_embedding", "float", 0.0, 0.5, 0.05),
        Dimension("elu_param", "choice", options=(0.5, 1.0, 0.0), when=bpr_max),
        Dimension("batch_size", "int", 32, 256, log=True),
        Dimension("learning_rate", "float", 0.01, 0.25, log=True),
    )


def test_the_rest_is_fixed_as_in_their_code(write):
    assert make_official_space(write(BPR_MAX)).fixed == FIXED


@pytest.mark.parametrize(
    ("dimensions", "loss", "logq"),
    [
        (LAYERS, "cross-entropy", 1.0),
        ([*LAYERS, one("bpreg", "float", [0, 2])], "bpr-max", 1.0),
        ([*LAYERS, one("loss", "categorical", ["bpr-max"])], "bpr-max", 1.0),
        ([*LAYERS, one("loss", "categorical", ["cross-entropy"]), one("bpreg", "float", [0, 2])], "cross-entropy", 1.0),
        ([*LAYERS, one("logq", "categorical", [0.5])], "cross-entropy", 0.5),
    ],
)
def test_the_loss_is_the_file_s_or_inferred(write, dimensions, loss, logq):
    fixed = make_official_space(write(dimensions)).fixed
    assert (fixed["loss_fn"], fixed["logq"]) == (loss, logq)


def test_a_searched_loss_decides_which_of_its_parameters_exist(write):
    both = one("loss", "categorical", ["bpr-max", "cross-entropy"])
    space = make_official_space(write([one("bpreg", "float", [0, 2]), one("logq", "float", [0, 1]), both]))
    assert [dimension.name for dimension in space.dimensions] == ["loss_fn", "bpreg", "logq"]
    assert "loss_fn" not in space.fixed
    points = [space.suggest(optuna.create_study().ask()) for _ in range(20)]
    assert all(("logq" in point) == (point["loss_fn"] == "cross-entropy") for point in points)


def test_layers_as_options(write):
    space = make_official_space(write([one("layers", "categorical", ["64/64", "128/128", [64, 64]])]))
    assert space.dimensions == (Dimension("hidden_size", "choice", options=(64, 128)),)
    assert space.fixed["num_layers"] == 2
    assert "hidden_size" not in space.fixed


def test_a_step_of_one_does_not_exclude_a_logarithm(write):
    space = make_official_space(write([one("n_sample", "int", [32.0, 2048.0], step=1, log=True)]))
    assert space.dimensions == (Dimension("num_negatives", "int", 32, 2048, log=True),)


@pytest.mark.parametrize(
    ("dimension", "problem"),
    [
        (one("n_epochs", "int", [5, 10]), "n_epochs cannot be searched; set search.max_epochs"),
        (one("embedding", "categorical", [0, "layersize"]), "embedding cannot be searched; set embedding, and num"),
        (one("constrained_embedding", "categorical", [True]), "constrained_embedding cannot be searched; set emb"),
        (one("layer", "int", [1, 2]), "unknown parameter of a space 'layer'; did you mean 'layers'?"),
        (one("momentum", "float", [0, 1]), "momentum must be in [0, 1), got 1.0"),
        (one("momentum", "categorical", [0.5, "x"]), "momentum must be a number, got 'x'"),
        (one("batch_size", "int", [0, 64]), "batch_size must be a whole number >= 1, got 0"),
        (one("batch_size", "float", [16, 64]), "batch_size must be a whole number >= 1, got 16.0"),
        (one("batch_size", "int", [16.5, 64]), "batch_size is int: values and step must be whole numbers, got 16.5"),
        (one("batch_size", "int", [16, 64], step=0.5), "batch_size is int: values and step must be whole numbers, got"),
        (one("loss", "int", [0, 1]), "loss must be one of cross-entropy, top1, top1-max, bpr, bpr-max, got 0"),
        (one("loss", "categorical", ["bpr", "ce"]), "loss must be one of cross-entropy, bpr-max,"),
        (one("layers", "categorical", ["64", "64/64"]), "layers must be as many in each option and of the same size"),
        (one("layers", "categorical", ["64/32"]), "layers must be as many in each option and of the same size"),
        (one("bpreg", "float", [0, 2], log=True), "bpreg: log needs values > 0 and no step, got [0, 2]"),
        (one("bpreg", "float", [1, 2], log=True, step=0.5), "bpreg: log needs values > 0 and no step, got [1, 2]"),
    ],
)  # fmt: skip
def test_bad_dimensions(write, dimension, problem):
    with pytest.raises(ParameterError) as caught:
        make_official_space(write([dimension]))
    assert str(caught.value).startswith(f"space.json: line 1: {problem}")


def test_all_problems_are_reported_together(write):
    with pytest.raises(ParameterError, match=r"^space.json: line 1: n_epochs .*; line 2: momentum must"):
        make_official_space(write([one("n_epochs", "int", [5, 10]), one("momentum", "float", [0, 1])]))


# --- in search.toml --------------------------------------------------------------------------------------------------


def test_a_specification_names_the_file(write, spec):
    expected = make_official_space(write(BPR_MAX))
    assert spec('[space]\nofficial = "space.json"\n') == expected


def test_the_option_replaces_the_space(write, spec):
    text = '[space]\npreset = "quick"\n[space.hidden_size]\ntype = "int"\nlow = 8\nhigh = 16\n'
    assert spec(text, write(BPR_MAX)) == make_official_space(write(BPR_MAX))


def test_own_ranges_and_constants_go_before_the_file_s(write, spec):
    write(BPR_MAX)
    text = (
        '[space]\nofficial = "space.json"\n[space.momentum]\ntype = "float"\nlow = 0\nhigh = 0.5\n'
        '[fixed]\nbatch_size = 32\nembedding = "none"\n'
    )
    space = spec(text)
    names = {dimension.name for dimension in space.dimensions}
    assert names == {"hidden_size", "dropout_embedding", "elu_param", "learning_rate", "momentum"}
    assert (space.fixed["batch_size"], space.fixed["embedding"]) == (32, "none")


def test_the_loss_of_the_specification_goes_before_the_inferred_one(write, spec):
    path = write(BPR_MAX)
    assert spec('[fixed]\nloss_fn = "cross-entropy"\n', path).fixed["loss_fn"] == "cross-entropy"
    text = '[space.loss_fn]\ntype = "choice"\noptions = ["cross-entropy", "bpr-max"]\n'
    searched = spec(text, path)
    assert Dimension("loss_fn", "choice", options=("cross-entropy", "bpr-max")) in searched.dimensions
    assert "loss_fn" not in searched.fixed


def test_what_is_written_out_needs_the_file_no_more(write, spec, tmp_path):
    path = write(BPR_MAX)
    space = spec("", path)
    text = render_spec(read_spec(tmp_path / "search.toml", path))
    path.unlink()
    assert "official" not in text
    assert spec(text) == space


def test_every_point_is_valid(write, spec):
    space = spec("", write(BPR_MAX))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(30):
        point = space.suggest(study.ask())
        assert HyperParameters.from_dict(point).to_dict().items() >= point.items()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[space]\nofficial = "none.json"\n', "search.toml: space.official: {folder}/none.json cannot be read"),
        ("[space]\nofficial = 3\n", "search.toml: space.official must be text, got 3"),
        (
            '[space]\nofficial = "space.json"\npreset = "full"\n',
            "search.toml: space.preset='full' and space.official='space.json' exclude each other",
        ),
        ('[space]\nofficial = "search.toml"\n', "search.toml: space.official: search.toml: line 1 is not JSON: "),
    ],
)  # fmt: skip
def test_bad_specifications(write, spec, tmp_path, text, problem):
    write(BPR_MAX)
    with pytest.raises(SpecificationError) as caught:
        spec(text)
    assert str(caught.value).startswith(problem.format(folder=tmp_path))

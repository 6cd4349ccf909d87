"""Spaces to start from, by name, and the known-good settings that a search tries first."""

from __future__ import annotations

from collections.abc import Mapping

from gru4rec.presets import PRESETS as PUBLISHED
from gru4rec.presets import preset
from tuning.space import Dimension, Space, Value

Condition = Mapping[str, tuple[Value, ...]]
BPR_MAX: Condition = {"loss_fn": ("bpr-max",)}
CROSS_ENTROPY: Condition = {"loss_fn": ("cross-entropy",)}
ADAGRAD: Condition = {"optimization_algorithm": ("adagrad",)}
SGD: Condition = {"optimization_algorithm": ("sgd",)}

LOSS_PARAMETERS = (
    Dimension("bpreg", "float", 0.0, 2.0, step=0.05, when=BPR_MAX),
    Dimension("elu_param", "choice", options=(0.0, 0.5, 1.0), when=BPR_MAX),
    Dimension("logq", "choice", options=(0.0, 1.0), when=CROSS_ENTROPY),
)
HIDDEN_SIZE = Dimension("hidden_size", "int", 64, 256, step=32)
BATCH_SIZE = Dimension("batch_size", "int", 32, 256, step=16)
NUM_NEGATIVES = Dimension("num_negatives", "int", 128, 2048, log=True)
TRAINING = (
    Dimension("sample_alpha", "float", 0.0, 1.0, step=0.1),
    Dimension("learning_rate", "float", 0.01, 0.3, log=True),
    Dimension("momentum", "float", 0.0, 0.8, step=0.05),
    Dimension("dropout_embedding", "float", 0.0, 0.5, step=0.05),
    Dimension("dropout_hidden", "float", 0.0, 0.5, step=0.05),
)
# The authors' code has no clipping and this epsilon, for batches of 32 to 256.
AS_PUBLISHED: Mapping[str, Value | None] = {"clipnorm": None, "epsilon": 1e-6}
ONE_TABLE: Mapping[str, Value | None] = {"embedding": "tied", "num_layers": 1, **AS_PUBLISHED}

OF_A_POINT = (
    "loss_fn", "embedding", "num_layers", "hidden_size", "batch_size", "num_negatives", "sample_alpha", "learning_rate",
    "momentum", "dropout_embedding", "dropout_hidden", "bptt",
)  # fmt: skip


def _published(data_set: str) -> Mapping[str, Value]:
    values = preset(data_set).to_dict()
    of_the_loss = [dimension.name for dimension in LOSS_PARAMETERS if dimension.active(values)]
    return {name: values[name] for name in (*OF_A_POINT, *of_the_loss)}


# The first two did well on short click logs, as benchmarks/RESULTS.md tells; then the published ones, small ones first.
KNOWN_GOOD: tuple[Mapping[str, Value], ...] = (
    {
        "loss_fn": "bpr-max", "embedding": "tied", "num_layers": 1, "hidden_size": 96, "batch_size": 48,
        "num_negatives": 768, "sample_alpha": 0.2, "learning_rate": 0.1, "momentum": 0.0, "dropout_embedding": 0.4,
        "dropout_hidden": 0.2, "bptt": 1, "bpreg": 1.0, "elu_param": 0.5,
    },
    {
        "loss_fn": "cross-entropy", "embedding": "tied", "num_layers": 1, "hidden_size": 128, "batch_size": 64,
        "num_negatives": 1024, "sample_alpha": 0.5, "learning_rate": 0.1, "momentum": 0.0, "dropout_embedding": 0.0,
        "dropout_hidden": 0.2, "bptt": 1, "logq": 1.0,
    },
    *(_published(name) for name in sorted(PUBLISHED, key=lambda name: preset(name).hidden_size)),
)  # fmt: skip


def _one_loss(name: str, condition: Condition) -> Space:
    """Return the space of one loss with one tied table: what the published settings are."""
    own = tuple(
        Dimension(d.name, d.kind, d.low, d.high, d.step, d.log, d.options)
        for d in LOSS_PARAMETERS
        if d.when == condition
    )
    return Space((HIDDEN_SIZE, BATCH_SIZE, NUM_NEGATIVES, *TRAINING, *own), {"loss_fn": name, **ONE_TABLE}, KNOWN_GOOD)


PRESETS: dict[str, Space] = {
    "quick": Space(
        (
            Dimension("loss_fn", "choice", options=("cross-entropy", "bpr-max")),
            Dimension("hidden_size", "int", 64, 160, step=32),
            Dimension("batch_size", "int", 32, 128, step=16),
            Dimension("num_negatives", "int", 256, 1024, log=True),
            *TRAINING,
            *LOSS_PARAMETERS,
        ),
        ONE_TABLE,
        KNOWN_GOOD,
    ),
    "full": Space(
        (
            Dimension("loss_fn", "choice", options=("cross-entropy", "top1", "top1-max", "bpr", "bpr-max")),
            Dimension("num_layers", "int", 1, 2),
            HIDDEN_SIZE,
            Dimension("embedding", "choice", options=("tied", "separate")),
            Dimension("num_components", "int", 64, 256, step=32, when={"embedding": ("separate",)}),
            BATCH_SIZE,
            NUM_NEGATIVES,
            Dimension("bptt", "choice", options=(1, 2, 4)),
            *TRAINING,
            *LOSS_PARAMETERS,
        ),
        AS_PUBLISHED,
        KNOWN_GOOD,
    ),
    "bpr-max": _one_loss("bpr-max", BPR_MAX),
    "cross-entropy": _one_loss("cross-entropy", CROSS_ENTROPY),
    # The parameters that recpack's GRU4RecNegSampling has, and no others.
    "recpack": Space(
        (
            Dimension("loss_fn", "choice", options=("top1", "top1-max", "bpr", "bpr-max")),
            Dimension("num_layers", "int", 1, 2),
            HIDDEN_SIZE,
            Dimension("num_components", "int", 64, 256, step=32),
            Dimension("dropout", "float", 0.0, 0.5, step=0.05),
            Dimension("optimization_algorithm", "choice", options=("adagrad", "sgd")),
            Dimension("learning_rate", "float", 0.01, 0.3, log=True, when=ADAGRAD),
            Dimension("learning_rate", "float", 0.03, 3.0, log=True, when=SGD),
            Dimension("momentum", "float", 0.0, 0.8, step=0.05, when=ADAGRAD),
            Dimension("momentum", "float", 0.0, 0.95, step=0.05, when=SGD),
            Dimension("clipnorm", "float", 0.1, 10.0, log=True),
            Dimension("bptt", "choice", options=(1, 2, 4)),
            Dimension("num_negatives", "int", 50, 2048, log=True),
            Dimension("batch_size", "int", 32, 512, step=32),
        ),
    ),
}

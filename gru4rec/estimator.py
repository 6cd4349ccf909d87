"""The estimators: recpack's GRU4Rec parameters and names, as scikit-learn estimators on session logs."""

from __future__ import annotations

import hashlib
import inspect
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from gru4rec.data.reading import read_log
from gru4rec.data.sessions import Sessions
from gru4rec.errors import ParameterError, unknown_name
from gru4rec.fitting import EpochRecord, align_validation, fit_trainer
from gru4rec.hyperparameters import NAMES, HyperParameters
from gru4rec.model import DEFAULT_METRICS, Evaluation, Model, Recommendations
from gru4rec.model_folder import load_model, save_model
from gru4rec.stopping import StoppingCriterion
from gru4rec.training import Trainer

Log = Sessions | pd.DataFrame


class GRU4Rec(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both estimators share. X and validation data are `Sessions`, or DataFrames with SessionId, ItemId, Time."""

    def fit(self, X: Log, validation_data: Log | None = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Train on the sessions of X.

        Parameters
        ----------
        X : Sessions or DataFrame
        validation_data : Sessions or DataFrame, optional
            After each epoch the next item of every step is ranked among all items; the best epoch's weights are kept
            unless `keep_last`. Events with items that X lacks are left out.

        Returns
        -------
        self
            With `model_`, `history_` (a record per epoch), `best_epoch_`, `seed_` and `num_items_`.

        Raises
        ------
        ParameterError
            When a parameter is out of range.
        DataError
            When X or the validation data hold nothing to learn from or to rank.
        DivergedError
            When the loss becomes NaN or infinite.
        """
        params = self.get_params(deep=False)
        criterion = StoppingCriterion(
            params["stopping_criterion"], params["max_iter_no_change"], params["min_improvement"]
        )
        hyperparameters = self._hyperparameters(params)
        train = _sessions(X).with_own_items()
        seed = params["seed"]
        self.seed_: int = secrets.randbits(63) if seed is None else seed
        trainer = Trainer(hyperparameters, train, seed=self.seed_, device=resolve_device(params["device"]))
        validation = self._validation(validation_data, train, params["validation_sample_size"])
        result = fit_trainer(
            trainer,
            params["max_epochs"],
            validation,
            criterion=criterion,
            stop_early=params["stop_early"],
            keep_last=params["keep_last"],
            metrics=DEFAULT_METRICS,
        )
        self.history_: list[EpochRecord] = result.epochs
        self.best_epoch_ = result.best_epoch
        self.num_items_ = train.num_items
        metrics = {"seed": self.seed_, "epoch": result.best_epoch, "validation": self._metrics_of(result.best_epoch)}
        self.model_ = Model(trainer.network, train.items, metrics)
        if params["save_best_to_file"]:
            self.save()
        return self

    def recommend(self, sessions: Log, k: int = 20, exclude_seen: bool = False) -> Recommendations:
        """Return the k best next items of each session; see `Model.recommend`."""
        check_is_fitted(self, "model_")
        return self.model_.recommend(_sessions(sessions), k, exclude_seen)

    def evaluate(self, sessions: Log) -> Evaluation:
        """Rank the next item of every step of every session; see `Model.evaluate`."""
        check_is_fitted(self, "model_")
        return self.model_.evaluate(_sessions(sessions))

    def predict(self, X: Log) -> sparse.csr_matrix:  # noqa: N803 - scikit-learn's name
        """Return next-item scores, shape (sessions of X, items of the model), of the `predict_topK` best items each.

        Scores are shifted so that the lowest kept one of a row is just above zero: what is stored is what ranks.
        """
        check_is_fitted(self, "model_")
        sessions = _sessions(X)
        k = self.get_params(deep=False)["predict_topK"]
        if k is not None and k < 1:
            raise ParameterError(f"predict_topK must be a whole number >= 1 or None, got {k!r}")
        numbered = replace(sessions, session_ids=np.arange(sessions.num_sessions))  # a log may hold an id twice
        table = self.model_.recommend(numbered, self.num_items_ if k is None else k).table
        numbers = table["session"].to_numpy()
        scores = table["score"].to_numpy(dtype=np.float64)
        lowest = pd.Series(scores).groupby(numbers).transform("min").to_numpy()
        columns = self.model_.items.encode(table["item"].to_numpy())
        return sparse.csr_matrix(
            (scores - lowest + 1e-6, (numbers, columns)), shape=(sessions.num_sessions, self.num_items_)
        )

    def save(self) -> Path:
        """Write the model folder `filename`, replacing an earlier one."""
        check_is_fitted(self, "model_")
        return save_model(self.model_, self.filename, overwrite=True)

    def load(self, filename: str | Path) -> Self:
        """Become the fitted estimator of a model folder.

        Raises
        ------
        ModelFolderError
            When the folder is damaged or of an unknown format version.
        """
        self.model_ = load_model(filename, resolve_device(self.get_params(deep=False)["device"]))
        known = self.get_params(deep=False)
        loaded = self.model_.hyperparameters.to_dict()
        self.set_params(**{name: value for name, value in loaded.items() if name in known})
        self.num_items_ = len(self.model_.items)
        return self

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    @property
    def identifier(self) -> str:
        """The call that makes an equal estimator, e.g. 'GRU4RecNegSampling(num_layers=1, ...)'."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params(deep=False).items())
        return f"{self.name}({arguments})"

    @property
    def filename(self) -> str:
        """Name of the folder that `save` writes: the class, and a digest of the parameters."""
        return f"{self.name}-{hashlib.sha256(self.identifier.encode()).hexdigest()[:12]}"

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Raises
        ------
        ParameterError
            On an unknown name, with the nearest one.
        """
        known = list(inspect.signature(type(self)).parameters)
        for name in params:
            if name not in known:
                raise ParameterError(unknown_name(name, known, f"parameter of {self.name}"))
        return cast("Self", super().set_params(**params))

    def _hyperparameters(self, params: dict[str, Any]) -> HyperParameters:
        return HyperParameters(**{name: value for name, value in params.items() if name in NAMES})

    def _validation(self, data: Log | None, train: Sessions, sample_size: int | None) -> Sessions | None:
        if sample_size is not None and sample_size < 1:
            raise ParameterError(f"validation_sample_size must be a whole number >= 1 or None, got {sample_size!r}")
        if data is None:
            return None
        known = align_validation(_sessions(data), train)
        if sample_size is None or sample_size >= known.num_sessions:
            return known
        chosen = np.zeros(known.num_sessions, dtype=bool)
        chosen[np.random.default_rng(self.seed_).choice(known.num_sessions, sample_size, replace=False)] = True
        return known.select_sessions(chosen)

    def _metrics_of(self, epoch: int) -> dict[str, float]:
        return {key: value for key, value in self.history_[epoch - 1].items() if "@" in key}


class GRU4RecNegSampling(GRU4Rec):
    """GRU4Rec trained on sampled negatives; positional parameters and their defaults are recpack's.

    Parameters
    ----------
    num_layers, hidden_size, num_components, dropout, loss_fn, optimization_algorithm, momentum, clipnorm, bptt,
    num_negatives, batch_size, learning_rate, embedding, negatives, sample_alpha, dropout_embedding, dropout_hidden,
    bpreg, elu_param, logq
        See `HyperParameters`. With loss_fn='cross-entropy' it is the sampled softmax.
    max_epochs : int
        Passes over the training log.
    stopping_criterion : str
        Validation metric that says which epoch is best: 'recall', 'mrr' or 'ndcg' (at 50), or with a cut-off, e.g.
        'recall@20'.
    stop_early : bool
        Stop after `max_iter_no_change` epochs in a row that do not improve the criterion by more than
        `min_improvement`.
    max_iter_no_change : int
    min_improvement : float
    seed : int, optional
        None draws one; the one used is `seed_` after fit.
    save_best_to_file : bool
        Call `save` at the end of fit.
    keep_last : bool
        Keep the last epoch's weights, not those of the best.
    predict_topK : int, optional
        Items kept per row by `predict`; None keeps all.
    validation_sample_size : int, optional
        Validation sessions to use, drawn once per fit; None uses all.
    device : str
        'auto' takes a GPU where there is one.

    References
    ----------
    Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016. Hidasi & Karatzoglou,
    "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM 2018.
    """

    def __init__(
        self,
        num_layers: int = 1,
        hidden_size: int = 100,
        num_components: int = 250,
        dropout: float = 0.0,
        loss_fn: str = "bpr",
        optimization_algorithm: str = "adagrad",
        momentum: float = 0.0,
        clipnorm: float | None = 1.0,
        bptt: int = 1,
        num_negatives: int = 50,
        batch_size: int = 512,
        max_epochs: int = 5,
        learning_rate: float = 0.03,
        stopping_criterion: str = "recall",
        stop_early: bool = False,
        max_iter_no_change: int = 5,
        min_improvement: float = 0.0,
        seed: int | None = None,
        save_best_to_file: bool = False,
        keep_last: bool = False,
        predict_topK: int | None = None,  # noqa: N803 - recpack's name
        validation_sample_size: int | None = None,
        *,
        embedding: str = "separate",
        negatives: str = "shared",
        sample_alpha: float = 0.5,
        dropout_embedding: float | None = None,
        dropout_hidden: float | None = None,
        bpreg: float = 1.0,
        elu_param: float = 0.5,
        logq: float = 1.0,
        device: str = "auto",
    ) -> None:
        self.num_layers = num_layers
        self.hidden_size = hidden_size
        self.num_components = num_components
        self.dropout = dropout
        self.loss_fn = loss_fn
        self.optimization_algorithm = optimization_algorithm
        self.momentum = momentum
        self.clipnorm = clipnorm
        self.bptt = bptt
        self.num_negatives = num_negatives
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.stopping_criterion = stopping_criterion
        self.stop_early = stop_early
        self.max_iter_no_change = max_iter_no_change
        self.min_improvement = min_improvement
        self.seed = seed
        self.save_best_to_file = save_best_to_file
        self.keep_last = keep_last
        self.predict_topK = predict_topK
        self.validation_sample_size = validation_sample_size
        self.embedding = embedding
        self.negatives = negatives
        self.sample_alpha = sample_alpha
        self.dropout_embedding = dropout_embedding
        self.dropout_hidden = dropout_hidden
        self.bpreg = bpreg
        self.elu_param = elu_param
        self.logq = logq
        self.device = device


class GRU4RecCrossEntropy(GRU4Rec):
    """GRU4Rec trained with the full softmax over all items; parameters as of `GRU4RecNegSampling`, without sampling."""

    def __init__(
        self,
        num_layers: int = 1,
        hidden_size: int = 100,
        num_components: int = 250,
        dropout: float = 0.0,
        optimization_algorithm: str = "adagrad",
        momentum: float = 0.0,
        clipnorm: float | None = 1.0,
        bptt: int = 1,
        batch_size: int = 512,
        max_epochs: int = 5,
        learning_rate: float = 0.03,
        stopping_criterion: str = "recall",
        stop_early: bool = False,
        max_iter_no_change: int = 5,
        min_improvement: float = 0.0,
        seed: int | None = None,
        save_best_to_file: bool = False,
        keep_last: bool = False,
        predict_topK: int | None = None,  # noqa: N803 - recpack's name
        validation_sample_size: int | None = None,
        *,
        embedding: str = "separate",
        dropout_embedding: float | None = None,
        dropout_hidden: float | None = None,
        device: str = "auto",
    ) -> None:
        self.num_layers = num_layers
        self.hidden_size = hidden_size
        self.num_components = num_components
        self.dropout = dropout
        self.optimization_algorithm = optimization_algorithm
        self.momentum = momentum
        self.clipnorm = clipnorm
        self.bptt = bptt
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.stopping_criterion = stopping_criterion
        self.stop_early = stop_early
        self.max_iter_no_change = max_iter_no_change
        self.min_improvement = min_improvement
        self.seed = seed
        self.save_best_to_file = save_best_to_file
        self.keep_last = keep_last
        self.predict_topK = predict_topK
        self.validation_sample_size = validation_sample_size
        self.embedding = embedding
        self.dropout_embedding = dropout_embedding
        self.dropout_hidden = dropout_hidden
        self.device = device

    def _hyperparameters(self, params: dict[str, Any]) -> HyperParameters:
        return super()._hyperparameters({**params, "loss_fn": "cross-entropy", "num_negatives": "all"})


def resolve_device(device: str) -> torch.device:
    """Turn 'auto' into a GPU where there is one, else the CPU.

    Raises
    ------
    ParameterError
        When torch knows no such device, or this machine has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ParameterError(
            f"device must be 'auto' or a torch device such as 'cpu' or 'cuda:0', got {device!r}"
        ) from None
    try:
        torch.Generator(resolved)
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError):
        raise ParameterError(f"device {device!r} cannot be used on this machine", "use 'auto' or 'cpu'") from None
    return resolved


def _sessions(log: Log) -> Sessions:
    if isinstance(log, Sessions):
        return log
    if isinstance(log, pd.DataFrame):
        return read_log(log)
    raise TypeError(f"expected Sessions or a DataFrame with a row per event, got {type(log).__name__}")

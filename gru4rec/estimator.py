"""The estimators: recpack's GRU4Rec parameters and names, as scikit-learn estimators on session logs."""

from __future__ import annotations

import hashlib
import inspect
import secrets
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from gru4rec.data.interactions import Interactions, check_interactions, is_interactions, read_interactions
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import ItemVocabulary, Sessions, sample_sessions
from gru4rec.device import cpu_threads, resolve_device
from gru4rec.errors import DataError, ParameterError, unknown_name
from gru4rec.fitting import EpochRecord, Validation, align_validation, fit_trainer
from gru4rec.hyperparameters import NAMES, HyperParameters, Integer
from gru4rec.model import DEFAULT_METRICS, Evaluation, Model, Recommendations
from gru4rec.model_folder import load_model, save_model
from gru4rec.stopping import StoppingCriterion, StoppingRule
from gru4rec.training import Trainer

Log = Sessions | pd.DataFrame | Interactions
Method = TypeVar("Method", bound=Callable[..., Any])


def _on_own_threads(method: Method) -> Method:
    """Let torch use as many threads as the estimator says while the method runs."""

    @wraps(method)
    def limited(self: GRU4Rec, *args: Any, **kwargs: Any) -> Any:
        threads = self.get_params(deep=False)["threads"]
        if expected := Integer(1).problem(threads):
            raise ParameterError(f"threads must be {expected}, got {threads!r}")
        with cpu_threads(threads):
            return method(self, *args, **kwargs)

    return cast("Method", limited)


class GRU4Rec(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both estimators share.

    A log is `Sessions`, a DataFrame with SessionId, ItemId and Time, or an InteractionMatrix as of recpack, whose users
    are then the sessions.
    """

    @_on_own_threads
    def fit(self, X: Log, validation_data: Log | tuple[Interactions, Interactions] | None = None) -> Self:  # noqa: N803
        """Train on the sessions of X, or on the histories of its users.

        Parameters
        ----------
        X : Sessions, DataFrame or InteractionMatrix
        validation_data : Sessions or DataFrame, or two InteractionMatrix objects, optional
            After each epoch `stopping_criterion` is computed on it, and the best epoch's weights are kept unless
            `keep_last`. Of sessions the next item of every step is ranked among all items, and items that X lacks are
            left out. Of two matrices (in, out) the first is the histories to predict from, the second what is true.

        Returns
        -------
        self
            With `model_`, `history_` (a record per epoch), `best_epoch_`, `seed_`, and `num_items_`: the items of
            the model, or the columns of the matrix.

        Raises
        ------
        ParameterError
            When a parameter is out of range.
        DataError
            When X or the validation data hold nothing to learn from or to rank.
        TypeError
            When X or the validation data are something else, a csr matrix in particular, or do not go together.
        ValueError
            When matrices lack timestamps or differ in shape.
        DivergedError
            When the loss becomes NaN or infinite.
        """
        params = self._plain_params()
        rule = StoppingRule(params["stopping_criterion"], params["max_iter_no_change"], params["min_improvement"])
        hyperparameters = self._hyperparameters(params)
        num_columns = None
        if is_interactions(X):
            num_columns = check_interactions(X=X, **_named_pair(validation_data))[1]
        train = _sessions(X).with_own_items()
        if num_columns is None and isinstance(validation_data, (tuple, list)):
            raise TypeError(
                f"validation_data of {type(X).__name__} must be Sessions or a DataFrame, got "
                f"{type(validation_data).__name__}"
            )
        seed = params["seed"]
        self.seed_: int = secrets.randbits(63) if seed is None else seed
        trainer = Trainer(hyperparameters, train, seed=self.seed_, device=resolve_device(params["device"]))
        model = Model.of_log(trainer.network, train, num_columns=num_columns)
        result = fit_trainer(
            trainer,
            params["max_epochs"],
            self._validation(validation_data, model, train, rule, params["validation_sample_size"]),
            criterion=rule,
            stop_early=params["stop_early"],
            keep_last=params["keep_last"],
            metrics=DEFAULT_METRICS,
        )
        self.history_: list[EpochRecord] = result.epochs
        self.best_epoch_ = result.best_epoch
        record = result.epochs[result.best_epoch - 1]
        best = {key: record[key] for key in dict.fromkeys([rule.metric, *DEFAULT_METRICS]) if key in record}
        metrics = {"seed": self.seed_, "epoch": result.best_epoch, "validation": best}
        self._become(replace(model, metrics=metrics))
        if params["save_best_to_file"]:
            self.save()
        return self

    @_on_own_threads
    def recommend(self, sessions: Log, k: int = 20, exclude_seen: bool = False) -> Recommendations:
        """Return the k best next items of each session; see `Model.recommend`."""
        check_is_fitted(self, "model_")
        return self.model_.recommend(_sessions(sessions, "sessions"), k, exclude_seen)

    def evaluate(self, sessions: Log) -> Evaluation:
        """Rank the next item of every step of every session; see `Model.evaluate`."""
        check_is_fitted(self, "model_")
        return self.model_.evaluate(_sessions(sessions, "sessions"))

    @_on_own_threads
    def predict(self, X: Log) -> sparse.csr_matrix:  # noqa: N803 - scikit-learn's name
        """Return the score of each next item, of the `predict_topK` best ones only where it is set.

        Parameters
        ----------
        X : Sessions, DataFrame or InteractionMatrix
            Histories; what they hold beyond the items of the training log is left out.

        Returns
        -------
        csr_matrix
            Of an InteractionMatrix: of its shape. Of a log: a row per session in order of their start, a column per
            item of the model, or of the matrix that was fitted. Scores may be negative, so what is not stored is not a
            score of 0. Rows without a known item are empty; a warning counts those that have a history.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ParameterError
            When `predict_topK` is less than 1.
        ValueError
            When the number of columns is not that of the matrix that was fitted.
        """
        check_is_fitted(self, "model_")
        k = self.get_params(deep=False)["predict_topK"]
        if expected := Integer(1, words=(None,)).problem(k):
            raise ParameterError(f"predict_topK must be {expected}, got {k!r}")
        if not is_interactions(X):
            histories = _sessions(X)
            numbered = replace(histories, session_ids=np.arange(histories.num_sessions))
            of_log = self.model_.num_columns is None
            columns = ItemVocabulary(np.arange(self.num_items_)) if of_log else self.model_.items
            return self._predict(self.model_, numbered, columns, (histories.num_sessions, self.num_items_), k)
        shape = check_interactions(X=X)
        if self.model_.num_columns is None:
            raise ValueError(
                "X is an InteractionMatrix, but the model was fitted on a log, whose items have no columns"
            )
        if shape[1] != self.num_items_:
            raise ValueError(f"X has shape {shape}, but the model was fitted on {self.num_items_} items (columns)")
        if X.values.nnz == 0:
            return sparse.csr_matrix(shape)
        return self._predict(self.model_, read_interactions(X), self.model_.items, shape, k)

    def _predict(
        self, model: Model, histories: Sessions, columns: ItemVocabulary, shape: tuple[int, int], k: int | None
    ) -> sparse.csr_matrix:
        """Return the scores of histories whose session ids are row numbers; `columns.ids` has each item's column."""
        known, _ = histories.with_items_of(model.items)
        if known.num_sessions < histories.num_sessions:
            missing = histories.num_sessions - known.num_sessions
            warnings.warn(
                f"{self.name} made no recommendation for {missing} of {histories.num_sessions} users: none of their "
                "items is in the training log",
                stacklevel=4,
            )
        items, scores = model.best_items(known, len(model.items) if k is None else k)
        scores[scores == 0.0] = np.finfo(np.float32).tiny  # a score of 0 would look like none
        rows = np.repeat(known.session_ids, items.shape[1])
        return sparse.csr_matrix((scores.ravel(), (rows, columns.ids[items.ravel()])), shape=shape)

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
        known = self.get_params(deep=False)
        model = load_model(filename, resolve_device(known["device"]))
        loaded = model.hyperparameters.to_dict()
        self.set_params(**{name: value for name, value in loaded.items() if name in known})
        for name in ("history_", "best_epoch_", "seed_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self._become(model)
        return self

    def _become(self, model: Model) -> None:
        self.model_ = model
        self.num_items_ = len(model.items) if model.num_columns is None else model.num_columns

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    @property
    def identifier(self) -> str:
        """The call that makes an equal estimator, e.g. 'GRU4RecNegSampling(num_layers=1, ...)'."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._plain_params().items())
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

    def _plain_params(self) -> dict[str, Any]:
        """Return the parameters; numbers of numpy, as a grid may hold, become Python's."""
        params = self.get_params(deep=False)
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}

    def _hyperparameters(self, params: dict[str, Any]) -> HyperParameters:
        return HyperParameters(**{name: value for name, value in params.items() if name in NAMES})

    def _validation(
        self, data: Any, model: Model, train: Sessions, rule: StoppingRule, sample_size: int | None
    ) -> Validation | None:
        if expected := Integer(1, words=(None,)).problem(sample_size):
            raise ParameterError(f"validation_sample_size must be {expected}, got {sample_size!r}")
        if data is None:
            return None
        if isinstance(data, (tuple, list)):
            return self._matrix_validation(model, data[0], data[1], rule, sample_size)
        if rule.minimize:
            raise ParameterError(f"stopping_criterion {rule.metric!r} needs validation data as a pair of matrices")
        known = align_validation(_sessions(data, "validation_data"), train)
        return sample_sessions(known, sample_size, self.seed_)

    def _matrix_validation(
        self, model: Model, histories: Interactions, true: Interactions, rule: StoppingRule, sample_size: int | None
    ) -> Validation:
        shape = check_interactions(**{"validation_data[0]": histories, "validation_data[1]": true})
        has_true = np.asarray(true.values.sum(axis=1)).ravel() > 0
        sessions = read_interactions(histories)
        sessions = sessions.select_sessions(has_true[sessions.session_ids])
        if sessions.num_sessions == 0:
            raise DataError("no user has both a history in validation_data[0] and a true item in validation_data[1]")
        sessions = sample_sessions(sessions, sample_size, self.seed_)
        chosen = np.zeros(shape[0], dtype=bool)
        chosen[sessions.session_ids] = True
        expected = sparse.csr_matrix(true.values[chosen])
        criterion = StoppingCriterion.from_rule(rule)

        def validate(_: Trainer) -> dict[str, float]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # users without known items count against the model, each epoch anew
                predicted = self._predict(model, sessions, model.items, shape, criterion.kwargs.get("k"))
            return {rule.metric: criterion.evaluate(expected, predicted[chosen])}

        return validate


class GRU4RecNegSampling(GRU4Rec):
    """GRU4Rec trained on sampled negatives; positional parameters and their defaults are recpack's.

    Parameters
    ----------
    num_layers, hidden_size, num_components, dropout, loss_fn, optimization_algorithm, momentum, clipnorm, bptt,
    num_negatives, batch_size, learning_rate, embedding, negatives, sample_alpha, dropout_embedding, dropout_hidden,
    bpreg, elu_param, logq, logq_correction, mask_targets, epsilon
        See `HyperParameters`. With loss_fn='cross-entropy' it is the sampled softmax.
    max_epochs : int
        Passes over the training log.
    stopping_criterion : str
        Validation metric that says which epoch is best: 'recall', 'ndcg', 'precision' or 'mrr' (at 50), or with
        a cut-off, e.g. 'recall@20'; with a pair of matrices as validation data also 'bpr' and 'warp', minimised.
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
        Validation sessions to use, or users who have a history and something true, drawn once per fit; None uses all.
    device : str
        'auto' takes a GPU where there is one.
    threads : int
        CPU threads of torch in `fit`, `predict` and `recommend`. More than one pays for large layers, where cores idle.

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
        logq_correction: str = "published",
        mask_targets: bool = True,
        epsilon: float = 1e-12,
        device: str = "auto",
        threads: int = 1,
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
        self.logq_correction = logq_correction
        self.mask_targets = mask_targets
        self.epsilon = epsilon
        self.device = device
        self.threads = threads


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
        epsilon: float = 1e-12,
        device: str = "auto",
        threads: int = 1,
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
        self.epsilon = epsilon
        self.device = device
        self.threads = threads

    def _hyperparameters(self, params: dict[str, Any]) -> HyperParameters:
        return super()._hyperparameters({**params, "loss_fn": "cross-entropy", "num_negatives": "all"})


def _named_pair(validation_data: Any) -> dict[str, Any]:
    """Return the two matrices of validation data by the names that messages call them; none without any."""
    if validation_data is None:
        return {}
    if not (isinstance(validation_data, (tuple, list)) and len(validation_data) == 2):
        raise TypeError(
            "validation_data of an InteractionMatrix must be a pair (in, out) of InteractionMatrix objects, got "
            f"{type(validation_data).__name__}"
        )
    return {f"validation_data[{place}]": matrix for place, matrix in enumerate(validation_data)}


def _sessions(log: Any, name: str = "X") -> Sessions:
    if isinstance(log, Sessions):
        return log
    if isinstance(log, pd.DataFrame):
        return read_log(log)
    check_interactions(**{name: log})
    return read_interactions(log)

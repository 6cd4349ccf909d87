"""What is fuzzed: every reader of files that others wrote, as a function of the file's bytes.

The property, which `check` holds them to: any bytes give a valid object or a `GRU4RecError`, never another exception,
and never more memory than `allowed_bytes`. Seeds are small valid files, made here. `run.py` drives this with atheris,
`test_targets.py` without.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import resource
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import torch

from cluster.spec import read_cluster
from gru4rec.data.items import read_item_ids
from gru4rec.data.reading import read_log
from gru4rec.data.sessions import ItemVocabulary, Sessions
from gru4rec.errors import GRU4RecError, StorageError
from gru4rec.files import file_digest
from gru4rec.hyperparameters import HyperParameters
from gru4rec.model import Model
from gru4rec.model_folder import DIGESTS, FILES, load_model, save_model
from gru4rec.nn.network import Network, weight_shapes
from gru4rec.official import read_official
from gru4rec.recpack_file import load_recpack_model
from tuning.checkpoints import Checkpoints, file_name, folder_name
from tuning.confirm import Confirmation
from tuning.fingerprint import FINGERPRINT, compare_fingerprint, write_fingerprint
from tuning.journal import FINISHED, Journal, read_journal, repair_journal
from tuning.journal import TRIALS as BEGINNINGS
from tuning.official_space import make_official_space
from tuning.progress import TrialRecord
from tuning.result import EPOCHS, SEARCH, SPEC, TRIALS, SearchResult, load_result, write_result
from tuning.spec import SearchSpec, read_spec, render_spec

SPARE_BYTES, TIMES_INPUT = 2**27, 2**11


def allowed_bytes(size: int) -> int:
    """Return how much memory the reading of an input of that size may take, at its peak."""
    return SPARE_BYTES + TIMES_INPUT * size


@dataclass(frozen=True)
class Target:
    """One reader.

    Parameters
    ----------
    seeds : callable
        Valid inputs, written with the help of an empty folder.
    read : callable
        Reads an input, for which it has an empty folder or one that earlier calls left, and checks what comes out.
    share : int
        How many of all executions it gets, beside the shares of the others.
    """

    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path, bytes], None]
    share: int = 3


def check(target: Target, folder: Path, data: bytes) -> bool:
    """Hold a target to its promise for one input; return whether the input was accepted."""
    before = peak_bytes()
    try:
        target.read(folder, data)
        accepted = True
    except GRU4RecError as error:
        accepted = False
        if not 0 < len(str(error)) < 20_000:
            raise AssertionError(f"a message of {len(str(error)):,} characters") from error
    taken = peak_bytes() - before
    if taken > allowed_bytes(len(data)):
        raise AssertionError(f"{len(data):,} bytes took {taken:,} bytes of memory")
    return accepted


def peak_bytes() -> int:
    """Return the most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- logs ------------------------------------------------------------------------------------------------------------

LOGS = (
    b"SessionId,ItemId,Time\n1,7,10\n1,8,11\n2,7,12\n",
    b"SessionId,ItemId,Time\ns,a,2014-04-01T10:00:00Z\ns,b,2014-04-01T10:00:00.5+02:00\n",
    b'Time,x,ItemId,SessionId\n1.5,"a\n""b",007,1\n2e3,,9,"1"\n',
)


def log_target(suffix: str, compress: Callable[[bytes], bytes] = bytes, share: int = 3) -> Target:
    delimiter = b"\t" if suffix.startswith(".tsv") else b","
    return Target(
        lambda _: [compress(log.replace(b",", delimiter)) for log in LOGS],
        lambda folder, data: check_sessions(read_log(put(folder / f"log{suffix}", data))),
        share,
    )


def compress_zst(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def parquet_logs(_: Path) -> list[bytes]:
    times = pd.to_datetime(["2014-04-01", "2014-04-02", "2014-04-03"], utc=True)
    frames = [
        pd.DataFrame({"SessionId": [1, 1, 2], "ItemId": ["a", "b", "a"], "Time": [1.5, 2.0, 3.0]}),
        pd.DataFrame({"SessionId": ["s", "s", "t"], "ItemId": [1.0, 2.0, 1.0], "Time": times}),
        pd.DataFrame({"SessionId": [1, 1, 2], "ItemId": [7, 8, 7], "Time": ["1", "2", "3"]}),
    ]
    codecs = ("NONE", "snappy", "zstd")
    return [parquet_bytes(pa.Table.from_pandas(frame), codec) for frame, codec in zip(frames, codecs, strict=True)]


def parquet_bytes(table: pa.Table, codec: str = "NONE") -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink, compression=codec)
    return sink.getvalue()


def check_sessions(sessions: Sessions) -> None:
    sound = (
        sessions.num_events > 0
        and sessions.offsets[0] == 0
        and sessions.offsets[-1] == sessions.num_events == len(sessions.times)
        and (sessions.lengths > 0).all()
        and len(sessions.session_ids) == len(set(sessions.session_ids.tolist())) == sessions.num_sessions
        and len(set(sessions.items.ids.tolist())) == sessions.num_items
        and set(sessions.item_index.tolist()) == set(range(sessions.num_items))
        and np.isfinite(sessions.times).all()
        and (np.diff(sessions.start_times) >= 0).all()
    )
    if not sound:
        raise AssertionError(f"not a log: {sessions}")


# --- specifications --------------------------------------------------------------------------------------------------

SEARCHES = (
    b"""[data]
train = "train.csv"
validation = "s3://bucket/validation.parquet"
time_unit = "ms"
[search]
trials = 3
gpus_per_trial = 0.5
until = "recall@20=0.7"
objectives = ["parameters"]
confirm = "3x5"
[stopping]
metric = "mrr@10"
max_iter_no_change = 2
grace_period = "auto"
[fixed]
loss_fn = "cross-entropy"
clipnorm = "none"
[space.learning_rate]
type = "float"
low = 0.01
high = 0.1
log = true
[space.optimization_algorithm]
type = "choice"
options = ["adagrad", "sgd"]
[[space.momentum]]
type = "float"
low = 0.0
high = 0.5
step = 0.25
when = {optimization_algorithm = ["sgd"]}
[[points]]
learning_rate = 0.05
""",
    b'[space]\npreset = "full"\n[space.bptt]\ntype = "int"\nlow = 1\nhigh = 9\n',
)
CLUSTERS = (
    b"""name = "home"
backend = "local"
storage_path = "runs"
[head]
cpus = 0
[workers.small]
cpus = 2
min = 1
max = 2
price_per_hour = 0.5
[environment]
install = true
variables = {A = "b"}
[local]
object_store_bytes = 80000000
""",
    b'backend = "address"\nstorage_path = "s3://b/r"\n[address]\ndashboard = "http://127.0.0.1:8265"\n',
    b"""backend = "kuberay"
storage_path = "s3://b/r"
[workers.gpu]
gpus = 1
memory_gib = 16
spot = true
[kuberay]
image = "ray:1"
ray_version = "2.60.0"
namespace = "a"
node_selector = {a = "b"}
spot_tolerations = [{key = "spot", operator = "Exists", effect = "NoSchedule"}]
""",
    b"""backend = "slurm"
storage_path = "/runs"
[workers.cpu]
cpus = 4
[slurm]
partition = "p"
time_limit = "1-00:00:00"
sbatch = ["--nice=1"]
setup = ["module load x"]
port = 20000
""",
    b"""backend = "ray_up"
storage_path = "s3://b/r"
[workers.w]
machine = "m5.large"
[ray_up]
provider = "aws"
ssh_private_key = "key"
key_name = "key"
public_ssh = true
region = "eu-west-1"
disk_gib = 50
setup_commands = ["true"]
node_config = {A = 1}
""",
)
SPACES = (
    b'{"name": "learning_rate", "dtype": "float", "values": [0.01, 0.25], "step": 0.005}\n'
    b'{"name": "layers", "dtype": "categorical", "values": [[100], [200]]}\n'
    b'{"name": "batch_size", "dtype": "int", "values": [32, 512], "step": 32}\n',
    b'{"name": "bpreg", "dtype": "float", "values": [0.1, 2.0], "log": true}\n'
    b'{"name": "loss", "dtype": "categorical", "values": ["bpr-max", "cross-entropy"]}\n',
)
PARAMETERS = (
    b"from collections import OrderedDict\ngru4rec_params = OrderedDict([\n('loss', 'bpr-max'), ('layers', [100]),\n"
    b"('learning_rate', 0.05), ('n_epochs', 10), ('constrained_embedding', True), ('elu_param', 0.5)])\n",
    b"gru4rec_params = {'loss': 'cross-entropy', 'logq': 1.0, 'embedding': 'layersize'}\n",
    b"gru4rec_params = \\\r{'loss': 'bpr-max'}\r\n",  # ends of lines of an older kind
)


def check_search(folder: Path, data: bytes) -> None:
    """Read a search.toml; what it means can be written out, and read again."""
    with mock.patch("importlib.import_module", side_effect=ImportError):  # what a function would be imported from
        spec = read_spec(put(folder / "search.toml", data))
    written = render_spec(spec)
    if render_spec(read_spec(put(folder / "search.toml", written.encode()), try_out=False)) != written:
        raise AssertionError("another specification comes back")


def check_cluster(folder: Path, data: bytes) -> None:
    spec = read_cluster(put(folder / "cluster.toml", data))
    spec.slots(1, 0.5)


# --- models ----------------------------------------------------------------------------------------------------------


def make_model() -> Model:
    hyperparameters = HyperParameters(hidden_size=2, num_components=2)
    weights = {name: torch.ones(shape) for name, shape in weight_shapes(3, hyperparameters).items()}
    return Model(Network(3, hyperparameters, weights), ItemVocabulary(np.array([7, 8, 9])), {"recall@20": 0.5})


def model_target(name: str) -> Target:
    """Return the target that replaces one file of a model folder and, unless it is the digests, seals the folder."""

    def seeds(folder: Path) -> list[bytes]:
        return [(save_model(make_model(), folder / "seed") / name).read_bytes()]

    def read(folder: Path, data: bytes) -> None:
        path = folder / "model"
        if not path.exists():
            save_model(make_model(), path)
        put(path / name, data)
        if name != DIGESTS:
            lines = "".join(f"{file_digest(path / file)}  {file}\n" for file in FILES)
            put(path / DIGESTS, lines.encode())
        check_model(load_model(path))

    return Target(seeds, read)


def check_model(model: Model) -> None:
    """A model that was loaded recommends, or says that its scores are not finite."""
    ids = model.items.ids[:2]
    log = Sessions(
        np.arange(len(ids), dtype=np.int32), np.array([0, len(ids)]), np.zeros(len(ids)), ids[:1], model.items
    )
    model.recommend(log, k=2)


def recpack_seeds(folder: Path) -> list[bytes]:
    home = "recpack.algorithms.gru4rec"
    kind = type("GRU4RecTorch", (torch.nn.Module,), {"__module__": home})
    module: Any = kind()
    module.pad_token = 3
    module.drop, module.emb = torch.nn.Dropout(0.1), torch.nn.Embedding(4, 2, padding_idx=3)
    module.rnn, module.lin = torch.nn.GRU(2, 2, batch_first=True), torch.nn.Linear(2, 4)
    modules = {name: ModuleType(name) for name in ("recpack", "recpack.algorithms", home)}
    modules[home].GRU4RecTorch = kind  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, modules):
        torch.save(module, folder / "seed.trch")
    return [(folder / "seed.trch").read_bytes()]


def recpack_pickles(folder: Path) -> list[bytes]:
    recpack_seeds(folder)
    with zipfile.ZipFile(folder / "seed.trch") as archive:
        return [archive.read("seed/data.pkl")]


def check_recpack(folder: Path, data: bytes) -> None:
    check_model(load_recpack_model(put(folder / "old.trch", data)))


def check_recpack_pickle(folder: Path, data: bytes) -> None:
    if not (folder / "seed.trch").exists():
        recpack_seeds(folder)
    check_recpack(folder, with_pickle((folder / "seed.trch").read_bytes(), data))


def with_pickle(saved: bytes, data: bytes) -> bytes:
    """Return what torch saved with another pickle in it; the archive's checksums are right."""
    archive = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as seed, zipfile.ZipFile(archive, "w") as out:
        for name in seed.namelist():
            out.writestr(name, data if name.endswith("/data.pkl") else seed.read(name))
    return archive.getvalue()


# --- result folders --------------------------------------------------------------------------------------------------


def make_result(path: Path) -> None:
    path.mkdir()
    put(path / SPEC, SEARCHES[0])
    spec = read_spec(path / SPEC)
    trials = [
        TrialRecord(
            number,
            5,
            {"learning_rate": 0.05},
            FINISHED,
            3,
            2,
            {"mrr@10": 0.5, "recall@20": 0.6},
            "all",
            {"parameters": 9},
        )
        for number in range(2)
    ]
    write_result(SearchResult(path, spec, trials, confirmed=[Confirmation(0, {"mrr@10": [0.5, 0.4]})]))
    put(path / EPOCHS, b'{"trial": 0, "epoch": 1, "loss": 0.5, "mrr@10": 0.5}\n{"trial": 1, "epoch": 1, "loss": 0.6}\n')


def result_target(name: str) -> Target:
    """Return the target that replaces one file of a result folder."""

    def seeds(folder: Path) -> list[bytes]:
        make_result(folder / "seed")
        return [(folder / "seed" / name).read_bytes()]

    def read(folder: Path, data: bytes) -> None:
        path = folder / "result"
        if not path.exists():
            make_result(path)
        put(path / name, data)
        check_result(load_result(path))

    return Target(seeds, read, share=1)  # they are slow


def check_result(result: SearchResult) -> None:
    result.leaderboard(), result.pareto_front(), result.best_points(), result.epochs()
    render_spec(result.spec)
    _ = result.best.hyperparameters


# --- searches that go on ---------------------------------------------------------------------------------------------


def make_journal(path: Path) -> None:
    path.mkdir()
    journal = Journal(path)
    for number in range(2):
        journal.append(BEGINNINGS, {"trial": number, "seed": 5, "hyperparameters": {"dropout": 0.5}, "params": {}})
        line = {"trial": number, "epoch": 1, "best": 0.5, "validated_on": "all", "epoch_seconds": 0.5, "elapsed_s": 1.0}
        journal.append(EPOCHS, {**line, "mrr@10": 0.5, "state": "running"})
    journal.append(BEGINNINGS, {"trial": 1, "state": "failed", "epochs": 1, "error": "no"})


def journal_target(name: str) -> Target:
    """Return the target that replaces one file of a journal."""

    def seeds(folder: Path) -> list[bytes]:
        make_journal(folder / "seed")
        return [(folder / "seed" / name).read_bytes()]

    def read(folder: Path, data: bytes) -> None:
        path = folder / "journal"
        if path.exists():
            shutil.rmtree(path)
        make_journal(path)
        put(path / name, data)
        trials = repr(read_journal(path, measured=["mrr@10"]))
        repair_journal(path)
        if repr(read_journal(path)) != trials:
            raise AssertionError(f"repairing makes other trials of {trials}")

    return Target(seeds, read)


def saved_state() -> bytes:
    state = {"trainer": {"epoch": 1, "weights": {"w": torch.ones(3)}}, "random": [1, (2.5, None)], "curve": "[]"}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def checkpoint_pickles(_: Path) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(saved_state())) as archive:
        return [archive.read("archive/data.pkl")]


def check_checkpoint(folder: Path, data: bytes) -> None:
    """Read a checkpoint whose digest is right: a state, or what is wrong with it."""
    (folder / folder_name(0)).mkdir(exist_ok=True)
    digest = hashlib.sha256(data).hexdigest().encode()
    put(folder / folder_name(0) / file_name(1), digest + b"\n" + data)
    state, problems = Checkpoints(str(folder)).of(0).load()
    if state is None:
        raise StorageError(*problems)
    if not isinstance(state, dict):
        raise AssertionError(f"not a state: {state!r}")


def check_fingerprint(folder: Path, data: bytes) -> None:
    put(folder / FINGERPRINT, data)
    compare_fingerprint(folder, FOUND)


def fingerprints(folder: Path) -> list[bytes]:
    write_fingerprint(folder, FOUND)
    return [(folder / FINGERPRINT).read_bytes()]


FOUND = {"torch": "2.13", "code": "0f", "train": "a1"}


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


TARGETS: dict[str, Target] = {
    "log_csv": log_target(".csv", share=8),
    "log_tsv": log_target(".tsv"),
    "log_gz": log_target(".csv.gz", lambda log: gzip.compress(log, mtime=0), share=1),
    "log_bz2": log_target(".tsv.bz2", bz2.compress, share=1),
    "log_zst": log_target(".csv.zst", compress_zst, share=1),
    "log_parquet": Target(
        parquet_logs, lambda folder, data: check_sessions(read_log(put(folder / "log.parquet", data))), share=8
    ),
    "items_csv": Target(
        lambda _: [b"iid,item_id\n0,a\n2,c\n1,b\n"],
        lambda folder, data: _ignore(read_item_ids(put(folder / "items.csv", data), 3)),
    ),
    "items_parquet": Target(
        lambda _: [parquet_bytes(pa.table({"iid": [0, 2, 1], "item_id": ["a", "c", "b"]}))],
        lambda folder, data: _ignore(read_item_ids(put(folder / "items.parquet", data), 3)),
    ),
    "search_toml": Target(lambda _: [*SEARCHES, render_spec(default_spec()).encode()], check_search, share=12),
    "cluster_toml": Target(lambda _: [*CLUSTERS], check_cluster, share=12),
    "official_space": Target(
        lambda _: [*SPACES],
        lambda folder, data: _ignore(make_official_space(put(folder / "space.json", data))),
        share=12,
    ),
    "official_parameters": Target(
        lambda _: [*PARAMETERS], lambda folder, data: _ignore(read_official(put(folder / "params.py", data))), share=12
    ),
    **{f"model_{name.partition('.')[0].lower()}": model_target(name) for name in (*FILES[:4], DIGESTS)},
    "recpack": Target(recpack_seeds, check_recpack),
    "recpack_pickle": Target(recpack_pickles, check_recpack_pickle),
    **{f"result_{name.replace('.', '_')}": result_target(name) for name in (SPEC, TRIALS, SEARCH, EPOCHS)},
    **{f"journal_{name.partition('.')[0]}": journal_target(name) for name in (BEGINNINGS, EPOCHS)},
    "checkpoint": Target(lambda _: [saved_state()], check_checkpoint),
    "checkpoint_pickle": Target(
        checkpoint_pickles, lambda folder, data: check_checkpoint(folder, with_pickle(saved_state(), data))
    ),
    "fingerprint": Target(fingerprints, check_fingerprint),
}


def default_spec() -> SearchSpec:
    from tuning.presets import PRESETS

    return SearchSpec(PRESETS["full"])


def _ignore(_: object) -> None:
    pass

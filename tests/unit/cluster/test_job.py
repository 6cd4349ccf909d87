"""Submissions that are refused before anything is reached."""

from __future__ import annotations

import pytest

from cluster.job import submit
from gru4rec.errors import SpecificationError
from tuning.space import Space
from tuning.spec import DataSpec, SearchSpec

CLUSTER = """
name = "lab"
backend = "address"
storage_path = "runs"
[address]
dashboard = "http://127.0.0.1:9"
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, "to go on with a search its id is needed"),
        ({"submission_id": "shop-1", "changed": True}, "changed is for a search that goes on: resume it"),
        ({"submission_id": "shop 1"}, "of letters, digits, - and _, 63 at most, got 'shop 1'"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    search = SearchSpec(Space(()), DataSpec("s3://shop/train.parquet", "s3://shop/validation.parquet"))
    with pytest.raises(SpecificationError, match=message):
        submit(tmp_path / "cluster.toml", search, **options)

"""The short form of campaign.py: one search on this machine, killed a few times."""

from __future__ import annotations

import tempfile

import pytest
from campaign import Campaign


@pytest.mark.parametrize("seed", [3])
def test_a_search_that_is_killed_again_and_again_finds_what_an_undisturbed_one_finds(tmp_path, monkeypatch, seed):
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:  # Ray's sockets lie in it
        monkeypatch.setenv("RAY_TMPDIR", short)
        campaign = Campaign(tmp_path, seed)
        try:
            campaign.run(kills=2)
        finally:
            campaign.close()
    assert sum(row.kills.total() for row in campaign.rows) == 2

"""The targets of the fuzzer under changed seeds: a short form of `run.py`, which needs no atheris."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

NAME = "gru4rec_fuzz_targets"
CHANGED = 80  # inputs for each target
PARTS = (b"\0", b"\xff\xff\xff\xff", b"\xff" * 8, b"-1", b"1e999", b"9" * 40, b"nan", b'"', b"[" * 50, b"\n", b"null")


def _targets():
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("targets.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module  # dataclasses look up the module of their class
    spec.loader.exec_module(module)
    return module


targets = _targets()


@pytest.fixture
def folders(tmp_path):
    for name in ("seeds", "work"):
        (tmp_path / name).mkdir()
    return tmp_path / "seeds", tmp_path / "work"


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds_are_accepted_and_whatever_becomes_of_them_is_or_is_refused(name, folders):
    seeds, work = folders
    target, chance = targets.TARGETS[name], random.Random(name)
    valid = target.seeds(seeds)
    assert [targets.check(target, work, seed) for seed in valid] == [True] * len(valid)
    assert not targets.check(target, work, b"\xff\0nonsense\n")
    for _ in range(CHANGED):
        targets.check(target, work, change(chance.choice(valid), chance))


def change(content: bytes, chance: random.Random) -> bytes:
    """Return the content with one to four changes: a byte, a part lost, moved, or one of `PARTS` put in."""
    for _ in range(chance.randint(1, 4)):
        begin, end = sorted(chance.choices(range(len(content) + 1), k=2))
        end = min(end, begin + chance.choice((1, 4, 30, len(content))))
        place = chance.randint(0, len(content))
        flipped = bytes(byte ^ 1 << chance.randrange(8) for byte in content[begin : begin + 1])
        content = chance.choice(
            (
                content[:begin] + flipped + content[begin + 1 :],
                content[:begin] + content[end:],
                content[:place] + content[begin:end] + content[place:],
                content[:begin] + chance.choice(PARTS) + content[end:],
            )
        )
    return content


def test_another_exception_is_a_finding(folders):
    def fails(folder, data):
        raise KeyError(data)

    with pytest.raises(KeyError):
        targets.check(targets.Target(lambda _: [], fails), folders[1], b"")


def test_too_much_memory_is_a_finding(folders, monkeypatch):
    monkeypatch.setattr(targets, "peak_bytes", iter([0, targets.allowed_bytes(3) + 1]).__next__)
    with pytest.raises(AssertionError, match="3 bytes took"):
        targets.check(targets.Target(lambda _: [], lambda folder, data: None), folders[1], b"abc")

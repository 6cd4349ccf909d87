"""Commands as a user calls them, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch

from gru4rec.cli.main import main


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The commands set torch's threads for their whole process, which is this one."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """A function: arguments -> exit code, stdout and stderr."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Done(code, out, err)

    return run


@pytest.fixture
def call(invoke: Callable[..., Done]) -> Callable[..., Done]:
    """A function: arguments -> stdout and stderr of a command that must succeed."""

    def succeed(*arguments: object) -> Done:
        done = invoke(*arguments)
        assert done.code == 0, done.err
        return done

    return succeed


@pytest.fixture
def failure(invoke: Callable[..., Done]) -> Callable[..., tuple[int, str]]:
    """A function: arguments -> exit code and stderr of a command that must fail."""

    def fail(*arguments: object) -> tuple[int, str]:
        done = invoke(*arguments)
        assert done.code != 0, done.out
        return done.code, done.err

    return fail

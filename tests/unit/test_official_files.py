"""The authors' parameter spaces; their parameter files and strings are in test_official.py."""

from __future__ import annotations

import pytest

from gru4rec.errors import ParameterError
from gru4rec.official_files import OfficialDimension, read_official_space


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "space.json"
        path.write_text(text)
        return path

    return written


def test_a_parameter_space_is_read(write):
    lines = [
        '{"name":"layers", "dtype":"int", "values":[64,512], "step":32}',
        "",
        '{"name":"learning_rate", "dtype":"float", "values":[0.01, 0.25], "log":true}',
        '{"name":"elu_param", "dtype":"categorical", "values":[0.5, 1, 0]}',
    ]
    assert read_official_space(write("\n".join(lines) + "\n")) == [
        OfficialDimension(1, "layers", "int", (64, 512), 32),
        OfficialDimension(3, "learning_rate", "float", (0.01, 0.25), log=True),
        OfficialDimension(4, "elu_param", "categorical", (0.5, 1, 0)),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "it has no dimension"),
        ("{", "line 1 is not JSON: "),
        ("[1]", "line 1: must be an object with name, dtype and values, got [1]"),
        ('{"name":"layers","dtype":"int","values":[1,2],"setp":1}', "line 1: unknown key 'setp'; did you mean 'step'?"),
        ('{"dtype":"int","values":[1,2]}', "line 1: name must be text, got None"),
        ('{"name":"layers","dtype":"real","values":[1,2]}', "line 1: dtype must be int, float or categorical, got "),
        ('{"name":"layers","dtype":"int","values":[1]}', "line 1: values must be the two ends of the range, got [1]"),
        ('{"name":"layers","dtype":"int","values":[true,2]}', "line 1: values must be the two ends of the range"),
        ('{"name":"bpreg","dtype":"float","values":[0,NaN]}', "line 1: values must be the two ends of the range"),
        ('{"name":"layers","dtype":"int","values":[2,1]}', "line 1: values must be the lower and the upper end"),
        ('{"name":"layers","dtype":"categorical","values":[]}', "line 1: values must be a list of options, got []"),
        ('{"name":"layers","dtype":"int","values":[1,2],"step":0}', "line 1: step must be a number > 0, got 0"),
        ('{"name":"layers","dtype":"int","values":[1,2],"log":1}', "line 1: log must be true or false, got 1"),
        ('{"name":"a","dtype":"int","values":[1,2]}\n' * 2, "line 2: a is given twice"),
        ('{\n{"name":"a","dtype":"int","values":[2,1]}', "line 1 is not JSON: "),
    ],
)  # fmt: skip
def test_bad_spaces(write, line, problem):
    with pytest.raises(ParameterError) as caught:
        read_official_space(write(line))
    assert str(caught.value).startswith(f"space.json: {problem}")


def test_the_problems_of_a_space_are_reported_together(write):
    with pytest.raises(ParameterError, match=r"line 1 is not JSON: .*; line 2: values must be the lower"):
        read_official_space(write('{\n{"name":"a","dtype":"int","values":[2,1]}'))

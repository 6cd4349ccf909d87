"""The signature, methods and attributes are those of recpack's classes."""

from __future__ import annotations

import inspect

import pytest
import recpack.algorithms

import gru4rec

NAMES = ["GRU4RecNegSampling", "GRU4RecCrossEntropy"]


def parameters(kind):
    return list(inspect.signature(kind).parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_positional_parameters_and_their_defaults(name):
    mine = [p for p in parameters(getattr(gru4rec, name)) if p.kind is p.POSITIONAL_OR_KEYWORD]
    expected = parameters(getattr(recpack.algorithms, name))
    assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in expected]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_beyond_the_contract_are_keyword_only(name):
    beyond = parameters(getattr(gru4rec, name))[len(parameters(getattr(recpack.algorithms, name))) :]
    assert beyond
    assert all(p.kind is p.KEYWORD_ONLY for p in beyond)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_method_and_attribute_is_there(name):
    def public(kind):
        return {member for member in dir(kind) if not member.startswith("_")}

    assert public(getattr(recpack.algorithms, name)) <= public(getattr(gru4rec, name))


@pytest.mark.parametrize("method", ["fit", "predict", "load", "save"])
def test_methods_take_the_same_arguments(method):
    mine = inspect.signature(getattr(gru4rec.GRU4RecNegSampling, method)).parameters
    assert list(mine) == list(inspect.signature(getattr(recpack.algorithms.GRU4RecNegSampling, method)).parameters)


def test_name_is_the_class(ours, theirs):
    assert ours().name == theirs().name == "GRU4RecNegSampling"


def test_identifier_names_every_parameter_of_theirs(ours, theirs):
    identifier = ours().identifier
    assert identifier.startswith("GRU4RecNegSampling(") and identifier.endswith(")")
    for name, value in theirs().get_params().items():
        if name != "stopping_criterion":  # theirs shows an object's address
            assert f"{name}={value!r}" in identifier

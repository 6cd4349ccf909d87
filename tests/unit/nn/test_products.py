"""The products against their formulas in double precision, by either library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gru4rec.nn import products
from gru4rec.nn.products import COLUMNS, gather_columns, input_gradient, linear, tile_linear, weight_gradient

SHAPES = [(products.ROWS, 7, 5), (4 * products.ROWS, 100, 300), (1, 7, 5), (0, 3, 2), (products.ROWS + 1, 64, 32)]


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture(params=[True, False], ids=["onednn", "torch"])
def library(request, monkeypatch):
    if request.param and products._linear_pointwise is None:
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "_use_onednn", request.param)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_products_equal_those_in_double_precision(library, rows, inputs, outputs):
    x, weight, bias, d_output = (randn(*s) for s in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs)))
    wide_x, wide_weight, wide_d = x.double(), weight.double(), d_output.double()
    for actual, expected in (
        (linear(x, weight, bias), wide_x @ wide_weight.T + bias.double()),
        (linear(x, weight), wide_x @ wide_weight.T),
        (tile_linear(x, weight, bias), wide_x @ wide_weight.T + bias.double()),
        (input_gradient(d_output, weight), wide_d @ wide_weight),
        (weight_gradient(d_output, x), wide_d.T @ wide_x),
    ):
        assert actual.shape == expected.shape
        assert actual.is_contiguous()
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-4)


def test_strided_parts_of_a_matrix_are_taken(library):
    gates, x = randn(32, 300), randn(32, 100)
    torch.testing.assert_close(weight_gradient(gates[:, 100:200], x), gates[:, 100:200].T @ x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, products.ROWS, products.ROWS + 1])
def test_padding_is_of_zeros_up_to_a_usual_number_of_rows(rows):
    x = randn(rows, 5)
    wide = products.padded(x)
    assert len(wide) == -(-rows // products.ROWS) * products.ROWS
    assert torch.equal(wide[:rows], x)
    assert not wide[rows:].any()


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_double_precision_stays_double(rows, inputs, outputs):
    x, weight = randn(rows, inputs).double(), randn(outputs, inputs).double()
    torch.testing.assert_close(linear(x, weight), x @ weight.T, rtol=1e-13, atol=1e-13)


def test_onednn_is_found_in_the_pinned_torch():
    """A torch that renames it would cost half the speed without a word."""
    if torch.backends.mkldnn.is_available():
        assert products._linear_pointwise is not None


@pytest.mark.parametrize("found", [None, lambda *_: torch.zeros(2, 4)], ids=["gone", "changed"])
def test_a_missing_or_changed_product_is_left_alone(monkeypatch, found):
    namespace = type("Namespace", (), {"_linear_pointwise": found} if found else {})
    monkeypatch.setattr(torch.ops, "mkldnn", namespace)
    assert products._find_linear_pointwise() is None


@pytest.mark.parametrize("maker", ["GenuineIntel", "AuthenticAMD"])
def test_the_maker_of_the_processor_is_read(monkeypatch, maker):
    monkeypatch.setattr(products.Path, "read_text", lambda *_, **__: f"vendor_id\t: {maker}\n")
    assert products._made_by_intel() == (maker == "GenuineIntel")


def test_the_maker_of_the_processor_is_asked_for_where_there_is_no_file(monkeypatch):
    monkeypatch.setattr(products, "Path", lambda _: Path("nowhere"))
    monkeypatch.setattr(products.platform, "processor", lambda: "Intel64 Family 6, GenuineIntel")
    assert products._made_by_intel()


@pytest.mark.parametrize(("num_rows", "width"), [(0, 0), (1, COLUMNS), (COLUMNS, COLUMNS), (COLUMNS + 1, 2 * COLUMNS)])
def test_gathered_columns_are_rows_of_the_table_then_zeros(num_rows, width):
    rows = torch.arange(num_rows) * 3 % 7
    for table in (randn(7, 5), randn(7)):
        gathered = gather_columns(table, rows)
        assert gathered.shape == (width, *table.shape[1:])
        assert torch.equal(gathered[:num_rows], table[rows])
        assert not gathered[num_rows:].any()

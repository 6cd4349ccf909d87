"""What a server says when it does not do what it was asked: a status, a code for programs, a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gru4rec.errors import GRU4RecError
from gru4rec.files import shorten


class Refusal(GRU4RecError):  # noqa: N818  # it is an answer first
    """A request that is answered with an error.

    Parameters
    ----------
    status : int
        Of HTTP.
    code : str
        For programs; it stays the same where the message is reworded.
    message : str
    details : mapping, optional
        More members of the error object.
    headers : mapping of str to str, optional
        Of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.content = {"error": {"code": code, "message": message, **(details or {})}}


def bad_value(field: str, value: Any, expected: str) -> Refusal:
    """Return the refusal of a value.

    >>> bad_value("k", 0, "a whole number from 1 to 500").content["error"]["message"]
    'k must be a whole number from 1 to 500, got 0'
    """
    shown = shorten(repr(value))
    details = {"field": field, "value": shown, "expected": expected}
    return Refusal(422, "invalid_value", f"{field} must be {expected}, got {shown}", details)

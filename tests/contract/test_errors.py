"""The tree of failures: complete, named once each, and readable by programs."""

import inspect
import re

import pytest

from contract import errors
from contract.errors import AtelierError, InvalidParameterError, QueueFullError

EVERY_ERROR = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, AtelierError) and error.__module__ == errors.__name__
]


def _drawn_parents() -> dict[str, str]:
    """The tree in the module's docstring: the parent of each class, read from its indentation."""
    parents: dict[str, str] = {}
    line_of_descent: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if drawn := re.match(r"^    ((?:[│ ]   |[├└]── )*)(\w+Error)\b", line):
            depth = len(drawn[1]) // 4
            del line_of_descent[depth:]
            parents[drawn[2]] = line_of_descent[-1] if line_of_descent else "Exception"
            line_of_descent.append(drawn[2])
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert _drawn_parents() == {error.__name__: error.__bases__[0].__name__ for error in EVERY_ERROR}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.__dict__["code"] for error in EVERY_ERROR]
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def test_every_error_has_a_title_of_its_own() -> None:
    titles = [error.__dict__["title"] for error in EVERY_ERROR]
    assert len(set(titles)) == len(titles)
    assert [title for title in titles if not title or title.endswith(".") or not title[0].isupper()] == []


def test_an_error_says_its_message_and_when_to_try_again() -> None:
    error = QueueFullError("10 jobs are waiting.", retry_after_seconds=5)
    assert (str(error), error.retry_after_seconds) == ("10 jobs are waiting.", 5)
    assert AtelierError("no").retry_after_seconds is None


def test_an_invalid_parameter_is_named() -> None:
    with pytest.raises(InvalidParameterError, match=r"^too large$") as caught:
        raise InvalidParameterError("too large", parameter="size")
    assert caught.value.parameter == "size"

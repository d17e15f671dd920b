from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evospike.core import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.SettingsError, ValueError),
        (errors.SpecError, ValueError),
        (errors.ShapeError, ValueError),
        (errors.EncodingError, ValueError),
        (errors.DataError, ValueError),
        (errors.CheckpointError, ValueError),
        (errors.StoreError, ValueError),
        (errors.RunError, RuntimeError),
        (errors.MissingExtra, ImportError),
    ],
)
def test_every_error_is_ours_and_the_builtin_a_caller_expects(error: type, builtin: type) -> None:
    assert issubclass(error, errors.EvospikeError)
    assert issubclass(error, builtin)


def test_missing_extra_says_what_to_install() -> None:
    error = errors.MissingExtra("pyarrow", "data", "reading Parquet files")
    assert str(error) == "reading Parquet files needs 'pyarrow'; install it with: pip install 'evospike[data]'"


def test_an_interrupt_passes_error_handling_by() -> None:
    assert not issubclass(errors.Interrupted, Exception)
    assert errors.Interrupted(15).signum == 15


@given(st.text(max_size=5000))
@example("x" * errors.LONGEST_MESSAGE)
@example("x" * (errors.LONGEST_MESSAGE + 1))
def test_a_message_is_whole_or_has_its_beginning_and_its_end(text: str) -> None:
    message = str(errors.RunError(text))
    assert len(message) <= errors.LONGEST_MESSAGE
    if len(text) <= errors.LONGEST_MESSAGE:
        assert message == text
    else:
        start, _, end = message.partition(" … ")
        assert text.startswith(start)
        assert text.endswith(end)
        assert min(len(start), len(end)) > 900

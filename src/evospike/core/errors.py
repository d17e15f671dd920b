"""Every error that evospike raises on purpose.

    EvospikeError
    ├── SettingsError   (ValueError)    a recipe, field or value that cannot be used
    ├── SpecError       (ValueError)    a network specification that cannot be built
    ├── ShapeError      (ValueError)    tensors that do not fit together
    ├── EncodingError   (ValueError)    a genetic encoding that cannot be made
    ├── DataError       (ValueError)    a data set that is missing, broken or unsuitable
    ├── CheckpointError (ValueError)    a file of weights or training state that cannot be trusted
    ├── StoreError      (ValueError)    a run record that cannot be trusted
    ├── RunError        (RuntimeError)  a run that cannot start or go on
    └── MissingExtra    (ImportError)   an optional dependency that is not installed

A message says what was given, what was expected and what to do, in one line. The command line prints that
line and exits with 2.
"""

from __future__ import annotations

LONGEST_MESSAGE = 2000
"""Characters of a message; of a longer one the middle is left out, since its end says what to do."""


class EvospikeError(Exception):
    """Base of every error that evospike raises on purpose."""

    def __init__(self, message: str) -> None:
        half = LONGEST_MESSAGE // 2 - 2
        super().__init__(message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} … {message[-half:]}")


class SettingsError(EvospikeError, ValueError):
    """A recipe, field or value that cannot be used."""


class SpecError(EvospikeError, ValueError):
    """A network specification that cannot be built."""


class ShapeError(EvospikeError, ValueError):
    """Tensors that do not fit together."""


class EncodingError(EvospikeError, ValueError):
    """A genetic encoding that cannot be made."""


class DataError(EvospikeError, ValueError):
    """A data set that is missing, broken or unsuitable."""


class CheckpointError(EvospikeError, ValueError):
    """A file of weights or training state that cannot be trusted."""


class StoreError(EvospikeError, ValueError):
    """A run record that cannot be trusted."""


class RunError(EvospikeError, RuntimeError):
    """A run that cannot start or go on."""


class MissingExtra(EvospikeError, ImportError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs '{package}'; install it with: pip install 'evospike[{extra}]'")


UNEXPECTED_FORM = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What Python raises where plain values from a file are not of the form that was expected."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM was received and the last good state is on disk.

    Not an `Exception`, so that no candidate's error handling swallows it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.signum = signum

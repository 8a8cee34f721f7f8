"""What can become of a call to the API server: an answer, or an ``ApiFailure`` that says whether to try again and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import urllib3.exceptions
from kubernetes.client import ApiException
from kubernetes.config import ConfigException

from pipespec.ops.errors import PipespecError

CONFLICT, GONE, NOT_FOUND = "409", "410", "404"
TIMEOUT, UNREACHABLE, UNREADABLE = "timeout", "unreachable", "unreadable"

_REFUSED_FOR_GOOD = ("400", "401", "403", "404", "405", "422")
_ADVICE = {
    "401": "is the service account's token mounted and valid?",
    "403": "the service account's Role does not allow it",
    "404": "does it exist in this namespace?",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call may take; it has failed afterwards.

    Attributes:
        connect_s: to connect.
        read_s: between two things that arrive.
    """

    connect_s: float = 1.0
    read_s: float = 3.0

    @property
    def timeout(self) -> tuple[float, float]:
        """As the client library takes it."""
        return self.connect_s, self.read_s


class ApiFailure(PipespecError):
    """A call to the API server brought nothing.

    Args:
        what: was to be done.
        code: HTTP status, or ``timeout``, ``unreachable``, ``unreadable``.
        reason: as the server or the library says it.
        retry_after_s: the server asks to wait for so long; 0 where it does not say.
    """

    def __init__(self, what: str, *, code: str, reason: str, retry_after_s: float = 0.0) -> None:
        advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
        super().__init__(f"the Kubernetes API does not {what}: {code} ({reason}){advice}")
        self.code = code
        self.retry_after_s = retry_after_s
        self.retriable = code not in _REFUSED_FOR_GOOD


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Make an ``ApiFailure`` of all that a call in the block can end with but its answer.

    Args:
        what: is to be done, as in "the API does not ...".
    """
    try:
        yield
    except ApiException as error:
        if not error.status:  # TLS did not come about, or the answer is no JSON
            raise ApiFailure(what, code=UNREACHABLE, reason=str(error.reason)) from error
        raise ApiFailure(
            what,
            code=str(error.status),
            reason=str(error.reason),
            retry_after_s=_seconds((error.headers or {}).get("Retry-After", "")),
        ) from error
    except urllib3.exceptions.TimeoutError as error:
        raise ApiFailure(what, code=TIMEOUT, reason=str(error)) from error
    except (urllib3.exceptions.HTTPError, ConfigException, OSError) as error:
        raise ApiFailure(what, code=UNREACHABLE, reason=str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # no JSON, or not what was asked for
        raise ApiFailure(what, code=UNREADABLE, reason=f"{type(error).__name__}: {error}") from error


def _seconds(header: str) -> float:
    """Of a ``Retry-After``; an API server sends whole seconds, the form with a date is not used."""
    return float(header) if header.isdecimal() else 0.0

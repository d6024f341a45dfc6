"""How the node's part in federations refuses, as errors of the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.errors import ApiError
from federation.participant.consent import PolicyError
from federation.participant.coordinator_client import (
    CoordinatorError,
    RefusedError,
    UnreachableError,
)
from federation.participant.service import FederationError, UnknownMembershipError


@contextmanager
def refusals() -> Iterator[None]:
    """Raise what the service refuses, and what a coordinator does, as ApiError."""
    try:
        yield
    except UnknownMembershipError as error:
        raise ApiError(404, "membership_not_found", str(error)) from error
    except PolicyError as error:
        raise ApiError(409, "policy_fixed", str(error)) from error
    except FederationError as error:
        raise ApiError(400, "federation_refused", str(error)) from error
    except UnreachableError as error:
        raise ApiError(503, "coordinator_unreachable", str(error), retry_after=5) from error
    except RefusedError as error:
        message = f"the coordinator refused: {error}"
        raise ApiError(409, "coordinator_refused", message) from error
    except CoordinatorError as error:
        raise ApiError(409, "coordinator_not_believed", str(error)) from error

"""The policy in the node's database and the odometer beside it, changed together."""

from __future__ import annotations

from typing import cast

from sqlalchemy.orm import Session

from federation.odometer_file import OdometerFile
from federation.participant.identity import FederationHome
from federation.participant.policy import ConsentPolicy
from privacy.canonical import JsonValue, canonical_bytes, parse_canonical
from privacy.limits import RenyiFilter
from privacy.records import from_json, to_json
from storage.database import Database
from storage.declarative import now
from storage.membership_tables import ConsentPolicyRow


class PolicyError(ValueError):
    """The policy cannot be set; the message says why."""


class Consent:
    """The policy in force, and the odometer that it opened. One per process; safe in any thread."""

    def __init__(self, database: Database, home: FederationHome) -> None:
        """Open the odometer if there is one.

        Raises:
            OdometerError: there are identities and no odometer, or it cannot be used.
        """
        self._database = database
        self._home = home
        self._odometer: OdometerFile | None = None
        if home.odometer.exists() or home.identities.exists():
            self._open(self.policy.limit)

    @property
    def policy(self) -> ConsentPolicy:
        """The policy that was set last; the default one before."""
        with self._database.read() as session:
            row = session.get(ConsentPolicyRow, 1)
        if row is None:
            return ConsentPolicy()
        stored = parse_canonical(row.policy)
        if not isinstance(stored, dict):
            raise TypeError("the stored policy is no object")
        # A term that is newer than the stored policy has its safe default.
        defaults = cast(dict[str, JsonValue], to_json(ConsentPolicy()))
        return from_json(ConsentPolicy, {**defaults, **stored})

    @property
    def odometer(self) -> OdometerFile | None:
        """None before the first membership."""
        return self._odometer

    def set_policy(self, policy: ConsentPolicy) -> None:
        """Change the terms from now on; the odometer keeps what it has counted.

        Raises:
            PolicyError: order and delta of the lifetime limit were fixed when it was first set.
        """
        if self._odometer is not None:
            limit = self._odometer.odometer.limit
            if not limit.may_become(policy.limit):
                raise PolicyError(
                    f"lifetime_order {limit.order} and lifetime_delta {limit.delta:g} were fixed "
                    "when the odometer was opened; only lifetime_epsilon may change"
                )
            if limit != policy.limit:
                self._odometer.change_epsilon(policy.lifetime_epsilon)
        with self._database.write() as session:
            _store(session, policy)

    def open_odometer(self) -> OdometerFile:
        """The odometer, made with the limit of the policy in force if there is none yet.

        Raises:
            OdometerError: it cannot be used.
        """
        if self._odometer is None:
            policy = self.policy
            with self._database.write() as session:
                _store(session, policy)
            return self._open(policy.limit)
        return self._odometer

    def close(self) -> None:
        """Give the odometer free."""
        if self._odometer is not None:
            self._odometer.close()

    def _open(self, limit: RenyiFilter) -> OdometerFile:
        self._home.create()
        self._odometer = OdometerFile.open(self._home.odometer, self._home.identities, limit)
        return self._odometer


def _store(session: Session, policy: ConsentPolicy) -> None:
    row = session.get(ConsentPolicyRow, 1)
    if row is None:
        row = ConsentPolicyRow(id=1)
        session.add(row)
    row.policy = canonical_bytes(to_json(policy))
    row.changed_at = now()

"""Keys of staff: made, listed and revoked by an admin."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.bodies import RowBody
from api.coordinator.auth import Admin, CoordinatorDep
from api.coordinator.names import KeyId, Label
from api.errors import ApiError, responses
from storage import staff_keys
from storage.coordinator_tables import Role

router = APIRouter(prefix="/v1/admin/keys", tags=["Keys"], responses=responses(400, 401, 403))


class NewKeyRequest(BaseModel):
    """An admin manages, an auditor reads `/v1/audit`."""

    label: Label = ""
    role: Role


class KeyBody(RowBody):
    id: str
    label: str
    role: Role
    created_at: int
    revoked_at: int | None


class CreatedKey(KeyBody):
    """`key` is shown this once."""

    key: str


class KeyList(BaseModel):
    data: list[KeyBody]


@router.post("", status_code=201)
def create_key(coordinator: CoordinatorDep, _admin: Admin, new: NewKeyRequest) -> CreatedKey:
    """Make a key."""
    with coordinator.database.write() as session:
        made = staff_keys.create(session, new.label, new.role)
        return CreatedKey.of(made.key, key=made.token)


@router.get("")
def list_keys(coordinator: CoordinatorDep, _admin: Admin) -> KeyList:
    """All keys without their secrets, revoked ones too."""
    with coordinator.database.read() as session:
        return KeyList(data=[KeyBody.of(key) for key in staff_keys.list_all(session)])


@router.delete("/{key_id}", status_code=204, responses=responses(404))
def revoke_key(coordinator: CoordinatorDep, _admin: Admin, key_id: KeyId) -> Response:
    """End a key at once."""
    with coordinator.database.write() as session:
        if not staff_keys.revoke(session, key_id):
            raise ApiError(404, "key_not_found", f"there is no valid key {key_id!r}")
    return Response(status_code=204)

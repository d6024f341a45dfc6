"""Budgets: spent, reserved and left, with what each number means."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.coordinator.auth import AuthorityDep, CoordinatorDep, Staff
from api.coordinator.names import PopulationName
from api.errors import responses
from federation.coordinator import accounts, overview
from federation.coordinator.accounts import PopulationAccount

router = APIRouter(prefix="/v1/audit/budgets", tags=["Audit"], responses=responses(400, 401))


class BudgetList(BaseModel):
    data: list[PopulationAccount]


@router.get("")
def list_budgets(coordinator: CoordinatorDep, authority: AuthorityDep, _staff: Staff) -> BudgetList:
    """The budgets of all populations."""
    with coordinator.database.read() as session:
        names = overview.populations(session)
        return BudgetList(data=[accounts.account(session, authority, name) for name in names])


@router.get("/{population}", responses=responses(404))
def get_budget(
    coordinator: CoordinatorDep, authority: AuthorityDep, _staff: Staff, population: PopulationName
) -> PopulationAccount:
    """The budget of one population."""
    with coordinator.database.read() as session:
        return accounts.account(session, authority, population)

"""What an auditor reads; nothing below /v1/audit changes anything."""

from api.coordinator.audit import budgets, entries, federations, identity, ledgers

routers = tuple(feature.router for feature in (identity, budgets, ledgers, entries, federations))

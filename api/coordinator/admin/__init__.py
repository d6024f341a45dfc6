"""What an admin does: keys, participants, populations, federations, versions."""

from api.coordinator.admin import (
    federations,
    keys,
    participants,
    populations,
    previews,
    tokens,
    versions,
)

# A fixed path must come before one with a name in the same place.
routers = tuple(
    feature.router
    for feature in (keys, tokens, participants, populations, previews, federations, versions)
)

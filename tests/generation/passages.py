"""Passages of a small town, written for these tests."""

from retrieval.search import Hit

LIBRARY = (
    "A reading card costs 5 euros a year. Children under twelve pay nothing. Books may be kept for"
    " three weeks and renewed twice. The fine for a late book is 20 cents a day."
)
HOURS = (
    "The town library is open from Tuesday to Saturday, 10:00 to 18:00. On Sundays and Mondays it"
    " is closed. In August it closes at 14:00."
)
GARDEN = (
    "Members of the allotment society pay 60 euros per plot. Bonfires are forbidden from April to"
    " September. Each member gives six hours of shared work a year."
)
CLINIC = (
    "Bring your insurance card to the first visit. Do not eat for eight hours before a blood test."
    " Results are ready after two working days and are sent by post."
)
PUMP = (
    "Change the filter of the pump every 500 hours. The tank holds 40 litres of oil. Before"
    " cleaning, switch the machine off and pull the plug."
)


def passage(
    text: str,
    title: str = "Handbook",
    dense: float = 0.5,
    heading: str = "",
    page: int | None = None,
) -> Hit:
    return Hit(
        chunk_id=f"chunk-{text[:9]}",
        document_id="document-1",
        external_id=None,
        name="handbook.md",
        title=title,
        heading=heading,
        page=page,
        position=0,
        text=text,
        score=dense,
        dense=dense,
        lexical=0.0,
    )

"""Long instructions for the demo: rules as a house gives its staff, so that there is a prompt worth caching."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

__all__ = ["HOTEL", "MARINA", "House"]

_CARE = (
    "Keep the doors clear, and the lights low after dusk.",
    "Whatever is borrowed is written into the blue book and is back by noon.",
    "Wet shoes and umbrellas stay on the mat by the entrance.",
    "Report a broken lamp at once, and a broken window sooner.",
    "Dogs are welcome on a lead, and get water before their owners get advice.",
)
_HELP = (
    "If somebody asks for a quiet corner, offer the bench by the chestnut tree.",
    "If somebody is lost, walk with them rather than point.",
    "If it rains, say so before anybody sets out, and lend an umbrella.",
    "If a child asks, answer the child and not its parents.",
)
_LIMITS = (
    "Never promise a time that depends on the ferry.",
    "Never give out who else is here, nor since when.",
    "Never quote a price from memory: look it up.",
)


class House(Struct, frozen=True):
    """A house and the places in it that need rules."""

    name: str
    keeper: str
    places: Sequence[str]

    def rules(self) -> str:
        """The instructions for its keeper: about 600 words, the same each time."""
        paragraphs = [
            f"{self.name}: what its {self.keeper} goes by. Answer in one or two plain sentences. "
            "Look up what a tool can tell, and say what it told without adding to it. These are the house rules."
        ]
        for number, place in enumerate(self.places):
            opening, closing = 6 + number % 4, 20 + number % 3
            paragraphs.append(
                f"{number + 1}. {place}. Open from {opening}:00 to {closing}:30, on Sundays an hour less. "
                f"{_CARE[number % len(_CARE)]} {_HELP[number % len(_HELP)]} {_LIMITS[number % len(_LIMITS)]}"
            )
        return "\n".join(paragraphs)


HOTEL = House(
    "Hotel Limmatblick",
    "concierge",
    (
        "Lobby",
        "Breakfast room",
        "Library",
        "Music room",
        "Winter garden",
        "Sauna",
        "Bicycle cellar",
        "Roof terrace",
        "Laundry",
        "Workshop",
        "Wine cellar",
        "Orchard",
    ),
)
MARINA = House(
    "Enge Marina",
    "harbour master",
    (
        "North jetty",
        "South jetty",
        "Guest moorings",
        "Fuel dock",
        "Crane",
        "Slipway",
        "Sail loft",
        "Boat shed",
        "Rowing club",
        "Showers",
        "Chart room",
        "Lighthouse",
    ),
)

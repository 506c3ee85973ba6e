"""In which words is a slide or a section of a manual asked for? None of them is a sentence of a benchmark."""

from __future__ import annotations

SUBJECTS = {
    # Subject -> what is counted, and the range of it in hundreds.
    "swimming pool": ("swimmers", (20, 900)),
    "zoo": ("guests", (50, 4000)),
    "bakery": ("loaves", (10, 800)),
    "theatre": ("seats sold", (10, 600)),
    "cinema": ("tickets", (20, 900)),
    "harbour": ("ships", (1, 80)),
    "airport": ("flights", (5, 300)),
    "bus line": ("trips", (10, 700)),
    "hospital": ("patients", (5, 200)),
    "fire brigade": ("calls", (1, 40)),
    "market": ("stalls", (1, 30)),
    "bike rental": ("rentals", (2, 90)),
    "hotel": ("nights", (5, 300)),
    "farm": ("eggs", (20, 900)),
    "vineyard": ("bottles", (10, 500)),
    "dairy": ("litres", (50, 4000)),
    "sawmill": ("planks", (10, 700)),
    "post office": ("parcels", (10, 900)),
    "football club": ("members", (1, 60)),
    "choir": ("singers", (1, 20)),
    "car park": ("cars", (10, 500)),
    "power plant": ("megawatts", (1, 60)),
    "fish pond": ("fish", (2, 90)),
    "ski lift": ("rides", (20, 900)),
    "town hall": ("weddings", (1, 20)),
    "recycling yard": ("tonnes", (1, 50)),
    "bookshop": ("books", (5, 300)),
    "call centre": ("calls", (50, 900)),
    "chess club": ("games", (1, 40)),
    "nursery": ("children", (1, 30)),
}

HEADINGS = (
    "{Subject} of {town}",
    "{town}: {subject}",
    "The {subject} in {town}",
    "{town} {subject}",
    "{Subject}, {town}",
    "Report on the {subject}, {town}",
    "{Subject} {town}",
    "{town}'s {subject}",
)
"""Wordings of a slide's heading; they stand on the slide and are no queries."""

FACT_QUESTIONS = (
    "how many {counted} did the {subject} in {town} have in {year}?",
    "what was the number of {counted} at {town}'s {subject} in {year}?",
    "{town} {subject}: number of {counted} in {year}?",
    "in {year}, how many {counted} were there at the {subject} of {town}?",
    "tell me the {counted} of the {subject} in {town} for {year}.",
    "I need the {year} figure for {counted}, {subject}, {town}.",
    "where does it say how many {counted} the {subject} of {town} had in {year}?",
    "{counted} in {year} at the {subject}, {town}",
    "look up {counted} for {year}: {town}, {subject}.",
    "did the {subject} in {town} get more {counted} in {year} than before?",
)

SECTIONS = (
    "{title}",
    "the page about {title}",
    "where does it say something on {title}?",
    "the section called {title}",
    "how does the manual explain {title}?",
    "I am looking for {title}",
    "page with the heading {title}",
    "what is written under {title}?",
    "the part on {title}",
    "documentation of {title}",
    "read up on {title}",
)
"""Wordings for a section of a manual."""

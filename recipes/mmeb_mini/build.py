"""Build mmeb-mini anew from the fetched packages and put it into the package.

    python recipes/mmeb_mini/build.py      (fetches what is missing; then a minute on one core)

Every draw is seeded by the name of what it is for, so two builds are the same byte for byte.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

# Pictures, hold-outs and renderers are those of the default model's data.
sys.path.append(str(Path(__file__).resolve().parents[1] / "default"))

from charts import add_charts
from documents import add_documents
from fetch import bring
from films import add_films
from pack import Pack
from pictures import add_pictures
from scenes import add_scenes

PACKAGES = (
    *("iconify", "emojibase", "fluent-3d", "openclipart", "wordnet"),
    *("vega-datasets", "texlive", "gle", "debmake", "reportlab"),
)


def main() -> None:
    """Fetch, draw and write."""
    bring(*PACKAGES)
    pack, clock = Pack(), time.monotonic()
    for add in (add_pictures, add_scenes, add_charts, add_films, add_documents):
        add(pack)
        print(f"{time.monotonic() - clock:6.1f} s  {add.__name__}", file=sys.stderr)
    pack.write()
    print(f"{time.monotonic() - clock:6.1f} s  written", file=sys.stderr)


if __name__ == "__main__":
    main()

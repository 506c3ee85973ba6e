"""Put files into a store, each whole in one commit with the next version of the others, until killed.

    python commit_for_ever.py PLACE FIRST

Prints the number of each commit that is done.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from itertools import count
from pathlib import Path

from support.stores import versions
from vlm2vec.search.stores import open_store

if __name__ == "__main__":
    store = open_store(Path(sys.argv[1]))
    with store.writing():
        for number in count(int(sys.argv[2])):
            store.commit([f"old{number - 1}.pdf"], versions(number))
            store.tidy(lambda _: nullcontext())
            print(number, flush=True)

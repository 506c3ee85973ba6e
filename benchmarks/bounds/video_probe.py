"""How much processor time does an ordinary film of a minute take to be probed, and to be read span by span?"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from size import sized

from vlm2vec.items import Video
from vlm2vec.media import probe, read_frames, split_spans

REPEATS = sized(7, 1)
FILM_S, RATE = sized((60, 25), (4, 5))
NUM_FRAMES = 8


def main() -> None:
    """Write the film, then print the least seconds of a probing and of a reading."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        _write(path)
        for row, task in (
            ("probe a film of 60 s, 320x240, H.264, CPU time", _probe),
            ("probe, split and read 8 frames a span of a film of 60 s, 320x240, H.264, CPU time", _read),
        ):
            task(path)
            print(json.dumps({"row": row, "unit": "s", "value": round(_least(task, path), 5)}), flush=True)


def _write(path: Path) -> None:
    y, x = np.mgrid[:240, :320]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(FILM_S * RATE):
            colors = np.stack([(x + index) % 256, (y + 2 * index) % 256, (x + y) % 256], axis=-1)
            frame = av.VideoFrame.from_ndarray(colors.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _probe(path: Path) -> None:
    probe(path)


def _read(path: Path) -> None:
    for span_s in split_spans(probe(path).duration_s):
        read_frames(Video(path, span_s), NUM_FRAMES)


def _least(task: Callable[[Path], None], path: Path) -> float:
    seconds = []
    for repeat in range(REPEATS):
        os.utime(path, (repeat, repeat))  # So that nothing is remembered of the file.
        started_s = time.process_time()
        task(path)
        seconds.append(time.process_time() - started_s)
    return min(seconds)


if __name__ == "__main__":
    main()

"""How much processor time does decoding in a sandbox take, against decoding in the same process? One ratio a kind."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
from size import sized

from vlm2vec.items import Image, Video
from vlm2vec.media import load_frames

try:
    from vlm2vec.media.sandbox import SANDBOXED, Sandbox
except ImportError:  # A checkout without a sandbox: only the direct times are printed.
    Sandbox = None  # type: ignore[assignment,misc]

SAMPLES = Path(__file__).parents[2] / "samples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=sized(7, 1))
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        kinds = _media(Path(name))
        report: dict[str, dict[str, float]] = {}
        for kind, media in kinds.items():
            direct = _seconds(lambda media=media: _decode(load_frames, media), repeats)
            report[kind] = {"direct_s": direct}
            if Sandbox is not None:
                with Sandbox(kinds=dict.fromkeys(SANDBOXED, True)) as sandbox:
                    _decode(sandbox.load_frames, media)
                    # The time of a worker is counted only when it has ended; so it is told by the worker.
                    report[kind]["sandbox_s"] = _seconds(
                        lambda media=media, sandbox=sandbox: _decode(sandbox.load_frames, media), repeats, sandbox
                    )
                report[kind]["ratio"] = round(report[kind]["sandbox_s"] / direct, 4)
    pages = report["page"]
    print(
        json.dumps(
            {
                "row": "processor time to draw the pages of the sample documents",
                "unit": "s",
                "value": pages.get("sandbox_s", pages["direct_s"]),
                "kinds": report,
            }
        )
    )


def _decode(load: Callable[..., object], media: Sequence[Image | Video]) -> None:
    for medium in media:
        load(medium, num_frames=8)


def _seconds(work: Callable[[], None], repeats: int, sandbox: object = None) -> float:
    times = []
    for _ in range(repeats):
        start = _cpu_s(sandbox)
        work()
        times.append(_cpu_s(sandbox) - start)
    return round(statistics.median(times), 4)


def _cpu_s(sandbox: object) -> float:
    """Processor time of this process and of the idle workers of a sandbox."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    total = used.ru_utime + used.ru_stime
    for worker in getattr(sandbox, "_idle", ()):
        total += time.clock_gettime(_clock_of(worker._process.pid))
    return total


def _clock_of(pid: int) -> int:
    # clock_getcpuclockid(3) of Linux: the processor time of another process, in nanoseconds.
    return (~pid << 3) | 2


def _media(folder: Path) -> dict[str, list[Image | Video]]:
    documents = sorted((SAMPLES / "documents").glob("*.pdf"))
    return {
        "page": [Image(path, page=page) for path in documents for page in range(1, 6)],
        "film": [Video(path) for path in sorted((SAMPLES / "clips").glob("*.mp4"))],
        "film 1080p": [Video(_film(folder / "a.mp4"))],
        "gif": [Video(_gif(folder / "a.gif"))],
        "photograph": [Image(_photograph(folder / "a.jpg"))],
    }


def _scene(width: int, height: int, shift: int) -> PIL.Image.Image:
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(shift).integers(0, 24, (height, width, 1))
    waves = np.stack([(x + 9 * shift) // 3, (y + 5 * shift) // 2, (x + y) // 4], -1)
    return PIL.Image.fromarray(((waves + noise) % 256).astype(np.uint8))


def _film(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 1920, 1080, "yuv420p", 50
        scenes = [_scene(1920, 1080, shift) for shift in range(8)]
        for index in range(sized(100, 4)):
            frame = av.VideoFrame.from_image(scenes[index % 8])
            frame.time_base, frame.pts = Fraction(1, 25), index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _gif(path: Path) -> Path:
    frames = [_scene(480, 270, shift).quantize(64) for shift in range(30)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    return path


def _photograph(path: Path) -> Path:
    _scene(4000, 3000, 1).save(path, quality=90)
    return path


if __name__ == "__main__":
    main()

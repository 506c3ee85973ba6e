"""What must be equal for two vectors to be equal? Keys made of model, prompt and content."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import PIL.Image

from vlm2vec.files import content_hash
from vlm2vec.items import ANIMATED_SUFFIXES, Image, Item, Source, Video
from vlm2vec.media import DEFAULT_LIMITS, load_frames, resolve
from vlm2vec.media.source import Form, check_file, decoding, is_folder, open_source
from vlm2vec.media.video import frame_paths, is_animation
from vlm2vec.model.backbone import Ask

KEY_BYTES = 16

# Raised when an equal key would be made of different parts.
_FORMAT = 1
# Raised when media of equal bytes come out otherwise. It stands in the keys of those that this release shows otherwise
# than the first one did, and in no other, so that vectors of JPEG files, PDF pages and benchmarks stay valid.
_SHOWN = 2
# Paths whose hash is remembered: a few hundred bytes each.
_REMEMBERED = 1 << 18


def item_key(item: Item, *, fingerprint: str, ask: Ask = Ask()) -> bytes:
    """16 bytes of everything that makes the vector of an item.

    Media count by their content, wherever they lie. A file is read once in a process as long as its size and time of
    change stay; a folder of frames is read whole.

    Args:
        item: text, verbatim string, instruction and media count.
        fingerprint: of the model (`Embedder.fingerprint`: weights, style, pooling, pixel limits, frames, dtype).
        ask: as given to `Embedder.stream`.

    Raises:
        MediaError: a file is missing, cannot be read or is too large.
    """
    return _digest([_FORMAT, fingerprint, ask.role, ask.target, ask.prompt, item.instruction, _content(item)])


def content_key(item: Item) -> bytes:
    """16 bytes of an item's text and media, whatever it is asked for. Raises as `item_key`."""
    return _digest([_FORMAT, _content(item)])


def uninstructed_key(item: Item) -> bytes:
    """As `content_key`, also where a benchmark's verbatim string holds an instruction as well. Raises as `item_key`."""
    return content_key(replace(item, verbatim=None) if item.text or item.media else item)


def written_key(item: Item) -> bytes:
    """16 bytes of an item's text and media as `uninstructed_key`, but by the paths of files, which are not read."""
    media = [
        [type(one).__name__, _as_written(one.source), getattr(one, "page", None), getattr(one, "span_s", None)]
        for one in item.media
    ]
    return _digest([_FORMAT, item.text, None if item.text or media else item.verbatim, media])


def _digest(parts: object) -> bytes:
    # JSON keeps the parts apart, and its ASCII form takes any str, lone surrogates too.
    return hashlib.blake2b(json.dumps(parts).encode("ascii"), digest_size=KEY_BYTES).digest()


def _content(item: Item) -> list[object]:
    media = [_of_video(medium) if isinstance(medium, Video) else _of_image(medium) for medium in item.media]
    return [item.text, item.verbatim, media]


def _as_written(source: Source | tuple[Source, ...]) -> object:
    if isinstance(source, tuple):
        return [_as_written(part) for part in source]
    return os.path.abspath(source) if isinstance(source, Path) else _of_frame(source, as_stored=True)


def _of_image(image: Image) -> list[object]:
    source = image.source
    if isinstance(source, PIL.Image.Image):
        # Turned, composed or taken as a video just as the model will see it.
        return ["pictures", _of_pictures(resolve(image))]
    content = _of_bytes(source, "an image" if image.page is None else "a PDF")
    # Only these are looked into for an animation, so the same bytes may count as a video or as a picture.
    animated = not image.as_stored and (isinstance(source, bytes) or source.suffix.lower() in ANIMATED_SUFFIXES)
    way: object = not image.as_stored
    if way and image.page is None and not _is_jpeg(source):
        way = _SHOWN
    return ["image", way, animated, image.page, content]


def _of_video(video: Video) -> list[object]:
    source = video.source
    if isinstance(source, tuple):
        return ["frames", [_of_frame(frame, video.as_stored) for frame in source]]
    if isinstance(source, PIL.Image.Image):
        return ["pictures", _of_pictures(video)]
    span_s = video.span_s and [float(edge_s) for edge_s in video.span_s]
    if isinstance(source, Path) and is_folder(source):
        return ["folder", span_s, _of_folder(source), *([] if video.as_stored else [_SHOWN])]
    content = _of_bytes(source, "a video")
    return ["video", span_s, content, *([] if video.as_stored and is_animation(source, DEFAULT_LIMITS) else [_SHOWN])]


def _of_frame(frame: Source, as_stored: bool) -> object:
    if isinstance(frame, PIL.Image.Image):
        return _of_pictures(Image(frame, as_stored=as_stored))
    content = _of_bytes(frame, "an image")
    return content if as_stored else [_SHOWN, content]


def _is_jpeg(source: Path | bytes) -> bool:
    with open_source(source, "an image", DEFAULT_LIMITS) as stream:
        return stream.read(3) == b"\xff\xd8\xff"


def _of_folder(folder: Path) -> list[tuple[str, str]]:
    # With their names, which give the order.
    paths = sorted(frame_paths(folder, DEFAULT_LIMITS), key=lambda path: path.name)
    return [(path.name, _of_bytes(path, "an image")) for path in paths]


def _of_pictures(medium: Image | Video) -> list[object]:
    frames = load_frames(medium, num_frames=DEFAULT_LIMITS.frames)
    pictures = [[one.mode, one.size, one.getpalette(), content_hash(one.tobytes())] for one in frames.images]
    return [frames.is_video, pictures]


def _of_bytes(source: Path | bytes, kind: Form) -> str:
    if isinstance(source, bytes):
        return content_hash(source)
    status = check_file(source, kind, DEFAULT_LIMITS)
    with decoding(str(source), kind):
        return _of_file(os.path.abspath(source), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=_REMEMBERED)
def _of_file(path: str, size: int, mtime_ns: int) -> str:
    return content_hash(Path(path))

"""What can be embedded: `Item`, its media, and how ordinary Python values become items."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from vlm2vec.errors import InputError
from vlm2vec.text import shortened

if TYPE_CHECKING:
    import PIL.Image

MEDIA_MARKER = "<|media|>"
"""Stands in a text where a medium goes: one marker for each medium, in order. Every prompt style knows it."""

VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mp4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".3gp2", ".3gpp2", ".mj2", ".mjp2", ".f4v",
    ".ismv", ".psp", ".insv", ".lrv", ".mkv", ".mk3d", ".webm", ".avi", ".divx", ".xvid", ".ts", ".mts", ".m2t",
    ".m2ts", ".tp", ".trp", ".tod", ".mpg", ".mpeg", ".mpe", ".mpv", ".m1v", ".m2v", ".m2p", ".vob", ".evo", ".vro",
    ".mod", ".asf", ".wmv", ".dvr-ms", ".flv", ".ogv", ".ogm", ".ogx", ".ogg",
})  # fmt: skip
"""Of films in the formats that are let in (`media.stream.FORMATS`)."""
UNSURE_SUFFIXES = frozenset({
    ".ts", ".mts", ".tp", ".trp", ".tod", ".mpv", ".m1v", ".m2v", ".mod", ".ogx", ".ogg",
})  # fmt: skip
"""Those of films under which other things are as common: program text (.ts), music (.ogg), raw streams (.m2v)."""
PDF_SUFFIXES = frozenset({".pdf"})
DOCUMENT_SUFFIXES = frozenset({
    ".txt", ".text", ".tex", ".md", ".markdown", ".rst", ".adoc", ".org", ".csv", ".tsv", ".html", ".htm", ".xhtml",
    ".mhtml", ".mht", ".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx", ".potx", ".xlsx", ".xlsm", ".xltx", ".odt",
    ".ott", ".odp", ".otp", ".ods", ".ots", ".epub",
})  # fmt: skip
"""Of documents that have words. Logs (.log) and program text are none: programs write the former without end, and the
latter is searched by other means."""
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
JXL_SUFFIXES = frozenset({".jxl"})
RAW_SUFFIXES = frozenset({
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef", ".srw",
    ".rwl", ".3fr", ".fff", ".iiq", ".x3f", ".kdc", ".dcr", ".mrw", ".erf", ".mef", ".mos", ".gpr",
})  # fmt: skip
"""Of photographs as cameras measure them."""
SVG_SUFFIXES = frozenset({".svg"})
UNUSUAL_SUFFIXES = HEIF_SUFFIXES | JXL_SUFFIXES | RAW_SUFFIXES | SVG_SUFFIXES
"""Of pictures that Pillow does not open (`media.formats`)."""
IMAGE_SUFFIXES = UNUSUAL_SUFFIXES | frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".avif",
    ".avifs", ".ico", ".icns", ".cur", ".tga", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm",
    ".pfm", ".qoi", ".psd", ".dds", ".pcx", ".sgi", ".rgb", ".rgba", ".xbm", ".xpm",
})  # fmt: skip
"""Of pictures; any other file must be wrapped in `Image(...)` or `Video(...)`."""
ANIMATED_SUFFIXES = frozenset({".gif", ".webp", ".png", ".apng", ".avif", ".avifs"})
"""Those of pictures that may move."""
FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
"""Those of pictures that are frames in a folder of frames, as benchmarks publish them."""

Kind: TypeAlias = Literal["text", "image", "video", "page"]
"""Of an item."""
Target: TypeAlias = Literal["image", "video", "page"]
"""Of what can be found: a picture, a span of a video, a page."""
Role: TypeAlias = Literal["query", "document"]
"""Whether an item asks, or is to be found."""

Source: TypeAlias = "Path | bytes | PIL.Image.Image"
ItemLike: TypeAlias = "Item | Image | Video | str | Path | PIL.Image.Image | Mapping[str, object]"


@dataclass(frozen=True, slots=True, init=False)
class Image:
    """A still picture, decoded only when it is embedded.

    Args:
        source: a path, the bytes of a file, or a PIL image. With `page` it is a document.
        page: the page of a PDF, counted from 1; or of an Office file or a web page, which LibreOffice or Chromium draws
            where it is installed.
        as_stored: keep the picture as published benchmarks read it: the stored pixels of the first frame, not turned,
            the alpha channel dropped. If False (the default) it is taken as its owner sees it: turned by its EXIF
            orientation, transparency on white, an animation as a video.
        exif: the old word for `not as_stored`, also accepted in the second place, where it used to stand; deprecated.
    """

    source: Source
    page: int | None = None
    as_stored: bool = False

    def __init__(
        self, source: Source, page: int | None = None, as_stored: bool | None = None, *, exif: bool | None = None
    ) -> None:
        if isinstance(page, bool):
            # The old order: source, exif, page.
            page, as_stored, exif = as_stored, None, page
        object.__setattr__(self, "source", _as_source(source, "Image"))
        if page is not None and (type(page) is not int or page < 1):
            raise InputError(f"page {page!r} of {_name(self.source)}: pages are whole numbers from 1")
        object.__setattr__(self, "page", page)
        object.__setattr__(self, "as_stored", _as_stored(as_stored, exif, "Image"))

    @property
    def kind(self) -> Target:
        """A picture or a page; what is animated counts as a picture until `media.resolve` has told."""
        return "image" if self.page is None else "page"

    @property
    def exif(self) -> bool:
        """The old word for `not as_stored`; deprecated."""
        warnings.warn("Image.exif is deprecated: ask for as_stored, its opposite", DeprecationWarning, stacklevel=2)
        return not self.as_stored


@dataclass(frozen=True, slots=True, init=False)
class Video:
    """A moving picture, decoded only when it is embedded.

    Args:
        source: a video file (path or bytes), a folder of frames (jpg, jpeg, png in natural order of their names), or
            a tuple of frames, each a path, bytes or a PIL image. Frames are picked from files and folders; a tuple is
            used as it is.
        span_s: only the part from start to end, in seconds (video files only).
        as_stored: keep frames as published benchmarks read them: not turned, the alpha channel dropped. If False (the
            default) pictures are taken as their owner sees them: turned by their EXIF orientation, transparency on
            white. Frames inside a video file are the same either way.
        exif: another word for `not as_stored`; deprecated.
    """

    source: Source | tuple[Source, ...]
    span_s: tuple[float, float] | None = None
    as_stored: bool = False
    kind: ClassVar[Target] = "video"

    def __init__(
        self,
        source: Source | tuple[Source, ...],
        span_s: tuple[float, float] | None = None,
        as_stored: bool | None = None,
        *,
        exif: bool | None = None,
    ) -> None:
        if isinstance(source, (tuple, list)):
            if not source:
                raise InputError("a video of no frames: the tuple of frames is empty")
            source = tuple(_as_source(frame, "Video") for frame in source)
        else:
            source = _as_source(source, "Video")
        if span_s is not None:
            if isinstance(source, tuple):
                raise InputError("span_s needs a video file; a tuple of frames has no clock")
            if not _is_span(span_s):
                raise InputError(f"span_s is {span_s!r}: it must be (start, end) with 0 <= start < end, in seconds")
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "span_s", span_s)
        object.__setattr__(self, "as_stored", _as_stored(as_stored, exif, "Video"))


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to embed: a text, any number of media, or both.

    Args:
        text: the words. `<|media|>` in them says where a medium goes, one marker for each medium, in order; without
            a marker the model's prompt style decides.
        media: pictures and videos, in order.
        instruction: what the embedding is for. It beats the prompt style's default.
        verbatim: the whole string as a benchmark publishes it, with `<|media|>` where the visual token stands. Prompt
            styles that follow the publication use it and nothing else; the others compose from the parts.
    """

    text: str = ""
    media: tuple[Image | Video, ...] = ()
    instruction: str | None = None
    verbatim: str | None = None

    def __post_init__(self) -> None:
        for name in ("text", "instruction", "verbatim"):
            value = getattr(self, name)
            if not isinstance(value, str) and (name == "text" or value is not None):
                raise InputError(f"Item.{name} is {shortened(value)}, of type {type(value).__name__}: it must be a str")
        media = tuple(self.media) if isinstance(self.media, (tuple, list)) else (self.media,)
        object.__setattr__(self, "media", media)
        for medium in media:
            if not isinstance(medium, (Image, Video)):
                raise InputError(
                    f"Item.media holds {shortened(medium)}, of type {type(medium).__name__}: wrap it in Image(...) or "
                    "Video(...)"
                )

    @property
    def holds_pictures(self) -> bool:
        """Whether a medium, or a frame of one, is a PIL image and not bytes or a file."""
        sources = [medium.source for medium in self.media]
        return any(_is_pil(one) for source in sources for one in (source if isinstance(source, tuple) else (source,)))


def as_item(value: ItemLike) -> Item:
    """Take an ordinary value as an item.

    A str is always text. A Path is always a file: image or video by its ending, a folder is a folder of frames.
    A mapping may hold `text`, `image`, `video`, `instruction`; under `image` and `video` a str is a path, and a list
    of images is several media.

    Raises:
        InputError: the value is of another type, or a file's ending says neither image nor video.
    """
    if isinstance(value, Item):
        return value
    if isinstance(value, str):
        return Item(text=value)
    if isinstance(value, (Image, Video)):
        return Item(media=(value,))
    if isinstance(value, Path):
        return Item(media=(_medium_of(value),))
    if isinstance(value, Mapping):
        return _item_of_mapping(value)
    if _is_pil(value):
        return Item(media=(Image(value),))
    if isinstance(value, bytes):
        raise InputError("bytes do not say what they are: wrap them in Image(...) or Video(...)")
    raise InputError(
        f"cannot embed a {type(value).__name__}: pass a str (text), a Path (file), a PIL image, an Item, "
        'or a mapping such as {"text": ..., "image": ...}'
    )


def is_single(value: object) -> bool:
    """Whether a value is one item; False for a sequence of them.

    Raises:
        InputError: it is neither.
    """
    if _is_one(value):
        return True
    if isinstance(value, Sequence):
        return False
    raise InputError(f"cannot embed a {type(value).__name__}: pass one item, or a list of items")


def check_several(value: object) -> None:
    """Raise InputError unless a value is an iterable of items; a str is one item, not its letters."""
    if _is_one(value) or not isinstance(value, Iterable):
        raise InputError(f"this takes a list of items, and got one {type(value).__name__}: put it into a list")


def _is_one(value: object) -> bool:
    return isinstance(value, (str, bytes, Path, Item, Image, Video, Mapping)) or _is_pil(value)


def _medium_of(path: Path) -> Image | Video:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return Image(path)
    # Not `Path.is_dir`, which may raise for a name that is too long, or where nobody may look.
    if suffix in VIDEO_SUFFIXES or os.path.isdir(path):
        return Video(path)
    if suffix in PDF_SUFFIXES:
        raise InputError(f"{path} is a PDF, which is many items: pass Image(path, page=1), or read_pages(path) for all")
    raise InputError(
        f"{path}: the ending {suffix!r} is neither an image nor a video; wrap the path in Image(...) or Video(...) "
        "to say what it is, or pass a str for text"
    )


def _item_of_mapping(value: Mapping[str, object]) -> Item:
    unknown = [key for key in value if key not in ("text", "image", "video", "instruction")]
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} in {list(value)}: use text, image, video, instruction")
    text, instruction = value.get("text"), value.get("instruction")
    if text is not None and not isinstance(text, str):
        raise InputError(f"the key 'text' holds a {type(text).__name__}: it must be a str")
    if instruction is not None and not isinstance(instruction, str):
        raise InputError(f"the key 'instruction' holds a {type(instruction).__name__}: it must be a str")
    images, video = value.get("image"), value.get("video")
    media: list[Image | Video] = []
    if images is not None:
        several = images if isinstance(images, (list, tuple)) else [images]
        # Image checks the type of its source itself.
        media += [image if isinstance(image, Image) else Image(image) for image in several]  # type: ignore[arg-type]
    if video is not None:
        frames = tuple(video) if isinstance(video, list) else video
        media.append(frames if isinstance(frames, Video) else Video(frames))  # type: ignore[arg-type]
    return Item(text=text or "", media=tuple(media), instruction=instruction)


def _as_source(value: object, owner: str) -> Source:
    # The field is explicitly a medium here, so a str can only be meant as a path.
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    if isinstance(value, bytes) or _is_pil(value):
        return value  # type: ignore[return-value]
    raise InputError(
        f"{owner} got a {type(value).__name__}: its source must be a path, bytes or a PIL image"
        + (", or a tuple of these as frames" if owner == "Video" else "")
    )


def _as_stored(as_stored: object, exif: object, owner: str) -> bool:
    for name, value in (("as_stored", as_stored), ("exif", exif)):
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{owner}: {name} is {shortened(value)}: it must be True or False")
    if exif is None:
        return bool(as_stored)
    if as_stored is exif:
        raise InputError(f"{owner}: exif={exif} says as_stored={not exif}, but as_stored={as_stored} is given as well")
    warnings.warn(f"exif={exif} is deprecated: pass as_stored={not exif}", DeprecationWarning, stacklevel=3)
    return not exif


def _is_span(value: object) -> bool:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    start_s, end_s = value
    return isinstance(start_s, Real) and isinstance(end_s, Real) and 0 <= float(start_s) < float(end_s)


def _is_pil(value: object) -> bool:
    # By name, so that items stay free of any import that costs start-up time.
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(value).__mro__)


def _name(source: object) -> str:
    return str(source) if isinstance(source, Path) else f"<{type(source).__name__}>"

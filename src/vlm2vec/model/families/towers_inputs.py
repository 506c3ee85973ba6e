"""From an item to what two towers read: pictures of one size, and chunks of word pieces. Without torch.

The parts of an item are its text and each of its media. They are embedded apart from one another, and the vector of the
item is the mean of theirs, each scaled to length one first; the same holds for the chunks of a text that is longer than
the text tower reads, weighted by their length, and for the frames of a video. A page is its picture. Instructions, of
an item or by role, are not read: the towers were trained without; an explicit `prompt` stands in front of the text.
"""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from tokenizers import Tokenizer

from vlm2vec import media as direct
from vlm2vec.documents import problems
from vlm2vec.errors import InputError, MediaError, ModelError
from vlm2vec.items import MEDIA_MARKER, Image, Item, Kind, Video
from vlm2vec.media.source import describe
from vlm2vec.model.backbone import Ask, Capabilities
from vlm2vec.model.checkpoint import SETTINGS_FILE, read_json
from vlm2vec.text import shortened

if TYPE_CHECKING:
    from vlm2vec.media.sandbox import Decoder

Pixels: TypeAlias = NDArray[np.uint8]

_LOG = logging.getLogger("vlm2vec")

PICTURE_COST = 128
"""Of a picture, where a word piece costs 1: what they take of a core's time."""
_LONG_S = 45.0
"""A film's span of so many seconds or more is seen in twice the frames that the model has for one.

More find no more: among the first five were 51, 53 and 53 % of the films of 120 s in 8 shots by 8, 16 and 32 frames,
and 71, 67 and 69 % of those in 16 shots (benchmarks/results/default_model_films.json)."""
_MOST_CHUNKS = 64
"""Of a text; the rest is cut, with a warning."""
_CHARACTERS_A_PIECE = 16
_LONGEST_WORD = 128
"""Pieces that a text may lose at its end if it is cut inside a word: WordPiece gives up at 100 letters."""
_GREY = (127, 127, 127)
# A picture many times as large as wanted is first made smaller by whole numbers, which is faster.
_REDUCING_GAP = 3.0
# A JPEG is decoded at a part of its size as long as it stays so many times as large as wanted, on either side. The
# vectors of photographs are then as near to those of an exact resize as with all pixels and the gap above: 0.9996 and
# 0.9997 in cosine (benchmarks/results/default_model_drafts.json).
_TIMES_AS_LARGE = 2
_RESAMPLING = {
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSide(_Part):
    """How pictures are read.

    Args:
        file: ONNX file from `pixels`, uint8 [N, 3, H, W], to `vectors`, float32 [N, D].
        size: height and width.
        resample: filter by which pictures are resized.
        fit: "squash" takes all of a picture, whatever its aspect; "crop" its middle in the aspect of `size`; "pad" all
            of it in its own aspect, on grey.
        share: of the largest such middle, in each direction.
    """

    file: str = "image.onnx"
    size: tuple[PositiveInt, PositiveInt] = (224, 224)
    resample: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    fit: Literal["crop", "squash", "pad"] = "squash"
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class TextSide(_Part):
    """How texts are read.

    Args:
        file: ONNX file from `ids` and `mask`, int64 [N, T], to `vectors`, float32 [N, D].
        tokenizer: file of the tokenizers library, for WordPiece with [CLS], [SEP] and [UNK].
        max_tokens: of a chunk, with [CLS] and [SEP].
        overlap: word pieces that a chunk shares with the next one.
    """

    file: str = "text.onnx"
    tokenizer: str = "tokenizer.json"
    max_tokens: Annotated[int, Field(ge=8)] = 256
    overlap: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _moves_on(self) -> TextSide:
        if self.overlap > self.max_tokens // 2:
            raise ValueError(f"overlap is {self.overlap}: it must be at most half of max_tokens")
        return self


class VideoSide(_Part):
    """How videos are read.

    Args:
        pool: the mean of its frames' vectors, or the largest number in each dimension.
        num_frames: picked from a video; of a span of 45 s or more twice as many.
    """

    pool: Literal["mean", "max"] = "mean"
    num_frames: PositiveInt = 8


class TowersConfig(_Part):
    """The content of the `vlm2vec.json` of such a model.

    Args:
        dim: dimensions of a vector.
        matryoshka_dims: numbers of leading dimensions that it was trained to give alone.
    """

    family: Literal["towers"]
    dim: PositiveInt
    matryoshka_dims: tuple[PositiveInt, ...] = ()
    image: ImageSide = ImageSide()
    text: TextSide = TextSide()
    video: VideoSide = VideoSide()


def read_towers_config(folder: Path) -> TowersConfig:
    """Of a model's folder.

    Raises:
        ModelError: the file is missing or damaged, or holds an unknown key or a value that makes no sense.
    """
    path = folder / SETTINGS_FILE
    values = read_json(path)
    try:
        return TowersConfig.model_validate(values)
    except ValidationError as error:
        raise ModelError(f"{path}: {'; '.join(problems(error))}") from None


def read_pixels(picture: PIL.Image.Image, side: ImageSide) -> Pixels:
    """A picture as the image tower reads it, uint8 [3, H, W].

    Raises:
        ValueError: its mode cannot be made RGB.
    """
    height, width = side.size
    rgb = picture if picture.mode == "RGB" else picture.convert("RGB")
    box, inner = (0.0, 0.0, float(rgb.width), float(rgb.height)), (width, height)
    if side.fit == "crop":
        box = _middle(rgb.width, rgb.height, width / height, side.share)
    elif side.fit == "pad":
        scale = min(width / rgb.width, height / rgb.height)
        inner = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    seen = rgb.resize(inner, _RESAMPLING[side.resample], box, _REDUCING_GAP)
    if inner != (width, height):
        ground = PIL.Image.new("RGB", (width, height), _GREY)
        ground.paste(seen, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        seen = ground
    return np.ascontiguousarray(np.asarray(seen).transpose(2, 0, 1))


def _least_px(side: ImageSide) -> tuple[int, int]:
    """Width and height of a picture from which the tower's own is made as well as from a larger one."""
    share = side.share if side.fit == "crop" else 1.0
    height, width = side.size
    return math.ceil(_TIMES_AS_LARGE * width / share), math.ceil(_TIMES_AS_LARGE * height / share)


def _middle(width: int, height: int, aspect: float, share: float) -> tuple[float, float, float, float]:
    across = min(width, height * aspect) * share
    down = across / aspect
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


class WordPieces:
    """A tokenizer's file, and how a text of any length is divided into chunks that a tower reads at once.

    Raises:
        ModelError: the file is missing, or no such tokenizer.
    """

    def __init__(self, path: Path, side: TextSide) -> None:
        if not path.is_file():
            raise ModelError(f"{path.parent} holds no {path.name}, so it is no complete checkpoint")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # The library raises bare Exception.
            raise ModelError(f"{path} is no tokenizer that can be read: {error}") from None
        # A checkpoint may store the length limit or padding of its training; neither belongs to one text.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._first, self._last, self._unknown = (self._special(name, path) for name in ("[CLS]", "[SEP]", "[UNK]"))
        self._overlap, self._room = side.overlap, side.max_tokens - 2
        self.most = _MOST_CHUNKS * (self._room - self._overlap)
        """Word pieces of the longest text that is read as a whole."""

    def chunks(self, text: str) -> list[list[int]]:
        """Token ids of each chunk, with [CLS] and [SEP]; chunks are about equally long.

        Raises:
            InputError: the text holds no word piece, none that is known, or half of a surrogate pair.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"a text holds {text[error.start]!r}, no character: {shortened(text)}; read it with errors='replace'"
            ) from None
        ids = self._ids(text)
        if not ids:
            raise InputError(f"the text {shortened(text)} holds no word: an item needs text or a medium")
        if all(one == self._unknown for one in ids):
            raise InputError(f"the text {shortened(text)} holds no word or letter that this model knows")
        count = max(1, math.ceil((len(ids) - self._overlap) / (self._room - self._overlap)))
        step = (len(ids) - self._overlap) / count
        bounds = [math.floor(step * index) for index in range(count)] + [len(ids) - self._overlap]
        return [
            [self._first, *ids[start : end + self._overlap], self._last] for start, end in itertools.pairwise(bounds)
        ]

    def _special(self, token: str, path: Path) -> int:
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise ModelError(f"{path} has no token {token}: it is no tokenizer of BERT's kind")
        return found

    def _ids(self, text: str) -> list[int]:
        # Of a text that is far too long only the beginning is looked at.
        start = text[: _CHARACTERS_A_PIECE * self.most]
        ids: list[int] = self._tokenizer.encode(start, add_special_tokens=False).ids
        if len(start) < len(text) and len(ids) < self.most + _LONGEST_WORD:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) > self.most:
            _LOG.warning("a text was cut at the model's limit of %d word pieces: %r…", self.most, text[:60])
        return ids[: self.most]


class ChunkedText(NamedTuple):
    """The chunks of a text, as token ids with [CLS] and [SEP]."""

    chunks: tuple[list[int], ...]


class Looks(NamedTuple):
    """The frames of a video, or one picture: uint8 [F, 3, H, W]."""

    frames: Pixels


@dataclass(frozen=True, slots=True)
class TowersInput:
    """One item as two towers read it: the parts of which it consists."""

    parts: tuple[ChunkedText | Looks, ...]

    @property
    def cost(self) -> int:
        """Word pieces, and a number of them for each picture."""
        return sum(
            len(part.frames) * PICTURE_COST if isinstance(part, Looks) else sum(map(len, part.chunks))
            for part in self.parts
        )


class TowersProcessor:
    """Prepares items for two towers.

    Args:
        folder: of the model.
        config: that holds.
    """

    def __init__(self, folder: Path, config: TowersConfig) -> None:
        self.config = config
        self.words = WordPieces(folder / config.text.tokenizer, config.text)
        self._least_px = _least_px(config.image)

    def capabilities(self, *, trainable: bool) -> Capabilities:
        """The kinds, dimensions and limits of such a model."""
        return Capabilities(
            dim=self.config.dim,
            token_dim=None,
            kinds=frozenset(get_args(Kind)),
            trainable=trainable,
            max_tokens=self.words.most,
            matryoshka_dims=self.config.matryoshka_dims,
        )

    def prepare(self, item: Item, ask: Ask = Ask(), *, decoder: Decoder = direct) -> TowersInput:
        """Tokenise the text and decode the media of one item.

        Args:
            ask: of it, the prompt is put in front of the text; role and target change nothing.
            decoder: makes pictures of its media.

        Raises:
            InputError: the item is empty, its markers do not fit its media, or its text has no known word.
            MediaError: a medium cannot be read.
        """
        parts: list[ChunkedText | Looks] = []
        if text := _bare(item):
            whole = f"{ask.prompt} {text}" if ask.prompt else text
            parts.append(ChunkedText(tuple(self.words.chunks(whole))))
        parts += [self._looks(medium, decoder) for medium in item.media]
        return TowersInput(tuple(parts))

    def weigh(self, item: Item, *, decoder: Decoder = direct) -> int:
        """Bytes that the pictures of an item take while they are decoded, told from headers."""
        return sum(
            decoder.decoded_bytes(one, num_frames=self._num_frames(one), least_px=self._least_px) for one in item.media
        )

    def _num_frames(self, medium: Image | Video) -> int:
        return _num_frames(medium, self.config.video.num_frames)

    def _looks(self, medium: Image | Video, decoder: Decoder) -> Looks:
        resolved = decoder.resolve(medium)
        found = decoder.load_frames(resolved, num_frames=self._num_frames(resolved), least_px=self._least_px)
        try:
            return Looks(np.stack([read_pixels(picture, self.config.image) for picture in found.images]))
        except ValueError as error:
            mode = found.images[0].mode
            name = describe(medium.source)
            raise MediaError(f"{name} of mode {mode} cannot be made RGB: {error}; save it as PNG") from error


def _bare(item: Item) -> str:
    """The text of an item without markers of media."""
    markers = item.text.count(MEDIA_MARKER)
    if markers not in (0, len(item.media)):
        raise InputError(
            f"{markers} {MEDIA_MARKER} marker(s) but {len(item.media)} media in {shortened(item.text, 80)}: "
            "give one marker for each medium, or none at all"
        )
    text = item.text.replace(MEDIA_MARKER, " ").strip()
    if not text and not item.media:
        raise InputError("an item with neither text nor media cannot be embedded; give it one of them")
    return text


def _num_frames(medium: Image | Video, base: int) -> int:
    """Frames to pick: `base`, or twice as many from a long span."""
    span_s = medium.span_s if isinstance(medium, Video) else None
    return 2 * base if span_s is not None and span_s[1] - span_s[0] >= _LONG_S else base

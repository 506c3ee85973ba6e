"""How does a row of each known form become a training pair? One function a form.

The published forms (TIGER-AI-Lab/VLM2Vec at commit 6e1e1d4) give items whose `verbatim` is the published string. Their
`instruction` is "" where that string has none or holds it unseparably, so that no style's default is put in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

import yaml

from vlm2vec.data.inside import check_inside
from vlm2vec.data.records import Pair, Row, item_of, parse_pair
from vlm2vec.errors import InputError
from vlm2vec.items import MEDIA_MARKER, Image, Item, Video
from vlm2vec.media import DEFAULT_LIMITS, frame_indices
from vlm2vec.media.video import frame_paths
from vlm2vec.text import shortened

Mode: TypeAlias = Literal["caption_retrieval", "video_retrieval"]

PUBLISHED_FRAMES = 8
"""Frames that stand for a video in the published recipe (arXiv 2507.04590)."""

_TO_PAGE = "Find a document image that matches the given query:"
_PAGE = "Understand the content of the provided document image."
_TO_VIDEO = "Find a video that contains the following visual content:"
_VIDEO = "Understand the content of the provided video:"
_ABOUT_VIDEO = "Answer a question based on the content of a video."


@dataclass(frozen=True, slots=True)
class Options:
    """What a parser may be told.

    Args:
        folder: what the paths of `pairs` are relative to.
        image_dir: what all other paths of pictures are relative to.
        frame_dir: where each video is a folder of frames.
        num_frames: that stand for a video, of which it may have more.
        mode: whether captions are sought by videos, or videos by captions.
        query_to_page: a question seeks its page, as in evaluation, not a page and its question the answer.
        placeholder_first: the page stands before its prompt, as in evaluation, not behind it.
        allow_outside: rows may name files outside of these folders.
    """

    folder: Path
    image_dir: Path
    frame_dir: Path
    num_frames: int = PUBLISHED_FRAMES
    mode: Mode | None = None
    query_to_page: bool = False
    placeholder_first: bool = False
    allow_outside: bool = False

    def check(self, path: Path) -> None:
        """Refuse a path that a row may not name. Raises InputError."""
        if not self.allow_outside:
            folders = dict.fromkeys((self.folder, self.image_dir, self.frame_dir))
            check_inside(path, folders, "set allow_outside: true for the source")


class ParseRow(Protocol):
    """From a row, its name and the options to a pair. Raises InputError or MediaError."""

    def __call__(self, row: Row, name: str, options: Options) -> Pair: ...


@dataclass(frozen=True, slots=True)
class Parser:
    """A known form of rows.

    Args:
        parse: makes a pair.
        columns: that a row must have.
        uses: names of the options that have an effect.
        needs: those of them that must be given.
        keeps: whether a row is a pair at all, by `columns` alone; None: each is.
    """

    parse: ParseRow
    columns: tuple[str, ...]
    uses: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    keeps: Callable[[Row], bool] | None = None


def parse_own(row: Row, name: str, options: Options) -> Pair:
    """Our own form: `query`, `positive`, `label`, `negatives`."""
    return parse_pair(row, name, options.folder, options.check)


def parse_columns(row: Row, name: str, options: Options) -> Pair:
    """Sentence-transformers' form: `anchor`, `positive`, and `negative` or `negative_1` to `negative_n`.

    A string is a text, `{"bytes": ..., "path": ...}` a picture, another object an item of our own form. A negative may
    be null.
    """
    negatives = [column for column in row if column not in ("anchor", "positive")]
    for column in negatives:
        number = column.removeprefix("negative_")
        if column != "negative" and (number == column or not number.isdecimal()):
            raise InputError(
                f"unknown column {column!r}: use anchor, positive, and negative or negative_1, negative_2, …"
            )
    # In the order of their numbers: 2 before 10.
    negatives.sort(key=lambda column: (len(column), column))
    present = (column for column in negatives if row[column] is not None)
    query, positive, *others = (_own_item(row, column, options) for column in ("anchor", "positive", *present))
    return Pair(query, positive, None, name, tuple(others))


def parse_mmeb(row: Row, name: str, options: Options) -> Pair:
    """TIGER-Lab/MMEB-train: a text with its instruction and at most one picture on either side."""
    query = _mmeb_item(_nullable(row, "qry"), _nullable(row, "qry_image_path"), options)
    positive = _mmeb_item(_nullable(row, "pos_text"), _nullable(row, "pos_image_path"), options)
    texts, paths = _listed(row, "neg_text"), _listed(row, "neg_image_path")
    if texts and paths and len(texts) != len(paths):
        raise InputError(f"{len(texts)} entries in 'neg_text' but {len(paths)} in 'neg_image_path'")
    negatives = [(text, path) for text, path in zip_longest(texts, paths, fillvalue="") if text or path]
    return Pair(query, positive, None, name, tuple(_mmeb_item(text, path, options) for text, path in negatives))


def keeps_mmeb(row: Row) -> bool:
    """Whether both sides have a text or a picture."""
    return bool((row["qry"] or row["qry_image_path"]) and (row["pos_text"] or row["pos_image_path"]))


def parse_vidore(row: Row, name: str, options: Options) -> Pair:
    """vidore/colpali_train_set: as published a page and its question seek the answer."""
    page, query = _picture(row, "image", options), _text(row, "query")
    if options.query_to_page:
        positive = Item("", (page,), _PAGE, f"{MEDIA_MARKER} {_PAGE}")
        return Pair(Item(query, (), _TO_PAGE, f"{_TO_PAGE} {query}"), positive, None, name)
    answer = _text(row, "answer")
    question = Item(query, (page,), "", f"{MEDIA_MARKER} {query}")
    return Pair(question, Item(answer, (), "", answer), None, name)


def parse_visrag(row: Row, name: str, options: Options) -> Pair:
    """openbmb/VisRAG-Ret-Train-In-domain-data: a question seeks its page, each with a prompt by the page's source."""
    page, query = _picture(row, "image", options), _text(row, "query")
    if "source" not in row:
        raise InputError("column 'source' is missing")
    # As published whatever is no known source has no prompts, null too.
    prompts = _visrag_prompts().get(row["source"]) if isinstance(row["source"], str) else None
    if prompts is None:
        asked, shown, inquiry, about = f"{query} ", f" {MEDIA_MARKER}", "", ""
    else:
        inquiry, about = prompts["query"], prompts["page"]
        # Spaces as published: the prompt ends in one, and an empty query stands before the placeholder.
        asked, shown = f"{inquiry} {query} ", f"{about}  {MEDIA_MARKER}"
    if options.placeholder_first:
        shown = f"{MEDIA_MARKER} {about}".rstrip()
    return Pair(Item(query, (), inquiry.strip(), asked), Item("", (page,), about, shown), None, name)


def parse_llavahound_caption(row: Row, name: str, options: Options) -> Pair:
    """LLaVA-Hound's captions: the video and a request seek the caption, or the caption seeks the video."""
    (request, caption), video = _conversation(row), _frames(row, options)
    if options.mode == "video_retrieval":
        positive = Item("", (video,), _VIDEO, f"{_VIDEO} {MEDIA_MARKER}")
        return Pair(Item(caption, (), _TO_VIDEO, f"{_TO_VIDEO} {caption}"), positive, None, name)
    return Pair(_whole(_with_marker(request), (video,)), Item(caption, (), "", caption), None, name)


def parse_llavahound_qa(row: Row, name: str, options: Options) -> Pair:
    """LLaVA-Hound's questions: the video and the question seek the answer."""
    (question, answer), video = _conversation(row), _frames(row, options)
    asked = _with_marker(question)
    query = Item(_whole(asked, (video,)).text, (video,), _ABOUT_VIDEO, f"{_ABOUT_VIDEO} {asked}")
    return Pair(query, Item(answer, (), "", answer), None, name)


PARSERS: Mapping[str, Parser] = MappingProxyType(
    {
        "pairs": Parser(parse_own, ("query", "positive")),
        "columns": Parser(parse_columns, ("anchor", "positive"), frozenset({"image_dir"})),
        "mmeb": Parser(
            parse_mmeb,
            ("qry", "qry_image_path", "pos_text", "pos_image_path"),
            frozenset({"image_dir"}),
            frozenset({"image_dir"}),
            keeps_mmeb,
        ),
        "vidore": Parser(parse_vidore, ("query", "image", "answer"), frozenset({"query_to_page"})),
        "visrag": Parser(parse_visrag, ("query", "image", "source"), frozenset({"placeholder_first"})),
        "llavahound_caption": Parser(
            parse_llavahound_caption,
            ("video", "conversations"),
            frozenset({"frame_dir", "num_frames", "mode"}),
            frozenset({"frame_dir", "mode"}),
        ),
        "llavahound_qa": Parser(
            parse_llavahound_qa,
            ("video", "conversations"),
            frozenset({"frame_dir", "num_frames"}),
            frozenset({"frame_dir"}),
        ),
    }
)


def _text(row: Row, column: str) -> str:
    if column not in row:
        raise InputError(f"column {column!r} is missing")
    return _checked(row[column], column)


def _nullable(row: Row, column: str) -> str:
    return "" if column in row and row[column] is None else _text(row, column)


def _listed(row: Row, column: str) -> list[str]:
    value = row.get(column)
    several = value if isinstance(value, list) else [] if value is None else [value]
    return [_checked(one, column) for one in several]


def _checked(value: object, column: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"column {column!r} holds {shortened(value)}: it must be a text")
    if MEDIA_MARKER in value:
        raise InputError(f"column {column!r} holds the text {MEDIA_MARKER}, which would be taken for a medium's place")
    return value


def _value(row: Row, column: str) -> object:
    if row.get(column) is None:
        raise InputError(f"column {column!r} is missing or null")
    return row[column]


def _whole(string: str, media: tuple[Image | Video, ...]) -> Item:
    """Item of a published string that holds its instruction. The marker stays in `text` where it has a place inside."""
    text = string.strip()
    if string.count(MEDIA_MARKER) == len(media) == 1:
        text = text.removeprefix(MEDIA_MARKER).removesuffix(MEDIA_MARKER).strip()
    return Item(text, media, "", string)


def _mmeb_item(text: str, path: str, options: Options) -> Item:
    media = (Image(_checked_path(options.image_dir / path, options), as_stored=True),) if path else ()
    return _whole(text.replace("<|image_1|>", MEDIA_MARKER), media)


def _with_marker(text: str) -> str:
    return text.replace("<video>", MEDIA_MARKER)


def _conversation(row: Row) -> tuple[str, str]:
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(f"column 'conversations' holds {shortened(turns)}: it must be a list of two objects or more")
    first, second = (_checked(turn.get("value"), "conversations") for turn in turns[:2])
    return first, second


def _frames(row: Row, options: Options) -> Video:
    paths = frame_paths(_checked_path(options.frame_dir / _text(row, "video"), options), DEFAULT_LIMITS)
    picked = (paths[position] for position in frame_indices(len(paths), options.num_frames))
    return Video(tuple(_checked_path(path, options) for path in picked), as_stored=True)


def _picture(row: Row, column: str, options: Options) -> Image:
    return Image(_stored(_value(row, column), column, options), as_stored=True)


def _own_item(row: Row, column: str, options: Options) -> Item:
    value = _value(row, column)
    if isinstance(value, dict) and value and set(value) <= {"bytes", "path"}:
        return Item(media=(Image(_stored(value, column, options)),))
    return item_of(value, options.image_dir, options.check)


def _stored(value: object, column: str, options: Options) -> Path | bytes:
    """A picture as `datasets` stores it: its bytes, else a path."""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, value)
    if isinstance(data, bytes):
        return data
    if not isinstance(path, str) or not path:
        raise InputError(f"column {column!r} holds {shortened(value)}: it must be a picture, as bytes or path")
    return _checked_path(options.image_dir / path, options)


def _checked_path(path: Path, options: Options) -> Path:
    options.check(path)
    return path


@cache
def _visrag_prompts() -> Mapping[str, Mapping[str, str]]:
    prompts: Mapping[str, Mapping[str, str]] = yaml.safe_load(
        Path(__file__).with_name("visrag_prompts.yaml").read_text("utf-8")
    )
    return prompts

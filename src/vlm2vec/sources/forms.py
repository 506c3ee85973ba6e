"""In which forms do training rows come? One class a form: its options, and how a row becomes a training pair.

The published forms (TIGER-AI-Lab/VLM2Vec at commit 6e1e1d4) give items whose `verbatim` is the published string. Their
`instruction` is "" where that string has none or holds it unseparably, so that no style's default is put in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import yaml
from pydantic import Discriminator, PositiveInt, Tag, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from vlm2vec.data.records import Pair, Row, item_of, parse_pair
from vlm2vec.data.rows import Columns
from vlm2vec.data.tables import Table
from vlm2vec.errors import ConfigError, DataError, InputError
from vlm2vec.items import MEDIA_MARKER, Image, Item, Video
from vlm2vec.media import DEFAULT_LIMITS, frame_indices
from vlm2vec.media.video import frame_paths
from vlm2vec.sources.source import OPTIONS, RowSource, SourceFields
from vlm2vec.text import did_you_mean, shortened

_TO_PAGE = "Find a document image that matches the given query:"
_PAGE = "Understand the content of the provided document image."
_TO_VIDEO = "Find a video that contains the following visual content:"
_VIDEO = "Understand the content of the provided video:"
_ABOUT_VIDEO = "Answer a question based on the content of a video."


class OwnSource(SourceFields):
    """Own data that say by their columns whether they are of the form "pairs" or "columns".

    Args:
        image_dir: for the form "columns": what paths of pictures are relative to; None: the folder of the data.
    """

    parser: None = None
    image_dir: Path | None = None

    @model_validator(mode="after")
    def _is_own(self) -> OwnSource:
        if self.path is None:
            raise ValueError(f"give 'parser', one of {', '.join(FORMS)}")
        return self

    def form(self, table: Table) -> RowSource:
        columns = table.columns or tuple(table[0])
        fields = self.model_dump(exclude_unset=True, exclude={"parser"})
        if {*_PairSource.columns} <= {*columns}:
            if self.image_dir is not None:
                raise ConfigError("'image_dir' has no effect with parser 'pairs', which has no options; leave it out")
            return _PairSource.model_validate(fields)
        if {*_ColumnSource.columns} <= {*columns}:
            return _ColumnSource.model_validate(fields)
        raise DataError(
            f"the rows hold {', '.join(columns) or 'nothing'}: they need 'query' and 'positive', or 'anchor' and "
            f"'positive', or a 'parser', one of {', '.join(FORMS)}"
        )


class _PairSource(RowSource):
    """Our own form: `query`, `positive`, `label`, `negatives`."""

    columns = ("query", "positive")
    parser: Literal["pairs"] = "pairs"

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        return parse_pair(row, name, folder, partial(self.check, folder=folder))


class _ColumnSource(RowSource):
    """Sentence-transformers' form: `anchor`, `positive`, and `negative` or `negative_1` to `negative_n`.

    A string is a text, `{"bytes": ..., "path": ...}` a picture, another object an item of our own form. A negative may
    be null.

    Args:
        image_dir: what paths of pictures are relative to; None: the folder of the data.
    """

    columns = ("anchor", "positive")
    parser: Literal["columns"] = "columns"
    image_dir: Path | None = None

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        negatives = [column for column in row.values if column not in ("anchor", "positive")]
        for column in negatives:
            number = column.removeprefix("negative_")
            if column != "negative" and (number == column or not number.isdecimal()):
                raise InputError(
                    f"unknown column {column!r}: use anchor, positive, and negative or negative_1, negative_2, …"
                )
        # In the order of their numbers: 2 before 10.
        negatives.sort(key=lambda column: (len(column), column))
        present = (column for column in negatives if row.values[column] is not None)
        query, positive, *others = (self._item(row, column, folder) for column in ("anchor", "positive", *present))
        return Pair(query, positive, None, name, tuple(others))

    def _item(self, row: Columns, column: str, folder: Path) -> Item:
        value = row.value(column)
        if value is None:
            raise row.wrong(column, "is null: it must hold a text, a picture or an item")
        if isinstance(value, dict) and value and set(value) <= {"bytes", "path"}:
            return Item(media=(self.picture(row, column, folder, as_stored=False),))
        return item_of(value, self.place(folder), partial(self.check, folder=folder))

    def place(self, folder: Path) -> Path:
        return self.image_dir or folder


class _MmebSource(RowSource):
    """TIGER-Lab/MMEB-train: a text with its instruction and at most one picture on either side.

    Args:
        image_dir: what paths of pictures are relative to.
    """

    columns = ("qry", "qry_image_path", "pos_text", "pos_image_path")
    selects = True
    parser: Literal["mmeb"] = "mmeb"
    image_dir: Path

    def keeps(self, row: Row) -> bool:
        """Whether both sides have a text or a picture."""
        return bool((row["qry"] or row["qry_image_path"]) and (row["pos_text"] or row["pos_image_path"]))

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        query = self._item(row.text("qry", nullable=True), row.text("qry_image_path", nullable=True), folder)
        positive = self._item(row.text("pos_text", nullable=True), row.text("pos_image_path", nullable=True), folder)
        texts, paths = _listed(row, "neg_text"), _listed(row, "neg_image_path")
        if texts and paths and len(texts) != len(paths):
            raise InputError(f"{len(texts)} entries in 'neg_text' but {len(paths)} in 'neg_image_path'")
        negatives = [(text, path) for text, path in zip_longest(texts, paths, fillvalue="") if text or path]
        return Pair(query, positive, None, name, tuple(self._item(text, path, folder) for text, path in negatives))

    def _item(self, text: str, path: str, folder: Path) -> Item:
        media = (Image(self.check(self.image_dir / path, folder), as_stored=True),) if path else ()
        return _whole(text.replace("<|image_1|>", MEDIA_MARKER), media)

    def place(self, folder: Path) -> Path:
        return self.image_dir


class _VidoreSource(RowSource):
    """vidore/colpali_train_set: as published a page and its question seek the answer.

    Args:
        query_to_page: a question seeks its page, as in evaluation.
    """

    columns = ("query", "image", "answer")
    parser: Literal["vidore"] = "vidore"
    query_to_page: bool = False

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        page, query = self.picture(row, "image", folder, as_stored=True), row.text("query")
        if self.query_to_page:
            positive = Item("", (page,), _PAGE, f"{MEDIA_MARKER} {_PAGE}")
            return Pair(Item(query, (), _TO_PAGE, f"{_TO_PAGE} {query}"), positive, None, name)
        answer = row.text("answer")
        question = Item(query, (page,), "", f"{MEDIA_MARKER} {query}")
        return Pair(question, Item(answer, (), "", answer), None, name)


class _VisragSource(RowSource):
    """openbmb/VisRAG-Ret-Train-In-domain-data: a question seeks its page, each with a prompt by the page's source.

    Args:
        placeholder_first: the page stands before its prompt, as in evaluation, not behind it.
    """

    columns = ("query", "image", "source")
    parser: Literal["visrag"] = "visrag"
    placeholder_first: bool = False

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        page, query = self.picture(row, "image", folder, as_stored=True), row.text("query")
        source = row.value("source")
        # As published a source that is not known has no prompts, null included.
        prompts = _visrag_prompts().get(source) if isinstance(source, str) else None
        if prompts is None:
            asked, shown, inquiry, about = f"{query} ", f" {MEDIA_MARKER}", "", ""
        else:
            inquiry, about = prompts["query"], prompts["page"]
            # Spaces as published: the prompt ends in one, and an empty query stands before the placeholder.
            asked, shown = f"{inquiry} {query} ", f"{about}  {MEDIA_MARKER}"
        if self.placeholder_first:
            shown = f"{MEDIA_MARKER} {about}".rstrip()
        return Pair(Item(query, (), inquiry.strip(), asked), Item("", (page,), about, shown), None, name)


class _VideoSource(RowSource):
    """LLaVA-Hound's rows: a video, and two turns of a conversation about it.

    Args:
        frame_dir: where each video is a folder of frames.
        num_frames: that stand for a video, of which it may have more; 8 in the published recipe (arXiv 2507.04590).
    """

    columns = ("video", "conversations")
    frame_dir: Path
    num_frames: PositiveInt = 8

    def _frames(self, row: Columns, folder: Path) -> Video:
        paths = frame_paths(self.check(self.frame_dir / row.text("video"), folder), DEFAULT_LIMITS)
        picked = (paths[position] for position in frame_indices(len(paths), self.num_frames))
        return Video(tuple(self.check(path, folder) for path in picked), as_stored=True)

    def place(self, folder: Path) -> Path:
        return self.frame_dir


class _LlavahoundCaptionSource(_VideoSource):
    """LLaVA-Hound's captions: the video and a request seek the caption, or the caption seeks the video.

    Args:
        mode: whether captions are sought by videos, or videos by captions.
    """

    parser: Literal["llavahound_caption"] = "llavahound_caption"
    mode: Literal["caption_retrieval", "video_retrieval"]

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        (request, caption), video = _conversation(row), self._frames(row, folder)
        if self.mode == "video_retrieval":
            positive = Item("", (video,), _VIDEO, f"{_VIDEO} {MEDIA_MARKER}")
            return Pair(Item(caption, (), _TO_VIDEO, f"{_TO_VIDEO} {caption}"), positive, None, name)
        return Pair(_whole(_with_marker(request), (video,)), Item(caption, (), "", caption), None, name)


class _LlavahoundQaSource(_VideoSource):
    """LLaVA-Hound's questions: the video and the question seek the answer."""

    parser: Literal["llavahound_qa"] = "llavahound_qa"

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        (question, answer), video = _conversation(row), self._frames(row, folder)
        asked = _with_marker(question)
        query = Item(_whole(asked, (video,)).text, (video,), _ABOUT_VIDEO, f"{_ABOUT_VIDEO} {asked}")
        return Pair(query, Item(answer, (), "", answer), None, name)


FORMS: Mapping[str, type[RowSource]] = MappingProxyType(
    {
        "pairs": _PairSource,
        "columns": _ColumnSource,
        "mmeb": _MmebSource,
        "vidore": _VidoreSource,
        "visrag": _VisragSource,
        "llavahound_caption": _LlavahoundCaptionSource,
        "llavahound_qa": _LlavahoundQaSource,
    }
)
"""Each form by the name that a configuration gives as `parser`."""


def _form_of(fields: object) -> str:
    """The form that the fields of a source name; "" if they name none, or are no mapping."""
    parser = fields.get("parser") if isinstance(fields, Mapping) else getattr(fields, "parser", None)
    return "" if parser is None else str(parser)


SourceConfig: TypeAlias = Annotated[
    Annotated[OwnSource, Tag("")]
    | Annotated[_PairSource, Tag("pairs")]
    | Annotated[_ColumnSource, Tag("columns")]
    | Annotated[_MmebSource, Tag("mmeb")]
    | Annotated[_VidoreSource, Tag("vidore")]
    | Annotated[_VisragSource, Tag("visrag")]
    | Annotated[_LlavahoundCaptionSource, Tag("llavahound_caption")]
    | Annotated[_LlavahoundQaSource, Tag("llavahound_qa")],
    Discriminator(_form_of),
]
"""One source of a mixture, of any form."""

_SOURCE: TypeAdapter[SourceConfig] = TypeAdapter(SourceConfig)


def parse_source(name: str, fields: object) -> SourceConfig:
    """The source that fields describe.

    Args:
        name: for messages.
        fields: a mapping, as a configuration has it.

    Raises:
        ConfigError: a field is unknown, wrong or missing, or of another form; the message names each.
    """
    try:
        return _SOURCE.validate_python(fields)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for found in error.errors():
            field = str(found["loc"][1]) if len(found["loc"]) > 1 else ""
            # A union tells every way in which the value is wrong; the first is enough.
            problems.setdefault(field, _problem(_form_of(fields), field, found))
        raise ConfigError(f"source {name!r}: {'; '.join(problems.values())}") from None


def _problem(form: str, field: str, found: ErrorDetails) -> str:
    """The mistake in a field, in the words of a configuration."""
    if found["type"] == "union_tag_invalid":
        return f"no parser is named {form!r}{did_you_mean(form, FORMS) or ';'} use one of {', '.join(FORMS)}"
    if found["type"] == "missing":
        return f"parser {form!r} needs {field!r}"
    model = FORMS.get(form, OwnSource)
    if found["type"] == "extra_forbidden" and field in OPTIONS:
        own = [option for option in OPTIONS if option in model.model_fields]
        uses = f"uses {', '.join(own)}" if own else "has no options"
        of_form = f"with parser {form!r}" if form else "without 'parser'"
        return f"{field!r} has no effect {of_form}, which {uses}; leave it out"
    hint = did_you_mean(field, model.model_fields) if found["type"] == "extra_forbidden" else ""
    return f"{field and field + ': '}{found['msg'].removeprefix('Value error, ')}{hint}"


def _listed(row: Columns, column: str) -> list[str]:
    """The texts of a column that holds several, one or none, or is missing."""
    value = row.values.get(column)
    several = value if isinstance(value, list) else [] if value is None else [value]
    return [row.checked(one, column) for one in several]


def _whole(string: str, media: tuple[Image | Video, ...]) -> Item:
    """Item of a published string that holds its instruction. The marker stays in `text` where it has a place inside."""
    text = string.strip()
    if string.count(MEDIA_MARKER) == len(media) == 1:
        text = text.removeprefix(MEDIA_MARKER).removesuffix(MEDIA_MARKER).strip()
    return Item(text, media, "", string)


def _with_marker(text: str) -> str:
    return text.replace("<video>", MEDIA_MARKER)


def _conversation(row: Columns) -> tuple[str, str]:
    turns = row.value("conversations")
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns):
        raise row.wrong("conversations", f"holds {shortened(turns)}: it must be a list of two objects or more")
    first, second = (row.checked(turn.get("value"), "conversations") for turn in turns[:2])
    return first, second


@cache
def _visrag_prompts() -> Mapping[str, Mapping[str, str]]:
    prompts: Mapping[str, Mapping[str, str]] = yaml.safe_load(
        Path(__file__).with_name("visrag_prompts.yaml").read_text("utf-8")
    )
    return prompts

"""What does a source of training rows say of itself, in which forms do rows come, and how do they become pairs?

The published forms (TIGER-AI-Lab/VLM2Vec at commit 6e1e1d4) give items whose `verbatim` is the published string. Their
`instruction` is "" where that string has none or holds it unseparably, so that no style's default is put in front.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import islice, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    PositiveFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from vlm2vec.data.records import Columns, Pair, PairRows, check_inside, item_of, parse_pair
from vlm2vec.data.tables import FetchTable, Table, TableName, open_table
from vlm2vec.errors import ConfigError, DataError, InputError, VLM2VecError
from vlm2vec.items import MEDIA_MARKER, Image, Item, Video
from vlm2vec.media import DEFAULT_LIMITS, frame_indices
from vlm2vec.media.video import frame_paths
from vlm2vec.text import did_you_mean, shortened

_LOG = logging.getLogger("vlm2vec")

ORIGINS = ("path", "dataset", "annotation_file")
"""Fields that say where rows are; a source has one of them."""

_OPTIONS = ("image_dir", "frame_dir", "num_frames", "mode", "query_to_page", "placeholder_first")
"""Fields that some forms have and others have not."""

_TO_PAGE = "Find a document image that matches the given query:"
_PAGE = "Understand the content of the provided document image."
_TO_VIDEO = "Find a video that contains the following visual content:"
_VIDEO = "Understand the content of the provided video:"
_ABOUT_VIDEO = "Answer a question based on the content of a video."


class _SourceFields(BaseModel, ABC):
    """One source of a mixture.

    Args:
        weight: share of the mixture, in any unit; with stages one for each.
        path: own data, as `open_table` takes them.
        dataset, config, split: data as on the hub, from the mirror in data_root. `split` is "train" if left out; with
            `path` it names a split of a saved `DatasetDict`.
        annotation_file: a file in data_root.
        download: get `dataset` from the hub if the mirror does not have it.
        max_rows: take the first so many rows.
        allow_outside: rows may name files outside of the folders that their paths are relative to: by absolute paths,
            by "..", or by links.
        temperature: of the loss for rows of this source; None: the loss's own.
        max_pixels: of a picture or frame of this source, where that is less than what `inputs` allow: large ones only
            where they must be read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float | tuple[float, ...] = 1.0
    path: Path | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    annotation_file: Path | None = None
    download: bool = False
    max_rows: PositiveInt | None = None
    allow_outside: bool = False
    temperature: PositiveFloat | None = None
    max_pixels: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_idle(cls, values: object) -> object:
        """Fields at rest say nothing: a run's saved configuration may hold those of all forms."""
        if not isinstance(values, dict):
            return values
        return {field: value for field, value in values.items() if field not in _OPTIONS or value not in (None, False)}

    @field_validator("weight")
    @classmethod
    def _some_weight(cls, weight: float | tuple[float, ...]) -> float | tuple[float, ...]:
        stages = weight if isinstance(weight, tuple) else (weight,)
        if not all(0 <= one < math.inf for one in stages) or not any(stages):
            raise ValueError("a weight must be above 0, and of the weights of stages at least one")
        return weight

    @model_validator(mode="after")
    def _has_one_origin(self) -> _SourceFields:
        given = [field for field in ORIGINS if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of path, dataset and annotation_file, not {' and '.join(given) or 'none'}")
        if self.dataset is None and (self.config is not None or self.download):
            raise ValueError("'config' and 'download' belong to 'dataset', which is not given")
        if self.annotation_file is not None and self.split is not None:
            raise ValueError("'split' does not belong to 'annotation_file', which is one file")
        return self

    def open(self, name: str, root: Path | None, *, fetch: FetchTable | None = None) -> Sequence[Pair]:
        """Open the rows; of a form that has rows which are no pairs, those are looked for at once.

        Paths must be absolute, as `read_sources` makes them.

        Args:
            name: of the source, for messages.
            fetch: opens a table that the mirror lacks, if `download` is set.

        Returns:
            Pairs, each read when it is asked for; a row that cannot be read is a DataError then.

        Raises:
            DataError: the data are missing or empty, or of another form.
            ConfigError: an option has no effect for rows of this form.
        """
        try:
            table, folder = self._table(root, fetch)
            if not len(table):
                raise DataError("the data hold no row")
            form = self.form(table)
            return PairRows(table, partial(form.parse, folder=folder), form.pairs_in(table, name))
        except VLM2VecError as error:
            raise error.of(f"source {name!r}") from None

    @abstractmethod
    def form(self, table: Table) -> _RowSource:
        """The source as of the form that its rows have."""

    def _table(self, root: Path | None, fetch: FetchTable | None) -> tuple[Table, Path]:
        """The table, and the folder that paths in it are relative to."""
        if self.dataset is not None:
            table = TableName(self.dataset, self.config, self.split or "train")
            remedy = "put it there (docs/data.md says how) or set download: true to ask the hub"
            return table.open(root, fetch=fetch if self.download else None, remedy=remedy), root or Path()
        path = self.path or self.annotation_file or Path()
        return open_table(path, self.split), path if path.is_dir() else path.parent


class _RowSource(_SourceFields):
    """A source of a known form."""

    columns: ClassVar[tuple[str, ...]]
    """A row must have them."""

    @abstractmethod
    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        """Make a pair of the row of a name, of data that lie in `folder`.

        Raises:
            DataError, InputError: the row is malformed, or names a file that it may not name.
            MediaError: a video has no frames.
        """

    def form(self, table: Table) -> _RowSource:
        return self

    def pairs_in(self, table: Table, name: str) -> range | NDArray[np.int64]:
        """Numbers of the rows that are pairs; `name` is the source's, for messages.

        Raises:
            DataError: a column is missing, or no row is a pair.
        """
        missing = [column for column in self.columns if table.columns is not None and column not in table.columns]
        if missing:
            raise DataError(f"the rows have no column {missing[0]!r}, only {', '.join(table.columns or ())}")
        return range(min(len(table), self.max_rows or len(table)))

    def place(self, folder: Path) -> Path:
        """The folder that paths in rows are relative to."""
        return folder

    def check(self, path: Path, folder: Path) -> Path:
        """The same path, unless a row may not name it."""
        if not self.allow_outside:
            folders = dict.fromkeys((folder, self.place(folder)))
            check_inside(path, folders, remedy="set allow_outside: true for the source")
        return path

    def picture(self, row: Columns, column: str, folder: Path, *, as_stored: bool) -> Image:
        """The picture in a column."""
        stored = row.picture(column)
        source = stored if isinstance(stored, bytes) else self.check(self.place(folder) / stored, folder)
        return Image(source, as_stored=as_stored)


class OwnSource(_SourceFields):
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

    def form(self, table: Table) -> _RowSource:
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


class _PairSource(_RowSource):
    """Our own form: `query`, `positive`, `label`, `negatives`."""

    columns = ("query", "positive")
    parser: Literal["pairs"] = "pairs"

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        return parse_pair(row, name, folder, partial(self.check, folder=folder))


class _ColumnSource(_RowSource):
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


class _MmebSource(_RowSource):
    """TIGER-Lab/MMEB-train: a text with its instruction and at most one picture, in `image_dir`, on either side."""

    columns = ("qry", "qry_image_path", "pos_text", "pos_image_path")
    parser: Literal["mmeb"] = "mmeb"
    image_dir: Path

    def pairs_in(self, table: Table, name: str) -> range | NDArray[np.int64]:
        count = len(super().pairs_in(table, name))
        # A row that cannot be judged is kept, to be told when it is read.
        kept = np.flatnonzero(
            [
                not row
                or not set(row) >= set(self.columns)
                or bool((row["qry"] or row["qry_image_path"]) and (row["pos_text"] or row["pos_image_path"]))
                for row in islice(table.scan(self.columns), count)
            ]
        )
        if not len(kept):
            raise DataError(f"none of {count} rows has a text or a picture on both sides")
        if len(kept) < count:
            left_out = f"{count - len(kept):,} of {count:,} rows have nothing on one side and are left out"
            _LOG.warning("source %r: %s, as published", name, left_out)
        return kept

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


class _VidoreSource(_RowSource):
    """vidore/colpali_train_set: as published a page and its question seek the answer.

    With `query_to_page` a question seeks its page, as in evaluation.
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


class _VisragSource(_RowSource):
    """openbmb/VisRAG-Ret-Train-In-domain-data: a question seeks its page, each with a prompt by the page's source.

    With `placeholder_first` the page stands before its prompt, as in evaluation, not behind it.
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


class _VideoSource(_RowSource):
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
    """LLaVA-Hound's captions: by `mode` the video and a request seek the caption, or the caption seeks the video."""

    parser: Literal["llavahound_caption"] = "llavahound_caption"
    mode: Literal["caption_retrieval", "video_retrieval"]

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        (request, caption), video = _conversation(row), self._frames(row, folder)
        if self.mode == "video_retrieval":
            positive = Item("", (video,), _VIDEO, f"{_VIDEO} {MEDIA_MARKER}")
            return Pair(Item(caption, (), _TO_VIDEO, f"{_TO_VIDEO} {caption}"), positive, None, name)
        return Pair(_whole(request, (video,)), Item(caption, (), "", caption), None, name)


class _LlavahoundQaSource(_VideoSource):
    """LLaVA-Hound's questions: the video and the question seek the answer."""

    parser: Literal["llavahound_qa"] = "llavahound_qa"

    def parse(self, row: Columns, name: str, *, folder: Path) -> Pair:
        (question, answer), video = _conversation(row), self._frames(row, folder)
        query = Item(_whole(question, (video,)).text, (video,), _ABOUT_VIDEO, f"{_ABOUT_VIDEO} {question}")
        return Pair(query, Item(answer, (), "", answer), None, name)


FORMS: Mapping[str, type[_RowSource]] = {
    "pairs": _PairSource,
    "columns": _ColumnSource,
    "mmeb": _MmebSource,
    "vidore": _VidoreSource,
    "visrag": _VisragSource,
    "llavahound_caption": _LlavahoundCaptionSource,
    "llavahound_qa": _LlavahoundQaSource,
}
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
    """The source that the fields of a configuration describe.

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
    if found["type"] == "extra_forbidden" and field in _OPTIONS:
        own = [option for option in _OPTIONS if option in model.model_fields]
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


def _conversation(row: Columns) -> tuple[str, str]:
    """What is asked, with the video's place marked, and the answer."""
    turns = row.value("conversations")
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns):
        raise row.wrong("conversations", f"holds {shortened(turns)}: it must be a list of two objects or more")
    first, second = (row.checked(turn.get("value"), "conversations") for turn in turns[:2])
    return first.replace("<video>", MEDIA_MARKER), second


@cache
def _visrag_prompts() -> Mapping[str, Mapping[str, str]]:
    return MappingProxyType(yaml.safe_load(Path(__file__).with_name("visrag_prompts.yaml").read_text("utf-8")))

"""How do the rows of MMEB-V2's video tasks become queries and candidates? One parser a form.

A video is a folder of frames, of which some are picked. Every string is the published one (TIGER-AI-Lab/VLM2Vec at
commit 6e1e1d4).
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import yaml

from vlm2vec.data.tables import TableName
from vlm2vec.tasks.data import TaskData, TaskParser
from vlm2vec.tasks.reading import TaskReader, TaskRow, composed

_NUM_FRAMES = 8
"""Frames that stand for a video in the published evaluation (arXiv 2507.04590)."""


@dataclass(frozen=True, kw_only=True)
class _LabelParser(TaskParser):
    """Reads a task of a video and its label: columns `video_id` and `pos_text`.

    Args:
        labels: a packaged list of all labels.
        listed: column in which each row lists its labels, where there is no such list.
    """

    labels: str | None = None
    listed: str | None = None

    def parse(self, reader: TaskReader) -> TaskData:
        fixed = _packaged_labels(self.labels) if self.labels else ()
        known = frozenset(fixed)
        row = None
        for row in reader.rows():
            label = row.text("pos_text")
            query = composed(reader.spec.instruction, medium=reader.video(row, row.key("video_id"), _NUM_FRAMES))
            if self.listed:
                pool = [reader.candidate(row, self.listed, text, text) for text in row.texts(self.listed)]
                reader.query(row, query, [label], pool=pool, column=self.listed)
                continue
            if label not in known:
                reader.warn(row, "pos_text", f"the label is not on the list {self.labels}; it becomes a candidate")
            reader.query(row, query, [reader.candidate(row, "pos_text", label, label)], column="pos_text")
        if row is not None:
            for text in fixed:
                reader.candidate(row, "pos_text", text, text)
        return reader.data()


class _Choices(NamedTuple):
    """A question with its answers: the text that asks it, names and texts of the answers, name of the right one."""

    body: str
    names: list[str]
    texts: list[str]
    label: str


@dataclass(frozen=True, kw_only=True)
class _ChoiceParser(TaskParser):
    """Reads a task of questions about a video with answers to choose from.

    Args:
        form: which columns hold question and answers, and how they are written down.
        video: column of the video's folder.
        prefix: of the folder's name.
        configs: configurations to read one after the other, each with a folder of its own; empty: the task's own.
    """

    form: Literal["lettered", "five-columns", "written", "written-inline", "yes-no"]
    video: str
    prefix: str = ""
    configs: tuple[str, ...] = ()

    def tables(self, own: TableName) -> list[TableName]:
        return [own._replace(config=config or own.config) for config in self.configs or (None,)]

    def parse(self, reader: TaskReader) -> TaskData:
        read, column = _FORMS[self.form]
        for config in self.configs or (None,):
            # No table is opened without need: a limit may be reached before.
            for row in () if reader.full else reader.rows(config):
                choices = read(reader, row)
                folder = f"{config}/" if config else ""
                video = reader.video(row, f"{folder}{self.prefix}{row.key(self.video)}", _NUM_FRAMES)
                answers = zip(choices.names, choices.texts, strict=True)
                pool = [reader.candidate(row, column, name, text) for name, text in answers]
                query = composed(reader.spec.instruction, choices.body, video)
                reader.query(row, query, [choices.label], pool=pool, column=column)
        return reader.data()


def _lettered(reader: TaskReader, row: TaskRow) -> _Choices:
    """MVBench: letters belong to the answers; of equal ones the last is right."""
    texts, answer = row.texts("candidates"), row.text("answer")
    right = [number for number, text in enumerate(texts) if text == answer]
    if len(right) > 1:
        reader.warn(row, "candidates", "several candidates equal the answer; the last one is right")
    names = _with_letters(texts)
    # Published: the letter before A where no candidate is the answer.
    label = names[right[-1]] if right else f"(@) {answer}"
    return _Choices(_with_options(row.text("question"), names), names, names, label)


def _five_columns(reader: TaskReader, row: TaskRow) -> _Choices:
    """NExT-QA: the answers lie in columns a0 to a4, the number of the right one in `answer`."""
    texts = [row.text(f"a{number}") for number in range(5)]
    body = _with_options(row.text("question"), _with_letters(texts))
    return _Choices(body, texts, texts, _numbered(reader, row, texts, row.number("answer")))


def _written(reader: TaskReader, row: TaskRow) -> _Choices:
    """Video-MME: answers as "A. text", one a line, the letter of the right one in `answer`."""
    names, answer = row.texts("options"), row.text("answer")
    number = "ABCD".find(answer) if len(answer) == 1 else -1
    if not 0 <= number < len(names):
        raise row.wrong("answer", f"is {answer!r}: it must be the letter of one of {len(names)} options, A to D")
    body = row.text("question") + "\n" + "\n".join(names)
    return _Choices(body, names, [_after_letter(reader, row, "options", name) for name in names], names[number])


def _written_inline(reader: TaskReader, row: TaskRow) -> _Choices:
    """EgoSchema: answers as "A. text" in one line, which follows the question without a space."""
    names, answer = row.texts("option"), row.key("answer")
    try:
        number = int(answer)
    except ValueError:
        raise row.wrong("answer", f"is {answer!r}: it must be the number of an option") from None
    body = row.text("question") + " ".join(names)
    texts = [_after_letter(reader, row, "option", name) for name in names]
    return _Choices(body, names, texts, _numbered(reader, row, names, number))


def _yes_no(reader: TaskReader, row: TaskRow) -> _Choices:
    """ActivityNet-QA: the answer is yes or no."""
    answer = row.text("answer")
    if answer not in ("yes", "no"):
        raise row.wrong("answer", f"is {answer!r}: it must be yes or no")
    return _Choices(f"{row.text('question')}? (A) yes; (B) no.", ["yes", "no"], ["yes", "no"], answer)


_FORMS: Mapping[str, tuple[Callable[[TaskReader, TaskRow], _Choices], str]] = {
    "lettered": (_lettered, "candidates"),
    "five-columns": (_five_columns, "a0"),
    "written": (_written, "options"),
    "written-inline": (_written_inline, "option"),
    "yes-no": (_yes_no, "answer"),
}
"""The function that reads a form, and the column of its answers for messages."""


@dataclass(frozen=True, kw_only=True)
class _RetrievalParser(TaskParser):
    """Reads a task of sentences that each seek a video among all of the task.

    Args:
        query: column of the sentence.
        video: column of the video's name, which is its folder's.
        target_instruction: of the videos.
        several: each row has a list of sentences, of which the first counts.
        is_path: the video's column holds a path; its last part without ending is the name.
    """

    # As published: fewer frames than are wanted are an error here, and in no other video task.
    min_frames: ClassVar[int] = _NUM_FRAMES

    query: str
    video: str
    target_instruction: str
    several: bool = False
    is_path: bool = False

    def parse(self, reader: TaskReader) -> TaskData:
        for row in reader.rows():
            sentences = row.texts(self.query) if self.several else [row.text(self.query)]
            if not sentences:
                raise row.wrong(self.query, "is empty: it must hold a sentence")
            name = row.key(self.video)
            name = _base_name(name) if self.is_path else name
            video = reader.video(row, name, _NUM_FRAMES, needed=self.min_frames)
            reader.candidate(row, self.video, name, composed(self.target_instruction, medium=video))
            reader.query(row, composed(reader.spec.instruction, sentences[0]), [name], column=self.video)
        return reader.data()


@dataclass(frozen=True, kw_only=True)
class _ClipParser(TaskParser):
    """Reads a task of moments: the folder of a video holds `query` (the whole of it) and one folder for each clip.

    Names of clips, which have the `target_instruction`, are their folders relative to the data root.
    """

    target_instruction: str

    def parse(self, reader: TaskReader) -> TaskData:
        for row in reader.rows():
            folder = _base_name(row.text("video_path"))
            video = reader.video(row, f"{folder}/query", _NUM_FRAMES)
            query = composed(reader.spec.instruction, row.text("query"), video)
            # Published in the order in which the file system lists them.
            clips = [clip for clip in reader.folders(folder) if clip != "query"]
            right = [clip for clip in clips if clip.startswith("positive")]
            if not right:
                raise row.wrong("video_path", f"leads to {folder}, which holds no folder that begins with 'positive'")
            if len(right) > 1:
                reader.warn(row, "video_path", "several folders begin with 'positive'; the last one by name is right")
            pool = [_clip(reader, row, f"{folder}/{clip}", self.target_instruction, "video_path") for clip in clips]
            label = pool[clips.index(right[-1])]
            reader.query(row, query, [label], pool=pool, column="video_path")
        return reader.data()


@dataclass(frozen=True, kw_only=True)
class _ListedClipParser(TaskParser):
    """Reads MomentSeeker: a text, alone or with a picture or video, seeks clips. All frames of a folder are taken.

    Args:
        target_instruction: of the clips.
        instruction_image: of queries with a picture.
        instruction_video: of queries with a video.
    """

    target_instruction: str
    instruction_image: str
    instruction_video: str

    def parse(self, reader: TaskReader) -> TaskData:
        for row in reader.rows():
            text, given = row.text("query"), row.text("input_frames")
            if given.endswith(".mp4"):
                video = reader.video(row, _clip_folder(given), None)
                query = composed(self.instruction_video, text, video)
            elif given.endswith(".jpg"):
                picture = reader.picture(row, "input_frames", f"query_{given}")
                query = composed(self.instruction_image, text, picture)
            else:
                if given:
                    reader.warn(row, "input_frames", "neither .mp4 nor .jpg; the query is its text alone")
                query = composed(reader.spec.instruction, text)
            right, wrong = (self._listed(reader, row, side) for side in ("positive_frames", "negative_frames"))
            reader.query(row, query, right, pool=right + wrong, column="positive_frames")
        return reader.data()

    def _listed(self, reader: TaskReader, row: TaskRow, column: str) -> list[str]:
        names = []
        for entry in row.entries(column):
            path = entry.get("output_path") if isinstance(entry, dict) else None
            if not isinstance(path, str):
                raise row.wrong(column, f"holds {entry!r}: it must be an object with the text 'output_path'")
            names.append(_clip(reader, row, _clip_folder(path), self.target_instruction, column, wanted=None))
        return names


PARSERS: Mapping[str, type[TaskParser]] = {
    "labels": _LabelParser,
    "choices": _ChoiceParser,
    "retrieval": _RetrievalParser,
    "clips": _ClipParser,
    "listed-clips": _ListedClipParser,
}
"""Each form by the name that a benchmark's table gives it."""


def _clip_folder(path: str) -> str:
    return "video_frames/" + path.replace("/", "_").split(".mp4")[0]


def _clip(
    reader: TaskReader, row: TaskRow, folder: str, instruction: str, column: str, wanted: int | None = _NUM_FRAMES
) -> str:
    """Make a candidate of a folder; its name is its path relative to the data root."""
    item = composed(instruction, medium=reader.video(row, folder, wanted))
    return reader.candidate(row, column, f"{reader.spec.media_dir}/{folder}", item)


def _base_name(path: str) -> str:
    """The last part of a path without its last ending."""
    return os.path.splitext(os.path.basename(path))[0]


def _with_letters(texts: list[str]) -> list[str]:
    return [f"({chr(ord('A') + number)}) {text}" for number, text in enumerate(texts)]


def _with_options(question: str, lines: list[str]) -> str:
    return "\n".join([question, "Options:", *lines]).rstrip()


def _after_letter(reader: TaskReader, row: TaskRow, column: str, option: str) -> str:
    """The text behind the first ". ", without dots and spaces around it."""
    start = option.find(". ")
    if start < 0:
        # Published: a search that finds nothing points at the last character.
        reader.warn(row, column, "an option holds no '. '; only its last character is taken")
    return option[start:].strip(". ")


def _numbered(reader: TaskReader, row: TaskRow, names: list[str], number: int) -> str:
    if not -len(names) <= number < len(names):
        raise row.wrong("answer", f"is {number}: it must be the number of one of {len(names)} options, from 0")
    if number < 0:
        reader.warn(row, "answer", "the number is negative; it counts from the last option")
    return names[number]


@cache
def _packaged_labels(name: str) -> tuple[str, ...]:
    path = Path(__file__).parent / "labels" / f"{name}.yaml"
    return tuple(yaml.safe_load(path.read_text("utf-8")))

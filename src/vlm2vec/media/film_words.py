"""Which words does a film hold: its title and tags, its chapters, its subtitles inside and beside it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from vlm2vec.media.plain_text import date_words, joined, plain
from vlm2vec.media.sidecars import read_sidecars
from vlm2vec.media.source import DEFAULT_LIMITS, Limits
from vlm2vec.media.stream import open_clip
from vlm2vec.media.subtitles import Cue, join_passages
from vlm2vec.media.words import FileWords, PartWords

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.subtitles.stream import SubtitleStream

# In this order; containers have these names or names that begin or end with them.
_TAGS = (
    *("title", "show", "episode_id", "artist", "author", "album_artist", "album", "genre", "keywords", "description"),
    *("synopsis", "comment", "make", "model"),
)
_DATES = ("date", "creationdate", "creation_time")
# How cameras and coders write that they do not know the time.
_NO_DATES = ("1904-01-01", "1970-01-01")


def read_film_words(path: Path, limits: Limits = DEFAULT_LIMITS) -> FileWords:
    """Take the tags of a film, its chapters, and all of its subtitles that are text, with those of the files beside it.

    Chapters are parts without text, their title in `about`; what is said comes as passages of about half a minute (see
    `subtitles`). All parts have a span on the clock of a player, and come in its order. Subtitles in several languages
    are all taken.

    Raises:
        MediaError: missing, empty, damaged, or no video. LimitError: larger than `limits` allow.
    """
    beside = read_sidecars(path, limits)
    notes = list(beside.notes)
    with open_clip(path, limits) as (container, _):
        tags = _tags(container.metadata)
        chapters = _chapters(container) or beside.chapters
        tracks = [*_tracks(container, limits, notes), *beside.tracks]
    parts = [
        PartWords("", title, span_s=(max(0.0, cue.start_s), max(0.0, cue.start_s, cue.end_s)))
        for cue in chapters
        if (title := plain(cue.text))
    ]
    # The same subtitles often lie inside and beside.
    passages = dict.fromkeys(chain.from_iterable(map(join_passages, tracks)))
    parts = sorted([*parts, *passages], key=lambda part: part.span_s or (0.0, 0.0))
    return FileWords(joined(tags, beside.about), tuple(_within(parts, limits, notes)), tuple(notes))


def _tags(metadata: Mapping[str, str]) -> str:
    """The tags that people look for, a line each."""
    values: dict[str, str] = {}
    for key, value in metadata.items():
        # "com.apple.quicktime.title", and "TITLE-eng" of Matroska.
        values.setdefault(key.lower().rpartition(".")[2].partition("-")[0], value)
    dates = (date_words(values.get(key, "")) for key in _DATES)
    day = next((date for date in dates if date and not date.startswith(_NO_DATES)), "")
    return joined(*(values.get(key, "") for key in _TAGS), day)


def _chapters(container: InputContainer) -> tuple[Cue, ...]:
    return tuple(
        Cue(
            float(chapter["start"] * (chapter["time_base"] or 0)),
            float(chapter["end"] * (chapter["time_base"] or 0)),
            chapter["metadata"].get("title", ""),
        )
        for chapter in container.chapters()
    )


def _tracks(container: InputContainer, limits: Limits, notes: list[str]) -> list[list[Cue]]:
    """The subtitles of each track that is text, as far as they can be read."""
    import av
    from av.stream import Discard

    # Others are pictures of text. The formats whose clocks begin anywhere hold no text.
    streams = [one for one in container.streams.subtitles if one.codec_context and one.codec_context.codec.text_sub]
    if not streams:
        return []
    for stream in container.streams:
        # So that formats with an index read nothing else.
        stream.discard = Discard.default if stream in streams else Discard.all
    tracks: dict[int, list[Cue]] = {stream.index: [] for stream in streams}
    left = limits.text_chars
    try:
        for index, cue in _cues(container, streams):
            left -= len(cue.text)
            if left < 0:
                notes.append(f"the subtitles from {cue.start_s:.0f} s on are left out: {limits.said_of_text()}")
                break
            tracks[index].append(cue)
    except av.FFmpegError as error:
        notes.append(f"some of its subtitles are left out: {error.strerror}")
    return list(tracks.values())


def _cues(container: InputContainer, streams: list[SubtitleStream]) -> Iterator[tuple[int, Cue]]:
    """Each subtitle with the number of its track. Raises av.FFmpegError."""
    from av.subtitles.subtitle import AssSubtitle

    for packet in container.demux(*streams):
        if packet.pts is None:
            continue
        start_s = float(packet.pts * packet.time_base)
        end_s = start_s + float((packet.duration or 0) * packet.time_base)
        for subtitle in packet.decode():
            if isinstance(subtitle, AssSubtitle):
                yield packet.stream_index, Cue(start_s, end_s, subtitle.dialogue.decode("utf-8", "replace"))


def _within(parts: Iterable[PartWords], limits: Limits, notes: list[str]) -> Iterator[PartWords]:
    """Parts until there is more text than is allowed, and then a note."""
    left = limits.text_chars
    for part in parts:
        left -= len(part.text)
        if left < 0:
            start_s = part.span_s[0] if part.span_s else 0.0
            notes.append(f"the words from {start_s:.0f} s on are left out: {limits.said_of_text()}")
            return
        yield part

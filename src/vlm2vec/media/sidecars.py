"""Which files beside a film belong to it, and which words do they hold?

Players find subtitles by their names: `talk.srt`, `talk.en.vtt`. Tools that download films write `talk.description` and
`talk.info.json`.
"""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from vlm2vec.documents import parse_json, problems
from vlm2vec.files import reason
from vlm2vec.items import VIDEO_SUFFIXES
from vlm2vec.media.plain_text import date_words, decoded_text, joined
from vlm2vec.media.source import Limits
from vlm2vec.media.subtitles import SUBTITLE_SUFFIXES, Cue, parse_subtitles

_INFO, _DESCRIPTION = ".info.json", ".description"
# Languages by name or number of RFC 5646, and the words that players know: talk.en-US.vtt, talk.English.forced.srt.
_BETWEEN = re.compile(r"(\.[A-Za-z]{2,12}([-_][A-Za-z0-9]{2,8})*){0,2}")
# Comments of users and addresses of streams make some of them long.
_INFO_BYTES = 64 << 20
# Of a character in the longest encodings.
_CHAR_BYTES = 4


class BesideWords(NamedTuple):
    """Words of the files beside a film.

    Args:
        about: title, description, keywords, date, and who made it.
        chapters: titles as subtitles, from when to when.
        tracks: the subtitles of each file.
        notes: which files could not be read, and why.
    """

    about: str
    chapters: tuple[Cue, ...]
    tracks: tuple[list[Cue], ...]
    notes: tuple[str, ...]


def sidecars(path: Path, names: Sequence[str] | None = None) -> tuple[Path, ...]:
    """The files beside a film that hold words of it, sorted by name; none for other files.

    Args:
        names: of all files in its folder, sorted, which is cheap for many films of one folder. None: they are listed.

    Raises:
        OSError: the folder cannot be listed.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return ()
    names = sorted(os.listdir(path.parent)) if names is None else names
    start, found = f"{path.stem}.", []
    for name in names[bisect_left(names, start) :]:
        if not name.startswith(start):
            break
        if name != path.name and _belongs(name[len(path.stem) :], path, names):
            found.append(path.with_name(name))
    return tuple(found)


def read_sidecars(path: Path, limits: Limits) -> BesideWords:
    """Take the words of the files beside a film. One that cannot be read has none, and a note."""
    about: list[str] = []
    chapters: tuple[Cue, ...] = ()
    tracks: list[list[Cue]] = []
    notes: list[str] = []
    try:
        beside = sidecars(path)
    except OSError as error:
        return BesideWords("", (), (), (f"the files beside it are left out: {reason(error)}",))
    for file in beside:
        try:
            if file.name.endswith(_INFO):
                info = _Info.model_validate(parse_json(_content(file, _INFO_BYTES)))
                about += info.texts()
                chapters = info.cues()
            elif file.name.endswith(_DESCRIPTION):
                about.append(decoded_text(_content(file, limits.text_chars * _CHAR_BYTES)))
            else:
                tracks.append(parse_subtitles(decoded_text(_content(file, limits.text_chars * _CHAR_BYTES))))
        except ValidationError as error:
            notes.append(f"{file.name} is left out: {problems(error)[0]}")
        except (OSError, ValueError) as error:
            notes.append(f"{file.name} is left out: {reason(error)}")
    return BesideWords(joined(*about), chapters, tuple(tracks), tuple(notes))


class _Chapter(BaseModel):
    start_time: float
    end_time: float
    title: str


class _Info(BaseModel):
    """Of what a download tool writes down of a film, that which people look for."""

    title: str | None = None
    alt_title: str | None = None
    series: str | None = None
    season: str | None = None
    episode: str | None = None
    artist: str | None = None
    track: str | None = None
    album: str | None = None
    uploader: str | None = None
    channel: str | None = None
    upload_date: str | None = None
    categories: list[str] | None = None
    tags: list[str] | None = None
    description: str | None = None
    chapters: list[_Chapter] | None = None

    def texts(self) -> list[str]:
        """All of it but the chapters."""
        names = (self.title, self.alt_title, self.series, self.season, self.episode, self.artist, self.track)
        makers = (self.album, self.uploader, self.channel, date_words(self.upload_date or ""))
        lists = (" ".join(self.categories or ()), ", ".join(self.tags or ()))
        return [one or "" for one in (*names, *makers, *lists, self.description)]

    def cues(self) -> tuple[Cue, ...]:
        """The chapters."""
        return tuple(Cue(one.start_time, one.end_time, one.title) for one in self.chapters or ())


def _belongs(rest: str, path: Path, names: Sequence[str]) -> bool:
    """Whether a file is beside a film by what follows the film's stem in its name: ".en.srt"."""
    if rest in (_INFO, _DESCRIPTION):
        return True
    between, _, ending = rest.rpartition(".")
    if f".{ending.lower()}" not in SUBTITLE_SUFFIXES or not _BETWEEN.fullmatch(between):
        return False
    # That of `talk.final.mp4` is not beside `talk.mp4`.
    return not between or not any(_has(names, f"{path.stem}{between}{suffix}") for suffix in VIDEO_SUFFIXES)


def _has(names: Sequence[str], name: str) -> bool:
    place = bisect_left(names, name)
    return place < len(names) and names[place] == name


def _content(file: Path, most_bytes: int) -> bytes:
    """Raises OSError if it cannot be read, ValueError if it is no ordinary file or too large."""
    if not stat.S_ISREG(file.stat().st_mode):
        # Opening a pipe would wait for ever.
        raise ValueError("it is not a regular file")
    with file.open("rb") as stream:
        data = stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes")
    return data

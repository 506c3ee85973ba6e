"""What ordinary Python values mean."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from vlm2vec.errors import InputError
from vlm2vec.items import Image, Item, Video, as_item

RED = PIL.Image.new("RGB", (30, 30), "red")


@pytest.mark.parametrize(
    ("value", "item"),
    [
        ("photo.jpg", Item("photo.jpg")),
        (Path("photo.JPG"), Item(media=(Image(Path("photo.JPG")),))),
        (Path("clip.mp4"), Item(media=(Video(Path("clip.mp4")),))),
        (Image(b"x"), Item(media=(Image(b"x"),))),
        (RED, Item(media=(Image(RED),))),
        (
            {"text": "t", "image": "a.png", "instruction": "i"},
            Item("t", (Image(Path("a.png")),), "i"),
        ),
        ({"image": ["a.png", b"b"]}, Item(media=(Image(Path("a.png")), Image(b"b")))),
        ({"video": ["0.png", "1.png"]}, Item(media=(Video((Path("0.png"), Path("1.png"))),))),
        (Item("same"), Item("same")),
    ],
)
def test_a_value_becomes_this_item(value: object, item: Item) -> None:
    assert as_item(value) == item  # type: ignore[arg-type]


def test_a_folder_is_a_video_of_frames(tmp_path: Path) -> None:
    assert as_item(tmp_path) == Item(media=(Video(tmp_path),))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "cannot embed a int"),
        (b"\x89PNG", "bytes do not say what they are: wrap them in Image(...)"),
        (Path("notes.txt"), "notes.txt: the ending '.txt' is neither an image nor a video"),
        (Path("manual.pdf"), "manual.pdf is a PDF, which is many items"),
        ({"txt": "a"}, "unknown key 'txt'"),
        ({"text": 3}, "the key 'text' holds a int"),
        ({"image": 3}, "Image got a int"),
    ],
)
def test_a_value_that_means_nothing_is_refused(value: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        as_item(value)  # type: ignore[arg-type]


def test_what_is_refused_is_shown_in_short() -> None:
    with pytest.raises(InputError) as caught:
        Item("text", (b"a whole file" * 10**5,))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_a_span_may_be_of_any_numbers() -> None:
    assert Video(Path("a.mp4"), span_s=(np.float32(0.5), np.int64(2))).span_s == (0.5, 2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Video, {"source": ()}, "a video of no frames"),
        (Video, {"source": Path("a.mp4"), "span_s": (3.0, 3.0)}, "span_s is (3.0, 3.0)"),
        (Video, {"source": Path("a.mp4"), "span_s": 5}, "span_s is 5: it must be (start, end)"),
        (Video, {"source": (b"x",), "span_s": (0.0, 1.0)}, "a tuple of frames has no clock"),
        (Video, {"source": b"x", "exif": 0}, "Video: exif is 0: it must be True or False"),
        (Image, {"source": Path("a.pdf"), "page": 0}, "page 0 of a.pdf: pages are whole numbers from 1"),
        (Image, {"source": Path("a.pdf"), "page": "1"}, "page '1' of a.pdf: pages are whole numbers from 1"),
        (Image, {"source": b"x", "as_stored": "yes"}, "Image: as_stored is 'yes': it must be True or False"),
        (Item, {"media": ("a.png",)}, "Item.media holds 'a.png', of type str"),
        (Item, {"text": "a", "media": None}, "Item.media holds None"),
        (Item, {"text": None}, "Item.text is None, of type NoneType"),
        (Item, {"text": b"x" * 10**6}, "xxx…, of type bytes: it must be a str"),
        (Item, {"text": "a", "instruction": 5}, "Item.instruction is 5, of type int"),
        (as_item, {"value": {"text": "a", 3: "b"}}, "unknown key 3 in ['text', 3]: use text"),
    ],
)
def test_a_malformed_item_is_refused_when_it_is_made(
    kind: Callable[..., object], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        kind(**arguments)


def test_as_stored_is_off_unless_it_is_asked_for() -> None:
    assert [medium.as_stored for medium in (Image(b"x"), Video(b"x"), *as_item({"image": b"x"}).media)] == [False] * 3
    assert (Image(b"x", 2, True), Video(b"x", (0, 1), True)) == (
        Image(b"x", page=2, as_stored=True),
        Video(b"x", span_s=(0, 1), as_stored=True),
    )
    assert pickle.loads(pickle.dumps(Image(b"x", as_stored=True))) == Image(b"x", as_stored=True)
    assert replace(Image(b"x", as_stored=True), source=b"y") == Image(b"y", as_stored=True)


@pytest.mark.parametrize("make", [Image, Video])
@pytest.mark.parametrize("exif", [True, False])
def test_the_old_word_exif_is_read_with_a_warning(make: type[Image] | type[Video], exif: bool) -> None:
    with pytest.warns(DeprecationWarning, match=f"exif={exif} is deprecated: pass as_stored={not exif}") as caught:
        medium = make(b"x", exif=exif)
    assert medium == make(b"x", as_stored=not exif)
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="exif"):
        assert make(b"x", exif=exif, as_stored=not exif) == medium
    with pytest.raises(InputError, match=f"exif={exif} says as_stored={not exif}, but as_stored={exif} is given"):
        make(b"x", exif=exif, as_stored=exif)


def test_the_old_order_and_the_old_attribute_are_read_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="exif=False"):
        assert Image(b"x", False) == Image(b"x", as_stored=True)
    with pytest.warns(DeprecationWarning, match="exif=True"):
        assert Image(b"x", True, 3) == Image(b"x", page=3)  # type: ignore[arg-type]
    with pytest.warns(DeprecationWarning, match="ask for as_stored"):
        assert Image(b"x", as_stored=True).exif is False

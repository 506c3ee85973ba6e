"""Items have one key if all that makes their vectors is equal, and others if anything differs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from support.golden_cases import GOLDEN
from support.media_files import animation, encoded, picture
from vlm2vec.errors import MediaError
from vlm2vec.items import Image, Item, Video
from vlm2vec.model.backbone import Ask
from vlm2vec.vectors.keys import content_key, item_key

PICTURE = GOLDEN / "inputs" / "img_28.png"


def _key(item: Item) -> bytes:
    return item_key(item, fingerprint="f")


def test_a_key_changes_with_everything_that_makes_a_vector() -> None:
    item = Item("a <|media|>", (Image(PICTURE),), "Find:", "verbatim")
    keys = [
        item_key(item, fingerprint="one"),
        item_key(item, fingerprint="two"),
        item_key(item, fingerprint="one", ask=Ask("query")),
        item_key(item, fingerprint="one", ask=Ask("document")),
        item_key(item, fingerprint="one", ask=Ask("query", "video")),
        item_key(item, fingerprint="one", ask=Ask(prompt="")),
        item_key(item, fingerprint="one", ask=Ask(prompt="Find:")),
        *(
            item_key(other, fingerprint="one")
            for other in (
                Item("b <|media|>", item.media, item.instruction, item.verbatim),
                Item(item.text, item.media, "", item.verbatim),
                Item(item.text, item.media, None, item.verbatim),
                Item(item.text, item.media, item.instruction, None),
                Item(item.text, (), item.instruction, item.verbatim),
                Item(item.text, item.media * 2, item.instruction, item.verbatim),
                Item("", item.media, item.instruction, item.text),
            )
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}
    assert item_key(item, fingerprint="one") == keys[0]


def test_a_key_changes_with_everything_that_a_medium_says() -> None:
    red, blue = (PIL.Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    data, pages = encoded(red), encoded(red, "PDF")
    media: list[Image | Video] = [
        Image(data),
        Image(data, as_stored=True),
        Image(encoded(blue)),
        Image(pages, page=1),
        Image(pages, page=2),
        Image(red),
        Image(blue),
        Image(red.convert("L")),
        Image(red.resize((2, 8))),
        Video(data),
        Video(data, span_s=(0, 1)),
        Video(data, span_s=(0, 2)),
        Video((data,)),
        Video((red, blue)),
        Video((blue, red)),
    ]
    assert len({_key(Item(media=(medium,))) for medium in media}) == len(media)


def test_a_picture_is_the_same_wherever_its_bytes_lie(tmp_path: Path) -> None:
    copy = tmp_path / "other.png"
    shutil.copy(PICTURE, copy)
    forms = [Image(PICTURE), Image(copy), Image(PICTURE.read_bytes())]
    assert len({_key(Item(media=(form,))) for form in forms}) == 1
    opened = PIL.Image.open(PICTURE)
    assert _key(Item(media=(Image(opened),))) == _key(Item(media=(Image(opened.copy()),)))


def test_a_palette_belongs_to_a_pictures_content() -> None:
    one, other = (PIL.Image.new("P", (2, 2)) for _ in range(2))
    one.putpalette([255, 0, 0])
    other.putpalette([0, 0, 255])
    assert _key(Item(media=(Image(one),))) != _key(Item(media=(Image(other),)))


def test_bytes_that_count_as_a_video_under_one_ending_and_a_picture_under_another_have_two_keys(tmp_path: Path) -> None:
    data = animation("GIF", ["red", "blue"], [100, 100])
    for name in ("a.gif", "a.jpg"):
        (tmp_path / name).write_bytes(data)
    gif, jpg = (_key(Item(media=(Image(tmp_path / name),))) for name in ("a.gif", "a.jpg"))
    assert gif != jpg
    assert _key(Item(media=(Image(tmp_path / "a.gif", as_stored=True),))) != gif


def test_an_animated_picture_in_memory_counts_with_all_its_frames(tmp_path: Path) -> None:
    for name, colours in (("a.gif", ["red", "blue"]), ("b.gif", ["red", "green"])):
        (tmp_path / name).write_bytes(animation("GIF", colours, [100, 100]))
    with PIL.Image.open(tmp_path / "a.gif") as one, PIL.Image.open(tmp_path / "b.gif") as other:
        assert _key(Item(media=(Image(one),))) != _key(Item(media=(Image(other),)))
        assert _key(Item(media=(Video(one),))) != _key(Item(media=(Video(other),)))
        assert _key(Item(media=(Video(one),))) != _key(Item(media=(Video(one, span_s=(0.0, 0.1)),)))


def test_a_folder_of_frames_counts_by_its_frames_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for name, shift in (("0.png", 0), ("1.png", 1)):
        picture(shift=shift).save(folder / name)
    item = Item(media=(Video(folder),))
    before = _key(item)
    (folder / "notes.txt").write_text("no frame")
    (folder / "._0.png").write_text("no frame")
    assert _key(item) == before
    picture(shift=2).save(folder / "2.png")
    assert _key(item) != before


_JPEG, _PNG, _GIF = b"\xff\xd8\xff\xe0 a JPEG", b"\x89PNG\r\n\x1a\n a picture", b"GIF89a frames"
_PDF, _CLIP = b"%PDF-1.4 pages", b"a clip of some format"
_OPAQUE, _CLEAR = PIL.Image.new("RGB", (2, 1), "red"), PIL.Image.new("RGBA", (2, 1), (0, 0, 0, 0))
# Of the fingerprint "f", as the first release made them; there `as_stored` was the opposite of `exif`, and a video had
# neither.
_FIRST_KEYS: list[tuple[Callable[[Path], Image | Video], str]] = [
    (lambda folder: Image(folder / "a.jpg"), "5215e4260e22e10f0217389678bcfbb7"),
    (lambda folder: Image(_JPEG), "9e9896f86a134e5543ccdc318c76f3ac"),
    (lambda folder: Image(folder / "a.pdf", page=2), "6ceeceb9606962d7dedbd498a027223a"),
    (lambda folder: Image(_PDF, page=1), "4bc531c6f70c5d1d7e225b2b4552ef23"),
    (lambda folder: Image(_OPAQUE), "2ec50fd05ade9212e32d6513b42ff859"),
    (lambda folder: Video((_OPAQUE,)), "eece691d5eac1cc3518dd4b11d42cc04"),
    (lambda folder: Image(folder / "a.jpg", as_stored=True), "44c2a8f3f46f8011add7a439c734a0d4"),
    (lambda folder: Image(folder / "a.png", as_stored=True), "e99f9068a01f7cb887e94a0f509185b7"),
    (lambda folder: Image(folder / "a.gif", as_stored=True), "f1480c774bb22a78ddb391f20a2d66bb"),
    (lambda folder: Image(_PNG, as_stored=True), "e99f9068a01f7cb887e94a0f509185b7"),
    (lambda folder: Image(_CLEAR, as_stored=True), "48dc8a3f7ab3f2dedca1e371bf4588ef"),
    (lambda folder: Video((folder / "a.png", _JPEG), as_stored=True), "91f4ca137f73a7ceb092e69f3fc10b1a"),
    (lambda folder: Video((_CLEAR,), as_stored=True), "65fefc6da2e6bb9ed0d6154d53c808a6"),
    (lambda folder: Video(folder / "frames", as_stored=True), "1cb41fa4bef1d2f68b66572f664cad79"),
    (lambda folder: Video(folder / "a.gif", as_stored=True), "df28578609356a042ac40fb0041dee74"),
]
_FIRST_KEYS_OF_OTHER_PIXELS: list[tuple[Callable[[Path], Image | Video], str]] = [
    (lambda folder: Image(folder / "a.png"), "8b30b0b5718ef1e14750426b9e395cb9"),
    (lambda folder: Image(folder / "a.gif"), "776001de0fd3ffbbd4bc17a69c1134ed"),
    (lambda folder: Image(_PNG), "8b30b0b5718ef1e14750426b9e395cb9"),
    (lambda folder: Image(_CLEAR), "48dc8a3f7ab3f2dedca1e371bf4588ef"),
    (lambda folder: Video((folder / "a.png", _JPEG)), "91f4ca137f73a7ceb092e69f3fc10b1a"),
    (lambda folder: Video((_JPEG,)), "ace998a379ac7d3f5551266470575459"),
    (lambda folder: Video((_CLEAR,)), "65fefc6da2e6bb9ed0d6154d53c808a6"),
    (lambda folder: Video(folder / "frames"), "1cb41fa4bef1d2f68b66572f664cad79"),
    (lambda folder: Video(folder / "a.gif"), "df28578609356a042ac40fb0041dee74"),
    (lambda folder: Video(folder / "a.mp4"), "c3f3bfc92798334f416beba8236102e9"),
    (lambda folder: Video(folder / "a.mp4", as_stored=True), "c3f3bfc92798334f416beba8236102e9"),
    (lambda folder: Video(_CLIP, span_s=(0, 1)), "d341912bb1c285cd70ae2abb9aae96e0"),
]


def test_keys_of_the_first_release_hold_for_just_those_media_that_still_look_the_same(tmp_path: Path) -> None:
    for name, data in (("a.jpg", _JPEG), ("a.png", _PNG), ("a.gif", _GIF), ("a.pdf", _PDF), ("a.mp4", _CLIP)):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(_PNG)
    (tmp_path / "frames" / "2.jpg").write_bytes(_JPEG)

    def keys(media: list[tuple[Callable[[Path], Image | Video], str]]) -> list[str]:
        return [item_key(Item(media=(make(tmp_path),)), fingerprint="f").hex() for make, _ in media]

    assert keys(_FIRST_KEYS) == [key for _, key in _FIRST_KEYS]
    assert not set(keys(_FIRST_KEYS_OF_OTHER_PIXELS)) & {key for _, key in _FIRST_KEYS + _FIRST_KEYS_OF_OTHER_PIXELS}


def test_a_file_that_has_changed_has_another_key(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    picture(shift=0).save(file)
    item = Item(media=(Image(file),))
    before = _key(item)
    picture(shift=1).save(file)
    os.utime(file, ns=(0, 0))
    assert _key(item) != before


def test_a_medium_that_cannot_be_read_has_no_key(tmp_path: Path) -> None:
    gone, away = tmp_path / "no.png", tmp_path / "no"
    for path, medium in ((gone, Image(gone)), (away, Video(away))):
        with pytest.raises(MediaError, match=re.escape(f"{path} cannot be read as ")):
            _key(Item(media=(medium,)))


def test_lone_surrogates_have_a_key() -> None:
    assert _key(Item("\udcff")) != _key(Item("\\udcff"))


def test_content_is_text_and_media_without_the_instruction() -> None:
    assert content_key(Item("a", instruction="x")) == content_key(Item("a", instruction="y"))
    assert content_key(Item("a")) != content_key(Item("b"))

"""Benchmark tasks: every string that is easy to get wrong, rows read as published though odd, and rows refused."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import datasets
import PIL.Image
import pytest

from task_fixtures import picture_bytes, write_corpus, write_frames, write_picture, write_rows
from vlm2vec.errors import ConfigError, MediaError
from vlm2vec.items import Image, Item, Video
from vlm2vec.tasks.data import TaskData, TaskSpec
from vlm2vec.tasks.registry import get_tasks, parse_task

TASK = (
    "Given a video and a question, select the most accurate answer from the provided candidates. "
    "Return only the exact text of your chosen answer. Question:  "
)
"""With two spaces at its end: one of the instruction, one that joins."""

PICTURE_ROW = {
    "qry_inst": "<|image_1|> Say:\n",
    "qry_text": "",
    "qry_img_path": "a.png",
    "tgt_inst": "<|image_1|> It.",
    "tgt_text": ["x", "y"],
    "tgt_img_path": ["a.png", "b.png"],
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _task(name: str) -> TaskSpec:
    return get_tasks(names=[name])[0]


def _pictures(root: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(root / "image-tasks" / name, "red")


def _read(root: Path, name: str, *rows: dict[str, object], config: str | None = None) -> TaskData:
    write_rows(_task(name), root, rows, config)
    return parse_task(_task(name), root)


def _image(root: Path, name: str, **columns: object) -> TaskData:
    _pictures(root)
    return _read(root, name, PICTURE_ROW | columns)


def _frames(root: Path, name: str, folder: str, count: int = 8) -> None:
    write_frames(root / _task(name).media_dir / folder, "red", count)


def _problems(data: TaskData) -> list[tuple[str, str, int]]:
    return [(warning.column, warning.problem, warning.count) for warning in data.warnings]


def _strings(items: object) -> list[str | None]:
    assert isinstance(items, (tuple, list))
    return [item.verbatim for item in items if isinstance(item, Item)]


# Pictures


@pytest.mark.parametrize(
    ("name", "columns", "query", "candidates"),
    [
        ("ImageNet-1K", {}, "<|media|>  Say:\n\n", ["x", "y"]),
        ("ImageNet-1K", {"qry_inst": ""}, "<|media|> \n", ["x", "y"]),
        ("ImageNet-1K", {"qry_text": None}, "<|media|>  Say:\n\n", ["x", "y"]),
        ("MSCOCO_i2t", {"qry_text": "what \n"}, "<|media|>  Say:\n what\n\n", ["x", "y"]),
        ("ChartQA", {"qry_text": "what"}, "<|media|>\nSay: what\n", ["x", "y"]),
        ("NIGHTS", {"tgt_text": ["", "y"]}, "<|media|>\nSay:\n", ["<|media|>  It.", "<|media|>  It."]),
        ("RefCOCO", {}, "<|media|>\nSay:\n", ["<|media|>  It. x\n", "<|media|>  It. y\n"]),
        (
            "WebQA",
            {"qry_inst": "Find:", "qry_text": "q"},
            "Find: q\n",
            ["<|media|>  It. x\n", "<|media|>  It. y\n"],
        ),
        # VisDial's queries alone end in two newlines.
        ("VisDial", {"qry_inst": "Find:", "tgt_text": [""]}, "Find: \n\n", ["<|media|>  It.\n", "<|media|>  It.\n"]),
        # A visual token in a query without picture, or typed by somebody, is text like any other.
        ("EDIS", {"qry_text": "<|image_pad|>"}, "<|image_pad|> Say:\n <|image_pad|>\n", ["<|media|>  It. x\n"]),
    ],
)
def test_strings_of_picture_tasks(
    tmp_path: Path, name: str, columns: dict[str, object], query: str, candidates: list[str]
) -> None:
    data = _image(tmp_path, name, **columns)
    assert _strings(data.queries) == [query]
    assert _strings(data.candidates)[: len(candidates)] == candidates


def test_parts_of_a_picture_task_serve_styles_that_place_them_themselves(tmp_path: Path) -> None:
    data = _image(tmp_path, "RefCOCO", qry_text=' "the cat" ')
    picture = Image(tmp_path / "image-tasks" / "a.png", exif=False)
    assert data.queries == (Item('"the cat"', (picture,), "Say:", '<|media|>\nSay:  "the cat" \n'),)
    assert data.candidates[0] == Item("x", (picture,), "It.", "<|media|>  It. x\n")


def test_regions_are_identified_by_file_and_caption_without_quotes_and_the_first_text_wins(tmp_path: Path) -> None:
    data = _image(tmp_path, "MSCOCO", tgt_text=['""x""', "x"], tgt_img_path=["a.png", "a.png"])
    assert data.pools == (("a.png:x", "a.png:x"),)
    assert data.candidate_names == ("a.png:x",)
    assert _strings(data.candidates) == ['<|media|>  It. ""x""\n']
    assert data.relevant == {"0": {"a.png:x": 1}}
    assert _problems(data) == [
        ("tgt_img_path", "two candidates of one name differ; the first one is taken", 1),
        ("tgt_img_path", "a candidate is listed twice; as a label it counts once", 1),
    ]


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("ImageNet-1K", {"qry_img_path": ""}, "column 'qry_img_path' is empty: it must name a picture"),
        ("ImageNet-1K", {"qry_inst": None}, "column 'qry_inst' holds None: it must be a text"),
        ("ImageNet-1K", {"tgt_text": []}, "column 'tgt_text' is empty: it must list candidates, the right one first"),
        ("ImageNet-1K", {"tgt_text": "x"}, "column 'tgt_text' holds 'x': it must be a list"),
        (
            "ImageNet-1K",
            {"qry_text": "a <|media|>"},
            "column 'qry_text' holds the text <|media|>, which would be taken for a medium's place",
        ),
        (
            "CIRR",
            {"tgt_text": [""]},
            "column 'tgt_text' has 1 entries but 'tgt_img_path' has 2: give one for each",
        ),
        (
            "EDIS",
            {"tgt_text": []},
            "column 'tgt_text' is empty: it must hold a caption for each picture, or an empty text",
        ),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, name: str, columns: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        _image(tmp_path, name, **columns)
    rows = tmp_path / "annotations" / "ziyjiang__MMEB_Test_Instruct" / name / "test.jsonl"
    assert str(error.value) == f"{name}: {rows}:1: {message}"


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"qry_img_path": "gone.png"}, "gone.png is not there; put the task's media in place"),
        ({"qry_img_path": "folder"}, "folder is a folder, not a picture"),
        ({"tgt_img_path": ["a.png", "gone.png"]}, "gone.png is not there; put the task's media in place"),
    ],
)
def test_a_missing_picture_is_an_error_that_names_file_and_row(
    tmp_path: Path, columns: dict[str, object], what: str
) -> None:
    (tmp_path / "image-tasks" / "folder").mkdir(parents=True)
    with pytest.raises(MediaError, match=r"^CIRR: .*test\.jsonl:1: column '(qry|tgt)_img_path': ") as error:
        _image(tmp_path, "CIRR", **columns)
    assert str(error.value).endswith(what)


# Videos


def test_64_frames_are_thinned_to_8_and_5_are_taken_as_they_are(tmp_path: Path) -> None:
    _frames(tmp_path, "UCF101", "long", 64)
    _frames(tmp_path, "UCF101", "short", 5)
    rows = [{"video_id": name, "pos_text": "Archery"} for name in ("long", "short")]
    data = _read(tmp_path, "UCF101", *rows)
    numbers = [
        [int(path.stem.removeprefix("frame_")) for path in query.media[0].source]  # type: ignore[union-attr]
        for query in data.queries
    ]
    assert numbers == [[1, 10, 19, 28, 37, 46, 55, 64], [1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("name", "query", "labels"),
    [
        ("K700", "Recognize the category of the video content.", 700),
        ("HMDB51", "What actions or objects interactions are the person in the video doing?", 51),
        ("UCF101", "What activities or sports are being performed by the person in the video?", 101),
        # The space at its end is published.
        ("Breakfast", "Recognize the breakfast type that the person is cooking in the video. ", 10),
    ],
)
def test_video_labels_are_a_fixed_list_behind_those_of_the_rows(
    tmp_path: Path, name: str, query: str, labels: int
) -> None:
    _frames(tmp_path, name, "7")
    data = _read(tmp_path, name, {"video_id": "7", "pos_text": "none of them"})
    assert _strings(data.queries) == [f"<|media|> {query}"]
    assert data.candidate_names[0] == "none of them"
    assert len(data.candidate_names) == labels + 1
    assert data.relevant == {"0": {"none of them": 1}}
    assert data.pools is None


QUESTION: dict[str, dict[str, object]] = {
    "Video-MME": {
        "videoID": "v",
        "question": "Why?",
        "options": ["A. Yes. No.", "B. x", "C. x ", "D. . y"],
        "answer": "B",
    },
    "EgoSchema": {"video_idx": "v", "question": "Why?", "option": ["A. x.", "B. y"], "answer": "1"},
    "ActivityNetQA": {"video_name": "v", "question": "is it", "answer": "no"},
    "NExTQA": {"video": 7, "question": "why ", "a0": "v", "a1": "w", "a2": "x", "a3": "y", "a4": "z ", "answer": 1},
}


def _asked(root: Path, name: str, **columns: object) -> TaskData:
    _frames(root, name, {"NExTQA": "7", "ActivityNetQA": "v_v"}.get(name, "v"))
    return _read(root, name, QUESTION[name] | columns)


@pytest.mark.parametrize(
    ("name", "columns", "body", "candidates", "label"),
    [
        (
            "Video-MME",
            {},
            "Why?\nA. Yes. No.\nB. x\nC. x \nD. . y",
            {"A. Yes. No.": "Yes. No", "B. x": "x", "C. x ": "x", "D. . y": "y"},
            "B. x",
        ),
        # Nothing stands between question and first option.
        ("EgoSchema", {}, "Why?A. x. B. y", {"A. x.": "x", "B. y": "y"}, "B. y"),
        ("EgoSchema", {"answer": " 0 "}, "Why?A. x. B. y", {"A. x.": "x", "B. y": "y"}, "A. x."),
        ("ActivityNetQA", {}, "is it? (A) yes; (B) no.", {"yes": "yes", "no": "no"}, "no"),
        (
            "NExTQA",
            {},
            "why \nOptions:\n(A) v\n(B) w\n(C) x\n(D) y\n(E) z",
            {"v": "v", "w": "w", "x": "x", "y": "y", "z ": "z "},
            "w",
        ),
    ],
)
def test_strings_of_video_questions(
    tmp_path: Path, name: str, columns: dict[str, object], body: str, candidates: dict[str, str], label: str
) -> None:
    data = _asked(tmp_path, name, **columns)
    assert _strings(data.queries) == [f"<|media|> {TASK}{body}"]
    assert dict(zip(data.candidate_names, _strings(data.candidates), strict=True)) == candidates
    assert data.pools == (tuple(candidates),)
    assert data.relevant == {"0": {label: 1}}
    assert data.warnings == ()


@pytest.mark.parametrize(
    ("name", "columns", "label", "problem"),
    [
        ("NExTQA", {"answer": -1}, "z ", ("answer", "the number is negative; it counts from the last option", 1)),
        (
            "EgoSchema",
            {"answer": "-1"},
            "B. y",
            ("answer", "the number is negative; it counts from the last option", 1),
        ),
    ],
)
def test_a_negative_answer_counts_from_the_end_with_a_warning(
    tmp_path: Path, name: str, columns: dict[str, object], label: str, problem: tuple[str, str, int]
) -> None:
    data = _asked(tmp_path, name, **columns)
    assert (data.relevant, _problems(data)) == ({"0": {label: 1}}, [problem])


def test_an_option_without_a_full_stop_and_space_is_cut_to_its_last_character(tmp_path: Path) -> None:
    data = _asked(tmp_path, "Video-MME", options=["A. x", "B no stop", "D.nospace.", "no letter. dots"])
    assert _strings(data.candidates) == ["x", "p", "", "dots"]
    assert _problems(data) == [
        ("options", "an option holds no '. '; only its last character is taken", 2),
        ("options", "a candidate is empty; it ranks last", 1),
    ]


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("Video-MME", {"answer": "E"}, "is 'E': it must be the letter of one of 4 options, A to D"),
        (
            "Video-MME",
            {"answer": "D", "options": ["A. x"]},
            "is 'D': it must be the letter of one of 1 options, A to D",
        ),
        ("EgoSchema", {"answer": "A"}, "is 'A': it must be the number of an option"),
        ("EgoSchema", {"answer": "2"}, "is 2: it must be the number of one of 2 options, from 0"),
        ("ActivityNetQA", {"answer": "Yes"}, "is 'Yes': it must be yes or no"),
        ("NExTQA", {"answer": 5}, "is 5: it must be the number of one of 5 options, from 0"),
    ],
)
def test_an_answer_that_names_no_option_is_refused(
    tmp_path: Path, name: str, columns: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        _asked(tmp_path, name, **columns)
    assert str(error.value).endswith(f"test.jsonl:1: column 'answer' {message}")


@pytest.mark.parametrize(
    ("name", "row", "folder", "query"),
    [
        (
            "DiDeMo",
            {"video": "x/1@N02.mov.mp4", "caption": "c"},
            "1@N02.mov",
            "Find a video that includes the following described scenes: c",
        ),
        (
            "MSVD",
            {"video_id": "a.b", "caption": ["c", "d"]},
            "a.b",
            "Find the video snippet that corresponds to the given summary: c",
        ),
        ("VATEX", {"videoID": "-v", "enCap": ["c", "d"]}, "-v", "Select a video that fits the description provided: c"),
        (
            "YouCook2",
            {"id": "v_0", "sentence": "c"},
            "v_0",
            "Find a video that demonstrates the following action while making a recipe: c",
        ),
        ("MSR-VTT", {"video_id": "v", "caption": ""}, "v", "Find a video that contains the following visual content:"),
    ],
)
def test_strings_of_video_retrieval(tmp_path: Path, name: str, row: dict[str, object], folder: str, query: str) -> None:
    _frames(tmp_path, name, folder)
    data = _read(tmp_path, name, row)
    assert _strings(data.queries) == [query]
    assert data.candidate_names == (folder,)
    assert _strings(data.candidates) == ["<|media|> Understand the content of the provided video."]
    assert data.relevant == {"0": {folder: 1}}


def test_retrieval_refuses_a_video_of_fewer_frames_than_it_picks(tmp_path: Path) -> None:
    _frames(tmp_path, "MSVD", "v", 7)
    with pytest.raises(MediaError, match=r"^MSVD: .*test\.jsonl:1: .*/MSVD/v holds 7 frames: 8 are needed$"):
        _read(tmp_path, "MSVD", {"video_id": "v", "caption": ["c"]})


def test_missing_frames_are_an_error_that_names_row_and_folder(tmp_path: Path) -> None:
    with pytest.raises(
        MediaError, match=r"^K700: .*test\.jsonl:1: .*/video_cls/K700/gone cannot be read as a folder of"
    ):
        _read(tmp_path, "K700", {"video_id": "gone", "pos_text": "clapping"})


def test_a_video_without_positive_clip_is_refused(tmp_path: Path) -> None:
    for clip in ("query", "Positive_x", "negative_0"):
        _frames(tmp_path, "Charades-STA", f"v.1/{clip}")
    with pytest.raises(ConfigError, match=r"holds no folder that begins with 'positive'$"):
        _read(tmp_path, "Charades-STA", {"query": "q", "video_path": "v.1.mp4"})


def test_a_clip_without_frames_is_refused(tmp_path: Path) -> None:
    for clip in ("query", "positive"):
        _frames(tmp_path, "QVHighlight", f"v/{clip}")
    (tmp_path / _task("QVHighlight").media_dir / "v" / "negative").mkdir()
    with pytest.raises(MediaError, match=r"/v/negative holds no frames"):
        _read(tmp_path, "QVHighlight", {"query": "q", "video_path": "v.mp4"})


def test_momentseeker_asks_in_three_ways_with_all_frames_and_several_right_clips(tmp_path: Path) -> None:
    media = tmp_path / _task("MomentSeeker").media_dir
    for clip in ("ego_a.b_1", "ego_2", "neg"):
        _frames(tmp_path, "MomentSeeker", f"video_frames/{clip}", 10)
    write_picture(media / "query_i.jpg", "red")
    clips = {
        "positive_frames": [{"output_path": "ego/a.b/1.mp4"}, {"output_path": "ego/2.mp4"}],
        "negative_frames": [{"output_path": "neg.mp4"}],
    }
    given = ("ego/2.mp4", "i.jpg", "", "i.JPG")
    data = _read(tmp_path, "MomentSeeker", *({"query": "q", "input_frames": one, **clips} for one in given))
    assert _strings(data.queries) == [
        "<|media|> Find the clip that corresponds to the given sentence and video segment: q",
        "<|media|> Select the video clip that aligns with the given text and image: q",
        "Find the clip that corresponds to the given text: q",
        "Find the clip that corresponds to the given text: q",
    ]
    assert data.queries[1].media == (Image(media / "query_i.jpg", exif=False),)
    names = [f"{_task('MomentSeeker').media_dir}/video_frames/{clip}" for clip in ("ego_a.b_1", "ego_2", "neg")]
    assert data.pools == (tuple(names),) * 4
    assert data.relevant["0"] == {names[0]: 1, names[1]: 1}
    assert _strings(data.candidates) == ["<|media|> Understand the content of the provided video clip."] * 3
    for item in (data.queries[0], *data.candidates):
        (video,) = item.media
        assert isinstance(video, Video)
        assert len(video.source) == 10  # type: ignore[arg-type]
    assert _problems(data) == [("input_frames", "neither .mp4 nor .jpg; the query is its text alone", 1)]


def test_a_moment_without_candidates_is_counted_and_a_missing_query_picture_refused(tmp_path: Path) -> None:
    row = {"query": "q", "input_frames": "", "positive_frames": [], "negative_frames": []}
    data = _read(tmp_path, "MomentSeeker", row)
    assert (data.relevant, data.pools) == ({"0": {}}, ((),))
    assert _problems(data) == [("positive_frames", "a query has no right candidate", 1)]
    with pytest.raises(MediaError, match=r"query_gone\.jpg is not there"):
        _read(tmp_path, "MomentSeeker", row | {"input_frames": "gone.jpg"})


# Documents


def _documents(
    root: Path, name: str, pages: list[tuple[object, bytes | None]], judged: list[tuple[str, object, object]]
) -> TaskData:
    spec = _task(name)
    write_corpus(spec, root, pages)
    queries = list(dict.fromkeys(query for query, _, _ in judged)) or ["q"]
    write_rows(spec, root, [{"query-id": query, "query": f"{query}?"} for query in queries], "queries")
    write_rows(spec, root, [{"query-id": q, "corpus-id": p, "score": s} for q, p, s in judged], "qrels")
    return parse_task(spec, root)


def test_grades_stay_with_their_pages_and_right_pages_come_first(tmp_path: Path) -> None:
    pages: list[tuple[object, bytes | None]] = [(number, picture_bytes("red")) for number in range(4)]
    judged = [("b", 3, 1), ("a", 2, 1), ("b", 0, 2), ("b", 3, 3), ("b", 1, 0), ("c", 2, 1)]
    data = _documents(tmp_path, "ViDoSeek-doc", pages, judged)  # type: ignore[arg-type]
    assert data.query_ids == ("b", "a", "c")
    assert data.relevant == {"b": {"3": 3, "0": 2}, "a": {"2": 1}, "c": {"2": 1}}
    assert list(data.relevant["b"]) == ["3", "0"]
    assert data.candidate_names == ("3", "0", "2", "1")


def test_a_limit_takes_the_first_queries_and_the_whole_corpus(tmp_path: Path) -> None:
    pages: list[tuple[object, bytes | None]] = [(number, picture_bytes("red")) for number in range(3)]
    _documents(tmp_path, "ViDoRe_tatdqa", pages, [("a", 2, 1), ("b", 1, 1)])
    data = parse_task(_task("ViDoRe_tatdqa"), tmp_path, limit=1)
    assert (data.query_ids, data.candidate_names) == (("a",), ("2", "0", "1"))


@pytest.mark.parametrize(
    ("pages", "judged", "message"),
    [
        (
            ["p.png"],
            [("q", "p.png", 0)],
            r"queries/train\.jsonl:1: column 'query-id' is 'q', for which 'qrels' has no page",
        ),
        (
            ["p.png"],
            [("q", "o.png", 1)],
            r"qrels/train\.jsonl:1: column 'corpus-id' is 'o\.png', which is not in the corpus",
        ),
        (
            ["p.png"],
            [("q", "p.png", 0.5)],
            r"qrels/train\.jsonl:1: column 'score' holds 0\.5: it must be a whole number",
        ),
        (
            ["p"],
            [("q", "p", 1)],
            r"row 0: column 'corpus-id' is 'p': it must be a file name with the ending of a picture",
        ),
        (
            ["a/p.png"],
            [("q", "a/p.png", 1)],
            r"row 0: column 'corpus-id' is 'a/p\.png': it must be a file name with the",
        ),
    ],
)
def test_documents_that_do_not_fit_together_are_refused(
    tmp_path: Path, pages: list[str], judged: list[tuple[str, object, object]], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^VisRAG_PlotQA: .*{message}"):
        _documents(tmp_path, "VisRAG_PlotQA", [(page, picture_bytes("red")) for page in pages], judged)


def test_pages_keep_their_bytes_unless_their_id_asks_for_a_lossy_format(tmp_path: Path) -> None:
    png = picture_bytes("teal")
    data = _documents(tmp_path, "VisRAG_PlotQA", [("a.png", png), ("b.JPG", png)], [("q", "a.png", 1)])
    first, second = (item.media[0].source for item in data.candidates)
    assert first == png
    expected = io.BytesIO()
    PIL.Image.open(io.BytesIO(png)).save(expected, "JPEG")
    assert second == expected.getvalue()


def test_a_page_with_an_exif_orientation_is_turned_as_the_library_datasets_turns_it(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (10, 20), "red").save(buffer, "JPEG", exif=exif)
    data = _documents(tmp_path, "ViDoRe_tatdqa", [(1, buffer.getvalue())], [("q", 1, 1)])
    source = data.candidates[0].media[0].source
    assert isinstance(source, bytes)
    with PIL.Image.open(io.BytesIO(source)) as picture:
        assert (picture.format, picture.size) == ("PNG", (20, 10))


@pytest.mark.parametrize(
    ("page", "picture", "message"),
    [
        ("a.jpg", picture_bytes("red", "RGBA"), "the page cannot be written as JPEG, as its id's ending asks: cannot"),
        ("a.png", None, "column 'image' holds neither the bytes of a picture nor the path of one: None"),
        ("a.png", b"junk", "<4 bytes> cannot be read as an image"),
    ],
)
def test_a_page_that_cannot_be_shown_is_an_error_that_names_its_row(
    tmp_path: Path, page: str, picture: bytes | None, message: str
) -> None:
    data = _documents(tmp_path, "VisRAG_PlotQA", [(page, picture)], [("q", page, 1)])
    with pytest.raises(MediaError) as error:
        data.candidates[0]
    where = tmp_path / "annotations" / "openbmb__VisRAG-Ret-Test-PlotQA" / "corpus" / "train.parquet"
    assert str(error.value).startswith(f"{where} row 0: {message}")


# How many rows, and none


def test_only_the_first_rows_of_a_task_count(tmp_path: Path) -> None:
    _frames(tmp_path, "SmthSmthV2", "v")
    row = {"video_id": "v", "pos_text": "a", "neg_text": ["a", "b"]}
    spec = replace(_task("SmthSmthV2"), max_rows=2)
    write_rows(spec, tmp_path, [row] * 3)
    assert len(parse_task(spec, tmp_path).queries) == 2
    assert len(parse_task(spec, tmp_path, limit=1).queries) == 1
    assert len(parse_task(spec, tmp_path, limit=9).queries) == 2
    with pytest.raises(ConfigError, match=r"^limit is 0: it must be at least 1 query$"):
        parse_task(spec, tmp_path, limit=0)


def test_a_limit_reached_early_opens_no_further_configuration(tmp_path: Path) -> None:
    _frames(tmp_path, "MVBench", "episodic_reasoning/v")
    row = {"video": "v", "question": "Q", "candidates": ["a", "b \n"], "answer": "b \n"}
    write_rows(_task("MVBench"), tmp_path, [row], "episodic_reasoning")
    data = parse_task(_task("MVBench"), tmp_path, limit=1)
    # The query loses the white space at its end, candidate and label keep it.
    assert _strings(data.queries) == [f"<|media|> {TASK}Q\nOptions:\n(A) a\n(B) b"]
    assert data.relevant == {"0": {"(B) b \n": 1}}
    with pytest.raises(ConfigError, match=r"MVBench \(config action_sequence, split train\) is not here"):
        parse_task(_task("MVBench"), tmp_path)


def test_annotations_without_rows_or_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^GQA: its annotations hold no row$"):
        _read(tmp_path, "GQA")
    with pytest.raises(ConfigError, match=r"^GQA: .*test\.jsonl:1: column 'qry_inst' is missing: the row has text$"):
        _read(tmp_path, "GQA", {"text": "x"})


# The command


def test_the_command_lists_tasks_as_a_table_and_as_json() -> None:
    from typer.testing import CliRunner

    from vlm2vec.cli.app import app

    shown = CliRunner().invoke(app, ["tasks", "--group", "VD-OOD", "--json"])
    assert json.loads(shown.stdout) == {
        "tasks": [
            {"name": name, "modality": "visdoc", "group": "VD-OOD", "metric": "ndcg_linear@5", "pool": "global"}
            for name in ("ViDoSeek-page", "ViDoSeek-doc", "MMLongBench-page", "MMLongBench-doc")
        ]
    }
    assert len(json.loads(CliRunner().invoke(app, ["tasks", "--json"]).stdout)["tasks"]) == 78
    table = CliRunner().invoke(app, ["tasks", "--modality", "visdoc"]).stdout
    assert "ViDoRe_syntheticDocQA_artificial_intelligence" in table
    wrong = CliRunner().invoke(app, ["tasks", "--modality", "audio"])
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: no modality named 'audio'; there are: image, video, visdoc\n"

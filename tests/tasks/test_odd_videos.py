"""Video tasks: every string that is easy to get wrong, rows read as published though odd, and rows refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.odd_rows import problems, read_rows, strings, task_named, write_clip
from support.task_fixtures import write_picture
from vlm2vec.errors import DataError, MediaError
from vlm2vec.items import Image, Video
from vlm2vec.tasks.data import TaskData

TASK = (
    "Given a video and a question, select the most accurate answer from the provided candidates. "
    "Return only the exact text of your chosen answer. Question:  "
)
"""With two spaces at its end: one of the instruction, one that joins."""


def test_64_frames_are_thinned_to_8_and_5_are_taken_as_they_are(tmp_path: Path) -> None:
    write_clip(tmp_path, "UCF101", "long", 64)
    write_clip(tmp_path, "UCF101", "short", 5)
    rows = [{"video_id": name, "pos_text": "Archery"} for name in ("long", "short")]
    data = read_rows(tmp_path, "UCF101", *rows)
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
    write_clip(tmp_path, name, "7")
    data = read_rows(tmp_path, name, {"video_id": "7", "pos_text": "none of them"})
    assert strings(data.queries) == [f"<|media|> {query}"]
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
    write_clip(root, name, {"NExTQA": "7", "ActivityNetQA": "v_v"}.get(name, "v"))
    return read_rows(root, name, QUESTION[name] | columns)


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
    assert strings(data.queries) == [f"<|media|> {TASK}{body}"]
    assert dict(zip(data.candidate_names, strings(data.candidates), strict=True)) == candidates
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
    assert (data.relevant, problems(data)) == ({"0": {label: 1}}, [problem])


def test_an_option_without_a_full_stop_and_space_is_cut_to_its_last_character(tmp_path: Path) -> None:
    data = _asked(tmp_path, "Video-MME", options=["A. x", "B no stop", "D.nospace.", "no letter. dots"])
    assert strings(data.candidates) == ["x", "p", "", "dots"]
    assert problems(data) == [
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
    with pytest.raises(DataError) as error:
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
    write_clip(tmp_path, name, folder)
    data = read_rows(tmp_path, name, row)
    assert strings(data.queries) == [query]
    assert data.candidate_names == (folder,)
    assert strings(data.candidates) == ["<|media|> Understand the content of the provided video."]
    assert data.relevant == {"0": {folder: 1}}


def test_retrieval_refuses_a_video_of_fewer_frames_than_it_picks(tmp_path: Path) -> None:
    write_clip(tmp_path, "MSVD", "v", 7)
    with pytest.raises(MediaError, match=r"^MSVD: .*test\.jsonl:1: .*/MSVD/v holds 7 frames: 8 are needed$"):
        read_rows(tmp_path, "MSVD", {"video_id": "v", "caption": ["c"]})


def test_missing_frames_are_an_error_that_names_row_and_folder(tmp_path: Path) -> None:
    with pytest.raises(
        MediaError, match=r"^K700: .*test\.jsonl:1: .*/video_cls/K700/gone cannot be read as a folder of"
    ):
        read_rows(tmp_path, "K700", {"video_id": "gone", "pos_text": "clapping"})


def test_a_video_without_positive_clip_is_refused(tmp_path: Path) -> None:
    for clip in ("query", "Positive_x", "negative_0"):
        write_clip(tmp_path, "Charades-STA", f"v.1/{clip}")
    with pytest.raises(DataError, match=r"holds no folder that begins with 'positive'$"):
        read_rows(tmp_path, "Charades-STA", {"query": "q", "video_path": "v.1.mp4"})


def test_a_clip_without_frames_is_refused(tmp_path: Path) -> None:
    for clip in ("query", "positive"):
        write_clip(tmp_path, "QVHighlight", f"v/{clip}")
    (tmp_path / task_named("QVHighlight").media_dir / "v" / "negative").mkdir()
    with pytest.raises(MediaError, match=r"/v/negative holds no frames"):
        read_rows(tmp_path, "QVHighlight", {"query": "q", "video_path": "v.mp4"})


def test_momentseeker_asks_in_three_ways_with_all_frames_and_several_right_clips(tmp_path: Path) -> None:
    media = tmp_path / task_named("MomentSeeker").media_dir
    for clip in ("ego_a.b_1", "ego_2", "neg"):
        write_clip(tmp_path, "MomentSeeker", f"video_frames/{clip}", 10)
    write_picture(media / "query_i.jpg", "red")
    clips = {
        "positive_frames": [{"output_path": "ego/a.b/1.mp4"}, {"output_path": "ego/2.mp4"}],
        "negative_frames": [{"output_path": "neg.mp4"}],
    }
    given = ("ego/2.mp4", "i.jpg", "", "i.JPG")
    data = read_rows(tmp_path, "MomentSeeker", *({"query": "q", "input_frames": one, **clips} for one in given))
    assert strings(data.queries) == [
        "<|media|> Find the clip that corresponds to the given sentence and video segment: q",
        "<|media|> Select the video clip that aligns with the given text and image: q",
        "Find the clip that corresponds to the given text: q",
        "Find the clip that corresponds to the given text: q",
    ]
    assert data.queries[1].media == (Image(media / "query_i.jpg", as_stored=True),)
    names = [f"{task_named('MomentSeeker').media_dir}/video_frames/{clip}" for clip in ("ego_a.b_1", "ego_2", "neg")]
    assert data.pools == (tuple(names),) * 4
    assert data.relevant["0"] == {names[0]: 1, names[1]: 1}
    assert strings(data.candidates) == ["<|media|> Understand the content of the provided video clip."] * 3
    for item in (data.queries[0], *data.candidates):
        (video,) = item.media
        assert isinstance(video, Video)
        assert len(video.source) == 10  # type: ignore[arg-type]
    assert problems(data) == [("input_frames", "neither .mp4 nor .jpg; the query is its text alone", 1)]


def test_a_moment_without_candidates_is_counted_and_a_missing_query_picture_refused(tmp_path: Path) -> None:
    row = {"query": "q", "input_frames": "", "positive_frames": [], "negative_frames": []}
    data = read_rows(tmp_path, "MomentSeeker", row)
    assert (data.relevant, data.pools) == ({"0": {}}, ((),))
    assert problems(data) == [("positive_frames", "a query has no right candidate", 1)]
    with pytest.raises(MediaError, match=r"query_gone\.jpg is not there"):
        read_rows(tmp_path, "MomentSeeker", row | {"input_frames": "gone.jpg"})

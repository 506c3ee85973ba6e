"""Which shot of a film is meant? Films of joined clips, some of which are reverses of others."""

from __future__ import annotations

from captions import sentence
from corpus import dice
from instructions import instruction
from rows import Row, row, video
from task_cast import plain_name, wording
from task_clips import corpus_clips
from task_files import asked_of_video, join_clips
from wordings import read_words

MOTION_LABELS = read_words("clips")["motion_labels"]

SHOT_PHRASES = (
    "the {name}: {motion}",
    "the shot with the {name}, {motion}",
    "{motion}, by the {name}",
    "the moment when the {name} is {motion}",
    "{name}, {motion}",
    "the {name} while {motion}",
    "the scene of the {name} {motion}",
    "when one sees the {name} {motion}",
)


def films(number: int, held: bool) -> list[tuple[str, Row]]:
    """Four to six joined shots, each asked for once: two things in a motion and its reverse, others once."""
    rng = dice("task film", held, number)
    clips = corpus_clips(held)
    chosen: list[int] = []
    while len(chosen) < 4:
        # Rows 2n and 2n + 1 are a clip and its reverse.
        one = 2 * rng.randrange(len(clips) // 2)
        if all(clips[one][2] != clips[other][2] for other in chosen):
            chosen.append(one)
    shots = [chosen[0], chosen[0] + 1, chosen[1], chosen[1] + 1]
    shots += [one + rng.randrange(2) for one in chosen[2:]]
    shots = shots[: rng.choice((4, 5, 5, 5, 6))]
    rng.shuffle(shots)
    film = join_clips([clips[shot][0] for shot in shots], "films", held, number)
    note = instruction("video", rng, held=held)
    rows = []
    for place, shot in enumerate(shots):
        path, reverse, concept, motion = clips[shot]
        name = plain_name(concept)
        if rng.random() < 0.7:
            words = sentence(name, motion, rng, held=held)
        else:
            doing = wording([w for w in MOTION_LABELS[motion] if w.split()[0].endswith("ing")], rng, held=held)
            words = wording(SHOT_PHRASES, rng, held=held).format(name=name, motion=doing)
        others = [clips[other][0] for other in shots if other != shot]
        wrong = rng.sample(others, 2)
        if reverse in others and reverse not in wrong:
            wrong[0] = reverse
        query = asked_of_video(film, words, instruction("film to shot", rng, held=held))
        label = f"shot {held} {number} {place}"
        rows.append(("film_to_shot", row(query, video(path, note), label, *(video(one, note) for one in wrong))))
    return rows

"""In which words are motions named, and questions about clips asked? None of them is a sentence of a benchmark."""

from __future__ import annotations

MOTION_LABELS = {
    "left": ("going left", "a move to the left", "sliding left", "travelling left", "leftward motion",
             "movement towards the left", "it goes to the left", "passing from right to left", "drifting left"),
    "right": ("going right", "a move to the right", "sliding right", "travelling right", "rightward motion",
              "movement towards the right", "it goes to the right", "passing from left to right", "drifting right"),
    "up": ("going up", "a move to the top", "rising", "climbing", "upward motion", "movement towards the top",
           "it goes up", "ascending", "passing from bottom to top"),
    "down": ("going down", "a move to the bottom", "falling", "dropping", "downward motion",
             "movement towards the bottom", "it goes down", "sinking", "descending", "passing from top to bottom"),
    "grows": ("growing", "getting larger", "becoming big", "filling more of the frame", "it gets larger",
              "expanding", "enlarging", "coming nearer"),
    "shrinks": ("shrinking", "getting tiny", "becoming small", "filling less of the frame", "it gets tinier",
                "contracting", "going away into the distance", "losing size"),
    "clockwise": ("turning clockwise", "clockwise rotation", "spinning clockwise", "it turns clockwise",
                  "a clockwise turn", "whirling clockwise", "turning the way clock hands do", "circling clockwise",
                  "a spin clockwise"),
    "counter-clockwise": ("turning counter-clockwise", "counter-clockwise rotation", "spinning counter-clockwise",
                          "it turns counter-clockwise", "a turn against the clock", "whirling counter-clockwise",
                          "turning against the way clock hands go", "circling counter-clockwise",
                          "a spin counter-clockwise"),
    "appears": ("appearing", "fading in", "it comes into view", "showing up slowly", "turning from unseen to seen",
                "materializing", "popping up", "gaining colour out of nothing", "becoming solid"),
    "vanishes": ("vanishing", "fading out", "it goes out of view", "disappearing slowly", "turning from seen to unseen",
                 "dying away", "fading away", "losing all colour", "becoming transparent"),
}  # fmt: skip
"""Motion -> what it may be called as a class."""

QUESTIONS = {
    "first": (
        "what comes first?",
        "which object opens the video?",
        "what can be seen at the beginning?",
        "the clip begins with what?",
        "name the first of the things.",
        "before all others, what was there?",
        "what is seen at the start?",
        "which of them is number one in time?",
        "which object appears earliest?",
    ),
    "last": (
        "what comes last?",
        "which object closes the video?",
        "what can be seen at the end?",
        "the clip ends with what?",
        "name the last of the things.",
        "after all others, what was there?",
        "what is seen at the finish?",
        "which of them is the final one?",
        "which object appears latest?",
    ),
    "after": (
        "what follows the {thing}?",
        "which object comes next after the {thing}?",
        "what replaces the {thing}?",
        "once the {thing} is gone, what is there?",
        "the {thing} gives way to what?",
        "name the one that comes immediately after the {thing}.",
        "after the {thing}, what is next?",
        "what takes the {thing}'s place?",
        "which of them succeeds the {thing}?",
    ),
    "before": (
        "what precedes the {thing}?",
        "which object comes immediately before the {thing}?",
        "what does the {thing} replace?",
        "until the {thing} came, what was there?",
        "what gives way to the {thing}?",
        "name the one just ahead of the {thing} in time.",
        "before the {thing}, what was on the screen?",
        "whose place does the {thing} take?",
        "which of them was there earlier than the {thing}, directly?",
    ),
    "way": (
        "in which direction does the {thing} go?",
        "where is the {thing} going?",
        "what is the direction of the {thing}?",
        "towards which side is the {thing} moving?",
        "the {thing} travels in what direction?",
        "how does the {thing} move?",
        "tell the {thing}'s direction.",
        "to which edge does the {thing} come nearer?",
        "direction of the {thing}?",
    ),
    "who": (
        "what goes {way}?",
        "which object travels {way}?",
        "name the thing that goes {way}.",
        "which of the two goes {way}?",
        "what is it that moves {way}?",
        "what slides {way}?",
        "{way}: which of them goes there?",
        "the one going {way} is what?",
    ),
}
"""Kind of question -> its wordings."""

WAYS = {
    "left": ("left", "to the left", "leftwards", "towards the left"),
    "right": ("right", "to the right", "rightwards", "towards the right"),
    "up": ("up", "to the top", "upwards", "towards the top"),
    "down": ("down", "to the bottom", "downwards", "towards the bottom"),
}
REVERSE = {"left": "right", "right": "left", "up": "down", "down": "up"}

JOINED = (
    "first {one}, then {other} as well",
    "{one} is there and {other} is added",
    "{other} shows up beside {one}",
    "{one} alone, later together with {other}",
    "{other} joins {one}",
    "at the start only {one}; at the end {other} too",
    "{one} gets company from {other}",
    "{other} arrives after {one}",
    "{one} is earlier than {other}",
    "{one} first, {other} second",
)
"""Wordings for a clip in which one thing stays and another is added."""

REPLACED = (
    "first {one}, then {other}",
    "{one} is followed by {other}",
    "{other} comes after {one}",
    "{one} is replaced by {other}",
    "{one} in the beginning, {other} in the end",
    "it starts with {one} and ends with {other}",
    "{one}, and next {other}",
    "{other} takes the place of {one}",
    "{one} gives way to {other}",
    "{one} first, {other} second",
)
"""Wordings for a clip in which one thing takes the place of another."""

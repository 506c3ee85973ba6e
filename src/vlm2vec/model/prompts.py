"""How a checkpoint family wants an item written down: prompt styles, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vlm2vec.errors import InputError, StyleError
from vlm2vec.items import MEDIA_MARKER, Item, Kind, Role, Target
from vlm2vec.text import shortened


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """The input convention of a family of checkpoints.

    Args:
        before_medium: special token in front of a medium's visual tokens; None for none.
        after_medium: the same behind them.
        separator: stands between media that have no marker, and between the last one and the text.
        positions: "1d" gives every token its plain index; "mrope" gives visual tokens time, row and column.
        published_strings: whether `Item.verbatim`, or a text that holds a marker, is already the whole string, so that
            no instruction is put in front of it.
        query_instructions: default by the kind of the query and the kind that it looks for (None: not known).
        document_instructions: default by kind of the document.
    """

    before_medium: str | None
    after_medium: str | None
    separator: str
    positions: Literal["1d", "mrope"]
    published_strings: bool
    query_instructions: Mapping[tuple[Kind, Target | None], str]
    document_instructions: Mapping[Kind, str]

    def instruction(self, role: Role, kind: Kind, target: Target | None = None) -> str | None:
        """Default instruction for an item of `kind`; None if the style has none."""
        if role == "document":
            return self.document_instructions.get(kind)
        return self.query_instructions.get((kind, target), self.query_instructions.get((kind, None)))

    def strings(self) -> list[object]:
        """All that it adds to items, as plain data: for the fingerprint of a model."""
        return [
            [self.before_medium, self.after_medium, self.separator, self.positions, self.published_strings],
            sorted([kind, target or "", text] for (kind, target), text in self.query_instructions.items()),
            sorted(self.document_instructions.items()),
        ]

    def compose(self, item: Item, instruction: str | None = None) -> str:
        """The one string that is tokenised, with `<|media|>` where each medium's visual tokens go.

        Follows the rule of most MMEB-V2 parsers: medium, separator, instruction, one space, text; an absent part takes
        its space with it, except that an instruction given as "" keeps it, as published. With `published_strings` a
        string that already is whole is taken as it is and `instruction` is not used.

        Raises:
            InputError: the item is empty, or its markers and media do not agree in number.
        """
        whole = item.verbatim if item.verbatim is not None else item.text if MEDIA_MARKER in item.text else None
        if self.published_strings and whole is not None:
            prompt = whole
        else:
            if not item.text and not item.media:
                raise InputError("an item with neither text nor media cannot be embedded; give it one of them")
            # Only the publication tells an empty instruction from none.
            given = instruction if self.published_strings else instruction or None
            body = item.text if given is None else f"{given} {item.text}" if item.text else given
            if MEDIA_MARKER in body:
                prompt = body
            else:
                rest = [body] if body or given is not None else []
                prompt = self.separator.join([MEDIA_MARKER] * len(item.media) + rest)
        markers = prompt.count(MEDIA_MARKER)
        if markers != len(item.media):
            raise InputError(
                f"{markers} {MEDIA_MARKER} marker(s) but {len(item.media)} media in {shortened(prompt, 80)}: "
                "give one marker for each medium, or none at all"
            )
        if not prompt:
            raise InputError("the item's whole string is empty: an item needs text or a medium")
        return prompt


def prompt_style(name: str) -> PromptStyle:
    """The style of that name.

    Raises:
        StyleError: there is none; the message lists the styles.
    """
    if name not in STYLES:
        raise StyleError(f"no prompt style named {name!r}; there are: {', '.join(sorted(STYLES))}")
    return STYLES[name]


# The strings below are instructions of MMEB-V2's tasks (arXiv 2507.04590, its evaluation configs): text to image
# MSCOCO_t2i, text to video MSR-VTT, text to page ViDoRe, image to image NIGHTS, video queries MomentSeeker.
_QUERY: Mapping[tuple[Kind, Target | None], str] = {
    ("text", None): "Find me an everyday image that matches the given caption.",
    ("text", "video"): "Find a video that contains the following visual content:",
    ("text", "page"): "Find a document image that matches the given query:",
    ("image", None): "Find a day-to-day image that looks similar to the provided image.",
    ("image", "video"): "Select the video clip that aligns with the given text and image:",
    ("image", "page"): "Find a document image that matches the given query:",
    ("video", None): "Find the clip that corresponds to the given sentence and video segment:",
    ("page", None): "Find a document image that matches the given query:",
}
_DOCUMENT: Mapping[Kind, str] = {
    "image": "Represent the given image.",
    "video": "Understand the content of the provided video.",
    "page": "Understand the content of the provided document image.",
}

STYLES: Mapping[str, PromptStyle] = {
    # As VLM2Vec was published: no chat template, no vision-start token, and therefore 1-D positions.
    "vlm2vec": PromptStyle(
        before_medium=None,
        after_medium=None,
        separator=" ",
        positions="1d",
        published_strings=True,
        query_instructions=_QUERY,
        document_instructions=_DOCUMENT,
    ),
    # Qwen2-VL's own way of writing media, for models trained by this package.
    "qwen2-vl": PromptStyle(
        before_medium="<|vision_start|>",
        after_medium="<|vision_end|>",
        separator="",
        positions="mrope",
        published_strings=False,
        query_instructions=_QUERY,
        document_instructions=_DOCUMENT,
    ),
}

KNOWN_CHECKPOINTS: Mapping[str, str] = {
    "VLM2Vec/VLM2Vec-V2.0": "vlm2vec",
    "TIGER-Lab/VLM2Vec-Qwen2VL-2B": "vlm2vec",
    "TIGER-Lab/VLM2Vec-Qwen2VL-7B": "vlm2vec",
}
"""Prompt style of published checkpoints, which carry no `vlm2vec.json`."""

"""How is each kind of task asked for? Instructions in many wordings, so that none of them alone means its task."""

from __future__ import annotations

import random
from collections.abc import Sequence

from holdouts import is_held_wording
from rows import INSTRUCTIONS, Row

NO_INSTRUCTION = 0.1
"""Share of the rows that go without one, where what is asked can be told without."""

PLAIN_QUERIES = 0.3
"""The same for the queries of corpus.py's files."""

CORPUS_KINDS = {
    "caption_to_image": ("text for images", "image"),
    "caption_to_drawing": ("text for images", "image"),
    "image_to_caption": ("image for texts", ""),
    "image_to_image": ("image for images", "image"),
    "text_to_video": ("text for videos", "video"),
    "video_to_text": ("video for texts", ""),
    "text_to_page": ("text for pages", "page"),
    "text_to_text": ("text for texts", ""),
}
"""For each file of corpus.py the kinds of its queries' and its documents' instructions; "" for none."""

QUERIES = {
    "text for images": (
        INSTRUCTIONS["text for images"],
        "Find an image that matches the description.",
        "Find the picture that shows this:",
        "Retrieve an image that the text describes.",
        "Search for a picture of the following:",
        "Which image does this text belong to?",
        "Find a drawing or icon of this:",
        "Select the image with this content:",
        "Look for a picture like this one in words:",
        "Given a description, retrieve the image it describes.",
        "Show me an image of the following:",
        "Find an illustration for these words:",
    ),
    "image for images": (
        INSTRUCTIONS["image for images"],
        "Find another image of the same thing.",
        "Find an image with the same content as this one.",
        "Retrieve a different drawing of what is shown here.",
        "Search for pictures that show the same as the given one.",
        "Look for the same object, drawn by someone else.",
        "Which other picture shows this thing?",
        "Find a picture of the thing in the given image.",
        "Given an image, retrieve one that shows the same concept.",
        "Find the counterpart of this image among other drawings.",
    ),
    "image for texts": (
        "Find an image caption describing the given image.",
        "Find a text that describes the given picture.",
        "Retrieve the caption that belongs to this image.",
        "Describe the image in a few words.",
        "Which words describe what is shown?",
        "Select the description that fits the image.",
        "Find the title of this picture.",
        "Caption this image.",
        "Given an image, retrieve a matching caption.",
        "Say in words what can be seen here.",
    ),
    "text for videos": (
        INSTRUCTIONS["text for videos"],
        "Find a clip that shows the following:",
        "Retrieve the video that the sentence describes.",
        "Search for a video of this event:",
        "Which clip does this sentence belong to?",
        "Find footage of the following:",
        "Select the clip in which one can see this:",
        "Given a sentence, retrieve the video it tells about.",
        "Look for a short film of this:",
        "Show me a video where this takes place:",
    ),
    "video for texts": (
        "Find a sentence that describes the given video.",
        "Retrieve the caption that belongs to this clip.",
        "Describe in one sentence what goes on in the video.",
        "Which sentence tells what this clip shows?",
        "Select the description of this video.",
        "Caption this clip.",
        "Given a video, retrieve a matching sentence.",
        "Say in words what takes place here.",
        "Find the text that sums up the clip.",
        "Put the clip into words.",
        "Match the clip with its sentence.",
        "Find the caption of the video.",
    ),
    "text for pages": (
        INSTRUCTIONS["text for pages"],
        "Find a page or slide with this title:",
        "Retrieve the document page that the text belongs to.",
        "Search for a slide about the following:",
        "Which page has this heading?",
        "Select the page that deals with this:",
        "Given a query, retrieve the page that is relevant to it.",
        "Look for a document on this subject:",
        "Show me the page about this:",
        "Find the slide or page that is meant here:",
        "Match the title with its page:",
        "Find the document about this:",
        "Get the page whose title reads:",
    ),
    "text for texts": (
        "Find a text that says what this word means.",
        "Retrieve the meaning of the following word:",
        "Find words that mean the same or belong to this:",
        "Give the definition of:",
        "Which text explains this expression?",
        "Search for an explanation of the following:",
        "Given a term, retrieve its description.",
        "Select the text that has the same meaning.",
        "Look up this word:",
        "Find a definition or keywords for this:",
    ),
    "image to class": (
        "Name the class of the thing in the image.",
        "Which category does the shown thing belong to?",
        "Identify the kind of thing that is shown.",
        "Classify the image.",
        "What sort of thing is this?",
        "Choose the category that fits the picture.",
        "Find the class label of this icon.",
        "Under which heading would this picture be filed?",
        "Identify the category of the object in the given image.",
        "Tell the class of what can be seen.",
        "Sort this picture into its narrow category.",
        "Give the category of this image.",
        "Label the picture with its category.",
    ),
    "image to group": (
        "Name the broad group that the thing in the image belongs to.",
        "Which main group does this picture fall into?",
        "Identify the general group of what is shown.",
        "Choose the large category that the icon is part of.",
        "Into which of the big groups would you put this?",
        "Classify the image coarsely.",
        "Find the group label of this emoji.",
        "Tell the main heading under which this emoji is listed.",
        "Say which large group the shown symbol is in.",
        "Identify the top-level category of the given image.",
    ),
    "chart to class": (
        "Name the type of the chart.",
        "Which type of diagram is shown?",
        "Identify how the data are plotted.",
        "Classify the chart by its type.",
        "Tell which sort of plot this is.",
        "Choose the name of this kind of diagram.",
        "Find the type label of this graph.",
        "How is this way of showing numbers called?",
        "What type of graph can be seen here?",
        "Recognize the form of the chart.",
    ),
    "scene question": (
        "Answer the question about the image:",
        "Represent the given image with the following question:",
        "Look at the picture and answer:",
        "Give a short answer to the question on this image:",
        "Use what is shown to answer this:",
        "Reply to the question about what can be seen:",
        "Answer by looking at the image:",
        "Question about the scene:",
        "Find the right answer to the question about the scene:",
        "Given an image and a question, retrieve the answer.",
        "Study the scene, then answer the question.",
    ),
    "chart question": (
        "Answer the question about the diagram:",
        "Read the chart and answer:",
        "Represent the given chart with the following question:",
        "Give a short answer to the question on this graph:",
        "Find the answer in the chart:",
        "Look at the bars and answer:",
        "Use the numbers shown to answer this:",
        "Question on the chart:",
        "Reply to what is asked about the plotted data:",
        "Given a chart and a question, retrieve the answer.",
    ),
    "scene crop": (
        "Find the part of the image that the text names:",
        "Select the portion of the image that shows the following:",
        "Cut out of the picture what is described here:",
        "Locate this in the image:",
        "Which detail of the picture is meant?",
        "Retrieve the region of the image that is referred to:",
        "Find the crop with this object:",
        "Point out the object of this name:",
        "Given an image and a phrase, retrieve the piece of the image it refers to.",
        "Zoom in on the following:",
        "Pick the image section in which one sees this:",
        "Find this object in the image:",
        "Identify the image region that the words refer to:",
    ),
    "composed": (
        "Find an image like the given one, but changed as the text says:",
        "Apply this change to the picture and find the result:",
        "Retrieve the image that differs from this one as described:",
        "Find the same thing with this modification:",
        "Change the given picture in this way:",
        "Look for a version of the image that follows the text:",
        "Given an image and an edit, retrieve the edited image.",
        "Search for the altered picture:",
        "Which picture results from this wish?",
        "Find the variant that is asked for:",
    ),
    "clip to motion": (
        "Name the motion in the clip.",
        "What does the moving object do?",
        "Identify the action in the video.",
        "Classify the video by what goes on in it.",
        "How does the object change or move?",
        "Recognize the kind of movement.",
        "Choose the label of the action that is seen.",
        "Tell in which way something changes in the clip.",
        "Find the words for the movement in this video.",
        "Say what is going on in the video.",
        "Recognize the category of the video content.",
    ),
    "clip to thing": (
        "Name the object that moves in the clip.",
        "What is it that changes in the video?",
        "Identify the thing that does not stay as it is.",
        "Which object is in motion here?",
        "Find the name of the moving or changing object.",
        "Tell what thing the action is about.",
        "Choose the name of the thing that acts.",
        "Classify the video by its main object.",
        "Which of the shown things is not still?",
        "Say which object something is done with.",
    ),
    "clip question": (
        "Answer the question about the video:",
        "Watch the clip and answer:",
        "Given a video and a question, retrieve the answer.",
        "Give a short answer to the question on this clip:",
        "Represent the given video with the following question:",
        "Use what the clip shows to answer this:",
        "Reply to the question after watching:",
        "Find the right answer to the question about the film:",
        "Look at the frames in turn and answer:",
        "Question on the video:",
    ),
    "order to clip": (
        "Find the clip whose beginning and end fit this:",
        "Retrieve the clip that goes like this:",
        "Search for a clip with this sequence:",
        "Which video shows these events one after the other?",
        "Find the clip in which the order is as told:",
        "Given a sequence of events, retrieve the video of it.",
        "Select the video where this is the order of things:",
        "Look for footage that begins and ends like this:",
        "Mind the order and find the video:",
        "Show me the clip with these things in turn:",
    ),
    "film to shot": (
        "Find the part of the film that shows this:",
        "Select the video segment that matches the sentence:",
        "Retrieve the moment of the given video that is described:",
        "Which shot of the film is meant?",
        "Cut out of the video the scene with the following:",
        "Find the clip from this video that corresponds to the text:",
        "At which moment of the film does this take place?",
        "Given a video and a sentence, retrieve the segment it tells about.",
        "Locate the following event in the film:",
        "Pick the piece of the video where one can see this:",
    ),
    "question to page": (
        "Find the page that answers the question:",
        "Retrieve the slide on which the answer stands:",
        "Which document helps to answer this?",
        "Search for the slide that holds the answer.",
        "Find a document image in which this can be read:",
        "Given a question, retrieve the page with the answer.",
        "Select the chart or slide that tells this:",
        "Look for the document that one needs to answer this:",
        "Where can one read this?",
        "Show me the page with the answer to this:",
        "Find out on which page this is said:",
        "Find a slide or chart for this question:",
        "Search the slides and charts for the answer:",
        "Find the figures asked for here:",
        "On which slide is the answer?",
    ),
    "section to page": (
        INSTRUCTIONS["text for pages"],
        "Find the page of the manual where this is explained:",
        "Retrieve the page that begins this section:",
        "Which page of the book deals with this?",
        "Search for the manual page on the following:",
        "Find the document page with this section:",
        "Open the manual at this section:",
        "Select the page on which one reads about this:",
        "Given a heading, retrieve the page it stands on.",
        "Look up this section:",
        "Turn to the page about this:",
        "Find where the handbook explains this:",
        "Get the page where this section starts:",
        "Find this in the manual:",
    ),
}
"""Kind of task -> instructions of its queries."""

DOCUMENTS = {
    "image": (
        INSTRUCTIONS["image"],
        "Represent the image.",
        "Understand what is shown in the image.",
        "Encode this picture.",
        "Describe what the given picture shows.",
        "Summarize the picture.",
        "The content of this image:",
        "Represent the picture for search.",
        "Take in the given picture.",
        "Represent the given drawing.",
    ),
    "crop": (
        "Represent the given cropped image of the object.",
        "Represent this detail of an image.",
        INSTRUCTIONS["image"],
        "Represent the image section.",
        "Encode this piece of a picture.",
        "Understand what this image region shows.",
        "A cut-out of a larger image:",
        "Represent the given region.",
        "Describe the object in this crop.",
        "The content of this image region:",
    ),
    "video": (
        INSTRUCTIONS["video"],
        "Represent the given video.",
        "Understand what the clip shows.",
        "Encode this clip.",
        "Represent the video for search.",
        "Describe what takes place in the given clip.",
        "The content of this video:",
        "Summarize the clip.",
        "Represent the events in the video.",
        "Take in the given clip.",
    ),
    "page": (
        INSTRUCTIONS["page"],
        "Represent the given page.",
        "Understand what stands on the page.",
        "Encode this document page.",
        "Represent the page for search.",
        "The content of this page:",
        "Summarize the document image.",
        "Read the given page.",
        "Represent the slide or page.",
        "Describe what this document is about.",
    ),
}
"""Kind of document -> its instructions."""

_NEEDED = {"image to class", "image to group", "chart to class", "clip to motion", "clip to thing"}
"""Without their instruction nothing would say which of several tasks on the same picture or clip is meant."""


def instruction(kind: str, rng: random.Random, *, held: bool = False) -> str:
    """One wording for a kind of `QUERIES` or `DOCUMENTS`, "" for a tenth of those that can do without.

    Held rows draw among the held wordings, training rows among the others; what `rows.INSTRUCTIONS` has is the
    default of the shipped model and always trained.
    """
    if kind not in _NEEDED and rng.random() < NO_INSTRUCTION:
        return ""
    wordings = QUERIES.get(kind) or DOCUMENTS[kind]
    return rng.choice([words for words in wordings if is_held_instruction(words) is held] or wordings)


def worded(file: str, rows: Sequence[Row]) -> list[Row]:
    """Training rows of a file of corpus.py with their instructions in many wordings, or without one.

    Query and document draw apart, so that how one is asked for does not give the other away; hard negatives are worded
    as their positive. More queries go without one than are elsewhere: a search without a kind is such a question.
    """
    asks, notes = CORPUS_KINDS[file]
    found: list[Row] = []
    for number, row in enumerate(rows):
        rng = random.Random(f"instructions/{file}/{number}")
        ask = "" if rng.random() < PLAIN_QUERIES else instruction(asks, rng)
        note = instruction(notes, rng) if notes else ""
        parts = {"query": row["query"] | {"instruction": ask}, "positive": row["positive"] | {"instruction": note}}
        if "negatives" in row:
            parts["negatives"] = [part | {"instruction": note} for part in row["negatives"]]
        found.append(row | parts)
    return found


def is_held_instruction(words: str) -> bool:
    """Whether it is kept for evaluation."""
    return is_held_wording(words) and words not in INSTRUCTIONS.values()

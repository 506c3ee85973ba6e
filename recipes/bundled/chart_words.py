"""In which words are questions about charts asked? None of them is a sentence of a benchmark."""

from __future__ import annotations

QUESTIONS = {
    "highest": (
        "which {kind} has the greatest value?",
        "name the {kind} with the most.",
        "what is at the top among the {kind}s?",
        "where is the bar at its biggest?",
        "the peak belongs to which {kind}?",
        "the maximum is reached by what?",
        "whose bar is greater than all others?",
        "which {kind} comes out best?",
        "find the {kind} with the biggest bar.",
        "tallest bar: which {kind}?",
    ),
    "lowest": (
        "which {kind} has the least value?",
        "name the {kind} with the fewest.",
        "what is last in rank among the {kind}s?",
        "where is the bar at its smallest?",
        "the low point belongs to which {kind}?",
        "the minimum is reached by what?",
        "whose bar is smaller than all others?",
        "which {kind} comes out worst?",
        "find the {kind} with the smallest bar.",
        "smallest bar: which {kind}?",
    ),
    "first": (
        "what does the label of the first bar say?",
        "which {kind} does the chart begin with?",
        "name the {kind} that is first in order.",
        "first bar: which {kind}?",
        "what is written at the first bar?",
        "the row of bars starts with which {kind}?",
        "which {kind} opens the chart?",
        "read the first label.",
    ),
    "last": (
        "what does the label of the last bar say?",
        "which {kind} does the chart end with?",
        "name the {kind} that is last in order.",
        "last bar: which {kind}?",
        "what is written at the last bar?",
        "the row of bars ends with which {kind}?",
        "which {kind} closes the chart?",
        "read the last label.",
    ),
    "number": (
        "how many bars does the chart have?",
        "count the bars.",
        "what is the number of bars?",
        "how many {kind}s are compared?",
        "number of {kind}s shown?",
        "how many values are drawn?",
        "how many bars can be counted?",
        "tell how many bars there are.",
    ),
    "title": (
        "what is the chart about?",
        "what does the title say?",
        "read the heading of the chart.",
        "which subject is plotted?",
        "what do the bars stand for?",
        "name the subject of the diagram.",
        "what has been measured?",
        "what is the heading?",
    ),
}
"""Kind of question -> its wordings."""

PAGE_QUESTIONS = (
    "what became of {topic} in {place} from {start} to {end}?",
    "{topic} in {place}, {start} to {end}: how did they go?",
    "how have the figures for {topic} in {place} changed over {start} to {end}?",
    "where is {topic} in {place} plotted for {start}-{end}?",
    "I want to see {topic} of {place} between {start} and {end}.",
    "is there a trend in {topic} for {place}, {start}-{end}?",
    "what were {topic} like in {place} in the years {start} to {end}?",
    "give the course of {topic}, {place}, {start} to {end}.",
    "did {place} see more or less of {topic} from {start} to {end}?",
    "numbers on {topic} in {place} between {start} and {end}?",
)

TYPES = {
    "vertical bar chart": ("vertical bar chart", "column chart"),
    "horizontal bar chart": ("horizontal bar chart", "bar chart with lying bars"),
    "grouped bar chart": ("grouped bar chart", "clustered bar chart"),
    "stacked bar chart": ("stacked bar chart", "bar chart with stacked parts"),
    "line chart": ("line chart", "line graph"),
    "area chart": ("area chart", "filled line chart"),
    "scatter plot": ("scatter plot", "chart of points"),
    "histogram": ("histogram", "chart of frequencies in intervals"),
    "box plot": ("box plot", "box-and-whisker plot"),
    "pie chart": ("pie chart", "circle divided into slices"),
}
"""Type of chart -> what it may be called; the first four times as often."""

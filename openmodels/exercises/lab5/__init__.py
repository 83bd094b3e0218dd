"""Lab 5, the harbour office: the numbers, titles and hints of its exercises.

Exercise 5.3 is in the module `ex_5_3_rules`, and so on. `cases` has the acceptance suite.
"""

from openmodels.check import Exercise

EXERCISES = (
    Exercise(
        "5.1",
        "Route requests in two languages",
        hints=(
            "Walk through the text by position. At each position, try the phrases of the glossary "
            "from the longest to the shortest, and step over the phrase that fits.",
            "Put spaces around each translated phrase, then clean up once at the end: "
            '`" ".join(text.split())`, and `re.sub` for a space before a mark.',
            "Decide in this order: a sound, a picture, then the words. For the words, use the text "
            'before the first colon: `text.partition(":")[0].lower()`, and `re.findall(r"\\w+", '
            "...)` for whole words.",
        ),
    ),
    Exercise(
        "5.2",
        "Run tools, and write only with approval",
        hints=(
            "Write one loop over `range(limit)`. A message without tool calls ends it; a message "
            "with tool calls adds itself and one tool message per call to the messages.",
            "For each call there are five cases: a tool that is not in `tools`, a write that ran "
            "already, a write without approval, an error, a result. Only the third ends the run.",
            "Ask with a copy of the arguments, `approve(name, dict(arguments))`, before the call. "
            "Remember finished writes in a dictionary whose key is "
            "`json.dumps([name, arguments], sort_keys=True)`.",
        ),
    ),
    Exercise(
        "5.3",
        "Answer from the rules with citations, or refuse",
        hints=(
            "Filter first: a passage is useful only if it names every subject of the question, "
            "`subjects(question) <= subjects(source.text)`. Without passages, refuse at once.",
            r"`re.findall(r'\[(\d+)\]', answer)` gives the marks. Mark 1 is the first passage that "
            "you passed to `read`. Keep each document's first passage that is cited.",
            "Compare claims last. `quantities` turns an answer and the cited passages into sets of "
            "pairs such as (40, coins); the answer's set must be a subset.",
        ),
    ),
    Exercise(
        "5.4",
        "Turn forms and radio calls into tool calls",
        hints=(
            "Parse with `json.loads` inside `try`, and check that the result is a dict. Everything "
            "that a form may lack then has one place to be refused: return None.",
            "`difflib.get_close_matches(word, words, 1, cutoff)` returns a list with the closest "
            "known word, or an empty list.",
            "For a radio call, look for a shop in the text of the request and for a good in the "
            "transcript. With both, ask for a price; with a person, pass the transcript on.",
        ),
    ),
    Exercise(
        "5.5",
        "Guard, budget and trace",
        hints=(
            "Split a passage into sentences with `re.split(r'(?<=[.!?]) ', text)`, and keep those "
            "that contain no marker as a whole word.",
            "Open the trace first, then the budget, then call the office. What the inner office "
            "raises is caught between the trace and the budget, so that both still exist.",
            "The id is `format(span.get_span_context().trace_id, '032x')`. Return the reply with "
            "`replace(reply, usage=usage, trace=...)` after the `with count_usage` block, whose "
            "clock then has stopped.",
        ),
    ),
    Exercise(
        "5.6",
        "Build the whole office",
        hints=(
            "Write one inner function `handle(request, approve)` that routes and then has one "
            "branch per handler. `within` turns it into the office.",
            "Give the model exactly the tool that the route names. The miniature chooses well "
            "among few tools and badly among ten, and a tool that it cannot see cannot be misused.",
            "A form and a radio call become a call whose arguments you know: pass it to `carry_out` "
            "as the first message, with `agent.numbered(calling(call))`.",
        ),
    ),
)

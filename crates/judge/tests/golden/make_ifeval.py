"""Makes ifeval.json: what the checkers of lm-evaluation-harness (`pip install "lm-eval[ifeval]"`) decide about some answers, for
the kinds of instructions that need no trained model. Run it in this folder: `python3 make_ifeval.py [--check]`.
"""

import json
import sys
from pathlib import Path
from unittest import mock

# The model for sentences is not needed, and not fetched.
with mock.patch("nltk.download"):
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

CASES = [
    ("keywords:existence", {"keywords": ["cat", "Dog"]}, ["A CAT and a dog.", "a cat", "concatenated dogs", ""]),
    (
        "keywords:frequency",
        {"keyword": "sun", "frequency": 2, "relation": "at least"},
        ["sun Sunday", "sun", "The SUN, the sun."],
    ),
    (
        "keywords:frequency",
        {"keyword": " rain", "frequency": 2, "relation": "less than"},
        ["rain", "rain brain train", "dry"],
    ),
    ("keywords:forbidden_words", {"forbidden_words": ["bad", "ugly"]}, ["badly put", "Bad!", "good", "ugly-looking"]),
    (
        "keywords:letter_frequency",
        {"letter": "Q", "let_frequency": 2, "let_relation": "at least"},
        ["Quick quill", "quick", "none"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "e", "let_frequency": 2, "let_relation": "less than"},
        ["one", "three", "none"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["one\n***\ntwo", "***one***two***", "one *** *** two", "one", "one***two***three", "one\n\n***\n\ntwo"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["one two three", "don't go", "well-known", "a  b", "é ü ß", "1 2_3 4"],
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["one two three", "one, two"]),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        [
            "First this.\n\nThen that.",
            "First this.\n\n\"Then\" that.",
            "First this.\n\nthen, that.",
            "First.\n\n\n\nThen.",
            "First.\n\nThen.\n\n",
            "Then only.",
            "First.\n\nNext.",
            "First.\n\n''then's it.",
        ],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name] and [address]", "[name]", "[a\nb] [c]", "[[x]] [y]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. one more", "bye p. s. more", "PS: more", "p.s. x"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        ["Bye.\nP.P.S. one more", "p. p. s x", "P.S. x", "p.p.s"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        [
            "* one\n* two",
            "- one\n- two",
            "* one\n- two",
            "** bold\n* one",
            "text\n* one\n\n* two\n",
            "*one*\n- two\n - three",
            "-\n-",
            "*\n* x",
        ],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is yes.", " I think My answer is maybe. ", "my answer is no.", "Yes."],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*one* and *two*", "**one**", "**one** **two**", "* * *one*", "*a\nb* *c*", "***one***", "**", "** **"],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        ["Section 1\na\nSection 2\nb", "Section 1 only", "SECTION 1 SECTION 2", "Section1Section 22", "Section X"],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": 1}', '```json\n{"a": [1, 2]}\n```', "```\n[1]\n```", "not json", '{"a": 1,}', "12", "```JSON\n{}```"],
    ),
    ("detectable_format:title", {}, ["<<A title>>\ntext", "<< >>", "<A>", "<<<x>>>", "<<a\nb>>"]),
    (
        "combination:two_responses",
        {},
        ["one******two", "one", "******one******two******", "one******one", "a******b******c", "a************b"],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a poem. "},
        ["write a poem. Roses", "Sure! Write a poem.", " WRITE A POEM."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "Any other questions?"},
        ["Done. Any other questions?", 'Done. any other questions?"', "Any other questions? Yes."],
    ),
    ("punctuation:no_comma", {}, ["no commas here", "one, two", "one、two"]),
    ("startend:quotation", {}, ['"quoted"', ' "quoted" ', '"', '"open', "'single'"]),
]


def main():
    out = []
    for id, kwargs, answers in CASES:
        checker = INSTRUCTION_DICT[id](id)
        checker.build_description(**kwargs)
        decided = [[answer, bool(checker.check_following(answer))] for answer in answers]
        out.append({"id": id, "kwargs": kwargs, "answers": decided})
    text = json.dumps(out, indent=1, ensure_ascii=False) + "\n"
    path = Path(__file__).parent / "ifeval.json"
    if "--check" in sys.argv:
        assert path.read_text() == text
    else:
        path.write_text(text)


main()

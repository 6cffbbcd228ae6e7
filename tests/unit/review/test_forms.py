"""Names come from whoever opened the pull request: what a comment, a terminal or SARIF makes of them."""

import json
import re
import unicodedata

from hypothesis import example, given, strategies as st

from zopp.review import markdown, sarif, text
from zopp.review.model import BLOCKER, WARNING, EnvironmentReview, FileReview, Recipient, Review
from zopp.sopsfile.comparing import Change, Comparison, Kind

NAMES = st.text(st.characters(), min_size=1, max_size=130)
HOSTILE = "`x` | <img src=x onerror=alert(1)> @team #1 https://evil.example \n\n### fake\r\u202e\x1b[2J <!-- -->"


def made(name: str) -> Review:
    """A review in which every name is `name`."""
    change = Change((0, (name,)), "added", None, Kind("str", False))
    file = FileReview(name, Comparison(changes=(change,)), (True, True))
    env = EnvironmentReview("api/dev", name, [file], [Recipient(name, name)], [Recipient(name)], signer=name)
    review = Review("a" * 40, "b" * 40, "c" * 40, workspace=name, environments=[env])
    review.say(BLOCKER, "code", name, name, environment=name, fix=name)
    review.say(WARNING, "code", name)
    return review


def words(_: object) -> str:
    return HOSTILE


@given(NAMES)
@example(HOSTILE)
@example("\ud800")
def test_markdown_is_one_table_whatever_the_names(name: str) -> None:
    """Outside of inline code no character of a name means anything; a row stays a row of five cells."""
    plain = made("plain")
    said, expected = markdown.render(made(name), words).split("\n"), markdown.render(plain, words).split("\n")
    assert len(said) == len(expected)
    for line in said:
        bare = re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", line)  # CommonMark: equal runs of back-ticks
        bare = re.sub(r"\\.", "", bare)
        assert "`" not in bare
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6
        if not line.startswith(("<!-- zopp review -->", "<details", "</details")):
            assert "<" not in bare.replace("<br>", "")
        assert "@" not in bare


@given(NAMES)
@example(HOSTILE)
def test_a_terminal_gets_no_control_character(name: str) -> None:
    lines = text.lines(made(name), words)
    assert len(lines) == len(text.lines(made("plain"), words))
    for line in lines:
        assert all(unicodedata.category(ch)[0] != "C" for ch in line), ascii(line)


@given(NAMES)
@example(HOSTILE)
@example("")
@example("a\ud800\udc80")
def test_sarif_and_json_are_text(name: str) -> None:
    review = made(name)
    json.dumps(sarif.render(review)).encode()
    json.dumps([env.json() for env in review.environments])
    for result in sarif.render(review)["runs"][0]["results"]:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri)


def test_long_reviews_are_cut() -> None:
    changes = tuple(Change((0, (f"K{i}",)), "added", None, Kind("str", False)) for i in range(500))
    env = EnvironmentReview("api/dev", "api/dev", [FileReview("f", Comparison(changes=changes), (True, True))])
    review = Review("a" * 40, "b" * 40, "c" * 40, environments=[env])
    for number in range(500):
        review.say(WARNING, "code", f"remark {number}")
    said = markdown.render(review, words)
    assert "… 490 more" in said and "and 450 more keys" in said and "and 400 more remarks" in said
    assert len(said) < 60_000  # a comment on GitHub takes 65,536 characters

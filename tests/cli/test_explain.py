"""`batten explain` and `batten rules`: the rules' own words, for a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from batten_command import batten_inside

from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import Rule

HERE = Path(__file__).parent


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_word_of_a_rule_is_told(rule: Rule) -> None:
    ran = batten_inside("explain", rule.name, cwd=HERE)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == rule.name
    assert rule.level in lines[1]
    assert not re.search(r"^(#|```)", ran.out, re.MULTILINE)
    words = re.sub(r"^(```.*|## )", "", rule.doc, flags=re.MULTILINE).split()
    told = iter(ran.out.split())
    assert all(word in told for word in words)
    prose = [line for line in lines if not line.startswith((" ", "-")) and "://" not in line]
    assert all(len(line) <= 100 for line in prose)


def test_examples_keep_their_shape() -> None:
    ran = batten_inside("explain", "graceful-shutdown", cwd=HERE)
    assert "\n          preStop:\n            sleep:\n              seconds: 15\n" in ran.out
    assert "\nOptions\n    preStopSleepSeconds: 15\n" in ran.out


def test_colour_adds_no_text() -> None:
    plain = batten_inside("explain", "writable-tmp", cwd=HERE).out
    colored = batten_inside("explain", "--color=always", "writable-tmp", cwd=HERE).out
    assert colored.startswith("\x1b[1mwritable-tmp\x1b[0m\n")
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain


@pytest.mark.parametrize("command", ["rules", "explain"])
def test_the_table_has_every_rule(command: str) -> None:
    lines = batten_inside(command, cwd=HERE).out.splitlines()
    assert [line.split()[0] for line in lines] == ["RULE", *(rule.name for rule in RULES)]
    for line, rule in zip(lines[1:], RULES, strict=True):
        assert line.endswith(f"  {rule.summary}")
        assert line.split()[1:3] == [rule.level, "yes" if rule.mutates else "no"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("run-as-nonroot", "did you mean run-as-non-root?"),
        ("zzz", "`batten rules` lists them"),
    ],
)
def test_unknown_rule(name: str, hint: str) -> None:
    ran = batten_inside("explain", name, cwd=HERE)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"batten: no rule is named '{name}': {hint}\n"

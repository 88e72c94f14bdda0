"""For CI servers: a test suite per file, a test case per violation, in JUnit's XML."""

from __future__ import annotations

import sys
from argparse import Namespace
from xml.etree import ElementTree as ET

from batten_webhooks.cli.judge import Problem, Result


def write(result: Result, _: Namespace) -> None:
    root = ET.Element("testsuites", name="batten")
    by_file: dict[str, list[Problem]] = {source.shown: [] for source in result.judged}
    for problem in result.problems:
        by_file[problem.file].append(problem)
    for file, problems in by_file.items():
        suite = _suite(root, file)
        for problem in problems:
            _case(suite, file, problem)
        if not problems:
            _element(suite, "testcase", name="no violations", classname=file)
    for error in result.unusable:
        suite = _suite(root, error.source.shown)
        case = _element(suite, "testcase", name="readable", classname=error.source.shown)
        _element(case, "error", message=str(error))
    for counted in (*root, root):
        for key, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            counted.attrib[key] = str(len(list(counted.iter(tag))))
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    sys.stdout.buffer.write(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode())


def _suite(root: ET.Element, file: str) -> ET.Element:
    return _element(root, "testsuite", name=file)


def _case(suite: ET.Element, file: str, problem: Problem) -> None:
    name = f"{problem.rule}: {problem.object} {problem.field} (line {problem.line})"
    case = _element(suite, "testcase", name=name, classname=file)
    text = _clean(f"{problem.message}\n{problem.field}: {problem.remedy}")
    if problem.level == "error":
        _element(case, "failure", message=problem.message).text = text
    else:
        _element(case, "system-out").text = f"{problem.level}: {text}"


def _element(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    cleaned = {name: _clean(value) for name, value in attributes.items()}
    return ET.SubElement(parent, tag, cleaned)


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold (section 2.2)."""
    return "".join(
        character
        if character in "\t\n\r"
        or " " <= character < "\ud800"
        or "\ue000" <= character < "\ufffe"
        or character > "\uffff"
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )

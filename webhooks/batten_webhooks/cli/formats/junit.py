"""For CI servers: a test suite per file, a test case per violation, in JUnit's XML."""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from xml.etree import ElementTree as ET

from batten_webhooks.cli.judge import Problem, Result


def write(result: Result, _: Namespace) -> None:
    root = ET.Element("testsuites", name="batten")
    by_file: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in result.problems:
        by_file[problem.file].append(problem)
    for file, problems in by_file.items():
        _suite(root, file, problems)
    for error in result.unusable:
        suite = ET.SubElement(root, "testsuite", name=_clean(error.source.shown))
        case = ET.SubElement(suite, "testcase", name="readable", classname=suite.attrib["name"])
        ET.SubElement(case, "error", message=_clean(str(error)))
        suite.attrib.update(tests="1", failures="0", errors="1", skipped="0")
    if not len(root):
        suite = ET.SubElement(root, "testsuite", name="batten")
        ET.SubElement(suite, "testcase", name="no violations", classname="batten")
        suite.attrib.update(tests="1", failures="0", errors="0", skipped="0")
    for key in ("tests", "failures", "errors"):
        root.attrib[key] = str(sum(int(suite.attrib[key]) for suite in root))
    ET.indent(root)
    print('<?xml version="1.0" encoding="UTF-8"?>')
    print(ET.tostring(root, encoding="unicode"))


def _suite(root: ET.Element, file: str, problems: list[Problem]) -> None:
    suite = ET.SubElement(root, "testsuite", name=_clean(file))
    for problem in problems:
        name = f"{problem.rule}: {problem.object} {problem.field} (line {problem.line})"
        case = ET.SubElement(suite, "testcase", name=_clean(name), classname=_clean(file))
        text = _clean(f"{problem.message}\n{problem.field}: {problem.remedy}")
        if problem.level == "error":
            failure = ET.SubElement(case, "failure", message=_clean(problem.message))
            failure.text = text
        else:
            ET.SubElement(case, "system-out").text = f"{problem.level}: {text}"
    failures = sum(problem.level == "error" for problem in problems)
    suite.attrib.update(tests=str(len(problems)), failures=str(failures), errors="0", skipped="0")


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

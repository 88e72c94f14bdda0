"""Golden edits: what a patch makes of every style of writing manifests."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jsonpatch
import pytest

from batten_webhooks.manifests import Manifest


class Case(NamedTuple):
    """`operations`: (op, path[, value]) for the last document."""

    name: str
    before: str
    operations: list[tuple[Any, ...]]
    after: str


CASES = [
    Case(
        "key that a merge of its own value overrules",
        """\
k: &a
  k: 1
<<: *a
""",
        [("add", "/z", 1)],
        """\
k: &a
  k: 1
<<: *a
z: 1
""",
    ),
    Case(
        "every alias gets the same edit",
        """\
x: &a
  k: 1
w: *a
""",
        [("add", "/x/z", 1), ("add", "/w/z", 1)],
        """\
x: &a
  k: 1
  z: 1
w: *a
""",
    ),
    Case(
        "one alias gets an edit",
        """\
x: &a
  k: 1
w: *a # c
z: *a
""",
        [("add", "/w/z", 1)],
        """\
x: &a
  k: 1
w: # c
  k: 1
  z: 1
z: *a
""",
    ),
    Case(
        "anchored scalar",
        """\
x: &a nginx
w: *a
""",
        [("replace", "/x", "b"), ("replace", "/w", "b")],
        """\
x: &a b
w: *a
""",
    ),
    Case(
        "anchored empty value",
        """\
x: &a
w: *a
""",
        [("add", "/x", {"k": 1}), ("add", "/w", {"k": 1})],
        """\
x: &a
  k: 1
w: *a
""",
    ),
    Case(
        "anchor in an anchor",
        """\
x: &a
  s: &b {k: 1}
w: *a
v: *b
""",
        [("add", "/x/s/z", 1), ("add", "/w/s/z", 1)],
        """\
x: &a
  s: &b {k: 1, z: 1}
w: *a
v:
  k: 1
""",
    ),
    Case(
        "alias of an inner anchor",
        """\
x: &a
  s: &b {k: 1}
w: *a
v: *b
""",
        [("add", "/v/z", 1)],
        """\
x: &a
  s: &b {k: 1}
w: *a
v:
  k: 1
  z: 1
""",
    ),
    Case(
        "alias in flow",
        """\
x: &a {k: 1}
w: [*a, {q: *a}]
""",
        [("add", "/w/0/z", [1])],
        """\
x: &a {k: 1}
w: [{k: 1, z: [1]}, {q: *a}]
""",
    ),
    Case(
        "merge of a list",
        """\
b: &b {k: 1}
c: &c {k: 2, j: 3}
d:
  <<: [*b, *c]
""",
        [("replace", "/d/j", 5)],
        """\
b: &b {k: 1}
c: &c {k: 2, j: 3}
d:
  <<: [*b, *c]
  j: 5
""",
    ),
    Case(
        "merge in flow",
        """\
b: &b {k: 1}
d: {<<: *b, z: 1}
""",
        [("replace", "/d/k", 5)],
        """\
b: &b {k: 1}
d: {<<: *b, z: 1, k: 5}
""",
    ),
    Case(
        "key that a later merge overrules",
        """\
b: &b {k: 1}
d:
  k: 5
  <<: *b
""",
        [("replace", "/d/k", 7)],
        """\
b: &b {k: 1}
d:
  k: 7
""",
    ),
    Case(
        "overruled key left alone",
        """\
b: &b {k: 1}
d:
  k: 5
  <<: *b
""",
        [("add", "/d/z", 7)],
        """\
b: &b {k: 1}
d:
  k: 5
  <<: *b
  z: 7
""",
    ),
    Case(
        "JSON indented by four",
        """\
{
    "a": {
        "b": 1
    },
    "l": [
        "x"
    ],
    "e": {},
    "c": ["p", "q"]
}
""",
        [
            ("add", "/a/n", {"x": {"y": [1]}}),
            ("add", "/l/-", "w"),
            ("add", "/e/k", [{"z": None}]),
            ("add", "/c/-", "r"),
            ("add", "/zz", 1.5),
        ],
        """\
{
    "a": {
        "b": 1,
        "n": {
            "x": {
                "y": [
                    1
                ]
            }
        }
    },
    "l": [
        "x",
        "w"
    ],
    "e": {
        "k": [
            {
                "z": null
            }
        ]
    },
    "c": ["p", "q", "r"],
    "zz": 1.5
}
""",
    ),
    Case(
        "JSON with tabs",
        ('{\n\t"a": {\n\t\t"b": 1\n\t}\n}'),
        [("add", "/a/n", {"x": {}}), ("replace", "/a/b", {"q": 1})],
        ('{\n\t"a": {\n\t\t"b": {\n\t\t\t"q": 1\n\t\t},\n\t\t"n": {\n\t\t\t"x": {}\n\t\t}\n\t}\n}'),
    ),
    Case(
        "compact JSON",
        """\
{"a":{"b":1},"l":[1,2],"e":{}}""",
        [
            ("add", "/a/n", {"x": ["é\u2028"]}),
            ("add", "/l/0", 0),
            ("add", "/e/k", "v"),
            ("remove", "/a/b"),
        ],
        ('{"a":{"n":{"x":["\xe9\\u2028"]}},"l":[0,1,2],"e":{"k":"v"}}'),
    ),
    Case(
        "JSON with hugging brackets",
        """\
{
  "c": [{
    "n": 1
  }]
}""",
        [("add", "/c/-", {"n": 2}), ("add", "/c/0/s", {"t": True})],
        """\
{
  "c": [{
    "n": 1,
    "s": {
      "t": true
    }
  }, {
    "n": 2
  }]
}""",
    ),
    Case(
        "JSON entries removed",
        """\
{
  "a": 1,
  "b": 2,
  "c": 3
}""",
        [("remove", "/a"), ("remove", "/c")],
        """\
{
  "b": 2
}""",
    ),
    Case(
        "JSON entries exchanged",
        """\
{
  "a": 1,
  "b": 2,
  "c": 3
}""",
        [("remove", "/b"), ("remove", "/c"), ("add", "/d", 1)],
        """\
{
  "a": 1,
  "d": 1
}""",
    ),
    Case(
        "JSON object emptied",
        """\
{
  "a": {
    "x": 1
  }
}""",
        [("remove", "/a/x")],
        """\
{
  "a": {}
}""",
    ),
    Case(
        "several JSON objects",
        """\
{"a":1}
{"a":2}
""",
        [("add", "/b", 1)],
        """\
{"a":1}
{"a":2,"b":1}
""",
    ),
    Case(
        "JSON surrogate escapes",
        ('{"a":"\\ud83d\\ude00"}'),
        [("add", "/b", "😀")],
        ('{"a":"\\ud83d\\ude00","b":"\U0001f600"}'),
    ),
    Case(
        "spaced JSON",
        """\
{ "a" : 1 , "b" : 2 }""",
        [("add", "/c", {"d": 1})],
        """\
{ "a" : 1 , "b" : 2, "c" : {"d" : 1} }""",
    ),
    Case(
        "JSON with CRLF",
        ('{\r\n  "a": {}\r\n}\r\n'),
        [("add", "/a/b", {"d": 1})],
        ('{\r\n  "a": {\r\n    "b": {\r\n      "d": 1\r\n    }\r\n  }\r\n}\r\n'),
    ),
    Case(
        "a List's items",
        """\
kind: List
items:
- kind: Pod
  spec:
    containers:
    - name: a
- kind: Pod
  spec:
    containers:
    - name: b""",
        [
            ("add", "/items/0/spec/containers/0/sc", {"runAsNonRoot": True}),
            ("add", "/items/0/spec/v", [1]),
            ("add", "/items/1/spec/containers/0/sc", {"runAsNonRoot": True}),
            ("add", "/items/1/spec/v", [1]),
            ("add", "/items/-", {"kind": "x"}),
        ],
        """\
kind: List
items:
- kind: Pod
  spec:
    containers:
    - name: a
      sc:
        runAsNonRoot: true
    v:
    - 1
- kind: Pod
  spec:
    containers:
    - name: b
      sc:
        runAsNonRoot: true
    v:
    - 1
- kind: x""",
    ),
    Case(
        "field moved",
        """\
spec:
  securityContext:
    readOnlyRootFilesystem: true  # x
    a: 1
  containers:
  - name: a
""",
        [
            ("remove", "/spec/securityContext/readOnlyRootFilesystem"),
            ("add", "/spec/containers/0/securityContext", {"readOnlyRootFilesystem": True}),
        ],
        """\
spec:
  securityContext:
    a: 1
  containers:
  - name: a
    securityContext:
      readOnlyRootFilesystem: true
""",
    ),
    Case(
        "last field moved",
        """\
spec:
  containers:
  - name: a
  # hardening
  securityContext:
    readOnlyRootFilesystem: true  # x
""",
        [
            ("remove", "/spec/securityContext"),
            ("add", "/spec/containers/0/securityContext", {"readOnlyRootFilesystem": True}),
            ("add", "/spec/z", 1),
        ],
        """\
spec:
  containers:
  - name: a
    securityContext:
      readOnlyRootFilesystem: true
  z: 1
  # hardening
""",
    ),
    Case(
        "comment below a list belongs to the next key",
        """\
spec:
  c:
  - |
    a
    # not comment
   # real
  # two
  d: 1
""",
        [("add", "/spec/c/-", "x")],
        """\
spec:
  c:
  - |
    a
    # not comment
   # real
  - x
  # two
  d: 1
""",
    ),
    Case(
        "scalar below its key",
        """\
a:
  b
c: 1
""",
        [("replace", "/a", {"x": 1}), ("add", "/d", 1)],
        """\
a:
  x: 1
c: 1
d: 1
""",
    ),
    Case(
        "flow below its key",
        """\
a:
  {b: 1}
c: 1
""",
        [("add", "/a/x", 1)],
        """\
a:
  {b: 1, x: 1}
c: 1
""",
    ),
    Case(
        "empty flow below its key",
        """\
a:
  {}
c: 1
""",
        [("add", "/a/x", 1)],
        """\
a:
  x: 1
c: 1
""",
    ),
    Case(
        "anchor below its key",
        """\
a:
  &x
  b: 1
c: *x
""",
        [("add", "/a/q", 1)],
        """\
a:
  &x
  b: 1
  q: 1
c:
  b: 1
""",
    ),
    Case(
        "tag and anchor",
        """\
a: !!map &x {}
c: *x
""",
        [("add", "/a/k", 1)],
        """\
a: &x
  k: 1
c: {}
""",
    ),
    Case(
        "below an empty item",
        """\
a:
  - b: 1
  -
""",
        [("add", "/a/-", "z")],
        """\
a:
  - b: 1
  -
  - z
""",
    ),
    Case(
        "quoted keys",
        """\
"a":
  "b": "c"
""",
        [("add", "/a/d", "e")],
        """\
"a":
  "b": "c"
  d: e
""",
    ),
    Case(
        "flow list replaced",
        """\
a: [1, 2, 3]
""",
        [("replace", "/a", [1, 3])],
        """\
a: [1, 3]
""",
    ),
    Case(
        "list replaced, common head and tail stay",
        """\
a:
- x # 1
- y # 2
- z # 3
""",
        [("replace", "/a", ["x", "z"])],
        """\
a:
- x # 1
- z # 3
""",
    ),
    Case(
        "list replaced by a longer one",
        """\
a:
- x # 1
- y # 2
- z # 3
""",
        [("replace", "/a", ["x", "q", "z", "w"])],
        """\
a:
- x # 1
- q # 2
- z # 3
- w
""",
    ),
    Case(
        "replaced by the same",
        """\
a:
- x # 1
""",
        [("replace", "/a", ["x"])],
        """\
a:
- x # 1
""",
    ),
    Case(
        "comment at the file's end",
        """\
a:
  b: 1
  # c""",
        [("add", "/a/d", 1)],
        """\
a:
  b: 1
  # c
  d: 1""",
    ),
    Case(
        "spaces at the file's end",
        ("a:\n  b: 1   "),
        [("add", "/a/d", 1)],
        ("a:\n  b: 1   \n  d: 1"),
    ),
    Case(
        "empty value",
        """\
a:
  sc:
  b: 1
""",
        [("add", "/a/sc", {"runAsNonRoot": True})],
        """\
a:
  sc:
    runAsNonRoot: true
  b: 1
""",
    ),
    Case(
        "empty value with a comment",
        """\
a:
  sc: # why
  b: 1
""",
        [("add", "/a/sc", {"runAsNonRoot": True})],
        """\
a:
  sc: # why
    runAsNonRoot: true
  b: 1
""",
    ),
    Case(
        "tilde with a comment",
        """\
a:
  sc: ~  # why
  b: 1
""",
        [("add", "/a/sc", {"runAsNonRoot": True})],
        """\
a:
  sc:  # why
    runAsNonRoot: true
  b: 1
""",
    ),
    Case(
        "empty flow mapping",
        """\
a:
  sc: {}
""",
        [("add", "/a/sc/x", 1)],
        """\
a:
  sc:
    x: 1
""",
    ),
    Case(
        "empty flow list, list style of the rest",
        """\
a:
  l: []
b:
  m:
  - x
""",
        [("add", "/a/l/-", {"n": 1, "m": 2})],
        """\
a:
  l:
  - "n": 1
    m: 2
b:
  m:
  - x
""",
    ),
    Case(
        "lists indented under their key",
        """\
a:
  l:
    - x: 1
      y: 2
    - x: 2
""",
        [
            ("add", "/a/l/-", {"n": 1, "m": [1, 2]}),
            ("add", "/a/l/0/z", {"q": [1]}),
            ("add", "/a/n", [{"k": 1}]),
        ],
        """\
a:
  l:
    - x: 1
      y: 2
      z:
        q:
          - 1
    - x: 2
    - "n": 1
      m:
        - 1
        - 2
  "n":
    - k: 1
""",
    ),
    Case(
        "items before, between and after comments",
        """\
l:
- a
# about b
- b
  # deeper
# c
- c
""",
        [("add", "/l/1", "new"), ("add", "/l/3", "n2"), ("add", "/l/0", "first")],
        """\
l:
- first
- a
- new
# about b
- b
  # deeper
- n2
# c
- c
""",
    ),
    Case(
        "the comment above the first item is its own",
        """\
l:
# about a
- a
""",
        [("add", "/l/0", "first")],
        """\
l:
- first
# about a
- a
""",
    ),
    Case(
        "below a literal",
        """\
a:
  s: |
    x
    y

# next
b: 1
""",
        [("add", "/a/k", 1)],
        """\
a:
  s: |
    x
    y
  k: 1

# next
b: 1
""",
    ),
    Case(
        "below a literal that keeps its blank lines",
        """\
a:
  s: |+
    x

b: 1
""",
        [("add", "/a/k", 1)],
        """\
a:
  s: |+
    x

  k: 1
b: 1
""",
    ),
    Case(
        "below a literal without final newline",
        """\
a:
  s: |
    x""",
        [("add", "/a/k", 1), ("add", "/b", 2)],
        """\
a:
  s: |-
    x
  k: 1
b: 2""",
    ),
    Case(
        "below a folded scalar without final newline",
        """\
a:
- >2-
    x""",
        [("add", "/a/-", "z"), ("add", "/b", 2)],
        """\
a:
- >2-
    x
- z
b: 2""",
    ),
    Case(
        "literal replaced",
        """\
a: |
  x
  y
b: 1
""",
        [("replace", "/a", "one")],
        """\
a: one
b: 1
""",
    ),
    Case(
        "plain scalar of many lines replaced",
        """\
a: x
  y
  z # c
b: 1
""",
        [("replace", "/a", "one"), ("add", "/c", 1)],
        """\
a: one # c
b: 1
c: 1
""",
    ),
    Case(
        "below a plain scalar of many lines",
        """\
b:
  a: x
    y
    z
""",
        [("add", "/b/c", 1)],
        """\
b:
  a: x
    y
    z
  c: 1
""",
    ),
    Case(
        "quoted scalar of many lines",
        """\
b:
  a: 'x
    y'  # c
""",
        [("add", "/b/c", 1), ("replace", "/b/a", "it's")],
        """\
b:
  a: 'it''s'  # c
  c: 1
""",
    ),
    Case(
        "flow in flow",
        """\
a: {b: 1, c: 2} # x
""",
        [("add", "/a/d", "yes"), ("add", "/a/e", {"f": [1, "x y"]})],
        """\
a: {b: 1, c: 2, d: "yes", e: {f: [1, x y]}} # x
""",
    ),
    Case(
        "flow over lines, comments stay",
        """\
a: {
  b: 1, # one
  c: 2  # two
}
""",
        [("add", "/a/d", "yes"), ("remove", "/a/b")],
        """\
a: {
  c: 2,  # two
  d: "yes"
}
""",
    ),
    Case(
        "flow list with a trailing comma",
        """\
a: [
  1, # one
  2, # two
]
""",
        [("add", "/a/-", 3), ("add", "/a/1", 9)],
        """\
a: [
  1, # one
  9,
  2, # two
  3,
]
""",
    ),
    Case(
        "flow entry removed",
        """\
a: {b: 1, c: 2}
""",
        [("remove", "/a/c")],
        """\
a: {b: 1}
""",
    ),
    Case(
        "flow entry exchanged",
        """\
a: {b: 1, c: 2}
""",
        [("remove", "/a/c"), ("add", "/a/e", 1)],
        """\
a: {b: 1, e: 1}
""",
    ),
    Case(
        "flow mapping emptied",
        """\
a: {b: 1}
""",
        [("remove", "/a/b")],
        """\
a: {}
""",
    ),
    Case(
        "pair in a flow list",
        """\
a: [b: 1, c]
""",
        [("replace", "/a/0/b", 2)],
        """\
a: [b: 2, c]
""",
    ),
    Case(
        "quoted flow list",
        """\
a: ["sh", "-c"]
""",
        [("add", "/a/-", "x")],
        """\
a: ["sh", "-c", "x"]
""",
    ),
    Case(
        "explicit keys",
        """\
? a
: b: 1
? c
: d
""",
        [("add", "/a/z", 2), ("add", "/e", 3)],
        """\
? a
: b: 1
  z: 2
? c
: d
e: 3
""",
    ),
    Case(
        "tags",
        """\
a: !!str 5
b: !!map {x: 1}
c: !!map
  z: 1
""",
        [("replace", "/a", 6), ("add", "/b/y", 1), ("add", "/c/q", 2)],
        """\
a: 6
b: !!map {x: 1, "y": 1}
c: !!map
  z: 1
  q: 2
""",
    ),
    Case(
        "tagged mapping replaced",
        """\
c: !!map
  z: 1
d: 1
""",
        [("replace", "/c", 5)],
        """\
c: 5
d: 1
""",
    ),
    Case(
        "lists of lists",
        """\
l:
- - a
  - b
- - c
""",
        [
            ("add", "/l/0/-", "x"),
            ("add", "/l/1/0", "y"),
            ("add", "/l/-", ["p", "q"]),
            ("remove", "/l/0/0"),
        ],
        """\
l:
- - b
  - x
- - "y"
  - c
- - p
  - q
""",
    ),
    Case(
        "first key behind a dash removed",
        """\
l:
- a: 1 # x
  b: 2
  c: 3
""",
        [("remove", "/l/0/a")],
        """\
l:
- b: 2
  c: 3
""",
    ),
    Case(
        "first keys behind a dash removed",
        """\
l:
- a: 1
  b: 2
  c: 3
""",
        [("remove", "/l/0/a"), ("remove", "/l/0/b")],
        """\
l:
- c: 3
""",
    ),
    Case(
        "comment between removed key and next",
        """\
l:
- a: 1
  # about b
  b: 2
""",
        [("remove", "/l/0/a")],
        """\
l:
-
  # about b
  b: 2
""",
    ),
    Case(
        "item emptied",
        """\
l:
- a: 1
  # c
  b: 2
- x
""",
        [("remove", "/l/0/a"), ("remove", "/l/0/b")],
        """\
l:
- {}
- x
""",
    ),
    Case(
        "mapping emptied",
        """\
s:
  # why
  a: 1 # c
t: 1
""",
        [("remove", "/s/a")],
        """\
s: {}
t: 1
""",
    ),
    Case(
        "list removed",
        """\
s:
- a
- b
t: 1
""",
        [("remove", "/s")],
        """\
t: 1
""",
    ),
    Case(
        "list emptied",
        """\
s: # c
  - a
  - b
t: 1
""",
        [("remove", "/s/0"), ("remove", "/s/0")],
        """\
s: [] # c
t: 1
""",
    ),
    Case(
        "last key exchanged",
        """\
s:
  a: 1
  b: 2 # c
t: 1
""",
        [("remove", "/s/b"), ("add", "/s/c", 3)],
        """\
s:
  a: 1
  c: 3
t: 1
""",
    ),
    Case(
        "first key removed, one added",
        """\
s:
  a: 1
  b: 2 # c
t: 1
""",
        [("remove", "/s/a"), ("add", "/s/c", 3)],
        """\
s:
  b: 2 # c
  c: 3
t: 1
""",
    ),
    Case(
        "last line removed without final newline",
        """\
s:
  a: 1
  b: 2""",
        [("remove", "/s/b")],
        """\
s:
  a: 1""",
    ),
    Case(
        "first line removed",
        """\
a: 1
b: 2
""",
        [("remove", "/a")],
        """\
b: 2
""",
    ),
    Case(
        "anchor edited, alias not",
        """\
x: &a
  k: 1
w: *a
""",
        [("add", "/x/z", 1)],
        """\
x: &a
  k: 1
  z: 1
w:
  k: 1
""",
    ),
    Case(
        "alias as list item",
        """\
l:
- &a
  k: 1
- *a
""",
        [("add", "/l/1/z", {"q": 1})],
        """\
l:
- &a
  k: 1
- k: 1
  z:
    q: 1
""",
    ),
    Case(
        "anchored empty item",
        """\
l:
- &a {}
- *a
""",
        [("add", "/l/0/z", 1), ("add", "/l/1/z", 1)],
        """\
l:
- &a
  z: 1
- *a
""",
    ),
    Case(
        "merged key overridden",
        """\
b: &b
  k: 1
  m: 2
c:
  <<: *b
  z: 1
""",
        [("replace", "/c/k", 9)],
        """\
b: &b
  k: 1
  m: 2
c:
  <<: *b
  z: 1
  k: 9
""",
    ),
    Case(
        "merged key removed",
        """\
b: &b
  k: 1
  m: 2
c:
  <<: *b # mm
  z: 1
""",
        [("remove", "/c/k")],
        """\
b: &b
  k: 1
  m: 2
c:
  z: 1
  m: 2
""",
    ),
    Case(
        "merge base edited, merged key not",
        """\
b: &b
  k: 1
c:
  <<: *b
""",
        [("replace", "/b/k", 9)],
        """\
b: &b
  k: 9
c:
  <<: *b
  k: 1
""",
    ),
    Case(
        "merge base edited for all",
        """\
b: &b
  k: 1
c:
  <<: *b
""",
        [("replace", "/b/k", 9), ("replace", "/c/k", 9)],
        """\
b: &b
  k: 9
c:
  <<: *b
""",
    ),
    Case(
        "anchor removed",
        """\
b: &b
  k: 1
c: *b
""",
        [("remove", "/b")],
        """\
c:
  k: 1
""",
    ),
    Case(
        "CRLF",
        ("a:\r\n  b: 1\r\n  c: {}\r\n"),
        [("add", "/a/d", {"e": 1}), ("add", "/a/c/x", 1)],
        ("a:\r\n  b: 1\r\n  c:\r\n    x: 1\r\n  d:\r\n    e: 1\r\n"),
    ),
    Case(
        "BOM",
        ("\ufeffa:\n  b: 1"),
        [("add", "/a/d", {"e": 1})],
        ("\ufeffa:\n  b: 1\n  d:\n    e: 1"),
    ),
    Case(
        "second document",
        """\
%YAML 1.1
---   # one
a: 1
...
# between
---
b: {}
""",
        [("add", "/c", 1)],
        """\
%YAML 1.1
---   # one
a: 1
...
# between
---
b: {}
c: 1
""",
    ),
    Case(
        "trailing spaces",
        ("a:   \n  b: 1   \n  c:  'x'  \n"),
        [("add", "/a/d", 1), ("replace", "/a/c", "y z")],
        ("a:   \n  b: 1   \n  c:  'y z'  \n  d: 1\n"),
    ),
    Case(
        "indented by four",
        """\
a:
    b:
        c: 1
""",
        [("add", "/a/b/d", {"e": {"f": 1}})],
        """\
a:
    b:
        c: 1
        d:
            e:
                f: 1
""",
    ),
    Case(
        "wide dash",
        """\
l:
-   a: 1
    b: 2
""",
        [("add", "/l/-", {"x": 1, "y": 2}), ("add", "/l/0/z", 1)],
        """\
l:
-   a: 1
    b: 2
    z: 1
-   x: 1
    "y": 2
""",
    ),
    Case(
        "item below its dash",
        """\
l:
-
  a: 1
- # c
  b: 1
""",
        [("add", "/l/0/z", 1), ("add", "/l/1/z", 1), ("add", "/l/-", {"q": 1})],
        """\
l:
-
  a: 1
  z: 1
- # c
  b: 1
  z: 1
- q: 1
""",
    ),
    Case(
        "comments below the last entry",
        """\
s:
  a: 1
  # b: 2
    # deeper
 # less
# zero
t: 1
""",
        [("add", "/s/c", 1)],
        """\
s:
  a: 1
  # b: 2
    # deeper
  c: 1
 # less
# zero
t: 1
""",
    ),
    Case(
        "comment after a blank line",
        """\
s:
  a: 1

  # b: 2
t: 1
""",
        [("add", "/s/c", 1)],
        """\
s:
  a: 1
  c: 1

  # b: 2
t: 1
""",
    ),
    Case(
        "empty item",
        """\
l:
-
- b
""",
        [("replace", "/l/0", {"a": 1, "b": 2})],
        """\
l:
- a: 1
  b: 2
- b
""",
    ),
    Case(
        "keys and strings quoted where needed",
        """\
a:
  x: 1
""",
        [
            ("add", "/a/on", "y"),
            ("add", "/a/a b: c", "1"),
            ("add", "/a/batten.dev~1x", "true"),
            ("add", "/a/é", "ü\n"),
            ("add", "/a/-c", "-c"),
            ("add", "/a/--f", "--f=a,b"),
            ("add", "/a/{}", ""),
        ],
        (
            "a:\n"
            "  x: 1\n"
            '  "on": "y"\n'
            '  "a b: c": "1"\n'
            '  batten.dev/x: "true"\n'
            '  "\xe9": "\xfc\\n"\n'
            "  -c: -c\n"
            "  --f: --f=a,b\n"
            '  "{}": ""\n'
        ),
    ),
    Case(
        "mapping replaced by a list",
        """\
a:
  x: 1
  y: 2
b: 1
""",
        [("replace", "/a", ["p", {"q": 1}])],
        """\
a:
- p
- q: 1
b: 1
""",
    ),
    Case(
        "root replaced",
        """\
a: 1
""",
        [("replace", "", {"b": {"c": 1}})],
        """\
b:
  c: 1
""",
    ),
    Case(
        "scalar replaced by a mapping",
        """\
a: 5 # c
b: 1
""",
        [("replace", "/a", {"x": 1})],
        """\
a: # c
  x: 1
b: 1
""",
    ),
    Case(
        "flow over lines replaced by a block",
        """\
a: {
  x: 1} # c
b: 1
""",
        [("replace", "/a", ["y"])],
        """\
a: # c
- "y"
b: 1
""",
    ),
]


@pytest.mark.parametrize("text", ["[1, null]", '{"a": [1, {}]}', '{"a":{"b":[]}}', "[{}]"])
@pytest.mark.parametrize("value", ["x", "on", {"k": ["x", None]}, [{"é": "x"}]])
def test_json_stays_json(text: str, value: Any) -> None:
    manifest = Manifest.parse(text.encode(), name="manifest.json")

    def check(node: Any, pointer: str) -> None:
        if pointer:
            operation = {"op": "replace", "path": pointer, "value": value}
            wanted = jsonpatch.apply_patch(manifest.documents[0].value, [operation])
            assert json.loads(manifest.edit({0: [operation]})) == wanted
        for key, item in node.items() if isinstance(node, dict) else ():
            check(item, f"{pointer}/{key}")
        for index, item in enumerate(node) if isinstance(node, list) else ():
            check(item, f"{pointer}/{index}")

    check(manifest.documents[0].value, "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_edit(case: Case) -> None:
    manifest = Manifest.parse(case.before.encode(), name="manifest.yaml")
    operations = [
        dict(zip(("op", "path", "value"), operation, strict=False)) for operation in case.operations
    ]
    last = len(manifest.documents) - 1
    assert manifest.edit({last: operations}).decode() == case.after

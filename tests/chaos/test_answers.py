"""The API server answers some requests with errors: nothing that it has not said counts as gone.

Which ones is said by a proxy in front of it: a real one cannot be had to fail in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from batten_chaos import Stage, administrator, fault, measured, server, stage
from batten_e2e import deployment, eventually
from batten_proxy import Answers

pytestmark = pytest.mark.cluster
KEPT = {"idle", "web"}


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("chaos")) as ready:
        ready.webhooks()
        yield ready


@pytest.fixture(scope="module")
def answers(batten: Stage) -> Iterator[Answers]:
    """Between the controller, which has reported two workloads, and the API server."""
    proxy = Answers(server(batten.plane.kubeconfig), administrator(batten.plane))
    batten.prepare("controller")
    batten.redirect("controller", {"server": f"http://127.0.0.1:{proxy.port}"})
    batten.launch("controller", "controller")
    batten.namespace.apply(deployment("idle", replicas=0), deployment("web")).require()
    batten.reports_of(KEPT)
    yield proxy
    batten.plane.end("controller")
    proxy.close()


@fault(
    "some lists are refused",
    webhooks="are not concerned",
    controller="judges nothing by halves: reports and scans stay, and it looks again within 5 s",
)
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/apis/apps/v1/deployments", 503),
        ("/apis/apps/v1/replicasets", 500),
        ("/api/v1/pods", 429),
        ("/apis/apps/v1/deployments", 403),
    ],
)
def test_what_was_not_listed_is_not_gone(
    batten: Stage, answers: Answers, path: str, status: int
) -> None:
    answers.refuses = lambda method, asked, _: status if (method, asked) == ("GET", path) else 0
    batten.govern("any", priority=status)  # so that it looks at once
    eventually(lambda: told(batten, path, status) or None, "it was refused")
    answers.refuses = lambda *_: 0
    healed = time.monotonic()
    assert batten.reported() == KEPT
    name = f"new-{status}-{path[-4:]}"
    batten.namespace.apply(deployment(name)).require()
    if status == 403:
        batten.govern("any", priority=1)  # it would look after a minute
    batten.reports_of({name})
    seconds = time.monotonic() - healed
    batten.namespace.kubectl("delete", "deployment", name).require()
    eventually(lambda: batten.reported() == KEPT or None, "its report goes with it", 60)
    batten.calm("controller")
    if status == 503:
        measured(test_what_was_not_listed_is_not_gone, seconds, "", "nothing")


def told(batten: Stage, path: str, status: int) -> bool:
    """A right that is missing may be meant: what can be read is judged all the same."""
    said = "not judged" if status == 403 else "the cluster was not judged"
    wanted = f"{said}: GET {path}: refused by the test"
    return any(line["message"] == wanted for line in batten.log("controller"))


def test_a_report_that_is_not_taken_keeps_no_other_out(batten: Stage, answers: Answers) -> None:
    names = {f"other-{number}" for number in range(5)}
    answers.refuses = lambda method, _, body: 422 if method == "POST" and b'"bad"' in body else 0
    batten.namespace.apply(*map(deployment, ("bad", *names))).require()
    batten.govern("any", priority=3)
    batten.reports_of(names)
    assert "bad" not in batten.reported()
    answers.refuses = lambda *_: 0
    batten.govern("any", priority=2)
    batten.reports_of({"bad"})


@fault(
    "its token is refused for a while",
    webhooks="answer on by what they know",
    controller="reads its token again, and leads on",
)
def test_a_token_that_is_refused_is_read_again(batten: Stage, answers: Answers) -> None:
    answers.refuses = lambda *_: 401
    time.sleep(12)
    answers.refuses = lambda *_: 0
    healed = time.monotonic()
    batten.renewed(batten.lease()["renewTime"])
    seconds = time.monotonic() - healed
    batten.calm("controller")
    measured(test_a_token_that_is_refused_is_read_again, seconds, "", "nothing")

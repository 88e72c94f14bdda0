"""Pods that do not speak to the API server hold no token for it.

## What it does
Notes Pods that use the `default` ServiceAccount and do not set
`automountServiceAccountToken: false`. A Pod with a ServiceAccount of its own is taken to need the
token. By default this goes to the audit log only.

## Why is this bad?
Whoever takes over a program finds its token in /var/run/secrets and asks the API server what it may
do with it.

## Example
```yaml
containers:
  - name: app
```

## Use instead
```yaml
automountServiceAccountToken: false
containers:
  - name: app
```

## References
- https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/
"""

from __future__ import annotations

from collections.abc import Iterator

from batten_webhooks.rules.rule import AUDIT, Cel, Context, NoParameters, Rule, Version
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    spec = pod.spec
    if not pod.pod_level or spec.automountServiceAccountToken is False:
        return
    if (spec.serviceAccountName or spec.serviceAccount or "default") == "default":
        yield Finding(
            path="/spec/automountServiceAccountToken",
            detail="every container gets the token of the default ServiceAccount",
            remedy="set it to false, or name a ServiceAccount that may do what the Pod needs",
        )


def cel(_: NoParameters, _version: Version) -> Cel:
    """The API server says the same in `serviceAccount` and `serviceAccountName`."""
    return Cel(
        detail="set automountServiceAccountToken to false, or name a ServiceAccount of its own",
        pod="!variables.spec.?automountServiceAccountToken.orValue(true)"
        " || !(variables.spec.?serviceAccountName.orValue('') in ['', 'default'])",
    )


RULE = Rule(
    name="service-account-token",
    level="advice",
    doc=__doc__,
    check=check,
    cel=cel,
    actions=AUDIT,
)

"""Secrets stand in Secrets, not in the environment of a manifest.

## What it does
Advises against `env` entries whose name says that they hold a secret (password, token, API key,
private key, credentials) and that have a literal value. Names that end in `_FILE`, `_PATH`, `_NAME`
and the like (a bare `_SECRET` is mostly the name of one), and values that are a path, a number, a
boolean or a reference `$(OTHER)`, are taken for what they are. The value itself is never shown.

## Why is this bad?
A manifest is read by many, kept in version control, and shown by `kubectl describe`.

## Example
```yaml
containers:
  - name: app
    env:
      - name: DB_PASSWORD
        value: hunter2
```

## Use instead
```yaml
containers:
  - name: app
    env:
      - name: DB_PASSWORD
        valueFrom:
          secretKeyRef: {name: database, key: password}
```

## References
- https://kubernetes.io/docs/concepts/configuration/secret/
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from batten_webhooks.rules.rule import WARN, Context, NoParameters, Rule, shown
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import Workload

_SECRET = re.compile(
    r"(?:^|[_.-])(?:PASS(?:WORD|WD|PHRASE)?|PWD|TOKEN|CREDENTIALS?"
    r"|(?:API|ACCESS|PRIVATE|ENCRYPTION|SIGNING|SECRET|AUTH)[_.-]?KEY"
    r"|(?:API|APP|CLIENT|COOKIE|JWT|OAUTH|SESSION|SHARED|SIGNING|WEBHOOK)[_.-]?SECRET)"
    r"(?:$|[_.-]?(?:VALUE|DATA|\d+)$)|[a-z](?:Password|Token|ApiKey|clientSecret)$"
    r"|^SECRET$|(?:PASSWORD|PASSWD|APIKEY|SECRETKEY)$",
    re.IGNORECASE,
)
# Found in every name that the expression above finds, and ten times as fast.
_HINT = re.compile(r"PASS|PWD|TOKEN|CREDENTIAL|KEY|SECRET")
# No secret: nothing, a word for yes or no, a number, a path, a reference to another variable.
_HARMLESS = re.compile(
    r"\s*|true|false|yes|no|on|off|none|null|\d{1,6}|\.?/\S*|\$\(\S+\)", re.IGNORECASE
)


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    for site in pod.sites:
        for index, variable in enumerate(site.container.env or ()):
            if variable.value and _is_secret(variable.name, variable.value):
                yield Finding(
                    path=f"{site.pointer}/env/{index}/value",
                    container=site.name,
                    detail=f"{shown(variable.name)} holds a secret in plain sight",
                    remedy="put it into a Secret and refer to that by valueFrom.secretKeyRef",
                )


def _is_secret(name: str, value: str) -> bool:
    return bool(
        _HINT.search(name.upper()) and _SECRET.search(name) and not _HARMLESS.fullmatch(value)
    )


RULE = Rule(name="no-literal-secrets", level="advice", doc=__doc__, check=check, actions=WARN)

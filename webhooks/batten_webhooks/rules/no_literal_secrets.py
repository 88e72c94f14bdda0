"""Secrets stand in Secrets, not in the environment of a manifest.

## What it does
Advises against `env` entries whose name says that they hold a secret (password, token, API key,
private key, credentials) and that have a literal value, and against values that are a private key
or a URL with a password, whatever their name. Names that end in `_FILE`, `_PATH`, `_NAME` and the
like (a bare `_SECRET` is mostly the name of one), and values that are a path, a small number, a
boolean, a `<placeholder>` or a reference (`$(OTHER)`, `${OTHER}`, `vault:…`, `op://…`) are taken
for what they are. The value itself is never shown.

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
    r"(?:(?:^|[_.-])(?:PASS|PWD?|CREDENTIALS?)|PASSWORD|PASSWD|PASSPHRASE|TOKEN|^SECRET"
    r"|(?:ACCESS|ACCOUNT|API|AUTH|ENCRYPTION|MASTER|PRIVATE|SECRET|SIGNING)[_.-]?KEY"
    r"|(?:ADMIN|API|APP|AUTH|CLIENT|CONSUMER|COOKIE|HMAC|JWT|SESSION|SHARED|SIGNING|TOKEN|WEBHOOK)"
    r"[_.-]?SECRET)(?:[_.-]?(?:BASE|DATA|VALUE|\d+))?$",
    re.IGNORECASE,
)
# Found in every name that the expression above finds, and ten times as fast.
_HINT = re.compile(r"PASS|PW|TOKEN|CREDENTIAL|KEY|SECRET")
# No secret: nothing, a word for yes or no, a small number, a path, a placeholder, a reference.
_HARMLESS = re.compile(
    r"\s*|true|false|yes|no|on|off|none|null|\d{1,5}|\.{0,2}/\S*|[A-Z]:\\\S*|<[^<>]*>"
    r"|\$\(\S+\)|\$?\{.+\}|(?:arn|op|ref\+\w+|vault):\S+",
    re.IGNORECASE,
)
_URL_WITH_PASSWORD = re.compile(r"://[^/?#\s:@]*:(?![$<{])[^/?#\s@]+@")
_PRIVATE_KEY = "PRIVATE KEY-----"


def check(pod: Workload, _: NoParameters, context: Context) -> Iterator[Finding]:
    for site in pod.sites:
        for index, variable in enumerate(site.container.env or ()):
            value = variable.value
            if value and (_is_named_secret(variable.name, value) or _is_secret(value)):
                yield Finding(
                    path=f"{site.pointer}/env/{index}/value",
                    container=site.name,
                    detail=f"{shown(variable.name)} holds a secret in plain sight",
                    remedy="put it into a Secret and refer to that by valueFrom.secretKeyRef",
                    confidential=True,
                )


def _is_named_secret(name: str, value: str) -> bool:
    return bool(
        _HINT.search(name.upper()) and _SECRET.search(name) and not _HARMLESS.fullmatch(value)
    )


def _is_secret(value: str) -> bool:
    return _PRIVATE_KEY in value or bool("://" in value and _URL_WITH_PASSWORD.search(value))


RULE = Rule(name="no-literal-secrets", level="advice", doc=__doc__, check=check, actions=WARN)

FROM python:3.13-slim AS build
# The operator asks registries of three clouds as its own identity, and checks signatures without a
# key: what `operator` alone does not.
ARG EXTRAS=operator,ecr,gar,acr,keyless
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY webhooks webhooks
RUN python -m venv /opt/batten && /opt/batten/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:3.13-slim
COPY --from=build /opt/batten /opt/batten
ENV PATH=/opt/batten/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 9443 8080
ENTRYPOINT ["python", "-m", "batten_operator"]

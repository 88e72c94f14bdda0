# `make image` builds it from the wheel that `make dist` leaves in dist/. Both bases are for amd64 and
# arm64; Renovate proposes their newer digests (renovate.json), `make lock` renews the packages.
ARG BUILD_BASE=docker.io/library/python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
# Debian's Python 3.13 with neither shell nor package manager.
ARG BASE=gcr.io/distroless/python3-debian13:nonroot@sha256:83aa8d4f74a4d7f7cf2d472054139bef71a927b76c680c0f2e1021d6b1d6d732

FROM ${BUILD_BASE} AS install
WORKDIR /build
COPY image/requirements.txt dist/*.whl ./
RUN python3 -m pip install --target=/opt/batten --no-cache-dir --no-compile --only-binary=:all: \
      --require-hashes --requirement=requirements.txt \
 && python3 -m pip install --target=/opt/batten --no-cache-dir --no-compile --no-deps --no-index ./*.whl

# With the Python that the image has, which compiles for itself: its own library is in there, too.
FROM ${BASE} AS slim
USER 0:0
ENV PYTHONPATH=/opt/batten PYTHONPYCACHEPREFIX=/opt/batten/compiled PYTHONDONTWRITEBYTECODE=1
COPY --from=install /opt/batten /opt/batten
COPY image/slim.py /build/slim.py
RUN ["/usr/bin/python3", "/build/slim.py", "/opt/batten"]
COPY image/batten /opt/batten/bin/batten

FROM ${BASE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Batten" \
      org.opencontainers.image.description="Hardens Kubernetes Pods at admission and in files, and says why when it cannot" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="https://github.com/batten-dev/batten" \
      org.opencontainers.image.source="https://github.com/batten-dev/batten" \
      org.opencontainers.image.documentation="https://github.com/batten-dev/batten/tree/main/docs"
COPY --from=slim /opt/batten /opt/batten
# What is written nowhere is not compiled at every start either; nothing is imported from where it runs.
ENV PATH=/opt/batten/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/batten \
    PYTHONPYCACHEPREFIX=/opt/batten/compiled \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
USER 65532:65532
EXPOSE 9443 8080
ENTRYPOINT ["/usr/bin/python3", "-m", "batten_operator"]
CMD []

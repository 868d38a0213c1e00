# syntax=docker/dockerfile:1
# docker build -t parley .
# docker run -p 8080:8080 -v parley:/data --env-file parley.env parley

# The image of Python that the recipe was written for, by its tag. A tag can be moved to another
# image. None was at hand to take a digest from, so none is written here; name the one you trust:
#   docker buildx imagetools inspect python:3.12.12-slim-bookworm      (its "Digest")
#   docker build --build-arg PYTHON_IMAGE=python:3.12.12-slim-bookworm@sha256:<digest> -t parley .
ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build

# The dependencies change seldom: a layer of their own, each archive checked against its hash.
COPY config/requirements.txt config/build-requirements.txt config/
RUN python -m venv /opt/parley \
 && /opt/parley/bin/pip install --require-hashes -r config/requirements.txt
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r config/build-requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY config config
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/dist . \
 && /opt/parley/bin/pip install --no-deps --no-index dist/*.whl \
 && /opt/parley/bin/pip check \
 && /opt/parley/bin/pip uninstall --yes pip


FROM ${PYTHON_IMAGE}

RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin parley \
 && install --directory --owner=parley --group=parley --mode=0700 /data
COPY --from=builder /opt/parley /opt/parley

# DATA_DIR holds the Redis of Parley's own, when REDIS_URL names no other.
# To change files of config/, mount a folder and set CONFIG_DIR to it.
ENV PATH=/opt/parley/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080

# The image has no curl. Not urllib: it would ask a proxy of the environment for our own address.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["python", "-c", "import sys; from http.client import HTTPConnection as C; c = C('127.0.0.1', 8080, timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

CMD ["parley", "serve", "--host", "0.0.0.0", "--port", "8080"]

# The gateway's image: `docker build .`; the stand-in upstream's: `docker build --target sandbox .`
# To pin the base by its content as well: --build-arg PYTHON=python:3.12.13-slim-trixie@sha256:...
ARG PYTHON=python:3.12.13-slim-trixie

FROM ${PYTHON} AS installed
WORKDIR /app
COPY requirements.lock ./
RUN python -m venv --without-pip venv \
 && pip --python venv/bin/python install --no-cache-dir --no-compile --require-hashes --only-binary :all: -r requirements.lock
COPY gateway gateway
# The command that the README speaks of, for `docker compose exec gateway tokenhot-gateway usage`.
RUN venv/bin/python -m compileall -q -j 0 venv/lib gateway \
 && printf '#!/bin/sh\ncd /app && exec python -m gateway "$@"\n' > venv/bin/tokenhot-gateway && chmod 755 venv/bin/tokenhot-gateway \
 && chmod -R go+rX gateway # whatever the umask was that this was checked out with

FROM installed AS drawing
COPY requirements-dev.lock ./
# Of the development lock only Pillow, with its hashes: the stand-in draws.
RUN sed -n '/^pillow==/,/[^\\]$/p' requirements-dev.lock > pillow.lock \
 && pip --python venv/bin/python install --no-cache-dir --no-compile --require-hashes --only-binary :all: -r pillow.lock \
 && venv/bin/python -m compileall -q -j 0 venv/lib

FROM ${PYTHON} AS bare
# What installs software has no place where calls are served.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/*
WORKDIR /app
ENV PATH=/app/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 GATEWAY_HOST=0.0.0.0 GATEWAY_METRICS_HOST=0.0.0.0 \
    GATEWAY_CLIENTS_FILE=/config/clients.toml GATEWAY_UPSTREAM_KEY_FILE=/secrets/upstream.key
USER 10001:10001
ENTRYPOINT ["python", "-m", "gateway"]

FROM bare AS sandbox
COPY --from=drawing /app/venv venv
COPY --from=drawing /app/gateway gateway
EXPOSE 8090
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
  CMD ["python", "-IS", "-c", "import socket; socket.create_connection(('127.0.0.1', 8090), 2)"]
CMD ["sandbox", "--host", "0.0.0.0"]

FROM bare AS gateway
COPY --from=installed /app/venv venv
COPY --from=installed /app/gateway gateway
EXPOSE 8080 9464
# Alive, not ready: an orchestrator may kill what is unhealthy, and a gateway that drains must live. The proxy asks /readyz.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
  CMD ["python", "-IS", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
CMD ["serve"]

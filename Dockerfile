# One image for every process of the fleet but Redis; compose.yaml says which one runs.
# Build: only versions and hashes of constraints.txt get in, the product's section into the image.
FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY constraints.txt ./
RUN sed '/^# development/,$d' constraints.txt > /tmp/runtime.txt \
    && python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r constraints.txt \
    && python -m venv /opt/joelclaw && /opt/joelclaw/bin/pip install --require-hashes -r /tmp/runtime.txt
COPY pyproject.toml README.md celeryconfig.py beat_schedule.py ./
COPY registry registry
COPY joelclaw_tasks joelclaw_tasks
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/joelclaw/bin/pip install --no-deps /tmp/wheel/*.whl

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/joelclaw --create-home joelclaw
COPY --from=build /opt/joelclaw /opt/joelclaw
ENV PATH=/opt/joelclaw/bin:$PATH PYTHONUNBUFFERED=1 JOELCLAW_HOME=/var/lib/joelclaw
USER joelclaw
WORKDIR /var/lib/joelclaw
VOLUME /var/lib/joelclaw
# Exits with 3 when Redis does not answer. Services with a more telling sign override it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["joelclaw", "queue", "depth", "--json"]
CMD ["joelclaw", "doctor"]

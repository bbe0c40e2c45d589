# The server with its page and the embedded model. docs/deploy.md says how to use it.

# Read at every stage; tests put another base here, with the same Python.
ARG PYTHON=python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

FROM ${PYTHON} AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/build-requirements.txt /requirements.txt
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r /requirements.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY assets assets
COPY app app
COPY vlm_dlm vlm_dlm
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${PYTHON} AS venv
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/requirements.txt /requirements.txt
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-deps --require-hashes -r /requirements.txt
# The index decides which build of torch it is: the CPU's by default, CUDA's from
# https://pypi.org/simple. Empty, pip's own settings decide.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/venv/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
COPY --from=wheel /wheels /wheels
# Other projects' headers, tests and tools: hundreds of megabytes that no server reads. pip goes last.
RUN /opt/venv/bin/pip install --no-deps /wheels/*.whl \
    && /opt/venv/bin/pip check \
    && site="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm -rf "$site/torch/include" "$site/torch/test" \
    && find "$site" -type d -name tests -prune -exec rm -rf {} + \
    && find "$site/torch/bin" -type f ! -name torch_shm_manager -delete \
    && /opt/venv/bin/pip uninstall --yes pip

FROM ${PYTHON} AS runtime
RUN groupadd --gid 10001 vlm \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin vlm \
    && install --directory --owner=10001 --group=10001 /cache
COPY --from=venv /opt/venv /opt/venv
# Everything that is written goes to /tmp and /cache, so that the root can be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/cache/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    DO_NOT_TRACK=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    VLM_DLM_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=3)"]
ENTRYPOINT ["vlm-dlm"]
CMD ["serve"]

# What a worker's runs need on Docker or Kubernetes (docs/flows.md): git, Python and the project's dependencies. The
# project itself, code and data, comes by the pull steps of prefect.yaml.
#   docker build --tag cpfd .
# Pinned: what a tag names changes. `docker buildx imagetools inspect python:3.11-slim-bookworm` tells the newest digest.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/cpfd
COPY pyproject.toml constraints.txt constraints-dev.txt README.md LICENSE ./
# torch comes with CUDA from PyPI; --build-arg PIP_EXTRA_INDEX_URL=... with PyTorch's index of CPU wheels is gigabytes smaller.
ARG PIP_EXTRA_INDEX_URL
RUN python -m pip install --no-cache-dir "$(grep --only-matching '^torch==[^ ]*' constraints.txt)" \
    && python -m pip install --no-cache-dir --no-deps --require-hashes \
        --requirement constraints.txt --requirement constraints-dev.txt \
    && python -m pip install --no-cache-dir --no-deps --no-build-isolation .
# Experiments are commits; promotions are tags with this name. Set your own in the work pool.
ENV GIT_AUTHOR_NAME=cpfd GIT_AUTHOR_EMAIL=cpfd@localhost GIT_COMMITTER_NAME=cpfd GIT_COMMITTER_EMAIL=cpfd@localhost
RUN useradd --create-home cpfd
USER cpfd
WORKDIR /home/cpfd

# Flower's own image with the package installed: its code runs in the ClientApp or ServerApp.
#   docker build --file deploy/supernode.Dockerfile .                                 a SuperNode
#   docker build --file deploy/supernode.Dockerfile --build-arg BASE=flwr/superlink:1.41.0 .
ARG BASE=flwr/supernode:1.41.0
FROM ${BASE}
WORKDIR /app
COPY --chown=app:app pyproject.toml constraints.txt README.md LICENSE /app/package/
COPY --chown=app:app federated_analytics /app/package/federated_analytics
COPY --chown=app:app studies /app/package/studies
RUN python -m pip install --no-cache-dir --constraint /app/package/constraints.txt \
    "/app/package[atlas,parquet]"

# docker build -t nettrim .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" nettrim prune model.onnx --data calib.h5
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY docs/nettrim.1 docs/
COPY nettrim_cli nettrim_cli
RUN pip install --no-cache-dir '.[text]'

# Any user may keep what is measured on the machine.
ENV XDG_CACHE_HOME=/tmp/cache
WORKDIR /data
ENTRYPOINT ["nettrim"]
CMD ["--help"]

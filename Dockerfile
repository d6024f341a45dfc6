# One image for every role: `docker run IMAGE node serve`, `docker run IMAGE --help`.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make product VENV=/opt/alcove

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home alcove && install --directory --owner=alcove --mode=0700 /data
COPY --from=build /opt/alcove /opt/alcove
USER alcove
# Inside a container the port is published on purpose; put a proxy that speaks HTTPS before it.
ENV PATH=/opt/alcove/bin:$PATH \
    ALCOVE_HOME=/data/home \
    ALCOVE_HOST=0.0.0.0 \
    ALCOVE_ALLOW_PLAIN_HTTP=true \
    ALCOVE_COORDINATOR_HOME=/data/coordinator \
    ALCOVE_COORDINATOR_HOST=0.0.0.0 \
    ALCOVE_COORDINATOR_ALLOW_PLAIN_HTTP=true \
    XDG_CACHE_HOME=/data/cache
VOLUME /data
EXPOSE 8420 8430
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "cli.healthy"]
ENTRYPOINT ["alcove"]
CMD ["node", "serve"]

# Glasslog's image.
#
#   docker build -t glasslog .                    compiles it, and needs nothing but docker
#   docker build -t glasslog --target prebuilt .  takes target/release/glasslog as it is
#
# BASE may be any image with a C library at least as new as the build's, a shell and bash (the health
# check); one that is on this machine already is not pulled:
#
#   debootstrap --variant=minbase bookworm root && tar -C root -c . | docker import - glasslog-base
#   docker build -t glasslog --target prebuilt --build-arg BASE=glasslog-base .
#
# `prebuilt` stands before the stage that compiles, so that no builder needs the compiler's image
# for it.

ARG BASE=debian:bookworm-slim
ARG RUST=rust:1.95-bookworm

FROM ${BASE} AS base
RUN mkdir -p /var/lib/glasslog && chown 10001:10001 /var/lib/glasslog
USER 10001:10001
WORKDIR /var/lib/glasslog
VOLUME /var/lib/glasslog
# Kafka clients, other brokers, metrics and /debug.
EXPOSE 9092 9192 9292
# Whether the process and its observers live. What hangs is the alerts' to say; a restart would
# destroy the evidence.
HEALTHCHECK --interval=5s --timeout=2s --start-period=30s CMD \
    ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9292 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 ' <&3"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["glasslog"]
CMD ["server", "--config", "/etc/glasslog/broker.toml"]

FROM base AS prebuilt
COPY target/release/glasslog /usr/local/bin/glasslog

FROM ${RUST} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p server

FROM base AS runtime
COPY --from=build /src/target/release/glasslog /usr/local/bin/glasslog

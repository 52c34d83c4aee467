# The gateway in an image that holds its binary, libc and the certificate roots: no shell, no package
# manager, nobody but an unprivileged user.
#
#   docker build --tag atlas-cert-gateway --build-arg "REVISION=$(git show --no-patch --format='%h %cs')" .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#       --volume ./gateway.toml:/etc/atlas-cert-gateway/gateway.toml:ro \
#       --volume atlas-cert-gateway:/var/lib/atlas-cert-gateway \
#       --publish 8080:8080 atlas-cert-gateway

FROM rust:1.95-slim-bookworm AS source
# aws-lc-sys and zstd-sys compile C. Debian stable changes a compiler only to mend it, and the packages
# of yesterday are gone from its mirrors, so their versions are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Names of functions stay for backtraces; line tables would treble the image.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo

FROM source AS build
# Of this checkout, which `.dockerignore` leaves without its history: `--version` says it.
ARG REVISION
ENV ATLAS_CERT_GATEWAY_REVISION=$REVISION
RUN cargo build --release --locked --bin atlas-cert-gateway \
    && mkdir -p /out/state /out/audit \
    && chmod 0700 /out /out/state /out/audit

FROM source AS build-simulator
RUN cargo build --release --locked --package atlas-simulator

# A local Atlas to try the gateway with: `docker build --target simulator .`
FROM gcr.io/distroless/cc-debian12:nonroot AS simulator
COPY --from=build-simulator /src/target/release/atlas-simulator /usr/local/bin/atlas-simulator
USER 65532:65532
EXPOSE 8090
# It listens to Ctrl-C only.
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/atlas-simulator"]

FROM gcr.io/distroless/cc-debian12:nonroot AS gateway
ARG REVISION
LABEL org.opencontainers.image.title="atlas-cert-gateway" org.opencontainers.image.revision=$REVISION
COPY --from=build /src/target/release/atlas-cert-gateway /usr/local/bin/atlas-cert-gateway
COPY --from=build /src/config/gateway.toml /etc/atlas-cert-gateway/gateway.toml
COPY --from=build --chown=65532:65532 /out /var/lib/atlas-cert-gateway
# `state` and `audit` of the configuration are relative to this; all else is read only.
WORKDIR /var/lib/atlas-cert-gateway
VOLUME ["/var/lib/atlas-cert-gateway"]
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
# With server.listen = "0.0.0.0:8080": callers come from outside the container. So does Prometheus, where
# it is not in the same network namespace; then admin.listen = "0.0.0.0:9090", published to nobody else.
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/usr/local/bin/atlas-cert-gateway", "health", "--url", "http://127.0.0.1:9090/healthz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/atlas-cert-gateway"]
CMD ["serve", "--config", "/etc/atlas-cert-gateway/gateway.toml"]

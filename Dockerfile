# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
# aws-lc-sys and zstd-sys compile C.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin atlas-cert-gateway \
    && mkdir -p /out/var/lib/atlas-cert-gateway/state /out/var/lib/atlas-cert-gateway/audit

# libc and the system's certificate roots; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/atlas-cert-gateway /usr/local/bin/atlas-cert-gateway
COPY --from=build /src/config /etc/atlas-cert-gateway
COPY --from=build --chown=nonroot:nonroot /out/var/lib/atlas-cert-gateway /var/lib/atlas-cert-gateway
WORKDIR /var/lib/atlas-cert-gateway
USER nonroot:nonroot
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/usr/local/bin/atlas-cert-gateway", "health", "--url", "http://127.0.0.1:9090/healthz"]
ENTRYPOINT ["/usr/local/bin/atlas-cert-gateway"]
CMD ["serve", "--config", "/etc/atlas-cert-gateway/gateway.toml"]

# Build: the dependencies first, in a layer that only Cargo.toml and Cargo.lock change.
FROM rust:1.95-slim-trixie AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && mkdir migrations \
    && cargo build --release --locked \
    && rm -r src
COPY .sqlx .sqlx
COPY migrations migrations
COPY src src
# Newer than what was built from the empty files above.
RUN touch src/main.rs src/lib.rs && cargo build --release --locked

# Run: the binary, glibc, libgcc and CA certificates; no shell, no package manager.
FROM gcr.io/distroless/base-nossl-debian13:nonroot
# It unwinds the stack of a request that panics.
COPY --from=build /usr/lib/*-linux-gnu/libgcc_s.so.1 /usr/lib/
COPY --from=build /build/target/release/portcullis /usr/local/bin/portcullis
ENV PORTCULLIS_HOST=0.0.0.0 \
    PORTCULLIS_LOG_FORMAT=json
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s \
    CMD ["portcullis", "health"]
ENTRYPOINT ["portcullis"]
CMD ["serve"]

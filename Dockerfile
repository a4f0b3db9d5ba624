# One small image with all programs: static binaries, no shell, no root.

FROM golang:1.26 AS build
WORKDIR /src
COPY . .
# What --version prints; `make up` sets it.
ARG VERSION
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X github.com/rocketrides/rocketrides/internal/cli.version=$VERSION" \
    -o /out/ ./cmd/api ./cmd/completer ./cmd/fakestripe ./cmd/simulator
# A volume takes over the owner of the folder that it is mounted on.
RUN mkdir /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/api /out/completer /out/fakestripe /out/simulator /
COPY --from=build --chown=65532:65532 /out/data /data
# `make up` removes images with this label that a newer build has replaced.
LABEL org.opencontainers.image.title=rocketrides
USER 65532:65532
ENTRYPOINT ["/api"]

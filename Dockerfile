# The service as an image: built where the dev dependencies are, run without them, as a user that owns nothing but its
# volume. Nothing is written outside DATA_DIR, so the root file system may be read-only. docker build -t fleetloop .
# Not the floor of package.json (Node 20 has ended) but the release that the tests pass on as well: .ci/run.
# The digest is that of the release's index, for all platforms: docs/operate/install.md.
ARG NODE=node:24.21.0-bookworm-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6

FROM ${NODE} AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/ scripts/
COPY src/ src/
RUN npm run -s build

FROM ${NODE} AS dependencies
WORKDIR /dependencies
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund

FROM ${NODE}
ENV NODE_ENV=production DATA_DIR=/var/lib/fleetloop
WORKDIR /opt/fleetloop
COPY --from=dependencies /dependencies/node_modules/ node_modules/
COPY --from=build /build/dist/ dist/
COPY sql/ sql/
COPY package.json openapi.json LICENSE ./
RUN ln -s /opt/fleetloop/dist/cli.js /usr/local/bin/fleetloop
RUN install -d -o node -g node -m 0700 /var/lib/fleetloop
VOLUME /var/lib/fleetloop
USER node
EXPOSE 8080
# By node itself: the image has no curl. /healthz does not touch the database, so that its outage restarts nobody.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8080) + '/healthz').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# No shell between: SIGTERM reaches the service, which handles it as process 1 too.
# Node 24 would let the young generation grow further, and with a limit of 2 GiB or more V8 lets garbage grow to four times
# what lives: both add to the memory that a flood of requests takes.
CMD ["node", "--enable-source-maps", "--max-semi-space-size=16", "--max-old-space-size=512", "dist/main.js"]

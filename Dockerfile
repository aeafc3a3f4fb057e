# One image; its roles are commands of storestow: receive NAME, work, serve, or up for all of them.
# docker build -t storestow . && docker run --rm storestow --version
FROM debian:12-slim AS build
SHELL ["/bin/sh", "-eu", "-c"]
# Versions are not pinned: a new build brings Debian's security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.lock ./
RUN python3 -m venv /opt/storestow \
    && /opt/storestow/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md institution_mapping.json ./
COPY pipeline ./pipeline
COPY hooks ./hooks
COPY systemd ./systemd
COPY launchd ./launchd
RUN /opt/storestow/bin/pip install --no-cache-dir --no-deps .

FROM debian:12-slim
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 dcmtk xorriso \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10104 storestow \
    && useradd --system --uid 10104 --gid 10104 --home-dir /var/spool/storestow --shell /usr/sbin/nologin storestow \
    && install -d -o storestow -g storestow -m 750 /var/spool/storestow /srv/discs
COPY --from=build /opt/storestow /opt/storestow
# DCMTK leaves Nagle's algorithm on unless told otherwise, which costs 40 to 90 ms an object.
ENV TCP_NODELAY=1 PYTHONUNBUFFERED=1
# By number: a host that forbids root can tell.
USER 10104:10104
VOLUME ["/var/spool/storestow", "/srv/discs"]
# 11112: modalities; 10104: what the PACS sends for orders; 8090: links of the HIS
EXPOSE 11112 10104 8090
ENTRYPOINT ["/opt/storestow/bin/storestow"]
CMD ["up"]

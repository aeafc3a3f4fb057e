#!/bin/sh
# Install the programs this project calls, as far as they are missing. Debian and Ubuntu only; elsewhere it
# says what to install by hand, and the rest of the installation goes on.
set -eu
cd "$(dirname "$0")/.."

if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    browser=chromium
    if grep -qs '^ID=ubuntu' /etc/os-release; then
        browser= # Ubuntu has it as a snap only
        command -v chromium >/dev/null || echo "install: the tests of the pages need Chromium: snap install chromium" >&2
    fi
    exec machine/packages.sh dcmtk xorriso orthanc orthanc-dicomweb dicom3tools libgdcm-tools genisoimage p7zip-full \
        nginx-light haproxy fuse3 mariadb-server-core mariadb-client-core postgresql prometheus iproute2 $browser
fi

for program in storescp dcmsend findscu movescu; do
    if ! command -v "$program" >/dev/null; then
        echo "install: $program is missing; on macOS: brew install dcmtk; elsewhere: the DCMTK package of your system" >&2
        break
    fi
done
for program in xorriso Orthanc; do
    command -v "$program" >/dev/null ||
        echo "install: $program is missing; only discs need xorriso, only the demonstration and the tests need Orthanc" >&2
done

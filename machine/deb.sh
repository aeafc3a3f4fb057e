#!/bin/sh
# Build dist/storestow_VERSION_ARCH.deb: the locked Python packages below /opt/storestow, the services, and a sample
# configuration. Made on the release it is for, with that system's own Python, because wheels fit one version of it.
# PYTHON, LOCK, WHEEL, OUTPUT in the environment choose another interpreter, lock, built wheel of storestow, or folder.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-/usr/bin/python3}
home=/opt/storestow
output=${OUTPUT:-dist}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT INT TERM
umask 022
chmod 755 "$root"

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
architecture=$(dpkg --print-architecture)
series=$("$python" -c 'import sys; print("3.%d" % sys.version_info[1])')
next=$("$python" -c 'import sys; print("3.%d" % (sys.version_info[1] + 1))')
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

# --- the program -------------------------------------------------------------------------------------------------
"$python" -m venv "$root$home"
pip() { "$root$home/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }
pip install --no-compile --require-hashes --requirement "${LOCK:-requirements.lock}"
pip install --no-compile --no-deps "${WHEEL:-.}"
# pip and its scripts are not needed to run; `apt` is how this installation changes.
rm -rf "$root$home"/bin/pip* "$root$home"/bin/[aA]ctivate* "$root$home"/lib/python*/site-packages/pip \
    "$root$home"/lib/python*/site-packages/pip-*.dist-info "$root$home"/lib/python*/site-packages/setuptools* \
    "$root$home"/lib/python*/site-packages/pkg_resources "$root$home"/lib/python*/site-packages/_distutils_hack \
    "$root$home"/lib/python*/site-packages/distutils-precedence.pth
# Of the commands of other packages none is needed, and some bear names that others own.
find "$root$home/bin" -type f ! -name storestow -delete
rm -rf "$root$home/include" "$root$home/lib64"
find "$root$home" -name '__pycache__' -prune -exec rm -rf {} +
find "$root$home" -path '*/site-packages/*' \( -name tests -o -name test_files \) -type d -prune -exec rm -rf {} +
# Where it was built does not matter where it runs.
grep -rlI --null "$root" "$root$home" | xargs -0 -r sed -i "s#$root##g"
rm -f "$root$home"/lib/python*/site-packages/storestow-*.dist-info/direct_url.json

# --- services, configuration, documents --------------------------------------------------------------------------
install -d "$root/usr/lib/systemd/system" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/usr/bin" \
    "$root/etc/storestow" "$root/usr/share/doc/storestow" "$root/DEBIAN"
install -m 644 systemd/*.service systemd/*.timer systemd/*.target "$root/usr/lib/systemd/system"
install -m 644 systemd/sysusers.conf "$root/usr/lib/sysusers.d/storestow.conf"
install -m 644 systemd/tmpfiles.conf "$root/usr/lib/tmpfiles.d/storestow.conf"
ln -s "$home/bin/storestow" "$root/usr/bin/storestow"
"$root$home/bin/python" -B -c '
from pipeline.commands.site_draft import SiteDraft, peer_address, site_toml
print(site_toml(SiteDraft(
    spool="/var/spool/storestow", archive_url="http://archive.example.org:8080/dcm4chee-arc/aets/DCM4CHEE/rs/studies",
    pacs=peer_address("PACS@pacs.example.org:11112"), discs="/srv/discs")), end="")
' >"$root/etc/storestow/site.toml.sample"
cp -r docs "$root/usr/share/doc/storestow/manual"
rm -f "$root"/usr/share/doc/storestow/manual/*.py
rm -rf "$root/usr/share/doc/storestow/manual/adr"
install -m 644 README.md "$root/usr/share/doc/storestow"
install -m 644 LICENSE "$root/usr/share/doc/storestow/copyright"
gzip -9n <CHANGELOG.md >"$root/usr/share/doc/storestow/NEWS.gz"

# --- what dpkg is told -------------------------------------------------------------------------------------------
cat >"$root/DEBIAN/control" <<END
Package: storestow
Version: $version
Architecture: $architecture
Maintainer: storestow <storestow@localhost>
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: python3 (>= $series), python3 (<< $next), dcmtk (>= 3.6.7)
Recommends: xorriso
Suggests: nginx
Section: net
Priority: optional
Description: hook-driven DICOM gateway between modalities and archive
 DCMTK's storescp receives; each study is coerced, encoded losslessly as JPEG
 2000, delivered by STOW-RS, C-STORE or as a patient disc, and verified. Orders
 by accession number come from the hospital information system over HTTP.
END
cat >"$root/DEBIAN/postinst" <<END
#!/bin/sh
set -e
if [ "\$1" = configure ]; then
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers storestow.conf
    elif ! getent passwd storestow >/dev/null; then
        useradd --system --user-group --home-dir /var/spool/storestow --shell /usr/sbin/nologin storestow
    fi
    install -d -o storestow -g storestow -m 750 /var/spool/storestow
    # The services may not write here, and without it every start would compile anew.
    $home/bin/python -m compileall -q $home/lib >/dev/null || true
    if [ -d /run/systemd/system ]; then
        # Nothing is restarted: that would cut open associations, and a new worker changes the ledger at once.
        systemctl daemon-reload
    fi
    if [ -n "\$2" ]; then
        echo "storestow: nothing was restarted. Soon, because processes that begin now are of the new release:"
        echo "    systemctl stop storestow-shim storestow-worker"
        echo "    storestow check; sudo -u storestow storestow migrate --dry-run"
        echo "    systemctl start storestow-worker storestow-shim"
        echo "    systemctl restart storestow-receiver@NAME   # each, while nobody sends to it"
        echo "storestow: see Upgrading in /usr/share/doc/storestow/manual/operations.md"
    fi
    if [ ! -e /etc/storestow/site.toml ]; then
        echo "storestow: write /etc/storestow/site.toml: storestow init --output /etc/storestow/site.toml"
    fi
fi
END
cat >"$root/DEBIAN/prerm" <<END
#!/bin/sh
set -e
if [ "\$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop 'storestow-*.service' storestow.target || true
fi
find $home/lib -name __pycache__ -prune -exec rm -rf {} +
END
cat >"$root/DEBIAN/postrm" <<END
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
if [ "\$1" = purge ]; then
    echo "storestow: /var/spool/storestow and /etc/storestow stay: there may be studies that were not delivered"
fi
END
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" "$root/DEBIAN/postrm"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)

mkdir -p "$output"
dpkg-deb --root-owner-group --build "$root" "$output/storestow_${version}_$architecture.deb" >&2
echo "$output/storestow_${version}_$architecture.deb"

#!/bin/sh
# Install the Debian packages named as arguments, as far as they are missing; nothing is asked of the network
# when none is. No server that comes with them is started, and all are left disabled: what runs on this
# machine is for its owner to say.
set -eu

POLICY=/usr/sbin/policy-rc.d # asked by Debian before it starts a service; 101 = no (invoke-rc.d)
MARK="storestow: no service starts while its packages are installed"

missing=
for package; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    sudo=
elif command -v sudo >/dev/null; then
    sudo=sudo
else
    echo "install: missing:$missing" >&2
    echo "install: not root, and no sudo here; as root: apt-get install$missing" >&2
    exit 69
fi

log=
allow_services() {
    rm -f "$log"
    if grep -qs "$MARK" "$POLICY"; then $sudo rm -f "$POLICY"; fi
}

deny_services() {
    new=$($sudo mktemp "$POLICY.XXXXXX")
    printf '#!/bin/sh\n# %s\nexit 101\n' "$MARK" | $sudo tee "$new" >/dev/null
    $sudo chmod 755 "$new"
    $sudo ln "$new" "$POLICY" 2>/dev/null || # ln never replaces: an owner's own policy stays
        echo "install: $POLICY exists and stays as it is"
    $sudo rm -f "$new"
}

trap allow_services EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

log=$(mktemp)
echo "install: Debian packages:$missing (takes a minute; no service will be started)"
deny_services
$sudo apt-get -qq update >"$log" 2>&1 || echo "install: apt-get update failed; trying with the lists that are here" >&2
# shellcheck disable=SC2086 # the list is words
if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    install $missing >>"$log" 2>&1 </dev/null; then
    cat "$log" >&2
    echo "install: apt-get could not install$missing; on Ubuntu they are in the universe component" >&2
    exit 69
fi

for package in $missing; do
    dpkg-query -L "$package" | sed -n -e 's#.*/systemd/system/\([^/@]*\.service\)$#\1#p' \
        -e 's#^/etc/init\.d/\([^/]*\)$#\1.service#p'
done | sort -u | while read -r service; do
    if command -v systemctl >/dev/null; then $sudo systemctl --quiet disable "$service" 2>/dev/null || true; fi
    if [ -x "/etc/init.d/${service%.service}" ] && command -v update-rc.d >/dev/null; then
        $sudo update-rc.d "${service%.service}" disable >/dev/null 2>&1 || true
    fi
    echo "install: $service is left disabled"
done

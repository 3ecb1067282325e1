# install-debian POLICY PACKAGE...: installs Debian packages without starting
# their services. Debian's packages ask POLICY (/usr/sbin/policy-rc.d) before
# they start anything, and 101 means "no" (invoke-rc.d(8)). A policy that the
# machine has already is left as it is; ours is gone when this script is.
set -eu
policy=$1
shift
child=
# A shell handles a signal only after its foreground command; so apt-get runs in
# the background and the shell waits.
trap '[ -z "$child" ] || kill "$child" 2>/dev/null || :; wait; exit 143' HUP INT TERM
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update &
child=$!
wait "$child"
apt-get install --yes --no-install-recommends "$@" &
child=$!
wait "$child"

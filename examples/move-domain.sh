#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Moves a domain with its snapshots from one store to another, both mounted:
#
#   move-domain.sh MOUNT/DOMAIN OTHERMOUNT
#
# Only what is known about it moves: its documents are taken out here and defined there, parents first. The images stay
# where they are and as they are, and the machine has to be off. If the other side refuses anything, all is put back
# here, and that is said.
#
# A document does not say what an internal snapshot's tag is called in the image. One that was renamed here would not be
# found there, so it is said, and nothing is moved: give it the tag's name again (mv DOMAIN/s DOMAIN/tag) first. Layers
# of deleted snapshots that were waiting to be merged stay behind as files that nothing refers to.
#
# Exits with 0; 1: it was not moved; 2: wrong usage.
set -eu
. "$(dirname "$0")/snapshots.sh"

say()
{
    echo "move-domain.sh: $1" >&2
}

usage()
{
    echo "usage: move-domain.sh MOUNT/DOMAIN OTHERMOUNT" >&2
    exit 2
}

[ $# -eq 2 ] || usage
domain=$(cd -- "$1" 2>/dev/null && pwd) || usage
there=$(cd -- "$2" 2>/dev/null && pwd) || usage
[ -e "$domain/domain.xml" ] && [ -e "$there/ctl" ] && [ ! -e "$there/domain.xml" ] || usage
here=$(dirname "$domain")
entry=$(basename "$domain")

refuse()
{
    say "$1: nothing was changed"
    exit 1
}

[ "$here" != "$there" ] || refuse "both are the same mount"
[ ! -e "$there/$entry" ] || refuse "there is a '$entry' in '$there' already"
[ "$(cat "$domain/state")" = shutoff ] || refuse "the machine is not off"
if sed '1,/^$/d' "$domain/tree" | grep '^read-only: ' >&2; then
    refuse "it cannot be changed"
fi

work=$(mktemp -d)
keep=
trap '[ -n "$keep" ] || rm -rf "$work"' EXIT
trap '' INT TERM # between taking out and putting in there is no good moment to stop

lost_tags "$domain" >"$work/lost"
if [ -s "$work/lost" ]; then
    sed 's/^/move-domain.sh: /' "$work/lost" >&2
    refuse "not all states would be found there"
fi

# All that has to be known, before anything is done.
cat "$domain/domain.xml" >"$work/domain.xml"
snapshots_in_order "$domain" >"$work/order"
current=$(current_snapshot "$domain")
n=0
while IFS= read -r snapshot; do
    n=$((n + 1))
    cat "$domain/$snapshot/snapshot.xml" >"$work/$n.xml"
    [ "$snapshot" = "$current" ] && echo "redefine --current -" || echo "redefine -"
done <"$work/order" >"$work/commands"
quoted=\'$(xml_text "$work/domain.xml" name | sed "s/'/'\\\\''/g")\'

take_out() # MOUNT
{
    printf 'undefine %s --snapshots-metadata\n' "$quoted" >"$1/ctl"
}

# FALSE, with the mount's own words, when something is refused.
put_in() # MOUNT
{
    cat "$work/domain.xml" >"$1/ctl" || {
        tail -n 1 "$1/log" >&2
        return 1
    }
    n=0
    while IFS= read -r command; do
        n=$((n + 1))
        { echo "$command" && cat "$work/$n.xml"; } >"$1/$entry/ctl" || {
            tail -n 1 "$1/$entry/log" >&2
            return 1
        }
    done <"$work/commands"
}

take_out "$here" || refuse "it cannot be taken out of '$here' ($(tail -n 1 "$domain/log"))"
if put_in "$there"; then
    exit 0
fi
say "'$there' refuses it: it is put back"
[ ! -e "$there/$entry" ] || take_out "$there" || say "what was defined in '$there' is still there"
put_in "$here" || {
    keep=yes
    say "'$here' does not take it back either: its documents are in '$work', parents first"
}
exit 1

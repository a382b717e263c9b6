#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A daily snapshot of every domain, and the ones older than DAYS deleted: snapshots are directories and their mtime is
# when they were taken, so mkdir and find are all it takes. For cron or a systemd timer:
#
#   retention.sh MOUNT [DAYS] [PREFIX]
set -eu
mount=${1:?usage: retention.sh MOUNT [DAYS] [PREFIX]}
days=${2:-14}
prefix=${3:-auto-}
failed=0

for domain in "$mount"/*/; do
    [ -e "$domain/domain.xml" ] || continue
    # One that cannot be taken now (the reason is in that domain's log) does not stop the others.
    mkdir "$domain$prefix$(date +%Y%m%d-%H%M%S)" || failed=1
done

# Depth 2 is MOUNT/domain/snapshot. -prune: find stays out of what it deletes; rmdir takes a snapshot as a whole.
find "$mount" -mindepth 2 -maxdepth 2 -type d -name "$prefix*" -mtime "+$days" -prune -exec rmdir {} \; || failed=1
exit $failed

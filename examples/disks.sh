# SPDX-License-Identifier: GPL-2.0-or-later
#
# For . by the scripts beside it: the disks of a snapshot (or of active/), and the file systems on them.

# debugfs and sfdisk are where root's programs are.
PATH=$PATH:/usr/sbin:/sbin

# The raw views of all disks, one path a line.
raw_views() # SNAPSHOT
{
    for view in "$1"/*.raw; do
        [ ! -e "$view" ] || printf '%s\n' "$view"
    done
}

# Where on the disk an ext2, 3 or 4 file system begins: bytes, one a line.
ext_offsets() # VIEW
{
    {
        echo 0
        sfdisk --dump "$1" 2>/dev/null | sed -n 's/.*: *start= *\([0-9]*\),.*/\1/p' | while read -r sector; do
            echo $((sector * 512))
        done
    } | while read -r offset; do
        # Its magic number, 0xEF53, is 1080 bytes from the beginning.
        magic=$(dd if="$1" bs=2 skip=$(((offset + 1080) / 2)) count=1 2>/dev/null | od -An -tx1 | tr -d ' ')
        [ "$magic" != 53ef ] || echo "$offset"
    done
}

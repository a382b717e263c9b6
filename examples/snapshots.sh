# SPDX-License-Identifier: GPL-2.0-or-later
#
# For . by the scripts beside it: what they read from the mount. Names may hold anything but a line break, which the
# mount never shows (nor a tab: both are escaped). DOMAIN is a domain's directory, an entry the name of one in it.

# The text of the child <ELEMENT> of the document's root, with the entities of XML replaced.
xml_text() # FILE ELEMENT
{
    sed -n "s:^  <$2>\(.*\)</$2>\$:\1:p" "$1" | sed '1!d' | xml_plain
}

xml_plain()
{
    sed "s/&lt;/</g; s/&gt;/>/g; s/&apos;/'/g; s/&quot;/\"/g; s/&amp;/\&/g"
}

# The entries of the snapshots, parents first.
snapshots_in_order() # DOMAIN
{
    for snapshot in "$1"/*/; do
        snapshot=${snapshot%/}
        [ ! -L "$snapshot" ] && [ -e "$snapshot/snapshot.xml" ] || continue # current, active
        parent=$(readlink "$snapshot/parent") || parent=
        printf '%s\t%s\n' "${snapshot##*/}" "${parent##*/}"
    done | LC_ALL=C awk -F '\t' '
        { order[NR] = $1; parent[$1] = $2 }
        END {
            for (i = 1; i <= NR; i++) {
                n = 0
                for (entry = order[i]; entry in parent && !(entry in done); entry = parent[entry]) {
                    done[entry] = 1
                    waiting[++n] = entry
                }
                while (n > 0)
                    print waiting[n--]
            }
        }'
}

# The entry of the current snapshot, or nothing.
current_snapshot() # DOMAIN
{
    current=$(readlink "$1/current") || return 0
    printf '%s\n' "${current##*/}"
}

# For each disk whose state is internal: its target, a tab, and the image that the snapshot's <domain> names (plain).
internal_disks() # SNAPSHOT.XML
{
    LC_ALL=C awk '
        function value(name,  text) {
            text = $0
            if (!sub(".*[ ]" name "=\047", "", text))
                return ""
            sub("\047.*", "", text)
            return text
        }
        /^    <disk name=/ && value("snapshot") == "internal" { internal[value("name")] = 1 }
        /^      <disk / { image = "" }
        /^        <source / && image == "" { image = value("file") value("dev") }
        /^        <target / { target = value("dev") }
        /^      <\/disk>/ && target in internal { print target "\t" image }' "$1" | xml_plain
}

# Does the qcow2 image have an internal snapshot of that name? 2: it cannot be read.
has_tag() # IMAGE NAME
{
    list=$(qemu-img snapshot -U -l --image-opts \
        "driver=qcow2,file.driver=file,file.filename=$(printf '%s\n' "$1" | sed 's/,/,,/g')" 2>/dev/null) || return 2
    # ID (9 columns, a blank), tag (at least 16 columns), size, date, clocks.
    printf '%s\n' "$list" | WANTED=$2 LC_ALL=C awk '
        BEGIN { wanted = ENVIRON["WANTED"]; sub(/ +$/, "", wanted) }
        NR > 2 && sub(/ +[0-9.]+ [KMGTPE]?i?B +[0-9]+-[0-9][0-9]-[0-9][0-9] [0-9:]+ .*$/, "") {
            sub(/^[^ ]+ */, "")
            found = found || $0 == wanted
        }
        END { exit !found }'
}

# Says of which internal snapshots the tag is not called as they are: a document does not hold its name, so whoever reads
# only documents does not find it. (Renamed ones; ones called by a number alone, whose tag is snap-NUMBER.)
lost_tags() # DOMAIN
{
    snapshots_in_order "$1" | while IFS= read -r entry; do
        name=$(xml_text "$1/$entry/snapshot.xml" name)
        internal_disks "$1/$entry/snapshot.xml" | while IFS='	' read -r target image; do
            has=0
            has_tag "$image" "$name" </dev/null || has=$?
            case $has in
            0) ;;
            2) echo "snapshot '$name': disk '$target': '$image' cannot be read, so its tag was not looked for" ;;
            *) echo "snapshot '$name': disk '$target': '$image' has no internal snapshot of that name" ;;
            esac
        done
    done
}

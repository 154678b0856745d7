# A large file is sorted within a bounded memory, again and again. Arguments: the file, the bound.
while :; do
    LC_ALL=C sort --parallel=1 -S "$2" -T "$(dirname "$1")" "$1" >/dev/null
    sleep 10
done

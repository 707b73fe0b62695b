# Runs a program until it ends or until stdin closes, which is how the service's end is seen.
# $1: a directory to remove when stdin closes without a line in it (or empty); then the program.
trap '' HUP INT TERM PIPE
directory=$1
shift
exec 3<&0 </dev/null

"$@" >&2 3<&- &
program=$!

# Again and again, since the program may not be listening to signals yet.
{
    read -r line <&3
    while kill -INT "$program"; do sleep 1; done
} >/dev/null 2>&1 &
watch=$!

wait "$program"
status=$?
# Before anything else, or it would signal whoever gets the program's number next.
{ kill -KILL "$watch"; wait "$watch"; } 2>/dev/null
echo "$status" 2>/dev/null
exec >&-

if [ -n "$directory" ]; then
    read -r line <&3 || {
        cd /
        # The program's children may still be ending, and writing.
        for try in 1 2 3 4 5 6 7 8 9 10; do
            rm -rf -- "$directory" && break
            sleep 1
        done
    }
fi

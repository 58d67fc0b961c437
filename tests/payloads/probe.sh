#!/bin/sh
# A payload that ends in as many ways as there are. A guest has nothing but the shell's own commands.
case "$1" in
where)
    read -r cgroup </proc/self/cgroup
    read -r included <data/number
    echo "a note before the numbers"
    echo "{ \"included\": $included, \"ext\": 1, \"nested\": [{ \"x\": -0.5 }], \"cgroup\": \"$cgroup\", \"pwd\": \"$(pwd)\" }"
    ;;
nan) echo '{ "value": NaN, "ext": 1 }' ;;
stderr) echo '{ "ext": 7 }' >&2 ;;
text) echo 'no numbers at all' ;;
exit) echo '{ "ext": 1 }'; exit 3 ;;
abort) echo 'about to die' >&2; kill -ABRT $$ ;;
busy) while :; do :; done ;;
esac

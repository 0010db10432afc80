# Cleans up after a process that died without doing so itself. That process
# holds the other end of standard input: the end of it is its death.
#   $1  folder to remove afterwards; empty for none
pids=
while read -r word pid; do
	case $word in
	watch) pids="$pids $pid" ;;
	forget)
		left=
		for p in $pids; do
			[ "$p" = "$pid" ] || left="$left $p"
		done
		pids=$left
		;;
	dismiss) exit 0 ;;
	esac
done

# Dead children that nobody collects, as in a container without an init, do not
# count as alive.
alive() {
	for p in $pids; do
		kill -s 0 "$p" 2>/dev/null || continue
		stat=
		read -r stat 2>/dev/null <"/proc/$p/stat" || :
		case ${stat##*) } in
		Z*) ;;
		*) return 0 ;;
		esac
	done
	return 1
}

# An orderly stop first. QUIT is PostgreSQL's "now", KILL the kernel's.
for signal in INT QUIT KILL; do
	for p in $pids; do
		kill -s "$signal" "$p" 2>/dev/null
	done
	tries=0
	while alive && [ $tries -lt 200 ]; do
		sleep 0.05 2>/dev/null || sleep 1
		tries=$((tries + 1))
	done
done

# A server's last child may still be writing: again until it is gone.
tries=0
while [ -n "$1" ] && [ -e "$1" ] && [ $tries -lt 100 ]; do
	rm -rf -- "$1" 2>/dev/null || sleep 0.05 2>/dev/null || sleep 1
	tries=$((tries + 1))
done

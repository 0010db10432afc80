#!/bin/sh
# Installs what Fulcrum starts on a developer's machine: PostgreSQL and Redis.
# With both in place it says nothing and changes nothing.
set -eu

oldest=15    # major version of PostgreSQL; newer is fine
preferred=17 # where there is a choice

say() { printf 'deps: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

# The same places as pkg/devstack searches.
has_postgres() {
	set -f; saved=$IFS; IFS=:
	# shellcheck disable=SC2086 # split at the colons
	set -- $PATH
	IFS=$saved; set +f
	for bin in "$@" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
		/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin \
		/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin \
		/Applications/Postgres.app/Contents/Versions/*/bin; do
		[ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] || continue
		# postgres (PostgreSQL) 17.2 (Debian 17.2-1)
		major=$("$bin/postgres" --version | sed 's/^[^)]*) *\([0-9]*\).*/\1/') || continue
		[ "${major:-0}" -ge "$oldest" ] && return 0
	done
	return 1
}

has_redis() {
	for program in redis-server valkey-server; do
		for bin in '' /usr/bin/ /usr/local/bin/ /opt/homebrew/bin/ /home/linuxbrew/.linuxbrew/bin/; do
			command -v "$bin$program" >/dev/null 2>&1 && return 0
		done
	done
	return 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# need_root says what a person with the right to do it would have to type.
need_root() {
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null 2>&1 ||
		die "installing needs root, and there is no sudo. As root, run: $*"
}

# Debian, Ubuntu ------------------------------------------------------------

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }

apt_update() {
	say 'updating the package lists'
	apt update || say 'not every package list could be updated; going on'
}

# The first try uses the package lists as they are: fetching them takes longer.
apt_install() {
	say "installing $*"
	apt install -y --no-install-recommends "$@" && return
	apt_update
	apt install -y --no-install-recommends "$@"
}

# The major version that the package postgresql stands for; 0 if unknown.
apt_postgres() {
	major=$(apt-cache policy postgresql 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][0-9]*\).*/\1/p')
	echo "${major:-0}"
}

install_apt() {
	need_root apt-get install -y postgresql redis-server
	if $need_postgres; then
		[ "$(apt_postgres)" -gt 0 ] || apt_update
		# We start our own servers: Debian need not make and start one, too.
		created=/etc/postgresql-common/createcluster.d
		as_root mkdir -p "$created"
		echo 'create_main_cluster = false' | as_root tee "$created/fulcrum.conf" >/dev/null
		if [ "$(apt_postgres)" -ge "$oldest" ]; then
			apt_install postgresql || failed=true
		else
			say "this release has PostgreSQL $(apt_postgres) only: adding PostgreSQL's own packages, apt.postgresql.org"
			apt_install postgresql-common ca-certificates &&
				as_root /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y &&
				apt_install "postgresql-$preferred" || failed=true
		fi
		as_root rm -f "$created/fulcrum.conf"
	fi
	if $need_redis; then apt_install redis-server || failed=true; fi
}

# Others ---------------------------------------------------------------------

install_dnf() {
	need_root dnf install -y postgresql-server redis
	if $need_postgres; then
		# Enterprise Linux 8 and 9 have an older one unless asked; others have no modules.
		as_root dnf -q -y module enable postgresql:16 >/dev/null 2>&1 || true
		say 'installing postgresql-server'
		as_root dnf -q -y install postgresql-server || failed=true
	fi
	if $need_redis; then
		say 'installing redis, or valkey where that took its place'
		as_root dnf -q -y install redis || as_root dnf -q -y install valkey || failed=true
	fi
}

install_apk() {
	need_root apk add postgresql redis
	if $need_postgres; then say 'installing postgresql'; as_root apk add -q postgresql || failed=true; fi
	if $need_redis; then say 'installing redis'; as_root apk add -q redis || failed=true; fi
}

install_brew() {
	command -v brew >/dev/null 2>&1 ||
		die "Homebrew is not installed: get it from https://brew.sh, then: brew install postgresql@$preferred redis"
	[ "$(id -u)" -ne 0 ] || die "Homebrew refuses root: as yourself, run: brew install postgresql@$preferred redis"
	if $need_postgres; then say "installing postgresql@$preferred"; brew install -q "postgresql@$preferred" || failed=true; fi
	if $need_redis; then say 'installing redis'; brew install -q redis || failed=true; fi
}

need_postgres=false need_redis=false failed=false missing=
has_postgres || { need_postgres=true; missing="PostgreSQL $oldest or newer"; }
has_redis || { need_redis=true; missing="${missing:+$missing, }Redis"; }
[ -n "$missing" ] || exit 0

say "missing: $missing"
if [ "$(uname -s)" = Darwin ]; then
	install_brew
elif command -v apt-get >/dev/null 2>&1; then
	install_apt
elif command -v dnf >/dev/null 2>&1; then
	install_dnf
elif command -v apk >/dev/null 2>&1; then
	install_apk
else
	die "no package manager that this script knows. Install with yours: $missing (programs initdb, postgres, redis-server)"
fi

# What counts is what is there now: a package may complain that it could not
# start its service, in a container for example, and be installed all the same.
has_postgres || die "PostgreSQL $oldest or newer is still missing (programs initdb and postgres): see above"
has_redis || die 'Redis is still missing (program redis-server): see above'
if $failed; then say 'the package manager reported an error, but all programs are there'; fi
say 'done'

# What script/run and script/test share: packages, build, installation.
# Sourced by bash with "set -euo pipefail"; expects nothing but $0.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
pg_major=15
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$pg_major/bin/pg_config}
export PG_CONFIG

BUILD_PACKAGES="gcc g++ make pkg-config flex bison
	libzstd-dev liblz4-dev zlib1g-dev libsnappy-dev libuv1-dev libnghttp2-dev libmicrohttpd-dev
	libprotobuf-c-dev protobuf-c-compiler libre2-dev libssl-dev"
SERVER_PACKAGES="postgresql-$pg_major postgresql-server-dev-$pg_major"
RUN_PACKAGES="curl python3"

say() { printf '%s\n' "$*"; }

# step TEXT: what is being done now; its duration is told by the next step
step_name=
step_start=0
step()
{
	step_done
	step_name=$1
	step_start=$SECONDS
	printf '==> %s\n' "$1"
}
step_done()
{
	[ -n "$step_name" ] && [ $((SECONDS - step_start)) -ge 5 ] &&
		printf '    done in %d s\n' $((SECONDS - step_start))
	step_name=
}

# fail MESSAGE [WHAT TO DO]...: ends the script
fail()
{
	printf '\nerror: %s\n' "$1" >&2
	shift
	for line in "$@"; do printf '       %s\n' "$line" >&2; done
	exit 1
}

# log_tail FILE: the end of a log, indented, to stderr
log_tail()
{
	[ -s "$1" ] && tail -n "${2:-20}" "$1" | sed 's/^/    | /' >&2
	return 0
}

# need_root WHAT: an error unless as_root can be tried.  Called where the error
# is seen, since the output of as_root goes to logs.
need_root()
{
	[ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
		fail "$1 needs root, and there is no sudo" "run this script as root, or install sudo"
}

# as_root COMMAND...: through sudo unless root already
as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif [ -t 0 ]; then
		sudo -- "$@"
	else
		sudo -n -- "$@"
	fi
}

# as_server COMMAND...: as the user the server runs as; PostgreSQL refuses root
as_server()
{
	if [ "$(id -u)" = 0 ]; then
		(cd / && exec runuser -u postgres -- "$@")
	else
		(cd / && exec "$@")
	fi
}

installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages PACKAGE...: installs the Debian packages that are missing
need_packages()
{
	local missing=() package log pause
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null ||
		fail "these packages are missing, and this is no Debian: ${missing[*]}" \
			"install what corresponds to them, then run this again with" \
			"PG_CONFIG=/path/to/pg_config and TEMPO_PG_SKIP_PACKAGES=1 in the environment"

	need_root "installing ${missing[*]}"
	say "    installing ${missing[*]}"
	log=$(mktemp "${TMPDIR:-/tmp}/tempo_pg-apt.XXXXXX")
	# The package lists of a new machine are empty or stale: renew them only then.
	# A mirror may be out of reach, or between two states, for a minute.
	if ! apt_install "${missing[@]}" >"$log" 2>&1; then
		for pause in 10 30 60 0; do
			say "    renewing the package lists"
			apt_update >>"$log" 2>&1 || true
			if apt_install "${missing[@]}" >>"$log" 2>&1; then
				rm -f "$log"
				return 0
			fi
			sleep $pause
		done
		log_tail "$log"
		fail "apt-get could not install ${missing[*]}" \
			"the whole output is in $log" \
			"check the network and /etc/apt/sources.list, then run this again"
	fi
	rm -f "$log"
}

apt_update()
{
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=5 update </dev/null
}

apt_install()
{
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=5 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
		-o DPkg::Lock::Timeout=300 \
		install --no-install-recommends "$@" </dev/null
}

# need_build_packages: compiler, libraries, and PostgreSQL unless PG_CONFIG
# names another installation of it
need_build_packages()
{
	[ -z "${TEMPO_PG_SKIP_PACKAGES:-}" ] || return 0
	if [ "$PG_CONFIG" = "/usr/lib/postgresql/$pg_major/bin/pg_config" ]; then
		need_packages $BUILD_PACKAGES $SERVER_PACKAGES $RUN_PACKAGES
	else
		need_packages $BUILD_PACKAGES $RUN_PACKAGES
	fi
}

# need_server: $bindir, or an error
need_server()
{
	[ -x "$PG_CONFIG" ] || command -v "$PG_CONFIG" >/dev/null ||
		fail "no pg_config at $PG_CONFIG" "set PG_CONFIG to that of the PostgreSQL to use"
	bindir=$("$PG_CONFIG" --bindir)
	[ -x "$bindir/initdb" ] || fail "no initdb in $bindir" "install PostgreSQL's server package"
}

# build LOG: compiles; nobody else builds this tree meanwhile
build()
{
	local log=$1
	if ! flock "$top/Makefile" make -C "$top" -j"$(nproc)" -s PG_CONFIG="$PG_CONFIG" >"$log" 2>&1 </dev/null; then
		log_tail "$log" 30
		fail "the build failed" "the whole output is in $log"
	fi
}

# same_files: is what is built what is installed?
same_files()
{
	local lib share
	lib=$("$PG_CONFIG" --pkglibdir)
	share=$("$PG_CONFIG" --sharedir)/extension
	cmp -s "$top/tempo_pg.so" "$lib/tempo_pg.so" &&
		cmp -s "$top/tempo_pg.control" "$share/tempo_pg.control" &&
		for file in "$top"/sql/tempo_pg--*.sql; do
			cmp -s "$file" "$share/${file##*/}" || return 1
		done
}

# install_built LOG: into PostgreSQL's folders, if they have something else.
# install(1) unlinks a file before it writes the new one, so that servers which
# run the old library keep it.
install_built()
{
	local log=$1 lib
	same_files && return 0
	lib=$("$PG_CONFIG" --pkglibdir)
	if [ -w "$lib" ]; then
		set -- make
	else
		need_root "installing into $lib"
		set -- as_root make
	fi
	if ! "$@" -C "$top" -s install PG_CONFIG="$PG_CONFIG" >"$log" 2>&1 </dev/null; then
		log_tail "$log"
		fail "the installation into $lib failed" "the whole output is in $log"
	fi
}

# free_ports N: N ports nobody listens on now
free_ports()
{
	PYTHONPATH=$top/test/lib PYTHONDONTWRITEBYTECODE=1 python3 -c 'import sys, cluster; print(*cluster.free_ports(int(sys.argv[1])))' "$1"
}

# port_busy PORT: does anybody listen there?
port_busy()
{
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

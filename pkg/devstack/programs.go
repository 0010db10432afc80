package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// oldestPostgres is the oldest major version that Fulcrum runs on.
const oldestPostgres = 15

// Where package managers put servers that they keep off the PATH.
var (
	postgresPlaces = []string{
		"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                   // PostgreSQL's own RPMs
		"/usr/libexec/postgresql*",           // Alpine
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew on Apple silicon
		"/usr/local/opt/postgresql@*/bin",    // Homebrew on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
	redisPlaces = []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"}
)

// postgresPrograms is one installed PostgreSQL.
type postgresPrograms struct {
	bin   string // folder of initdb and postgres
	major int
}

// findPostgres looks in the folders of path or, if that is nil, on PATH and then
// in the usual places. The first on the path wins, elsewhere the newest. If
// major is not 0 it has to be that version: data folders are of one version.
func findPostgres(path []string, major int) (postgresPrograms, error) {
	var places []string
	if path == nil {
		path, places = filepath.SplitList(os.Getenv("PATH")), expand(postgresPlaces)
	}
	fits := func(p postgresPrograms) bool { return p.major >= oldestPostgres && (major == 0 || p.major == major) }

	onPath, others := installed(path), installed(places)
	slices.SortStableFunc(others, func(a, b postgresPrograms) int { return b.major - a.major })
	found := slices.Concat(onPath, others)
	if i := slices.IndexFunc(found, fits); i >= 0 {
		return found[i], nil
	}

	var seen strings.Builder
	for _, p := range found {
		fmt.Fprintf(&seen, "\n\tfound:          version %d in %s, which does not fit", p.major, p.bin)
	}
	wanted := fmt.Sprintf("PostgreSQL %d or newer", oldestPostgres)
	if major != 0 {
		wanted = fmt.Sprintf("PostgreSQL %d, which made this data folder,", major)
	}
	return postgresPrograms{}, errors.New(wanted + " is not installed (programs initdb and postgres)" + seen.String() +
		"\n\tDebian, Ubuntu: sudo apt-get install -y postgresql" +
		"\n\tmacOS:          brew install postgresql@17" +
		"\n\tor:             make deps")
}

// findRedis looks like findPostgres. Valkey is Redis under another name.
func findRedis(path []string) (string, error) {
	if path == nil {
		path = append(filepath.SplitList(os.Getenv("PATH")), redisPlaces...)
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		for _, dir := range path {
			if program, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return program, nil
			}
		}
	}
	return "", errors.New("Redis is not installed (program redis-server)" +
		"\n\tDebian, Ubuntu: sudo apt-get install -y redis-server" +
		"\n\tmacOS:          brew install redis" +
		"\n\tor:             make deps")
}

// installed returns the PostgreSQL servers in the folders, in their order.
func installed(folders []string) []postgresPrograms {
	var found []postgresPrograms
	for _, dir := range folders {
		if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		// "postgres (PostgreSQL) 17.2 (Debian 17.2-1)", "… 18beta1"
		out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		_, version, _ := strings.Cut(string(out), ") ")
		digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
		if major, err := strconv.Atoi(version[:max(digits, 0)]); err == nil {
			found = append(found, postgresPrograms{bin: dir, major: major})
		}
	}
	return found
}

func expand(patterns []string) []string {
	var folders []string
	for _, pattern := range patterns {
		matches, _ := filepath.Glob(pattern) // the patterns are well formed
		folders = append(folders, matches...)
	}
	return folders
}

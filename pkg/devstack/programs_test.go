package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMissingProgramIsNamedWithItsCure(t *testing.T) {
	t.Parallel()
	nowhere := []string{t.TempDir()}
	_, perr := StartPostgres(t.Context(), PostgresOptions{Path: nowhere})
	_, rerr := StartRedis(t.Context(), RedisOptions{Path: nowhere})
	for _, tt := range []struct {
		name string
		err  error
		says []string
	}{
		{"PostgreSQL", perr, []string{
			"PostgreSQL 15 or newer is not installed", "initdb and postgres",
			"sudo apt-get install -y postgresql", "brew install postgresql@17", "make deps",
		}},
		{"Redis", rerr, []string{
			"Redis is not installed", "redis-server",
			"sudo apt-get install -y redis-server", "brew install redis", "make deps",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.err == nil {
				t.Fatal("started from an empty folder")
			}
			for _, text := range tt.says {
				if !strings.Contains(tt.err.Error(), text) {
					t.Errorf("error lacks %q:\n%v", text, tt.err)
				}
			}
		})
	}
}

func TestPostgresVersionIsChosen(t *testing.T) {
	t.Parallel()
	old, fit, beta := fakePostgres(t, "14.9 (Ubuntu 14.9-0)"), fakePostgres(t, "16.2"), fakePostgres(t, "18beta1")
	for _, tt := range []struct {
		name  string
		path  []string
		major int
		want  string
	}{
		{"first that is new enough", []string{old, fit, beta}, 0, fit},
		{"the one that made the folder", []string{fit, beta}, 18, beta},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := findPostgres(tt.path, tt.major)
			if err != nil || got.bin != tt.want {
				t.Errorf("chose %v, error %v; want %s", got, err, tt.want)
			}
		})
	}
	t.Run("one too old is named", func(t *testing.T) {
		t.Parallel()
		_, err := findPostgres([]string{old}, 0)
		if err == nil || !strings.Contains(err.Error(), "version 14 in "+old) {
			t.Errorf("error %v does not name what was found", err)
		}
	})
}

// fakePostgres makes a folder with programs that only tell their version.
func fakePostgres(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"initdb", "postgres"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700))
	}
	return dir
}

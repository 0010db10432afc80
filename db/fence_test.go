package db_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The doors are the only way in: no other code opens a connection, and no query
// sets a tenant or a role by itself.
func TestNobodyGoesAroundTheDoors(t *testing.T) {
	t.Parallel()
	code := regexp.MustCompile(`\b(pgxpool\.New|pgxpool\.NewWithConfig|pgx\.Connect|pgx\.ConnectConfig|sql\.Open|stdlib\.OpenDB)\(|fulcrum\.current_tenants?'`)
	query := regexp.MustCompile(`(?i)set_config\(\s*'fulcrum\.|\bset\s+(local\s+|session\s+)?(role|session\s+authorization|row_security)\b`)
	allowed := []string{
		filepath.Join("pkg", "devstack"),                           // starts and asks its own server
		filepath.Join("services", "fulcrum", "internal", "bench"),  // a table of its own, on a server of its own
		filepath.Join("services", "budget", "internal", "bench"),   // the same
		filepath.Join("services", "budget", "internal", "balance"), // the tests' bookkeeper, which must not trust the doors
	}
	root := os.DirFS("..")
	for dir, rule := range map[string]*regexp.Regexp{"pkg": code, "services": code, "db/queries": query} {
		err := fs.WalkDir(root, dir, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && (e.Name() == "node_modules" || e.Name() == "testdata"):
				return fs.SkipDir
			case e.IsDir() || strings.HasSuffix(path, "_test.go") || !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".sql"):
				return nil
			}
			for _, prefix := range allowed {
				if strings.HasPrefix(path, filepath.ToSlash(prefix)+"/") {
					return nil
				}
			}
			text, err := fs.ReadFile(root, path)
			if err != nil {
				return err
			}
			for i, line := range strings.Split(string(text), "\n") {
				if found := rule.FindString(line); found != "" {
					t.Errorf("%s:%d goes around the doors of package db: %s", path, i+1, found)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

package db_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// row is one row as SQL literals; a column that is absent gets its default.
type row map[string]string

func (r row) insert(table string) string {
	var names, values []string
	for name := range r {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		values = append(values, r[name])
		names[i] = pgx.Identifier{name}.Sanitize()
	}
	return fmt.Sprintf("insert into %s (%s) values (%s)", table, strings.Join(names, ", "), strings.Join(values, ", "))
}

// synth finds a row that table accepts, by asking the server: when a constraint
// refuses, other values are tried for the columns it is about. The row is not
// left behind. n makes rows differ.
func synth(ctx context.Context, admin *pgx.Conn, x *table, tenant uuid.UUID, n int, seeded map[string][]row) (row, error) {
	choices := map[string][]string{}
	r := row{}
	for _, c := range x.Columns {
		if c.Made {
			continue
		}
		choices[c.Name] = candidates(x, c, tenant, n)
		r.set(c.Name, choices[c.Name][0])
	}
	fixed := map[string]bool{"tenant_id": true}
	r["tenant_id"] = literal(tenant.String(), "uuid")
	for _, p := range x.Parents {
		if rows := seeded[p.Table+" "+tenant.String()]; len(rows) > 0 && p.Table != x.Name {
			for i, name := range p.Columns {
				r[name], fixed[name] = rows[min(n, len(rows))-1][p.Theirs[i]], true
			}
		}
	}
	for name, value := range seeds(x.Name, tenant, n) {
		r[name], fixed[name] = value, true
	}

	tried := map[string]int{}
	for range 2000 {
		refusal, err := attempt(ctx, admin, r.insert(x.Name))
		if err != nil {
			return nil, err
		}
		if refusal == nil {
			return r, nil
		}
		var about []string
		switch refusal.Code {
		case "23514":
			about = x.Checks[refusal.ConstraintName].Columns
		case "23505":
			for _, key := range x.Keys {
				about = append(about, key...)
			}
		case "23502":
			about = []string{refusal.ColumnName}
		}
		about = slices.DeleteFunc(slices.Clone(about), func(name string) bool { return fixed[name] || choices[name] == nil })
		if len(about) == 0 {
			return nil, refusal
		}
		tried[refusal.ConstraintName]++
		if !r.nth(about, choices, tried[refusal.ConstraintName]) {
			return nil, refusal
		}
	}
	return nil, errors.New("2000 attempts were not enough")
}

// nth sets the columns to the nth combination of their choices.
func (r row) nth(names []string, choices map[string][]string, n int) bool {
	for _, name := range names {
		of := choices[name]
		r.set(name, of[n%len(of)])
		n /= len(of)
	}
	return n == 0
}

const byDefault = ""

func (r row) set(name, value string) {
	if value == byDefault {
		delete(r, name)
	} else {
		r[name] = value
	}
}

// attempt runs sql in a savepoint and takes it back.
func attempt(ctx context.Context, admin *pgx.Conn, sql string) (*pgconn.PgError, error) {
	var refusal *pgconn.PgError
	err := pgx.BeginFunc(ctx, admin, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		if err == nil {
			err = errTakeBack
		}
		return err
	})
	switch {
	case errors.Is(err, errTakeBack):
		return nil, nil
	case errors.As(err, &refusal):
		return refusal, nil
	}
	return nil, err
}

var errTakeBack = errors.New("take back")

var (
	quoted = regexp.MustCompile(`'((?:[^']|'')*)'`)
	number = regexp.MustCompile(`\b\d{1,18}\b`)
)

// candidates lists values worth trying for a column, likely ones first:
// what its checks mention, and something ordinary for its type.
func candidates(x *table, c column, tenant uuid.UUID, n int) (list []string) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %d", x.Name, c.Name, tenant, n))
	if c.Optional {
		list = append(list, byDefault)
	}
	add := func(values ...string) {
		for _, v := range values {
			list = append(list, literal(v, c.Type))
		}
	}
	var words, numbers []string
	for _, k := range x.Checks {
		if slices.Contains(k.Columns, c.Name) {
			for _, m := range quoted.FindAllStringSubmatch(k.Definition, -1) {
				words = append(words, strings.ReplaceAll(m[1], "''", "'"))
			}
			numbers = append(numbers, number.FindAllString(k.Definition, -1)...)
		}
	}
	hex := fmt.Sprintf("%x", sum)
	switch c.Type {
	case "uuid":
		add(uuid.NewSHA1(uuid.Nil, sum[:]).String())
	case "text", "character varying":
		add("t" + hex[:8])
		add(words...)
		add("", hex, hex[:12], hex[:32], "k"+hex[:3])
	case "smallint", "integer", "bigint", "numeric", "double precision", "real":
		add(fmt.Sprint(n), "0", "1", "2")
		add(numbers...)
		add("100", "-1")
	case "boolean":
		add("false", "true")
	case "timestamp with time zone":
		for _, offset := range []string{"", " - interval '1 hour'", " + interval '1 hour'"} {
			list = append(list, fmt.Sprintf("(date_trunc('hour', now()) + interval '%d s'%s)", n, offset))
		}
	case "date":
		list = append(list, fmt.Sprintf("(current_date + %d)", n))
	case "interval":
		add("1 hour")
	case "bytea":
		for _, size := range []int{32, 12, 16, 20, 64, 1, 0} {
			add(`\x` + strings.Repeat(hex, 2)[:2*size])
		}
	case "jsonb", "json":
		add("{}", "[]", `"x"`)
	default:
		if strings.HasSuffix(c.Type, "[]") {
			add("{}")
			for _, w := range words {
				add("{" + w + "}")
			}
			add("{1}")
			for _, size := range numbers { // cardinality(...) = size
				if n, err := strconv.Atoi(size); err == nil && n > 0 && n <= 100 {
					add("{" + strings.Repeat("1,", n-1) + "1}")
				}
			}
		} else {
			add(words...)
			add(hex[:8])
		}
	}
	return list
}

func literal(v, typ string) string {
	return "'" + strings.ReplaceAll(v, "'", "''") + "'::" + typ
}

package db_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fulcrum-io/fulcrum/db"
	"github.com/fulcrum-io/fulcrum/db/dbtest"
)

// What the server makes of a slice or a UUID, by its own text, is what it holds;
// read back it is the same.
func TestValuesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	id := uuid.MustParse("0192f0c5-0001-7000-8000-00000000000a")
	at := time.Date(1999, 12, 31, 23, 59, 59, 123456000, time.UTC)
	for _, tt := range []struct {
		typ   string
		value any
		text  string
	}{
		{"uuid", id, id.String()},
		{"uuid", uuid.Nil, uuid.Nil.String()},
		{"bool[]", []bool{true, false}, "{t,f}"},
		{"int2[]", []int16{-32768, 0, 32767}, "{-32768,0,32767}"},
		{"int4[]", []int32{-2147483648, 1}, "{-2147483648,1}"},
		{"int8[]", []int64{-9223372036854775808, 9223372036854775807}, "{-9223372036854775808,9223372036854775807}"},
		{"int8[]", []int64{}, "{}"},
		{"text[]", []string{"", `a"b\`, "NULL", "ü,{}"}, `{"","a\"b\\","NULL","ü,{}"}`},
		{"uuid[]", []uuid.UUID{id, uuid.Nil}, "{" + id.String() + "," + uuid.Nil.String() + "}"},
		{"timestamptz[]", []time.Time{at, at.Add(time.Second)}, `{"1999-12-31 23:59:59.123456+00","2000-01-01 00:00:00.123456+00"}`},
		{"timestamptz[]", []time.Time{time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, `{"0001-01-01 00:00:00+00","9999-01-01 00:00:00+00"}`},
		{"text[]", []string(nil), "none"},
		// Of another type than the array's: the driver's own way.
		{"int8[]", []int32{1, 2}, "{1,2}"},
		{"int4[]", []int64{1, 2}, "{1,2}"},
		{"numeric[]", []int64{1, 2}, "{1,2}"},
	} {
		t.Run(fmt.Sprintf("%T as %s", tt.value, tt.typ), func(t *testing.T) {
			err := d.DB.GlobalOne(t.Context(), func(ctx context.Context, tx db.Tx) error {
				var text string
				back := reflect.New(reflect.TypeOf(tt.value))
				query := "with a as (select $1::" + tt.typ + " as v, set_config('timezone', 'UTC', true)) select coalesce(v::text, 'none'), v from a"
				if err := tx.QueryRow(ctx, query, tt.value).Scan(&text, back.Interface()); err != nil {
					return err
				}
				if text != tt.text {
					t.Errorf("arrived as %s, want %s", text, tt.text)
				}
				got, want := fmt.Sprint(back.Elem().Interface()), fmt.Sprint(tt.value)
				if times, ok := back.Elem().Interface().([]time.Time); ok {
					for i := range times {
						times[i] = times[i].UTC()
					}
					got = fmt.Sprint(times)
				}
				if got != want {
					t.Errorf("came back as %s, want %s", got, want)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

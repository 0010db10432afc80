package upkeep

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fake fails when told and remembers when it was asked for what.
type fake struct {
	began    time.Time
	fail     int // so many calls of Extend
	may      bool
	extended []time.Duration
	before   []time.Time
}

func (f *fake) Extend(context.Context) error {
	f.extended = append(f.extended, time.Since(f.began))
	if f.fail > 0 {
		f.fail--
		return errors.New("locked")
	}
	return nil
}

func (f *fake) MayForget(context.Context) (bool, error) { return f.may, nil }

func (f *fake) Forget(_ context.Context, t time.Time) (int, error) {
	f.before = append(f.before, t)
	return 1, nil
}

func TestUpkeepIsDailyAndAFailureIsTriedAgainSoon(t *testing.T) {
	t.Parallel()
	for _, may := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{began: time.Now(), fail: 2, may: may}
			ctx, cancel := context.WithTimeout(t.Context(), 49*time.Hour)
			defer cancel()
			k := &Keeper{Store: f, Keep: 90 * 24 * time.Hour, Log: slog.New(slog.DiscardHandler)}
			if err := k.Run(ctx); err != nil {
				t.Fatal(err)
			}
			day := 24*time.Hour + 2*time.Minute
			want := []time.Duration{0, time.Minute, 2 * time.Minute, day, day + 24*time.Hour}
			if !slices.Equal(f.extended, want) {
				t.Errorf("looked after at %v, want %v", f.extended, want)
			}
			if may != (len(f.before) == 3) || !may && len(f.before) != 0 {
				t.Errorf("forgot %v", f.before)
			}
			if may && !f.before[0].Equal(f.began.Add(2*time.Minute-90*24*time.Hour)) {
				t.Errorf("forgot what ended before %v", f.before[0])
			}
		})
	}
}

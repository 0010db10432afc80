package devstack

import (
	"context"
	"errors"
	"sync"
)

// Options choose where the stack lives. The zero value is a new temporary
// folder, free ports, production's fsync and no progress.
type Options struct {
	// Dir is the data folder. It is kept, and used again by the next start
	// with the same passwords. Empty means a temporary one, removed by Stop.
	Dir string

	// Postgres, Redis and NATS are URLs of servers that already run. A server
	// given here is not started; its URL is passed through.
	Postgres, Redis, NATS string

	// PostgresPort, RedisPort and NATSPort are the loopback ports; 0 is a free one.
	PostgresPort, RedisPort, NATSPort int

	// NoFsync trades durability for speed: a crash of PostgreSQL loses its last
	// commits, and a power cut possibly the whole folder.
	NoFsync bool

	// Progress, if set, is told each step as it begins.
	Progress func(step string)
}

// Stack is a running set of servers, with the URLs that reach them.
// PostgresURL is the superuser's, on the database "postgres".
type Stack struct {
	PostgresURL, RedisURL, NATSURL string
	Dir                            string

	// The servers that Start started; nil where a URL was given.
	Postgres *Postgres
	Redis    *Redis
	NATS     *NATS

	stop func() error
}

// Start returns when every server answers. If one does not, or ctx ends first,
// it stops what it started and returns an error with the end of that server's
// log. The caller owns the stack and must Stop it.
func Start(ctx context.Context, o Options) (*Stack, error) {
	if err := checkPrograms(o); err != nil {
		return nil, err
	}
	h, err := openHome(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Stack{PostgresURL: o.Postgres, RedisURL: o.Redis, NATSURL: o.NATS, Dir: h.dir}
	s.stop = sync.OnceValue(func() error { return errors.Join(s.stopServers(), h.close()) })
	if err := s.start(ctx, o, h); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Stop stops what Start started and removes a temporary folder. No process is
// left when it returns. Further calls return what the first one did.
func (s *Stack) Stop() error { return s.stop() }

// Env is the environment by which tests find the stack.
func (s *Stack) Env() []string {
	return []string{
		"TEST_POSTGRES_URL=" + s.PostgresURL,
		"TEST_REDIS_URL=" + s.RedisURL,
		"TEST_NATS_URL=" + s.NATSURL,
	}
}

func (s *Stack) start(ctx context.Context, o Options, h *home) error {
	progress := o.Progress
	if progress == nil {
		progress = func(string) {}
	}
	if o.Postgres == "" {
		progress("starting PostgreSQL")
		p, err := newPostgres(ctx, PostgresOptions{Port: o.PostgresPort, NoFsync: o.NoFsync}, h)
		if err != nil {
			return err
		}
		s.Postgres, s.PostgresURL = p, p.URL()
	}
	if o.Redis == "" {
		progress("starting Redis")
		r, err := newRedis(ctx, RedisOptions{Port: o.RedisPort}, h)
		if err != nil {
			return err
		}
		s.Redis, s.RedisURL = r, r.URL()
	}
	if o.NATS == "" {
		progress("starting NATS")
		n, err := newNATS(NATSOptions{Port: o.NATSPort}, h)
		if err != nil {
			return err
		}
		s.NATS, s.NATSURL = n, n.URL()
	}
	return nil
}

func (s *Stack) stopServers() error {
	var errs []error
	if s.NATS != nil {
		errs = append(errs, s.NATS.Stop())
	}
	if s.Redis != nil {
		errs = append(errs, s.Redis.Stop())
	}
	if s.Postgres != nil {
		errs = append(errs, s.Postgres.Stop())
	}
	return errors.Join(errs...)
}

// checkPrograms finds everything that is missing before anything is started,
// so that one message names it all.
func checkPrograms(o Options) error {
	var errs []error
	if o.Postgres == "" {
		_, err := findPostgres(nil, 0)
		errs = append(errs, err)
	}
	if o.Redis == "" {
		_, err := findRedis(nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

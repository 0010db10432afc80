package postgres

import "time"

// Believe makes the store take now for the database's time.
func (s *Store) Believe(now time.Time) { s.clockGuess.set(now, time.Now()) }

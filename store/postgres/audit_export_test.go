package postgres

// Crash ends the process as far as the database can see: nothing that is in memory is stored.
func (s *Store) Crash() {
	s.end()
	s.background.Wait()
	s.pool.Close()
}

// SetMaxEvents replaces store.MaxEvents. Call it before anything is stored.
func (s *Store) SetMaxEvents(n int64) { s.outbox.max = n }

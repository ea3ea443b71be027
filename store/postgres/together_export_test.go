package postgres

// WaitingFor is how many uploads wait for the next transaction that records some of a space.
func (s *Store) WaitingFor(space string) int {
	s.together.mu.Lock()
	defer s.together.mu.Unlock()
	return len(s.together.waiting[space])
}

package postgres

import (
	"context"
	"time"
)

// FoldUsage adds up the usage of spaces that have more rows of it than that.
func (s *Store) FoldUsage(ctx context.Context, more int) error { return s.foldUsage(ctx, more) }

// UsageRows is how many rows there are that are to be added up.
func (s *Store) UsageRows(ctx context.Context) (n int, err error) {
	err = s.row(ctx, `select count(*) from attachd.usage_delta`).Scan(&n)
	return n, err
}

// WithCommitFor sets how long a server may take to answer a COMMIT.
func WithCommitFor(opts Options, d time.Duration) Options {
	opts.commitFor = d
	return opts
}

// SetAttemptFor sets how long an attempt to create a record may take.
func (s *Store) SetAttemptFor(d time.Duration) { s.attemptFor = d }

// SetAskFor sets how long CreateAttachment asks whether it has created a record.
func (s *Store) SetAskFor(d time.Duration) { s.askFor = d }

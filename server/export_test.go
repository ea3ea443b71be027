package server

import (
	"context"
	"slices"
	"time"

	"attachd/server/api"
	"attachd/server/jobs"
)

// RunJob runs only one background job, with another period if every is not 0.
func (s *Server) RunJob(ctx context.Context, name string, every time.Duration) {
	all := s.ops.Jobs()
	job := all[slices.IndexFunc(all, func(j jobs.Job) bool { return j.Name == name })]
	if every > 0 {
		job.Every = every
	}
	jobs.Run(ctx, s.ops.Running(), context.WithoutCancel(ctx), s.Log, s.leases, job)
}

// RunJobOnce runs a background job once.
func (s *Server) RunJobOnce(ctx context.Context, name string) {
	all := s.ops.Jobs()
	job := all[slices.IndexFunc(all, func(j jobs.Job) bool { return j.Name == name })]
	if err := job.Run(ctx); err != nil {
		s.Log.Error("background job failed", "job", name, "error", err)
	}
}

// EmptyTrash runs the job once.
func (s *Server) EmptyTrash(ctx context.Context) error { return s.ops.EmptyTrash(ctx) }

// HasJob reports whether the server has a background job.
func (s *Server) HasJob(name string) bool {
	return slices.ContainsFunc(s.ops.Jobs(), func(j jobs.Job) bool { return j.Name == name })
}

// PruneAudit runs the job once.
func (s *Server) PruneAudit(ctx context.Context) error { return s.ops.PruneAudit(ctx) }

// CollectInBackground runs the job once.
func (s *Server) CollectInBackground(ctx context.Context) error {
	return s.ops.CollectInBackground(ctx)
}

// Route is a line of the table of routes.
type Route struct{ Method, Pattern string }

// routes is the table of routes, with handlers of no server.
func routes() []api.Route { return (&Server{}).table() }

// Routes lists the table of routes.
func Routes() []Route {
	var list []Route
	for _, rt := range routes() {
		list = append(list, Route{rt.Method, rt.Pattern})
	}
	return list
}

// SetPatience sets how long the server waits for clients that stall while they send,
// even refused ones, and for those that do not take their answer; tests shorten it. It
// is to be called before the first request.
func (s *Server) SetPatience(sending, taking time.Duration) { s.corridor.SetPatience(sending, taking) }

// SetSteady sets how long ago a file must have been changed for its version to be
// relied on. It is to be called before the first download.
func (s *Server) SetSteady(d time.Duration) { s.contents.SettleTime = d }

// SetSlotGrace sets how long an upload keeps its slot before it can lose it to another
// user.
func (s *Server) SetSlotGrace(d time.Duration) { s.slots.SetGrace(d) }

// SetPreviewWait sets how long a preview waits for its turn. It is to be called before
// the first request.
func (s *Server) SetPreviewWait(d time.Duration) { s.files.SetPreviewWait(d) }

// SetReadiness sets how long a readiness probe may last, and how long flushes of staged
// contents may fail. It is to be called before the first request.
func (s *Server) SetReadiness(patience, stuck time.Duration) { s.ops.SetReadiness(patience, stuck) }

// Uploads is the number of uploads under way.
func (s *Server) Uploads() int { return s.slots.InUse() }

// UploadedBytes is how many bytes of their forms they have sent so far.
func (s *Server) UploadedBytes() int64 { return s.slots.Bytes() }

// Busy reports whether the scrub gives way now.
func (s *Server) Busy() bool { return s.corridor.Busy() }

// AuditAction returns the action as which a route's success is recorded, empty for
// none, and whether it is recorded in its change's commit.
func AuditAction(method, pattern string) (action string, changes bool) {
	for _, rt := range routes() {
		if rt.Method == method && rt.Pattern == pattern {
			return rt.Audit.Action, rt.Audit.When == api.WithChange
		}
	}
	return "", false
}

// SetWebhookWaits replaces the timer of the courier by after, and its waits by the
// longest ones. It is to be called before its job runs.
func (s *Server) SetWebhookWaits(after func(time.Duration) <-chan time.Time) {
	s.ops.SetWebhookWaits(after)
}

// Damaged is how many contents are known to be damaged.
func (s *Server) Damaged() int { return s.contents.Damaged() }

// HeldBytes is how many bytes of memory requests are counted for.
func (s *Server) HeldBytes() int64 { return s.corridor.HeldBytes() }

// WaitingForDecodes is how many thumbnails are queued.
func (s *Server) WaitingForDecodes() int { return s.files.WaitingForDecodes() }

// AuditedActions are the recorded actions of all routes.
func AuditedActions() map[string]bool {
	all := map[string]bool{}
	for _, rt := range routes() {
		if rt.Audit.Action != "" {
			all[rt.Audit.Action] = true
		}
	}
	return all
}

// AuditedOutcomes are the codes of denials that are recorded.
func AuditedOutcomes() map[string]bool { return api.Denials }

// OpenAPI30 is openapi.json in OpenAPI 3.0.
func OpenAPI30() []byte { return openAPI30File().Body }

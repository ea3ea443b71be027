package server

import (
	"context"
	"slices"
	"time"

	"attachd/server/api"
	"attachd/server/jobs"
)

// RunJob runs one of the jobs of the background alone, with another period if
// every is not 0.
func (s *Server) RunJob(ctx context.Context, name string, every time.Duration) {
	all := s.ops.Jobs()
	job := all[slices.IndexFunc(all, func(j jobs.Job) bool { return j.Name == name })]
	if every > 0 {
		job.Every = every
	}
	jobs.Run(ctx, s.ops.Running(), s.Log, job)
}

// HasJob says whether the server has a job of the background.
func (s *Server) HasJob(name string) bool {
	return slices.ContainsFunc(s.ops.Jobs(), func(j jobs.Job) bool { return j.Name == name })
}

// PruneAudit does once what the job does.
func (s *Server) PruneAudit(ctx context.Context) error { return s.ops.PruneAudit(ctx) }

// Route is a line of the table of routes.
type Route struct{ Method, Pattern string }

// routes is the table, with handlers of no server.
func routes() []api.Route { return (&Server{}).table() }

// Routes are all of them.
func Routes() []Route {
	var list []Route
	for _, rt := range routes() {
		list = append(list, Route{rt.Method, rt.Pattern})
	}
	return list
}

// SetPatience sets how long the server waits for clients that stand still while
// they send, refused ones too, and for those that do not take their answer: a
// test makes that short which it is about. It is to be called before the first
// request.
func (s *Server) SetPatience(sending, taking time.Duration) { s.corridor.SetPatience(sending, taking) }

// SetSteady sets how long ago a file must have been changed to be known by its
// version. It is to be called before the first download.
func (s *Server) SetSteady(d time.Duration) { s.contents.SettleTime = d }

// SetSlotGrace sets for how long no upload loses its place to another user.
func (s *Server) SetSlotGrace(d time.Duration) { s.slots.SetGrace(d) }

// SetPreviewWait sets how long a request waits for others that look into
// files. It is to be called before the first request.
func (s *Server) SetPreviewWait(d time.Duration) { s.files.SetPreviewWait(d) }

// SetReadiness sets for how long a look at whether the server is ready may
// last, and flushes of staged contents may fail. It is to be called
// before the first request.
func (s *Server) SetReadiness(patience, stuck time.Duration) { s.ops.SetReadiness(patience, stuck) }

// Uploads are how many run.
func (s *Server) Uploads() int { return s.slots.InUse() }

// UploadedBytes are how many those that run have sent so far, of their forms.
func (s *Server) UploadedBytes() int64 { return s.slots.Bytes() }

// Busy says whether the scrub gives way now.
func (s *Server) Busy() bool { return s.corridor.Busy() }

// AuditAction is the action as which a request of a route is recorded when it
// succeeds, empty for none, and whether it is recorded in its change's commit.
func AuditAction(method, pattern string) (action string, changes bool) {
	for _, rt := range routes() {
		if rt.Method == method && rt.Pattern == pattern {
			return rt.Audit.Action, rt.Audit.When == api.WithChange
		}
	}
	return "", false
}

// SetWebhookWaits replaces how the telling waits: for what after gives, and
// always as long as it can. It is to be called before their job runs.
func (s *Server) SetWebhookWaits(after func(time.Duration) <-chan time.Time) {
	s.ops.SetWebhookWaits(after)
}

// Damaged is how many contents are known to be damaged.
func (s *Server) Damaged() int { return s.contents.Damaged() }

// HeldBytes are what requests are counted for.
func (s *Server) HeldBytes() int64 { return s.corridor.HeldBytes() }

// WaitingForDecodes are the thumbnails that are not being made yet.
func (s *Server) WaitingForDecodes() int { return s.files.WaitingForDecodes() }

// AuditedActions are those of all routes that are recorded.
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

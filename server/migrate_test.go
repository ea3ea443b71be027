package server_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/server"
	"attachd/server/migrate"
)

// migrated has the operator move the contents, and returns the answer.
func (w *world) migrated() string {
	rq := httptest.NewRequest("POST", "/upkeep/migrate", strings.NewReader(`{}`))
	rq.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	w.server.Operator().ServeHTTP(answer, rq)
	return answer.Body.String()
}

// Whoever reads that nothing was moved would go on with the configuration of before.
func TestAfterAFailedSwitchTheServerSaysThatItIsNotKnownWhereTheFilesAre(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{false, true} {
		var w *world
		w = withFile(t, alphabet, filesAtOnce, func(c *server.Config) {
			c.MoveTo = func(context.Context, map[string]string) (migrate.Target, error) {
				other, err := disk.Open(t.TempDir(), disk.Options{})
				return migrate.Target{Target: other, Home: "s3", After: func(context.Context) (map[blobs.Ref]bool, error) {
					w.fault.Store(&fault{err: syscall.EIO, at: 1, only: "commit", committed: committed})
					return nil, nil
				}}, err
			}
		})
		for _, part := range []string{"the switch to the new storage failed", "injected", "database"} {
			w.expectLog(part)
		}
		if last := w.migrated(); !strings.Contains(last, "it is not known whether the contents were moved") || !strings.Contains(last, "Restart the server") || strings.Contains(last, "were not moved") {
			t.Errorf("committed %v: it says %s", committed, last)
		}
		w.fault.Store(nil)
		if a := w.do(t, step{do: "GET /health/ready", want: 503}); !strings.Contains(string(a.body), "It is not known whether the files were moved. Restart the server") {
			t.Errorf("committed %v: it is not ready: %s", committed, a.body)
		}
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "later")}, want: 503, code: "unavailable"})
		if again := w.migrated(); !strings.Contains(again, "It is not known whether the contents were moved. Restart the server") {
			t.Errorf("committed %v: once more, it says %s", committed, again)
		}
		w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200})
		w.restart()
	}
}

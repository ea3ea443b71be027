package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"attachd/server"
)

// withFakes answers for the server where it has no such route, so that the
// page can be tried with all that it may meet.
func (w *world) withFakes() http.Handler {
	has := func(end string) bool {
		return slices.ContainsFunc(server.Routes(), func(r server.Route) bool { return strings.HasSuffix(r.Pattern, end) })
	}
	preview := regexp.MustCompile(`/attachments/[0-9a-f-]{36}/preview$`)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var body string
		path := strings.TrimPrefix(r.URL.Path, "/deep/attachd")
		switch {
		case path == "/stats" && !has("/stats"):
			body = fakeStats()
		case path == "/limits" && !has("/limits"):
			body = fakeLimits
		case path == "/audit-logs" && !has("/audit-logs"):
			body = fakeAudit(r)
		case preview.MatchString(r.URL.Path) && !has("/preview"):
			body = `{"kind":"archive","entries":[{"name":"data/regions.csv","size":2048,"compressed_size":700,"modified":"2026-03-01T10:00:00Z","directory":false}],"entries_total":1,"truncated":false}`
		case strings.HasSuffix(r.URL.Path, "/thumbnail") && !has("/thumbnail"):
			rw.Header().Set("Content-Type", "image/png")
			rw.Write(aPicture)
			return
		default:
			w.server.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.Write([]byte(body))
	})
}

const fakeLimits = `{"max_file_size":52428800,"allowed":[{"mime_type":"application/pdf","extensions":[".pdf"]},{"mime_type":"image/png","extensions":[".png"]},{"mime_type":"text/csv","extensions":[".csv"]}],"url_ttl_seconds":3600,"max_link_ttl_seconds":604800}`

func fakeStats() string {
	hours := []string{}
	for i := range 24 {
		hours = append(hours, fmt.Sprintf(`{"start":"2026-11-23T%02d:00:00Z","uploads":%d,"upload_bytes":1,"downloads":%d,"download_bytes":1}`, i, i*i*7%31, i*i*5%47))
	}
	return strings.Replace(stats, "HOURS", strings.Join(hours, ","), 1)
}

const stats = `{"as_of":"2026-11-23T22:00:00Z","version":"test","uptime_seconds":93600,
"disk":{"free":412316860416,"total":1000204886016,"reserve":268435456},
"attachments":{"files":12480,"bytes":96636764160},"contents":{"files":9120,"bytes":64424509440},"bytes_saved":32212254720,
"by_type":[{"mime_type":"application/pdf","files":5210,"bytes":42949672960},{"mime_type":"image/png","files":3120,"bytes":21474836480},{"mime_type":"text/csv","files":2040,"bytes":9663676416},{"mime_type":"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet","files":900,"bytes":2147483648}],
"by_size":[{"up_to":10240,"files":2100,"bytes":1},{"up_to":1048576,"files":6400,"bytes":1},{"up_to":10485760,"files":3300,"bytes":1},{"up_to":null,"files":680,"bytes":1}],
"hours":[HOURS],
"upload_slots":{"in_use":2,"max":256},"scrub":{},"last_check":"2026-11-22T03:00:00Z","last_gc":"2026-11-23T21:00:00Z","last_backup":null,"damaged":1}`

func fakeAudit(r *http.Request) string {
	type entry map[string]any
	list := []entry{}
	for _, action := range []string{"attachment.create", "attachment.delete", "key.create", "session.create"} {
		if strings.Contains(action, r.URL.Query().Get("action")) {
			list = append(list, entry{"seq": len(list), "time": "2026-11-23T20:14:03Z", "actor": map[string]string{"id": personID("editor").String(), "full_name": "Editor Person"},
				"action": action, "resource": map[string]string{"kind": "attachment", "id": personID("root").String(), "file_name": "report.pdf"}, "space": "a", "address": "127.0.0.1", "request_id": "x", "outcome": "ok"})
		}
	}
	raw, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// aPicture is a square of one colour.
var aPicture = []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\x00\x00\x0cIDATx\x9cc\x48\x9a\xf8\x1c\x00\x03\x22\x01\xd7\xb1\xad\x2c\xe4\x00\x00\x00\x00IEND\xaeB`\x82")

package directory

import (
	"fmt"
	"strconv"
	"testing"

	"attachd/server/api"
	"attachd/store"
)

// A line of an import is an object that can be kept, or a mistake of its
// author's.
// ASVS 2.2.1, 2.2.2
func FuzzImportLine(f *testing.F) {
	const id = "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01"
	for _, kind := range importKinds {
		for _, seed := range []string{
			`{"kind":%s,"id":"` + id + `","slug":"s","space":"s","user_id":"` + id + `","ticket_id":"` + id + `","role":"editor","full_name":"Ada","name":"N","title":"T","owner_id":"` + id + `","quota_bytes":1}`,
			`{"kind":%s}`, `{"kind":%s,"id":7}`, `{"kind":%s,"quota_bytes":-1,"slug":"s","quota_files":1e30}`, `[%s]`, `{"kind":%s`, `{"KIND":%s,"id":"urn:uuid:` + id + `"}`,
		} {
			f.Add([]byte(fmt.Sprintf(seed, strconv.Quote(kind.name))))
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		line, err := parseImportLine(raw)
		if err != nil {
			if status := api.ToRefusal(err).Status; status >= 500 {
				t.Fatalf("%q is answered %d: %v", raw, status, err)
			}
			return
		}
		var known bool
		switch line.object.(type) {
		case store.User, store.Space, store.Member, store.Entity, store.Comment:
			known = true
		}
		if !known || line.kind < 0 || line.kind >= len(importKinds) {
			t.Fatalf("%q is %+v", raw, line)
		}
	})
}

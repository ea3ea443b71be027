package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"attachd/server"
)

// filed are the files of the filtered list: names, contents, uploaders, and the time
// since the one before.
var filed = []struct {
	name, content, by string
	after             time.Duration
}{
	{"report.txt", text(12), "editor", 0},
	{"Übersicht.csv", "a,b\n1,2\n", "root", time.Minute},
	{"ÜBERSICHT final.txt", text(30), "editor", 0},
	{"notes.txt", text(1), "admin", time.Minute},
	{"Report.TXT", text(22), "editor", time.Minute},
	{"photo.png", tinyPNG, "admin", time.Minute},
	{"zebra.gif", "GIF89a\x01\x00\x01\x00\x00\x00\x00;", "root", 0},
	{"Annual report.csv", "a,b\n", "root", time.Minute},
	{"straße.txt", text(1), "editor", time.Hour},
	{"e\u0301tude.txt", text(12), "admin", 0}, // kept with é as one letter
}

const tinyPNG = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"

// withFiled returns a world with them in a ticket, every other one in its comment, and
// one in a product.
func withFiled(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for i, f := range filed {
		w.clock.advance(f.after)
		form := parts{file(f.name, f.content)}
		if i%2 == 1 {
			form = append(form, field("comment_id", "{comment}"))
		}
		w.do(t, step{as: f.by, do: "POST {ticket}/attachments", form: form, want: 201, save: fmt.Sprint(i)})
	}
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("report.txt", "x")}, want: 201})
	return w
}

// listed returns the indices in filed of the files in a list.
func (w *world) listed(ids []string) (numbers []int) {
	for _, id := range ids {
		for i := range filed {
			if w.names[fmt.Sprint(i)] == id {
				numbers = append(numbers, i)
			}
		}
	}
	return numbers
}

func TestAListIsFilteredAndSorted(t *testing.T) {
	t.Parallel()
	w := withFiled(t)
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	since := func(minutes int) string {
		return "since=" + startOfTime.Add(time.Duration(minutes)*time.Minute).Format("2006-01-02T15:04:05")
	}
	for query, want := range map[string][]int{
		"name=report":         {0, 4, 7},
		"name=REPORT.t":       {0, 4},
		"name=%C3%BCbersicht": {1, 2},
		"name=STRA%C3%9FE":    {8},
		"name=e%CC%81TUDE":    {9},
		"name=%C3%89tude":     {9},
		"name=no+such":        nil,
		"name=.":              all,

		"mime_type=image/*":                      {5, 6},
		"mime_type=IMAGE/PNG":                    {5},
		"mime_type=ima/*":                        nil,
		"mime_type=text/csv":                     {1, 7},
		"mime_type=text/csv&mime_type=image/gif": {1, 6, 7},

		"uploaded_by={admin}":    {3, 5, 9},
		"uploaded_by={stranger}": nil,

		since(2) + "Z":               {3, 4, 5, 6, 7, 8, 9},
		since(2) + ".5Z":             {4, 5, 6, 7, 8, 9},
		since(5) + "-00:30":          {8, 9},
		since(0) + "%2B02:00":        all,
		"since=9999-12-31T23:59:59Z": nil,
		"since=0000-01-01T00:00:00Z": all,

		"comment_id={comment}&name=REPORT":                                        {7},
		"name=report&uploaded_by={editor}&mime_type=text/plain&" + since(1) + "Z": {4},

		"sort=created_at":                                     all,
		"sort=-created_at":                                    {9, 8, 7, 6, 5, 4, 3, 2, 1, 0},
		"sort=file_name":                                      {7, 3, 5, 0, 4, 8, 6, 9, 2, 1},
		"sort=-file_name":                                     {1, 2, 9, 6, 8, 4, 0, 5, 3, 7},
		"sort=file_size&mime_type=text/plain":                 {3, 8, 0, 9, 4, 2},
		"sort=-size&mime_type=text/plain":                     {2, 4, 9, 0, 8, 3},
		"sort=name":                                           {7, 3, 5, 0, 4, 8, 6, 9, 2, 1},
		"sort=-file_size&mime_type=text/plain":                {2, 4, 9, 0, 8, 3},
		"sort=mime_type&mime_type=image/*&mime_type=text/csv": {6, 5, 1, 7},
		"sort=-mime_type&comment_id={comment}":                {9, 3, 7, 1, 5},
		"sort=uploaded_by":                                    {3, 5, 9, 0, 2, 4, 8, 1, 6, 7},
		"sort=-uploaded_by&" + since(3) + "Z":                 {7, 6, 8, 4, 9, 5},
		"sort=file_name&name=no+such":                         nil,
	} {
		t.Run(query, func(t *testing.T) {
			path := "{ticket}/attachments?" + query
			if got := w.listed(w.do(t, step{as: "viewer", do: "GET " + path, want: 200}).strings(t, "id")); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			for _, limit := range []int{1, 2, 1000} {
				pages := w.pages(t, "viewer", fmt.Sprintf("%s&limit=%d", path, limit), "id")
				if got := w.listed(slices.Concat(pages...)); !slices.Equal(got, want) || len(pages) != max(1, (len(want)+limit-1)/limit) {
					t.Errorf("by %d: %v on %d pages, want %v", limit, got, len(pages), want)
				}
			}
		})
	}
}

func TestAListRefusesWhatIsNoFilter(t *testing.T) {
	t.Parallel()
	w := withFiled(t)
	for query, detail := range map[string]string{
		"name=":                         "name must not be empty",
		"name=a&name=a":                 "name must not be given more than once",
		"mime_type=":                    "mime_type must not be empty",
		"mime_type=text/csv&mime_type=": "mime_type must not be empty",
		"mime_type=image":               "image/*",
		"mime_type=*/*":                 "image/*",
		"mime_type=image/p*":            "image/*",
		"uploaded_by=":                  "uploaded_by must not be empty",
		"uploaded_by=Editor+Person":     "uploaded_by must be a user's id (a UUID)",
		"uploaded_by={editor}&uploaded_by={editor}": "uploaded_by must not be given more than once",
		"since=":                        "since must not be empty",
		"since=2026-01-15":              "since must be a time such as 2026-01-31T00:00:00Z",
		"since=2026-01-15T10:30:00":     "since must be a time such as 2026-01-31T00:00:00Z",
		"since=yesterday":               "since must be a time such as 2026-01-31T00:00:00Z",
		"sort=":                         "sort must not be empty",
		"sort=title":                    "sort must be created_at, file_name, file_size, mime_type or uploaded_by",
		"sort=--file_name":              "sort must be created_at",
		"sort=file_name,file_size":      "sort must be created_at",
		"sort=file_name&sort=file_size": "sort must not be given more than once",
		"limit=1&limit=1":               "limit must not be given more than once",
		"cursor=AAAA&cursor=AAAA":       "cursor must not be given more than once",
		"filename=a":                    `no query parameter "filename" here. Those known are`,
		"Name=a":                        `no query parameter "Name" here`,
		"name=%zz":                      "malformed",
		"name=a;sort=file_name":         "malformed",
	} {
		t.Run(query, func(t *testing.T) {
			for _, kind := range kinds {
				a := w.do(t, step{as: "viewer", do: "GET " + kind.parent + "/attachments?" + query, want: 400, code: "invalid_request"})
				if got := a.object(t)["detail"].(string); !strings.Contains(got, detail) {
					t.Errorf("%s: %s", kind.name, got)
				}
			}
		})
	}
	w.do(t, step{as: "viewer", do: "GET {product}/attachments?comment_id={comment}", want: 400, code: "invalid_request"})
	w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?comment_id={comment}&comment_id={comment}", want: 400, code: "invalid_request"})
}

// A cursor continues the list that it is from, and none in another order.
func TestACursorIsOfOneSort(t *testing.T) {
	t.Parallel()
	w := withFiled(t)
	sorts := []string{"", "&sort=created_at", "&sort=-created_at", "&sort=file_name", "&sort=-file_name", "&sort=file_size", "&sort=mime_type", "&sort=uploaded_by"}
	for _, of := range sorts {
		next, err := url.Parse(nextOf(t, w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?limit=2" + of, want: 200})))
		if err != nil {
			t.Fatal(err)
		}
		for _, with := range sorts {
			want := 400
			if with == of {
				want = 200
			}
			w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?cursor=" + next.Query().Get("cursor") + with, want: want})
		}
	}
	for _, forged := range []string{"file_name", "file_name\x00", "file_name\x00123456789012345", strings.Repeat("file_name\x00", 300)} {
		w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?sort=file_name&cursor=" + base64.RawURLEncoding.EncodeToString([]byte(forged)), want: 400, code: "invalid_request"})
	}
}

// The longest names lead to the next page too.
func TestTheLongestNamesFitIntoACursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "root", do: "PUT /directory/users/{editor}", json: `{"full_name": "` + strings.Repeat("𠀀", 500) + `"}`, want: 200})
	for _, last := range "ab" {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(strings.Repeat("Ⱥ", 80)+string(last)+".txt", "x")}, want: 201})
	}
	for _, sort := range []string{"file_name", "uploaded_by"} {
		if pages := w.pages(t, "viewer", "{product}/attachments?limit=1&sort=-"+sort, "id"); len(pages) != 2 {
			t.Errorf("sorted by %s: %d pages", sort, len(pages))
		}
	}
}

func TestALongListIsSortedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "editor", do: "POST {meeting}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
	const more = 4103 // so many that the whole list is read several times
	w.copyRecord(t, "{A}", more)
	oldest := w.do(t, step{as: "viewer", do: "GET {meeting}/attachments", want: 200}).strings(t, "id")
	if len(oldest) != more+1 {
		t.Fatalf("%d are listed", len(oldest))
	}
	for _, sort := range []string{"file_size", "-created_at"} {
		if sort[0] == '-' {
			slices.Reverse(oldest)
		}
		all := w.do(t, step{as: "viewer", do: "GET {meeting}/attachments?sort=" + sort, want: 200}).strings(t, "id")
		paged := slices.Concat(w.pages(t, "viewer", "{meeting}/attachments?limit=900&sort="+sort, "id")...)
		if !slices.Equal(all, oldest) || !slices.Equal(paged, oldest) {
			t.Errorf("sort=%s: %d are listed and %d by pages, or in another order", sort, len(all), len(paged))
		}
	}
}

// An ETag of one query is none of another.
func TestAListThatHasNotChangedIsSentForAnotherQuery(t *testing.T) {
	t.Parallel()
	w := withFiled(t)
	tag := w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?name=report", want: 200}).header.Get("ETag")
	for query, want := range map[string]int{"name=report": 304, "name=notes": 200, "": 200, "name=report&sort=file_name": 200, "name=report&limit=1": 200} {
		w.do(t, step{as: "viewer", do: "GET {ticket}/attachments?" + query, send: header{"If-None-Match": tag}, want: want})
	}
}

// Each route that answers with a list refuses a parameter that it does not know, and
// names those that it knows, which are those in its description.
func TestEveryListRefusesAnUnknownParameter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type parameter struct{ Ref, Name, In string }
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Parameters map[string]parameter }
	}
	raw := w.do(t, step{do: "GET /openapi.json", want: 200}).body
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), `"$ref"`, `"ref"`)), &doc); err != nil {
		t.Fatal(err)
	}
	values := strings.NewReplacer(":space", "a", ":product", "{product.id}", ":ticket", "{ticket.id}", ":meeting", "{meeting.id}", ":user", "{editor}")
	varies := strings.NewReplacer(":space", "{slug}", ":product", "{product_id}", ":ticket", "{ticket_id}", ":meeting", "{meeting_id}", ":user", "{user_id}")
	lists := 0
	for _, route := range server.Routes() {
		path := values.Replace(route.Pattern)
		if route.Method != "GET" || strings.Contains(path, ":") {
			continue
		}
		a, err := w.send(t, step{as: "root", do: "GET " + path})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(a.body), "[") && a.header.Get("Content-Type") != "application/x-ndjson" {
			continue
		}
		lists++
		var operation struct{ Parameters []parameter }
		if err := json.Unmarshal(doc.Paths[varies.Replace(route.Pattern)]["get"], &operation); err != nil {
			t.Fatalf("%s: %v", route.Pattern, err)
		}
		var known []string
		for _, p := range operation.Parameters {
			if p.Ref != "" {
				p = doc.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]
			}
			if p.In == "query" {
				known = append(known, p.Name)
				w.do(t, step{as: "root", do: "GET " + path + "?" + p.Name + "=a&" + p.Name + "=a", want: 400})
			}
		}
		detail := w.do(t, step{as: "root", do: "GET " + path + "?colour=red", want: 400, code: "invalid_request"}).object(t)["detail"].(string)
		_, listed, ok := strings.Cut(strings.TrimSuffix(detail, "."), `There is no query parameter "colour" here. Those known are `)
		got := strings.Split(listed, ", ")
		slices.Sort(got)
		slices.Sort(known)
		if !ok || !slices.Equal(got, known) {
			t.Errorf("%s knows %q, and says %q", route.Pattern, known, detail)
		}
	}
	if lists < 14 {
		t.Errorf("only %d routes answer with lists", lists)
	}
}

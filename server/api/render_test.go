package api

import (
	"bytes"
	"testing"

	"github.com/google/uuid"

	"attachd/store"
)

// A list and a single answer show an attachment alike, to the byte.
func TestARowOfAListIsWhatAnAnswerIs(t *testing.T) {
	t.Parallel()
	names := []string{"report.pdf", "", `quo"te\.txt`, "a&b<c>.csv", "Übersicht 2024.docx", "报告.xlsx", "📎.png", "line\u2028separator", "del\x7f", "tab\tand\x01", "broken\xff.txt"}
	comment := uuid.NullUUID{UUID: uuid.New(), Valid: true}
	for _, name := range names {
		for _, kind := range []store.Kind{store.Product, store.Ticket, store.Meeting} {
			for _, c := range []uuid.NullUUID{{}, comment} {
				a := store.Attachment{
					ID: uuid.Must(uuid.NewV7()), Parent: store.Parent{Kind: kind, ID: uuid.New()}, CommentID: c,
					FileName: name, Size: 52_428_800, Type: "text/plain", UploaderID: uuid.New(), Uploader: name,
				}
				want, err := Encode(RenderAttachment(a))
				if err != nil {
					t.Fatal(err)
				}
				got, err := AppendAttachment([]byte("before"), a)
				if err != nil {
					t.Fatal(err)
				}
				if want := "before" + string(bytes.TrimSuffix(want, []byte("\n"))); string(got) != want {
					t.Errorf("a row is\n%s, an answer\n%s", got, want)
				}
			}
		}
	}
}

package formdata

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// For any bytes, the parts are pieces of the form, in their order, and no more than it
// has.
// CVE-2022-41725, CVE-2023-24536, CVE-2023-45290
func FuzzFormsOfAnyBytes(f *testing.F) {
	const header = "Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n"
	for _, seed := range []string{
		"--B\r\n" + header + "\r\nhello\r\n--B--\r\n", "--B\n" + strings.ReplaceAll(header, "\r", "") + "\nhello\n--B--", "preamble\r\n--B \t\r\n" + header + " folded\r\n\r\n\r\n--B--",
		"--B\r\n" + header + header + "\r\n--B\r\n" + header + "\r\n--Bx\r\n--B--epilogue", "--B--", "--B", "", "--B\r\n\r\n\r\n--B--", "--B\r\n" + header + "X: " + strings.Repeat("x", 100) + "\r\n\r\n--B--",
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, body []byte, step uint8) {
		_, whole, wholeErr := readForm(bytes.NewReader(body), "B")
		_, slow, slowErr := readForm(&inSteps{body, int(step)%50 + 1}, "B")
		if !slices.Equal(whole, slow) || fmt.Sprint(wholeErr) != fmt.Sprint(slowErr) {
			t.Fatalf("read at once: %q, %v\nread slowly: %q, %v", whole, wholeErr, slow, slowErr)
		}
		if wholeErr != nil && !errors.Is(wholeErr, errMalformed) && !errors.Is(wholeErr, ErrCut) && !errors.Is(wholeErr, ErrOtherBoundary) {
			t.Fatal(wholeErr)
		}
		rest := body
		for _, content := range whole {
			at := bytes.Index(rest, []byte(content))
			if at < 0 {
				t.Fatalf("%q is nowhere in what follows the parts before", content)
			}
			rest = rest[at+len(content):]
		}
	})
}

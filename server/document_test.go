package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"attachd/server"
)

// document is openapi.json, read as tools read it.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.json")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background(), openapi3.EnableExamplesValidation())
})

// document30 is the document in OpenAPI 3.0.
var document30 = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(server.OpenAPI30())
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background(), openapi3.EnableExamplesValidation())
})

func TestTheDocumentIsValidAndItsExamplesFitTheirSchemas(t *testing.T) {
	t.Parallel()
	for version, read := range map[string]func() (*openapi3.T, error){"3.1.": document, "3.0.": document30} {
		if doc, err := read(); err != nil || !strings.HasPrefix(doc.OpenAPI, version) {
			t.Errorf("OpenAPI %s: %v", version, err)
		}
	}
}

// operationOf returns the document's operation for a request; nil when it has no such
// path or method.
func operationOf(doc *openapi3.T, method, target string) (path string, operation *openapi3.Operation) {
	target, _, _ = strings.Cut(target, "?")
	target = strings.TrimPrefix(target, "/")
	words := strings.Split(target, "/")
	literal := -1
	for pattern, item := range doc.Paths.Map() {
		parts := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
		if len(parts) != len(words) {
			continue
		}
		same, fits := 0, true
		for i, part := range parts {
			switch {
			case part == words[i]:
				same++
			case !strings.HasPrefix(part, "{") || words[i] == "":
				fits = false
			}
		}
		if fits && same > literal {
			literal, path, operation = same, pattern, item.GetOperation(method)
		}
	}
	return path, operation
}

// checkDocument compares an answer with the document.
func (w *world) checkDocument(t *testing.T, method, target string, a answer) {
	t.Helper()
	doc, err := document()
	w.must(err)
	path, operation := operationOf(doc, method, target)
	if operation == nil || a.cut != nil || bytes.Contains(a.body, []byte("There is nothing at this address.")) {
		return // TestOpenAPIHasAnOperationForEveryRouteAndNoOther sees what is missing
	}
	if err := fits(operation, method, a, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("the document says otherwise of %s %s: %v", method, path, err)
	}
	doc, err = document30()
	w.must(err)
	if _, operation = operationOf(doc, method, target); operation == nil {
		t.Errorf("the document in OpenAPI 3.0 has no %s %s", method, path)
	} else if err := fits(operation, method, a); err != nil {
		t.Errorf("the document in OpenAPI 3.0 says otherwise of %s %s: %v", method, path, err)
	}
}

func fits(operation *openapi3.Operation, method string, a answer, how ...openapi3.SchemaValidationOption) error {
	response := operation.Responses.Status(a.status)
	if response == nil {
		response = operation.Responses.Default()
	}
	if response == nil || response.Value == nil {
		return fmt.Errorf("status %d is not listed: %.300s", a.status, a.body)
	}
	for name, header := range response.Value.Headers {
		if header.Value.Required && a.header.Get(name) == "" {
			return fmt.Errorf("a %d has no header %s", a.status, name)
		}
	}
	if len(a.body) == 0 || method == http.MethodHead {
		return nil
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return err
	}
	media := response.Value.Content.Get(kind)
	if media == nil {
		return fmt.Errorf("a %d of type %s is not listed", a.status, kind)
	}
	if kind != "application/json" || media.Schema == nil || a.header.Get("Content-Disposition") != "" {
		return nil // the last of these is an uploaded file
	}
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	var body any
	if err := decoder.Decode(&body); err != nil {
		return err
	}
	if err := media.Schema.Value.VisitJSON(body, append(how, openapi3.VisitAsResponse(), openapi3.MultiErrors())...); err != nil {
		return fmt.Errorf("a %d: %w\n%.500s", a.status, err, a.body)
	}
	return nil
}

// exampleOf returns the document's example of a body, or one composed of the examples
// of its members; nil when there is none.
func exampleOf(media *openapi3.MediaType) any {
	schema := media.Schema.Value
	switch {
	case media.Example != nil:
		return media.Example
	case schema.Example != nil:
		return schema.Example
	case len(schema.Examples) > 0:
		return schema.Examples[0]
	}
	members := map[string]any{}
	for name, member := range schema.Properties {
		if example := member.Value.Example; example != nil {
			members[name] = example
		}
	}
	if len(members) == 0 {
		return nil
	}
	return members
}

// Every operation is requested with the examples of its parameters and its body. None
// of these may be malformed, and the answer must be a listed one, which play and do
// check.
func TestTheExamplesOfTheDocumentAreTaken(t *testing.T) {
	t.Parallel()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			t.Run(method+" "+path, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				target, query := path, url.Values{}
				for _, p := range append(append(openapi3.Parameters{}, item.Parameters...), operation.Parameters...) {
					example := p.Value.Example
					if example == nil && p.Value.Schema != nil {
						example = p.Value.Schema.Value.Example
					}
					switch {
					case p.Value.In == "path" && example == nil:
						t.Fatalf("{%s} has no example", p.Value.Name)
					case p.Value.In == "path":
						target = strings.ReplaceAll(target, "{"+p.Value.Name+"}", url.PathEscape(fmt.Sprint(example)))
					case p.Value.In == "query" && example != nil:
						query.Set(p.Value.Name, fmt.Sprint(example))
					}
				}
				if len(query) > 0 {
					target += "?" + query.Encode()
				}
				s := step{as: "root", do: method + " " + target}
				if operation.RequestBody != nil {
					content := operation.RequestBody.Value.Content
					switch {
					case content.Get("multipart/form-data") != nil:
						s.form = parts{file("a.txt", "a")}
					case content.Get("application/json") != nil:
						if example := exampleOf(content.Get("application/json")); example != nil {
							raw, err := json.Marshal(example)
							w.must(err)
							s.json = string(raw)
						}
					}
				}
				a, err := w.send(t, s)
				w.must(err)
				if a.status == http.StatusBadRequest || a.status >= 500 && a.status != 503 {
					t.Errorf("answered %d: %s", a.status, a.body)
				}
				w.checkDocument(t, method, target, a)
			})
		}
	}
}
